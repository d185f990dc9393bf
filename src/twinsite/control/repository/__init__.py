"""All SQL of the controller, as functions on a session that its caller opened (`database.Database`).

`objects` holds volumes, pairs and groups, `arbiter_rows` the arbiter's records, `listing` pages, `sites` nodes and
their reports, `accounts` users and tokens. The rules live in `lifecycle`; nothing here decides.
"""
