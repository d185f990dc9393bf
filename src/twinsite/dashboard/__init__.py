"""The web page of the controller, at /ui. It knows the HTTP API and nothing behind it.

`gate` stands in front: it lets browsers in, logs them in and out (`forms`, `session`, `access`) and has the page loaded
(`loading`) at the first request for it, so that a controller whose page nobody opens does not carry NiceGUI. `pages`
says which page is where, each in a module of its own; `frame`, `parts` and `dialogs` are what they share; `words`,
`wording`, `figures` and `sparkline` are pure. Imports `amounts`, `client` and `errors` of the package and nothing else
of it; `api.server` imports `gate` and `access`.
"""
