"""From a place in a message to an open store."""

from __future__ import annotations

from twinsite.errors import ConfigurationError
from twinsite.messages import StorePlace
from twinsite.stores.base import Store
from twinsite.stores.block import BlockStore
from twinsite.stores.file import FileStore, create_file_store, delete_file_store

__all__ = ["create_file_store", "delete_file_store", "open_store"]


def open_store(place: StorePlace, size_bytes: int) -> Store:
    """Open the store at `place` for a volume of `size_bytes` and lock it.

    Raises `StorageFault` (EBUSY when it is open elsewhere) and `ConfigurationError` for a kind that is not known here.
    """
    if place.kind == "file":
        return FileStore(place.path, size_bytes)
    if place.kind == "block":
        return BlockStore(place.path, size_bytes)
    raise ConfigurationError(f"store kind {place.kind!r} of {place.path} is unknown here; use 'file' or 'block'")
