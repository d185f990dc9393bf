"""The command line (typer, rich). Uses only the HTTP API; `services` starts the long-running processes."""
