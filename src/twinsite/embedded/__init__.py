"""The embedded default, `twinsite up`: a controller and two nodes on one machine, each a process of its own.

May import `errors`, `pidfile`, `readiness`, `durable_file` and `node.settings`; starts the other parts by their command
lines and imports none of them.
"""
