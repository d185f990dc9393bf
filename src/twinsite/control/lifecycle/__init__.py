"""The rules of volumes, pairs and groups: which call is admitted in which status, and what it changes.

`states` holds the tables, `health` derives what the API shows from what workers report, `volumes`, `pairs` and
`groups` are the services that the API calls. May import `repository`, `models`, `refusals`, `messages`.
"""
