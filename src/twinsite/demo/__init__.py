"""The main job as a story on a temporary directory. Uses only the HTTP API and NBD."""
