"""The HTTP surface (FastAPI). Thin: each route calls one function of `control`.

`app` puts it together, `server` runs it; `envelope` is around every request, `routes` around every call of a router;
`schemas` are the bodies that clients send, `answers` the bodies that they get, `views` makes those.
"""
