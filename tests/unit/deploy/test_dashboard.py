"""The Grafana dashboard by Grafana's own schema of release 10.1, which its types for Python are made from.

What no schema says is looked at here too: that panels do not lie on each other, that variables are defined, and that
units are known. No Grafana is run: how it looks is not tested.
"""

from __future__ import annotations

import copy
import enum
import itertools
import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.cog.runtime import UnknownDataquery, panelcfg_config
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

FILE = Path(__file__).parents[3] / "deploy/grafana/twinsite.json"
SCHEMA_VERSION = 38
"""Of Grafana 10.1; later releases bring an older dashboard up to date when they read it."""
COLUMNS = 24
BUILT_IN = {"__rate_interval"}
VARIABLE = re.compile(r"\$\{?(\w+)")
Json = dict[str, Any]


@pytest.fixture(scope="module", name="dashboard")
def fixture_dashboard() -> Json:
    register_default_plugins()
    read: Json = json.loads(FILE.read_text(encoding="utf-8"))
    return read


def unknown_keys(given: object, understood: object, where: str = "dashboard") -> Iterator[str]:
    """Return the places of what Grafana's types do not understand, or understand otherwise."""
    if isinstance(given, dict) and isinstance(understood, dict):
        for key, value in given.items():
            if key not in understood:
                if value is not None:
                    yield f"{where}.{key} is unknown"
            else:
                yield from unknown_keys(value, understood[key], f"{where}.{key}")
    elif isinstance(given, list) and isinstance(understood, list) and len(given) == len(understood):
        for number, (one, other) in enumerate(zip(given, understood, strict=True)):
            yield from unknown_keys(one, other, f"{where}[{number}]")
    elif given != understood:
        yield f"{where} is {given!r} and was read as {understood!r}"


def wrong_values(value: object, hint: Any, where: str = "dashboard") -> Iterator[str]:
    """Return the places whose values are not of the types that Grafana gives them."""
    if not _fits(value, hint):
        yield f"{where} is {value!r}, not {hint}"
    if isinstance(value, list):
        (inner,) = typing.get_args(hint) if typing.get_origin(hint) is list else (object,)
        for number, item in enumerate(value):
            yield from wrong_values(item, inner, f"{where}[{number}]")
    elif hasattr(value, "to_json") and not isinstance(value, UnknownDataquery):
        hints = typing.get_type_hints(type(value))
        for name, attribute in vars(value).items():
            yield from wrong_values(attribute, _without_none(hints[name]), f"{where}.{name}")


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    arms = [arm for arm in typing.get_args(hint) if arm is not types.NoneType]
    is_optional = len(arms) < len(typing.get_args(hint))
    return arms[0] if is_optional and len(arms) == 1 and typing.get_origin(arms[0]) is list else hint


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is object or hint is Any:
        return True
    if value is None:
        return (origin in (typing.Union, types.UnionType) and types.NoneType in arguments) or origin is list
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arm) for arm in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is not None:
        return isinstance(value, origin)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value in {member.value for member in hint}
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def faults(dashboard: Json) -> list[str]:
    """Return what is wrong with a dashboard by Grafana's types."""
    built = Dashboard.from_json(copy.deepcopy(dashboard))
    understood = json.loads(json.dumps(built, cls=JSONEncoder))
    return [*unknown_keys(dashboard, understood), *wrong_values(built, Dashboard)]


def test_grafanas_types_understand_all_of_it(dashboard: Json) -> None:
    assert dashboard["schemaVersion"] == SCHEMA_VERSION
    assert faults(dashboard) == []
    built = Dashboard.from_json(copy.deepcopy(dashboard))
    for panel in built.panels or ():
        assert isinstance(panel, Panel)
        assert panelcfg_config(panel.type_val) is not None, f"{panel.title} is of a type that Grafana brings along"
        assert panel.targets, f"{panel.title} asks for something"
        assert not any(isinstance(target, UnknownDataquery) for target in panel.targets)


def _first_panel(dashboard: Json) -> Json:
    panel: Json = dashboard["panels"][0]
    return panel


SPOILS: list[tuple[str, Callable[[Json], object]]] = [
    ("expression is unknown", lambda d: _first_panel(d)["targets"][0].update(expression="up")),
    ("title is 5", lambda d: _first_panel(d).update(title=5)),
    ("grid_pos.w is '6'", lambda d: _first_panel(d)["gridPos"].update(w="6")),
    (
        "thresholds.mode is 'relative'",
        lambda d: d["panels"][1]["fieldConfig"]["defaults"]["thresholds"].update(mode="relative"),
    ),
    (
        "colour is unknown",
        lambda d: d["panels"][1]["fieldConfig"]["defaults"]["thresholds"]["steps"][0].update(colour="red"),
    ),
    ("reduce is unknown", lambda d: _first_panel(d)["options"].update(reduce={})),
    ("type_val is 'queries'", lambda d: d["templating"]["list"][1].update(type="queries")),
    ("refresh is 'always'", lambda d: d["templating"]["list"][1].update(refresh="always")),
    ("legendFormat is unknown", lambda d: _first_panel(d).update(legendFormat="x")),
]


@pytest.mark.parametrize(("complaint", "spoil"), SPOILS, ids=[complaint for complaint, _ in SPOILS])
def test_what_is_wrong_is_found(dashboard: Json, complaint: str, spoil: Callable[[Json], object]) -> None:
    spoiled = copy.deepcopy(dashboard)
    spoil(spoiled)
    assert any(complaint in fault for fault in faults(spoiled)), faults(spoiled)


def test_panels_have_ids_and_places_of_their_own(dashboard: Json) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= COLUMNS, panel["title"]
        columns, rows = (range(place[at], place[at] + place[size]) for at, size in (("x", "w"), ("y", "h")))
        covered = set(itertools.product(columns, rows))
        assert not covered & cells, f"{panel['title']} lies on another panel"
        cells |= covered


def test_queries_and_variables_fit(dashboard: Json) -> None:
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    asking = [*dashboard["panels"], *(variable for variable in variables.values() if variable["type"] == "query")]
    for item in asking:
        assert item["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, item.get("title", item.get("name"))
    known = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}
    for panel in dashboard["panels"]:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters), panel["title"]
        for target in panel["targets"]:
            assert set(VARIABLE.findall(target["expr"])) <= {*variables, *BUILT_IN}, target["expr"]
            assert target["legendFormat"], f"{panel['title']} names its series"
        assert panel["fieldConfig"]["defaults"].get("unit", units.Short) in known, panel["title"]
