"""A real Prometheus scrapes a real installation: every metric, rule, query and explanation fits the others."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.api_group import Group
from tests.support.installation import WAIT_SECONDS_MAX, Installation, wait_for
from twinsite.embedded.up import choose_port
from twinsite.nbd_client import NbdClient

REPOSITORY = Path(__file__).parents[2]
RULES = REPOSITORY / "deploy/prometheus/alerts.yml"
RULE_TESTS = REPOSITORY / "deploy/prometheus/alerts_test.yml"
DASHBOARD = REPOSITORY / "deploy/grafana/twinsite.json"
DOCUMENT = REPOSITORY / "docs/metrics.md"
NAME = re.compile(r"\btwinsite_[a-z_]+\b")
PARTS = ("_bucket", "_count", "_sum")
WRITES = 25


def promtool(*arguments: object, cwd: Path = REPOSITORY) -> None:
    """Run promtool, which must be content."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[dict[str, Any]]:
    """Return the committed alert rules."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[str]:
    """Return the dashboard's queries as Grafana sends them."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    listed = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    listed += [
        variable["query"]["query"].removeprefix("query_result(").removesuffix(")")
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    return [query.replace("$__rate_interval", "1m").replace("$group", ".*") for query in listed]


def names_of(text: str) -> set[str]:
    """Return the metrics that a text speaks of, a histogram without the words for its parts."""
    found = NAME.findall(text)
    return {next((name.removesuffix(part) for part in PARTS if name.endswith(part)), name) for name in found}


@pytest.fixture(scope="module", name="installation")
def fixture_installation() -> Iterator[Installation]:
    installation = Installation()
    try:
        installation.start("--node-http-port", "0")
        yield installation
    finally:
        installation.close()


@pytest.fixture(scope="module", name="group")
def fixture_group(installation: Installation) -> Group:
    """A group that was synchronized and written to."""
    group = Group(installation, 1)
    group.synchronize()
    with NbdClient(group.connect("az1")[0]) as client:
        for number in range(WRITES):
            client.write(number * 4096, b"w" * 4096)
        client.flush()
    return group


@pytest.fixture(scope="module", name="volume_id")
def fixture_volume(installation: Installation) -> str:
    """A volume outside any group that a host has written to and read."""
    volume_id = installation.create_volume("az1")
    with NbdClient(installation.connect(volume_id)) as client:
        for number in range(WRITES):
            client.write(number * 4096, b"v" * 4096)
        client.read(0, 4096)
        client.flush()
    return volume_id


def node_url(installation: Installation, site: str) -> str:
    """Return where a site's node answers, as its log tells."""
    text = (installation.directory / "logs" / f"node-{site}.log").read_text(encoding="utf-8")
    match = re.search(r"node answers http.*?port=(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", text))
    assert match is not None, text
    return f"http://127.0.0.1:{match[1]}"


def scrape(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what one process tells."""
    answer = httpx.get(f"{url}/metrics", trust_env=False, timeout=WAIT_SECONDS_MAX)
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_the_rules_are_sound_and_do_what_their_tests_say() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", RULE_TESTS.name, cwd=RULE_TESTS.parent)


def test_every_alert_is_explained() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(Twinsite\w+)` \|", text, re.MULTILINE))
    assert rows == {rule["alert"] for rule in alerts()}


def test_names_are_by_the_conventions_and_explained_and_used_as_they_are(
    installation: Installation, group: Group, volume_id: str
) -> None:
    urls = [installation.url, *(node_url(installation, site) for site in ("az1", "az2"))]

    def told() -> set[str]:
        return {name for url in urls for name, _ in scrape(url)}

    for kind in ("group", "volume"):
        name = f"twinsite_{kind}_write_duration_seconds_count"
        wait_for(lambda name=name: name in told(), "a report of the worker")  # type: ignore[misc]
    for url in urls:
        text = httpx.get(f"{url}/metrics", trust_env=False).text
        linted = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (linted.returncode, linted.stderr) == (0, ""), url
    scraped = names_of(" ".join(told()))
    explained = set(re.findall(r"^\| `(twinsite_[a-z_]+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    assert explained == scraped, "docs/metrics.md has a row for every metric"
    used = names_of(" ".join([*(rule["expr"] for rule in alerts()), *queries()]))
    assert used <= scraped


def test_what_hosts_did_is_counted(installation: Installation, group: Group) -> None:
    url = node_url(installation, "az1")
    labels = frozenset({"site": "az1", "group": group.id}.items())

    def told(name: str) -> float:
        return scrape(url).get((f"twinsite_group_{name}", labels), -1.0)

    wait_for(lambda: told("writes_total") == WRITES and told("flushes_total") >= 1, "what was written")
    wait_for(lambda: told("in_flight_frames") == 0, "a worker that says that all of it has arrived")
    now = {name: value for (name, known), value in scrape(url).items() if known == labels}
    assert now["twinsite_group_written_bytes_total"] == WRITES * 4096
    assert now["twinsite_group_write_duration_seconds_count"] == WRITES
    assert now["twinsite_group_stream_connects_total"] == 1
    assert now["twinsite_group_arbiter_call_duration_seconds_count"] > 0
    assert now["twinsite_group_in_sync_since_timestamp_seconds"] > 0
    assert (now["twinsite_group_dirty_bytes"], now["twinsite_group_in_flight_frames"]) == (0, 0)
    assert scrape(installation.url)["twinsite_group_failover_possible", frozenset({("group", group.id)})] == 1


def test_what_hosts_did_with_a_volume_alone_is_counted(installation: Installation, volume_id: str) -> None:
    url = node_url(installation, "az1")
    labels = frozenset({"site": "az1", "volume": volume_id}.items())

    def told(name: str) -> float:
        return scrape(url).get((f"twinsite_volume_{name}", labels), -1.0)

    wait_for(lambda: told("writes_total") == WRITES and told("flushes_total") >= 1, "what was written")
    assert (told("written_bytes_total"), told("read_bytes_total")) == (WRITES * 4096, 4096)
    assert (told("reads_total"), told("write_duration_seconds_count")) == (1, WRITES)
    assert told("flush_duration_seconds_count") == told("flushes_total")


def test_prometheus_takes_it_all_and_every_query_has_an_answer(
    installation: Installation, group: Group, volume_id: str, tmp_path: Path
) -> None:
    nodes = [node_url(installation, site).removeprefix("http://") for site in ("az1", "az2")]
    jobs = {"twinsite-controller": [installation.url.removeprefix("http://")], "twinsite-node": nodes}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": targets}]} for job, targets in jobs.items()
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    promtool("check", "config", tmp_path / "prometheus.yml")
    address = f"127.0.0.1:{choose_port('127.0.0.1', 0)}"
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("wb") as log_file:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log_file, stderr=log_file)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", trust_env=False, timeout=WAIT_SECONDS_MAX) as http:
            _judge(http, group)
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS_MAX)


def _judge(http: httpx.Client, group: Group) -> None:
    def results(query: str) -> list[Any]:
        try:
            response = http.get("/query", params={"query": query})
        except httpx.TransportError:
            return []  # It has not started yet.
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return []  # It has started, and is not ready.
        answer = response.json()
        assert answer["status"] == "success", f"{query}: {answer}"
        return list(answer["data"]["result"])

    def has_answer(query: str) -> bool:
        return bool(results(query))

    wait_for(lambda: len(results("up == 1")) == 3, "all three to be scraped")
    # A rate needs two samples.
    wait_for(lambda: bool(results("rate(twinsite_group_writes_total[1m])")), "a rate")
    for query in queries():
        wait_for(functools.partial(has_answer, query), f"an answer to {query}")
    listed = http.get("/rules").json()["data"]["groups"]
    rules = {rule["name"]: rule for entry in listed for rule in entry["rules"]}
    assert rules.keys() == {rule["alert"] for rule in alerts()}
    assert {rule["health"] for rule in rules.values()} <= {"ok", "unknown"}
    serious = [name for name, rule in rules.items() if rule["state"] != "inactive"]
    assert set(serious) <= {"TwinsiteFailoverChanged", "TwinsiteDiskFilling"}, "nothing is the matter"
