"""SQLite with as few trips to its thread as can be.

SQLAlchemy's adapter of aiosqlite goes to the connection's thread four times for each query: to make a cursor, to
execute, to fetch and to close. On a busy machine each trip waits for two threads to be scheduled, which is most of what
a small query costs. Only what may wait for another process or for the disk is worth one trip: taking the write lock,
settings of the file, and the commit, which the adapter sends there by itself. All else is answered from memory in
microseconds, readers wait for nobody in WAL mode, and so it runs where it is asked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)

_MAY_WAIT = ("BEGIN IMMEDIATE", "PRAGMA", "VACUUM")
"""How statements begin that have to be executed in the connection's thread."""


class _Cursor:
    """What SQLAlchemy's adapter takes for a cursor of aiosqlite, as far as it uses one."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, operation: str, parameters: Sequence[Any] = ()) -> Self:
        """Execute a statement and take all its rows."""
        work = partial(self._connection._conn.execute, operation, parameters)
        return await self._run(work, in_thread=operation.startswith(_MAY_WAIT))

    async def executemany(self, operation: str, parameters: Sequence[Sequence[Any]]) -> Self:
        """Execute a statement for each set of parameters."""
        return await self._run(partial(self._connection._conn.executemany, operation, parameters), in_thread=False)

    async def _run(self, work: Callable[[], sqlite3.Cursor], *, in_thread: bool) -> Self:
        def go() -> None:
            cursor = work()
            try:
                self._rows = cursor.fetchall() if cursor.description else []
                self.description, self.rowcount = cursor.description, cursor.rowcount
                self.lastrowid = cursor.lastrowid
            finally:
                cursor.close()

        if in_thread:
            await self._connection._execute(go)  # type: ignore[no-untyped-call]
        else:
            go()
        return self

    async def fetchall(self) -> list[Any]:
        """Return the rows."""
        return self._rows

    async def close(self) -> None:
        """Forget the rows; the real cursor is closed already."""
        self._rows = []


class _AdaptedCursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()

    def _make_new_cursor(self, connection: Any) -> Any:
        return _Cursor(connection)


class _AdaptedConnection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()

    _cursor_cls = _AdaptedCursor


class FewTripsSqlite(AsyncAdapt_aiosqlite_dbapi):
    """The driver, to be given to `create_async_engine` as its `module`."""

    def __init__(self) -> None:
        """Adapt the installed aiosqlite."""
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arguments: Any, **named: Any) -> AsyncAdapt_aiosqlite_connection:
        """Open a connection, in a greenlet of SQLAlchemy's. Two threads use it, never both at once."""
        adapted = super().connect(*arguments, **{**named, "check_same_thread": False})
        return _AdaptedConnection(self, adapted._connection)
