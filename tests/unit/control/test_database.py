"""The database: its migrations, its safety settings, its two kinds of transaction."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text

from twinsite.control import database as database_module
from twinsite.control.database import Database
from twinsite.control.models import Base, Domain
from twinsite.control.repository import accounts


def address(directory: Path) -> str:
    """Return the address of a database in a directory."""
    return f"sqlite+aiosqlite:///{directory / 'deep' / 'test.db'}"


def differences(connection: Connection) -> list[Any]:
    """Return what the tables lack of the models."""
    return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


async def test_migrations_make_the_tables_of_the_models(tmp_path: Path) -> None:
    database = Database(address(tmp_path))
    await database.open()
    async with database.connection() as connection:
        assert await connection.run_sync(differences) == []
    await database.open()  # A second start has nothing to do.
    await database.close()


def alembic_config(connection: Connection) -> alembic.config.Config:
    """Return what Alembic needs to work on an open connection."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


async def test_groups_that_exist_get_an_arbiter_that_promises_nothing(tmp_path: Path) -> None:
    database = Database(address(tmp_path))
    await database.open()
    async with database.connection() as connection:
        await connection.run_sync(lambda sync: alembic.command.downgrade(alembic_config(sync), "0001"))
        for statement in OLD_ROWS:
            await connection.execute(text(statement))
    await database.open()
    async with database.connection() as connection:
        (row,) = await connection.execute(text("SELECT * FROM arbiter_rows"))
        assert (row.group_id, row.term, row.primary_site, row.secondary, row.version) == ("g", 7, "az1", "stale", 1)
        assert row.stale_since > 1_700_000_000
        (pair,) = await connection.execute(text("SELECT group_id FROM replication_pairs"))
        assert pair.group_id == "g"
        await connection.run_sync(lambda sync: alembic.command.downgrade(alembic_config(sync), "0001"))
        (old,) = await connection.execute(text("SELECT term FROM replication_groups"))
        assert old.term == 7
    await database.close()


OLD_ROWS = (
    "INSERT INTO domains VALUES ('d', 'd')",
    "INSERT INTO projects VALUES ('p', 'p', 'd')",
    "INSERT INTO sites VALUES ('az1', 1, 0, NULL, NULL, 0, 0), ('az2', 1, 0, NULL, NULL, 0, 0)",
    (
        "INSERT INTO volumes (id, project_id, user_id, size_gib, site, volume_type, multiattach, user_metadata, "
        "status, nbd_uris, spec_version, created_at) VALUES "
        "('v1', 'p', 'u', 1, 'az1', 'SSD', 0, '{}', 'available', '[]', 1, '2026-01-01 00:00:00.000000'), "
        "('v2', 'p', 'u', 1, 'az2', 'SSD', 0, '{}', 'available', '[]', 1, '2026-01-01 00:00:00.000000')"
    ),
    (
        "INSERT INTO replication_groups (id, project_id, priority_station, secondary_station, replication_model, "
        "status, replication, replication_status, term, stream_key, next_member_index, version, spec_version, "
        "wish_version, created_at) VALUES ('g', 'p', 'az1', 'az2', 'hypermetro', 'available', 'running', "
        "'active', 7, '', 1, 1, 1, 1, '2026-01-01 00:00:00.000000')"
    ),
    (
        "INSERT INTO replication_pairs (id, project_id, production_volume_id, dr_volume_id, production_first, "
        "priority_station, replication_model, status, group_id, member_index, created_at) VALUES ('r', 'p', 'v1', "
        "'v2', 1, 'az1', 'hypermetro', 'available', 'g', 0, '2026-01-01 00:00:00.000000')"
    ),
)


async def test_roles_that_were_given_stay_given(tmp_path: Path) -> None:
    database = Database(address(tmp_path))
    await database.open()
    async with database.connection() as connection:
        await connection.run_sync(lambda sync: alembic.command.downgrade(alembic_config(sync), "0008"))
        for statement in (
            "INSERT INTO domains VALUES ('d', 'd')",
            "INSERT INTO users VALUES ('u', 'u', 'd', '')",
            "INSERT INTO assignments (id, user_id, domain_id, role) VALUES ('a', 'u', 'd', 'admin')",
            "INSERT INTO assignments (id, user_id, domain_id, role) VALUES ('b', 'u', 'd', 'night shift')",
        ):
            await connection.execute(text(statement))
    await database.open()
    async with database.read() as session:
        assert await accounts.roles(session, "u", domain_id="d") == ["admin", "night shift"]
        names = await session.execute(text("SELECT name FROM roles ORDER BY name"))
        assert [row.name for row in names] == ["admin", "member", "night shift", "reader"]
        assert (await session.get_one(Domain, "d")).enabled
    async with database.connection() as connection:
        await connection.run_sync(lambda sync: alembic.command.downgrade(alembic_config(sync), "0008"))
        rows = await connection.execute(text("SELECT role FROM assignments ORDER BY id"))
        assert [row.role for row in rows] == ["admin", "night shift"]
    await database.close()


async def test_events_that_exist_outlive_their_groups_too(tmp_path: Path) -> None:
    database = Database(address(tmp_path))
    await database.open()
    async with database.connection() as connection:
        await connection.run_sync(lambda sync: alembic.command.downgrade(alembic_config(sync), "0001"))
        for statement in OLD_ROWS:
            await connection.execute(text(statement))
        await connection.run_sync(lambda sync: alembic.command.upgrade(alembic_config(sync), "0014"))
        await connection.execute(text("UPDATE replication_groups SET name = 'shop'"))
        await connection.execute(text(OLD_EVENT.replace(":", "\\:")))
    await database.open()
    async with database.connection() as connection:
        await connection.execute(text("UPDATE replication_pairs SET group_id = NULL"))
        await connection.execute(text("DELETE FROM replication_groups"))
        (event,) = await connection.execute(text("SELECT * FROM group_events"))
        assert (event.id, event.group_id, event.project_id, event.group_name) == ("e", "g", "p", "shop")
        assert (event.number, event.position, event.after) == (1, 1, '{"status": "creating"}')
        await connection.run_sync(lambda sync: alembic.command.downgrade(alembic_config(sync), "0014"))
        assert (await connection.execute(text("SELECT count(*) FROM group_events"))).scalar() == 0
    await database.close()


OLD_EVENT = """
INSERT INTO group_events (id, group_id, number, position, created_at, actor, action, result, after, proof)
VALUES ('e', 'g', 1, 1, '2026-01-01 00:00:00.000000', 'admin', 'create', 'accepted', '{"status": "creating"}', '{}')
"""


async def test_migrations_can_be_taken_back(tmp_path: Path) -> None:
    database = Database(address(tmp_path))
    await database.open()
    async with database.connection() as connection:
        await connection.run_sync(lambda sync: alembic.command.downgrade(alembic_config(sync), "base"))
    async with database.connection() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    assert names == ["alembic_version"]
    await database.close()


async def test_a_migration_that_fails_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(address(tmp_path))
    real = database_module.upgrade

    def failing(connection: Connection) -> None:
        real(connection)
        raise RuntimeError("at the very end")

    monkeypatch.setattr(database_module, "upgrade", failing)
    with pytest.raises(RuntimeError, match="at the very end"):
        await database.open()
    async with database.connection() as connection:
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == []
    await database.close()


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 20_000)]
)
async def test_sqlite_is_as_safe_as_it_gets(tmp_path: Path, pragma: str, value: object) -> None:
    database = Database(address(tmp_path))
    await database.open()
    async with database.read() as session:
        assert (await session.execute(text(f"PRAGMA {pragma}"))).scalar_one() == value
    await database.close()


async def test_a_write_that_raises_is_rolled_back(tmp_path: Path) -> None:
    database = Database(address(tmp_path))
    await database.open()
    with pytest.raises(RuntimeError):
        async with database.write() as session:
            session.add(Domain(id="d", name="d"))
            await session.flush()
            raise RuntimeError
    async with database.read() as session:
        assert (await session.scalars(select(Domain))).all() == []
    await database.close()


async def test_writers_take_turns_and_readers_see_one_snapshot(tmp_path: Path) -> None:
    database = Database(address(tmp_path))
    await database.open()
    async with database.write() as session:
        session.add(Domain(id="d", name="0"))

    async def increment() -> None:
        async with database.write() as session:
            domain = await session.get_one(Domain, "d")
            before = int(domain.name)
            await asyncio.sleep(0)
            domain.name = str(before + 1)

    async with database.read() as reader:
        assert (await reader.get_one(Domain, "d")).name == "0"
        await asyncio.gather(*(increment() for _ in range(8)))
        reader.expire_all()
        assert (await reader.get_one(Domain, "d")).name == "0"
    async with database.read() as reader:
        assert (await reader.get_one(Domain, "d")).name == "8"
    await database.close()
