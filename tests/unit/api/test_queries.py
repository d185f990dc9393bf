"""Each query parameter of each call that reads, with values that are hard to digest: never a 500."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from tests.support.controller import Site
from twinsite.control.repository.listing import has_metadata

DOCUMENTED = {200, 400, 404}
UNDOCUMENTED_QUERIES = ("user.id", "role.id", "scope.project.id", "scope.domain.id", "include_names", "nocatalog")
"""Those of Keystone that a signature cannot have, because there is a point in their names."""

TEXTS = (
    "",
    "," * 3000,
    "maybe",
    "-1",
    "9" * 3000,
    "\u0661",
    "\ud7ff\uffff\U0010ffff",
    "%'\"\\",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
)
KEYS = (1, "a", 1.5, None, True, 'a"b', "a'b", "a.b", "$", "a[0]", "\\", "#-1", "x" * 3000, "a\x01b", "a\u2028b")
"""Python's spelling of each becomes a key, and a value."""

LITERALS = (
    "{{}: 1}",
    "{[]: 1}",
    "{(1, {}): 1}",
    "{{1}}",
    "{{'a'}: 'b'}",
    "{'a': '\\ud800'}",
    "{'\\ud800': 'a'}",
    "{'a': ['\\udfff']}",
    "{'a': '\\x00'}",
    "{'\\x00': ['a']}",
    "{'a': '\\N{BULLET}'}",
    "{'a': '\\N{NO SUCH CHARACTER}'}",
    "{'a': '\\d'}",
    "{'a': b'b'}",
    "{b'a': ['b']}",
    "{'a': 1j}",
    "{'a': ...}",
    "{**{}}",
    "{'a': {}['b']}",
    "{'a': 1 + 1}",
    "{'a': -'b'}",
    "{'a': f'{1/0}'}",
    "{'a': __import__('os')}",
    "{'a': lambda: 1}",
    "[{}]",
    "set()",
    "()",
    "None",
    "'",
    "{'a'",
    "{'a': 'b'}\x0c",
    "  {'a': 'b'}",
    "{'a': " * 100 + "1" + "}" * 100,
    "{'a': " * 600 + "1" + "}" * 600,
    "-" * 4000 + "1",
    "not " * 1000 + "1",
    "(" * 4000,
    "[" * 4000,
    "1+" * 2000 + "1",
    "{'a': " + "9" * 4000 + "}",
    "{'a': 0x" + "f" * 4000 + "}",
    "{'a': 1e999}",
)


def literals() -> Iterator[str]:
    """Return texts for a filter that takes a dictionary, right and wrong ones."""
    yield from LITERALS
    for key in KEYS:
        yield f"{{{key!r}: 'b'}}"
        yield f"{{{key!r}: ['b']}}"
        yield f"{{'a': {key!r}}}"
        yield f"{{'a': [{key!r}]}}"


def queries(site: Site) -> Iterator[tuple[str, str]]:
    """Return the path of each call that reads, with one of its query parameters."""
    for path, operations in site.app.openapi()["paths"].items():
        if "get" not in operations or path.startswith("/v3/"):  # Which is what is under /v2.
            continue
        for parameter in operations["get"].get("parameters", []):
            if parameter["in"] == "query":
                yield path, parameter["name"]
        for name in UNDOCUMENTED_QUERIES:
            if path in ("/identity/v3/role_assignments", "/identity/v3/auth/tokens"):
                yield path, name


def filled(site: Site, path: str, ids: dict[str, str]) -> str:
    """Return a path with ids in the places of its parameters."""
    return re.sub(r"\{(\w+)\}", lambda match: ids.get(match[1], site.project_id), path)


@pytest.mark.parametrize("kind", ["texts", "literals"])
async def test_no_query_is_too_much(site: Site, kind: str, recwarn: pytest.WarningsRecorder) -> None:
    group = await site.make_group()
    pair = await site.show_pair(group["replication_ids"][0])
    ids = {"replication_consistency_group_id": group["id"], "volume_id": pair["volume_ids"].split(",")[0]}
    values = TEXTS if kind == "texts" else tuple(literals())
    asked = 0
    for path, name in queries(site):
        takes_dictionary = name == "metadata" or "tags" in name
        if takes_dictionary != (kind == "literals"):
            continue
        for value in values:
            answer = await site.http.get(filled(site, path, ids), params={name: value})
            assert answer.status_code in DOCUMENTED, (path, name, value, answer.text)
            asked += 1
    assert asked > len(values)
    assert not recwarn.list


ODD_KEYS = ('a"b', "a'b", "a.b", "$", "a[0]", "\\", "#-1", "a\x01b", "a\u2028b", "a b", "ü", "\U0010ffff")


async def test_any_key_of_metadata_is_found(site: Site) -> None:
    made = [await site.make_volume(metadata={key: key, "all": "of them"}) for key in ODD_KEYS]
    for key, volume in zip(ODD_KEYS, made, strict=True):
        wanted = repr({key: key, "all": "of them"})
        answer = await site.http.get(f"/v2/{site.project_id}/volumes", params={"metadata": wanted})
        assert [row["id"] for row in answer.json()["volumes"]] == [volume["id"]], key


def test_metadata_is_looked_up_in_the_words_of_each_database() -> None:
    for dialect, function in (("sqlite", "json_each("), ("postgresql+asyncpg", "json_each_text(")):
        assert function in str(has_metadata("a", "b").compile(dialect=make_url(f"{dialect}://").get_dialect()()))
