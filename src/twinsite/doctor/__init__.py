"""What `twinsite doctor` looks at: a machine, a data directory, and what can be reached from here. It changes nothing.

`findings` is what a check says; `machine`, `storage`, `secrets`, `network` and `releases` are the checks. Imports
`errors`, `messages`, `stores` and `node.settings` of the package; the command line imports it.
"""
