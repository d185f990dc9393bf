"""`twinsite doctor` as a command; what it says of what is in tests/unit/doctor."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.support.running_api import Api
from tests.unit.cli.conftest import Run


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
