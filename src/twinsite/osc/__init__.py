"""The plug-in of openstackclient: `openstack evs replication …`. Installed with `twinsite[openstack]`.

`plugin` is what the command `openstack` loads first, and makes the client from its session; `pairs`, `groups` and
`moves` are the commands, named in pyproject.toml. Uses `twinsite.client`, and of the command line only how progress is
shown.
"""
