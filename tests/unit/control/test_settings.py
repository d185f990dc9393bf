"""Settings: where they come from, which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest

from twinsite.control.settings import ControllerSettings


def test_defaults(tmp_path: Path) -> None:
    settings = ControllerSettings(data_dir=tmp_path)
    assert settings.availability_zones == ["az1", "az2"]
    assert (settings.volume_types, settings.default_volume_type) == (["SSD", "SAS", "SATA"], "SSD")
    assert settings.database_address() == f"sqlite+aiosqlite:///{tmp_path}/controller/twinsite.db"


def test_environment_wins_over_the_file_and_arguments_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "twinsite.toml").write_text(
        'region = "file"\nquota_volumes = 1\navailability_zones = ["a", "b", "c"]\n'
    )
    monkeypatch.setenv("TWINSITE_REGION", "environment")
    monkeypatch.setenv("TWINSITE_QUOTA_GIGABYTES", "7")
    settings = ControllerSettings(data_dir=tmp_path)
    assert (settings.region, settings.quota_volumes, settings.quota_gigabytes) == ("environment", 1, 7)
    assert settings.availability_zones == ["a", "b", "c"]
    assert ControllerSettings(data_dir=tmp_path, region="argument").region == "argument"


def test_another_file_may_be_named(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text('region = "other"\n')
    assert ControllerSettings(data_dir=tmp_path, config_file=file).region == "other"


@pytest.mark.parametrize(
    "wrong",
    [
        {"availability_zones": ["az1"]},
        {"availability_zones": ["az1", "az1"]},
        {"availability_zones": ["az1", "../az2"]},
        {"default_volume_type": "gold"},
        {"presence_seconds": 10.0, "node_silence_seconds": 12.0},
        {"token_lifetime_seconds": 0},
        {"unheard_of": 1},
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        ControllerSettings(data_dir=tmp_path, **wrong)


def test_type_ids_do_not_change(tmp_path: Path) -> None:
    first, second = ControllerSettings(data_dir=tmp_path), ControllerSettings(data_dir=tmp_path / "other")
    assert first.volume_type_id("SSD") == second.volume_type_id("SSD") != first.volume_type_id("SAS")
