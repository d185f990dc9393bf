"""The database connection: SQLite as safe as it gets, PostgreSQL by the same code; migrations run at opening.

Two kinds of transaction. `read` sees one snapshot. `write` takes SQLite's write lock at its start, so that what it
read is still true when it writes and an upgrade from a stale snapshot cannot fail half-way.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from twinsite.control.journal import Changes, Journal, JournaledSession, changes_of
from twinsite.control.sqlite_cursor import FewTripsSqlite
from twinsite.core.arbiter import Reached

BUSY_TIMEOUT_SECONDS = 20
"""How long a transaction waits for SQLite's write lock before it fails."""

_ARBITER_CHANGES = "arbiter_changes"
_AFTER_COMMIT = "after_commit"

_MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class ArbiterChanges:
    """How many changes of arbiter rows there were, and what any row has reached."""

    count: int = 0
    reached: Reached = field(default_factory=Reached)

    def joined(self, other: ArbiterChanges) -> ArbiterChanges:
        """Return the highest of both."""
        reached = self.reached.joined(other.reached.term, other.reached.version)
        return ArbiterChanges(max(self.count, other.count), reached)


class Database:
    """The controller's database. `open` before use, `close` at the end."""

    def __init__(self, address: str) -> None:
        """Prepare the database at the SQLAlchemy `address`; nothing is opened yet."""
        self._url = make_url(address)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {}
        if self._sqlite:
            options = {"connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}, "module": FewTripsSqlite()}
        self._engine: AsyncEngine = create_async_engine(self._url, **options)
        if self._sqlite:
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite_connection)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite_transaction)
            readers, writers = self._engine, self._engine.execution_options(twinsite_write=True)
        else:
            readers, writers = self._engine.execution_options(isolation_level="REPEATABLE READ"), self._engine
        self._read = async_sessionmaker(readers, expire_on_commit=False)
        self._write = async_sessionmaker(writers, sync_session_class=JournaledSession, expire_on_commit=False)
        self.journal = Journal()
        self._writer_engine = writers
        self.on_arbiter_changes: Callable[[ArbiterChanges], Awaitable[None]] | None = None
        """Hears of changes of arbiter rows, after each of them and before anybody is told of it."""

    async def open(self) -> None:
        """Bring the tables up to date, in one transaction."""
        if self._sqlite and self._url.database:
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _keep_private(Path(self._url.database))
        async with self.connection() as connection:
            await connection.run_sync(upgrade)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Open a session that sees one snapshot and writes nothing."""
        async with self._read() as session:
            yield session

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Open a session that commits at the end of the block, or rolls back when the block raises."""
        recorded: Changes | None = None
        try:
            async with self._write() as session, session.begin():
                yield session
                await session.flush()
                # Before the commit: who sees a new generation must find what it changed.
                recorded = changes_of(session)
                self.journal.record(recorded)
        except BaseException:
            if recorded is not None:
                self.journal.forget(recorded)
            raise
        for call in session.info.get(_AFTER_COMMIT, ()):
            call()
        changes = session.info.get(_ARBITER_CHANGES)
        if changes is not None and self.on_arbiter_changes is not None:
            await self.on_arbiter_changes(changes)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """Open a bare connection in a transaction, for migrations and their tests."""
        async with self._writer_engine.begin() as connection:
            yield connection


def note_arbiter_changes(session: AsyncSession, changes: ArbiterChanges) -> None:
    """Have `on_arbiter_changes` told of these once the session has committed."""
    session.info[_ARBITER_CHANGES] = changes.joined(session.info.get(_ARBITER_CHANGES, ArbiterChanges()))


def after_commit(session: AsyncSession, call: Callable[[], None]) -> None:
    """Have `call` called once the session has committed, and never when it has not."""
    session.info.setdefault(_AFTER_COMMIT, []).append(call)


def upgrade(connection: Connection) -> None:
    """Run the migrations that the database lacks, on an open transaction."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def storage_trouble(error: DBAPIError) -> str | None:
    """Return what keeps the database from being read or written and may pass, in words; None for everything else."""
    text = str(error.orig).lower()
    return next((words for sign, words in _TROUBLES.items() if sign in text), None)


_TROUBLES = {
    "database or disk is full": "its disk is full; free space there",
    "no space left on device": "its disk is full; free space there",
    "disk full": "its disk is full; free space there",
    "disk i/o error": "its disk fails; see the system's log",
    "readonly database": "it is read-only; see why its file system does not take writes",
    "unable to open database file": "its file cannot be opened; see its directory",
    "database is locked": "another process holds it for too long; end that, or try again later",
}
"""What SQLite and PostgreSQL say, in lower case, and what it means to an operator."""


def _keep_private(path: Path) -> None:
    """Let nobody else read the database, which holds the groups' stream keys. SQLite's own files beside it follow."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with contextlib.suppress(FileNotFoundError):
            file.chmod(0o600)


def _prepare_sqlite_connection(connection: Any, _record: object) -> None:
    # The driver must not start transactions by itself: `_begin_sqlite_transaction` says which kind it is to be.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite_transaction(connection: Connection) -> None:
    writing = connection.get_execution_options().get("twinsite_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
