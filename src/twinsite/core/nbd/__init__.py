"""The NBD protocol, server side: handshake and transmission as bytes in, events and bytes out.

Follows doc/proto.md of the NBD project. docs/nbd.md lists what is supported.
"""
