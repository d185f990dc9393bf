"""The embedded default, `twinsite up`: a controller and two nodes on one machine, each a process of its own.

May import `errors`, `pidfile`, `readiness`, `durable_file`, `node.settings`, and of `control` the settings and secrets;
starts the other parts by their command lines.
"""
