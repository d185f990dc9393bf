"""Backing stores: where a volume's bytes lie. One contract (`base.Store`), one file for each kind.

May import `twinsite.errors`, `twinsite.messages` and `twinsite.core.limits`; is imported by `worker` and `node`.
"""
