"""The tools of oslo.policy, run as an operator does."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from twinsite.control.policy.rules import list_rules

REPOSITORY = Path(__file__).parents[3]
SECONDS_MAX = 60


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Install nothing but the entry points of pyproject.toml, as they are now; return where."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    directory = tmp_path / "site"
    metadata = directory / f"{project['name']}-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n")
    sections = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(sections))
    return directory


def run(tool: str, installed: Path, *arguments: str, policy: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool for the namespace of Twinsite."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWINSITE_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(installed), str(REPOSITORY / "src")])
    environment["XDG_CACHE_HOME"] = str(installed / "cache")
    if policy is not None:
        environment["TWINSITE_POLICY_FILE"] = str(policy)
    command = [str(Path(sys.executable).parent / f"oslopolicy-{tool}"), "--namespace", "twinsite", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, env=environment, check=False)


def test_the_tools_know_the_rules_and_the_operators_file(installed: Path, tmp_path: Path) -> None:
    rules = {rule.name: rule.check_str for rule in list_rules()}
    name, other = "replication_consistency_groups:force", "volumes:create"
    policy = tmp_path / "policy.yaml"
    policy.write_text(f'"{name}": "role:operator"\n"{other}": "{rules[other]}"\n')

    sample = run("sample-generator", installed)
    assert (sample.returncode, f'"{name}"' in sample.stdout) == (0, True), sample.stderr

    defaults = run("policy-generator", installed)
    assert defaults.returncode == 0, defaults.stderr
    assert yaml.safe_load(defaults.stdout) == rules

    merged = run("policy-generator", installed, policy=policy)
    assert yaml.safe_load(merged.stdout) == {**rules, name: "role:operator"}

    redundant = run("list-redundant", installed, policy=policy)
    assert redundant.returncode == 0, redundant.stderr
    assert redundant.stdout.strip() == f'"{other}": "{rules[other]}"'

    assert run("validator", installed, policy=policy).returncode == 0
    policy.write_text(f'"{name}": "rule:nobody_knows"\n')
    assert run("validator", installed, policy=policy).returncode != 0
