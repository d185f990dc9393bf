"""`twinsite doctor` as a command; what it says of what is in tests/unit/doctor."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.running_api import Api, write_clouds
from tests.unit.cli.conftest import Result, Run
from twinsite.pidfile import PidFile


def test_the_command(run: Run, api: Api, tmp_path: Path) -> None:
    data = tmp_path / "d"
    data.mkdir()
    arguments = ("doctor", "--data", str(data), "--controller", api.url, "-o", "json")
    done = run(*arguments)
    told = json.loads(done.output)
    errors = [finding for finding in told["findings"] if finding["level"] == "error"]
    assert done.status == (1 if errors else 0)
    assert told["errors"] == len(errors)
    (data / "clouds.yaml").write_text("x")
    os.chmod(data / "clouds.yaml", 0o666)
    done = run("doctor", "--data", str(data))
    assert done.status == 1
    assert "chmod 600" in done.output
    assert run("doctor", "--ports", "9-1").status == 2


def findings(result: Result, check: str) -> list[str]:
    """Return what was said of one check."""
    return [item["text"] for item in json.loads(result.output)["findings"] if item["check"] == check]


def test_the_controller_of_a_running_up_is_found(run: Run, api: Api, tmp_path: Path) -> None:
    shutil.copy(api.data_dir / "clouds.yaml", tmp_path / "clouds.yaml")
    for site in ("az1", "az2"):
        (tmp_path / site / "pool").mkdir(parents=True)
    arguments = ("doctor", "--data", str(tmp_path), "-o", "json")
    with PidFile(tmp_path / "up.pid"):
        found = run(*arguments)
    assert f"{api.url} answers" in findings(found, "controller")
    assert "as this machine does" in findings(found, "releases")[0]
    assert len(findings(found, "socket paths")) == 2
    assert len(findings(run(*arguments, "--site", "az2"), "socket paths")) == 1


def test_the_controller_of_a_cloud_is_found(
    run: Run, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings(run("doctor", "-o", "json"), "controller") == []
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(api.data_dir / "clouds.yaml"))
    assert f"{api.url} answers" in findings(run("doctor", "-o", "json"), "controller")
    assert f"{api.url} answers" in findings(run("doctor", "-o", "json", "--os-cloud", "twinsite"), "controller")
    assert run("doctor", "--os-cloud", "nobody's").status == 2
    write_clouds(tmp_path / "keystone.yaml", "", "secret", auth_url="http://127.0.0.1:1/v3")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "keystone.yaml"))
    assert findings(run("doctor", "-o", "json"), "controller") == []
