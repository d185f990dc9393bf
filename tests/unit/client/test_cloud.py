"""Which cloud a client talks to, and what it says when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.running_api import write_clouds
from twinsite.client.cloud import find_cloud
from twinsite.errors import ConfigurationError

VARIABLES = {
    "OS_AUTH_URL": "http://variables/identity/v3/",
    "OS_USERNAME": "user",
    "OS_PASSWORD": "password",
    "OS_PROJECT_NAME": "project",
    "OS_PROJECT_DOMAIN_NAME": "domain",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    write_clouds(directory / "clouds.yaml", "http://data", "secret")
    return directory


def test_a_data_directory_goes_before_everything(data: Path, tmp_path: Path) -> None:
    write_clouds(tmp_path / "clouds.yaml", "http://here", "secret")
    cloud = find_cloud(data, None, VARIABLES, tmp_path)
    assert (cloud.auth_url, cloud.password, cloud.region) == ("http://data/identity/v3", "secret", "RegionOne")


def test_variables_go_before_files(tmp_path: Path) -> None:
    write_clouds(tmp_path / "clouds.yaml", "http://here", "secret")
    cloud = find_cloud(None, None, VARIABLES, tmp_path)
    assert (cloud.auth_url, cloud.username) == ("http://variables/identity/v3", "user")
    assert (cloud.user_domain, cloud.project_domain) == ("Default", "domain")


def test_a_named_cloud_goes_before_variables(tmp_path: Path) -> None:
    write_clouds(tmp_path / "clouds.yaml", "http://here", "secret")
    assert find_cloud(None, "twinsite", VARIABLES, tmp_path).auth_url == "http://here/identity/v3"
    assert find_cloud(None, None, {**VARIABLES, "OS_CLOUD": "twinsite"}, tmp_path).auth_url.startswith("http://here")


def test_the_named_file_replaces_the_usual_places(data: Path, tmp_path: Path) -> None:
    write_clouds(tmp_path / "clouds.yaml", "http://here", "secret")
    environment = {"OS_CLIENT_CONFIG_FILE": str(data / "clouds.yaml")}
    assert find_cloud(None, None, environment, tmp_path).auth_url == "http://data/identity/v3"


def test_the_home_directory_is_searched_after_the_current_one(tmp_path: Path) -> None:
    home = tmp_path / "home" / ".config" / "openstack"
    home.mkdir(parents=True)
    write_clouds(home / "clouds.yaml", "http://home", "secret")
    environment = {"HOME": str(tmp_path / "home")}
    assert find_cloud(None, None, environment, tmp_path).auth_url == "http://home/identity/v3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no 'clouds' section"),
        ("clouds: {}", "no 'clouds' section"),
        ("clouds: [", "cannot be read"),
        ("clouds: {a: {auth: {}}, b: {auth: {}}}", "several clouds: choose one with --os-cloud \\(a, b\\)"),
        ("clouds: {a: 3}", "no usable cloud called 'a'"),
        ("clouds: {a: {auth: {auth_url: x, username: u, password: p}}}", "project_name missing"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "clouds.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        find_cloud(tmp_path, None, {}, tmp_path)


def test_missing_variables_are_named(tmp_path: Path) -> None:
    variables = {key: value for key, value in VARIABLES.items() if key != "OS_PASSWORD"}
    with pytest.raises(ConfigurationError, match="password missing"):
        find_cloud(None, None, variables, tmp_path)


def test_an_unknown_cloud_is_named_with_the_places_searched(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"'nimbus'.*{tmp_path}/clouds.yaml"):
        find_cloud(None, "nimbus", {"HOME": str(tmp_path)}, tmp_path)


def test_a_directory_without_a_cloud_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Is .* the data directory of a running 'twinsite up'"):
        find_cloud(tmp_path, None, {}, tmp_path)
