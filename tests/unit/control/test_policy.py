"""The policy file: what operators may override, and what a wrong file is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twinsite.control.policy import rules, sample
from twinsite.control.policy.enforcer import FILE_BYTES_MAX, Policy
from twinsite.errors import ConfigurationError

REPOSITORY = Path(__file__).parents[3]
MEMBER = {"roles": ["member", "reader"], "user_id": "u", "project_id": "p"}
READER = {"roles": ["reader"], "user_id": "u", "project_id": "p"}


def write(path: Path, text: str) -> None:
    """Write a policy file whose age tells it from the one before, however coarse the file system's clock."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_the_sample_is_current() -> None:
    """Run `make policy` when this fails."""
    assert (REPOSITORY / "docs/policy.yaml").read_text() == sample.sample()


def test_the_sample_changes_nothing_until_it_is_edited(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(sample.sample())
    policy = Policy(path)
    assert policy.allows("volumes:create", MEMBER, {})
    assert not policy.allows("volumes:create", READER, {})
    # Uncommented it says the same: every default can be read back.
    path.write_text("\n".join(line.removeprefix("#") for line in sample.sample().splitlines() if line[:2] == '#"'))
    policy = Policy(path)
    assert policy.allows("volumes:create", MEMBER, {})
    assert not policy.allows("sites:get", MEMBER, {})


def test_every_rule_says_what_it_is_for() -> None:
    names = [rule.name for rule in rules.list_rules()]
    assert len(names) == len(set(names))
    for rule in rules.list_rules():
        assert rule.description, rule.name


def test_an_unknown_rule_is_refused_to_everybody() -> None:
    assert not Policy().allows("volumes:paint", {"roles": ["admin"]}, {})


def test_a_change_is_in_force_at_once_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    policy = Policy(path)
    assert not policy.allows("volumes:create", READER, {})
    write(path, '"volumes:create": "rule:reader_required"')
    assert policy.allows("volumes:create", READER, {})
    write(path, '"volumes:create": "rule:nobody_wrote_this"')
    assert policy.allows("volumes:create", READER, {})
    write(path, '"mine": "user_id:other"\n"volumes:create": "rule:mine or project_id:%(project_id)s"')
    assert policy.allows("volumes:create", READER, {"project_id": "p"})
    assert not policy.allows("volumes:create", READER, {"project_id": "q"})
    path.unlink()
    assert not policy.allows("volumes:create", READER, {"project_id": "p"})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('"volumes:create": "role:admin and"', "cannot be understood"),
        ('"volumes:create": "nonsense"', "cannot be understood"),
        ('"volumes:create": "rule:unknown"', "does not exist"),
        ('"admin_required": "rule:member_required"', "to itself"),
        ('"volumes:paint": "@"', "no rule 'volumes:paint'"),
        ('"volumes:create": 3', "not a text"),
        ('"volumes:create": "http://example.org"', "another server"),
        ("- a list", "not a mapping"),
        ("3: '@'", "not a mapping"),
        ("{", "YAML"),
        ("\x80", "YAML"),
        ("#" * (FILE_BYTES_MAX + 1), "not a mapping"),
    ],
)
def test_a_wrong_file_is_refused_at_the_start(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError) as refused:
        Policy(path)
    assert what in str(refused.value)
    assert str(path) in str(refused.value)
