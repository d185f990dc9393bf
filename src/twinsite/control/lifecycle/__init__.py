"""The rules of volumes, pairs and groups: which call is admitted in which status, and what it changes.

`states` holds the tables, `health` derives what the API shows from what workers report, `outlook` what a failover
would do; `volumes`, `pairs`, `groups` and `moves` are the services that the API calls; `settling` moves groups on as
their workers report. May import `repository`, `models`, `refusals`, `arbiter_store`, `messages`, `core`.
"""
