"""Protocols and rules without I/O: bytes and events in, effects out.

Nothing here opens a socket, reads a clock, sleeps or draws a random number; the shells in `worker`, and the
simulator, do that and call in. May import `twinsite.errors`; may be imported by everyone.
"""
