"""The control plane behind the API: database, lifecycle of volumes, pairs and groups, reconciliation with nodes.

`repository` is the only module with SQL. May import `messages`, `errors`, `core.limits`; is imported by `api`.
"""
