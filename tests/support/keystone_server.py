"""A script of Keystone's own environment: says its port and serves, as OS_KEYSTONE_CONFIG_DIR configures it."""

from __future__ import annotations

from keystone.server.wsgi import initialize_public_application  # type: ignore[import-not-found]
from werkzeug.serving import make_server

if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, initialize_public_application(), threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()
