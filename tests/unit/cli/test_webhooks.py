"""`twinsite webhook …` against a real controller."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.running_api import Api
from tests.unit.cli.conftest import Run

URL = "https://hooks.example.com/twinsite"


def test_a_webhook_from_its_creation_to_its_end(run: Run, api: Api, tmp_path: Path) -> None:
    data = ("--data", str(api.data_dir))
    made = run("webhook", "create", URL, "--name", "pager", "--kind", "hold_began", "--kind", "site_lost", *data)
    assert made.status == 0, made.errors
    secret = made.output.split("The secret, which is not shown again: ")[1].strip()
    assert len(secret) == 64
    listed = json.loads(run("webhook", "list", "-o", "json", *data).output)
    assert [(item["name"], item["url"], item["kinds"]) for item in listed] == [
        ("pager", URL, ["hold_began", "site_lost"])
    ]
    shown = run("webhook", "show", listed[0]["id"][:8], *data)
    assert URL in shown.output
    assert secret not in shown.output
    assert "State" in run("webhook", "deliveries", "pager", *data).output

    secret_file = tmp_path / "secret"
    secret_file.write_text("a secret that a file has\n")
    second = run("webhook", "create", "http://localhost:9/", "--name", "near", "--secret-file", str(secret_file), *data)
    assert second.status == 0, second.errors
    assert "secret" not in second.output
    tested = run("webhook", "test", "near", "-o", "json", *data)
    assert tested.status == 1
    delivery = json.loads(tested.output)
    assert delivery["state"] == "given_up"
    assert "not a public address" in delivery["trouble"]
    assert json.loads(run("webhook", "deliveries", "near", "-o", "json", *data).output) == [delivery]

    refused = run("webhook", "delete", "pager", "near", *data)
    assert (refused.status, "their number, 2," in refused.errors) == (2, True)
    ids = [item["id"] for item in json.loads(run("webhook", "list", "-o", "json", *data).output)]
    gone = run("webhook", "delete", "pager", "near", "--yes", "-o", "json", *data)
    assert (gone.status, set(json.loads(gone.output))) == (0, set(ids))
    assert json.loads(run("webhook", "list", "-o", "json", *data).output) == []


def test_what_cannot_be_is_said(run: Run, api: Api, tmp_path: Path) -> None:
    data = ("--data", str(api.data_dir))
    refused = run("webhook", "create", "http://127.0.0.1/", *data)
    assert refused.status == 1
    assert "not a public address" in refused.errors
    missing = run("webhook", "create", URL, "--secret-file", str(tmp_path / "nothing"), *data)
    assert missing.status == 2
    assert run("webhook", "show", "nobody", *data).status == 1
