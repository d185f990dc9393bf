"""The process that runs one group (or one volume) at one site: sockets, files and threads around `twinsite.core`.

May import `core`, `stores`, `messages`, `errors`; knows nothing of node, controller or API.
"""
