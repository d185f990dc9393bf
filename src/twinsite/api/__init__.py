"""The HTTP surface (FastAPI): routers, schemas, errors. Thin: each route calls one function of `control`."""
