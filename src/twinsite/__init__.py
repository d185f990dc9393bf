"""Twinsite: self-hosted disaster recovery for groups of disks.

Rooms: `core` (protocols and rules, no I/O), `stores` (where a volume's bytes lie), `worker` (the process that runs
one group at one site), `node` (the agent of a storage host), `control` (database, lifecycle, reconciliation),
`api` (HTTP), `cli` and `demo` (users of the HTTP API). `messages` is what node, worker and controller say to each
other; `errors` is the one tree of exceptions.
"""

__version__ = "0.1.0"
