"""The API over TLS: who is believed, who is not, and a certificate that changes under a running server."""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.controller import Site, make_settings, serve
from twinsite.api import certificate as certificate_module
from twinsite.api.certificate import ServerCertificate
from twinsite.embedded.certificates import TlsFiles, ensure_certificates
from twinsite.errors import ConfigurationError, RetryableError
from twinsite.node.controller_client import ControllerClient
from twinsite.node.settings import NodeSettings
from twinsite.worker.arbiter_client import ArbiterClient

NAMES = ("localhost", "127.0.0.1")


def made(directory: Path, *names: str) -> TlsFiles:
    """Make an authority and a certificate for `names`, those of this machine by default."""
    files = TlsFiles(directory)
    ensure_certificates(files, names or NAMES, datetime.datetime.now(datetime.UTC))
    return files


def trusting(files: TlsFiles) -> ssl.SSLContext:
    """Return what trusts one authority and nobody else."""
    return ssl.create_default_context(cafile=files.authority)


def secure(url: str) -> str:
    """Return the https address of a server whose http address is given."""
    return url.replace("http://", "https://")


async def serial_number(url: str, files: TlsFiles) -> int:
    """Return the serial number of the certificate that a server shows."""
    address = httpx.URL(url)
    _, writer = await asyncio.open_connection(address.host, address.port, ssl=trusting(files))
    shown: Any = writer.get_extra_info("peercert")
    writer.close()
    await writer.wait_closed()
    return int(shown["serialNumber"], 16)


async def test_the_right_authority_and_others(tmp_path: Path) -> None:
    files, stranger = made(tmp_path / "tls"), made(tmp_path / "other")
    settings = make_settings(tmp_path / "data", tls_certificate=files.server)
    async with serve(settings) as (server, address):
        url = secure(address)
        async with httpx.AsyncClient(base_url=url, verify=trusting(files)) as http:
            site = Site(server.app, http, settings)
            await site.log_in()
            await site.settle()
            volume = await site.make_volume()
            assert all(link["href"].startswith(url) for link in volume["links"])
            refused = await http.get("/v3/x/volumes", headers={"X-Auth-Token": "x"})
            assert refused.headers["www-authenticate"] == f'Keystone uri="{url}/identity/v3"'
        for wrong in (trusting(stranger), ssl.create_default_context()):
            async with httpx.AsyncClient(base_url=url, verify=wrong) as http:
                with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await http.get("/")
        async with httpx.AsyncClient(base_url=address) as http:
            with pytest.raises(httpx.TransportError):
                await http.get("/")
        old = trusting(files)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        async with httpx.AsyncClient(base_url=url, verify=old) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get("/")


async def test_nodes_and_workers_look_who_answers(tmp_path: Path) -> None:
    files, stranger = made(tmp_path / "tls"), made(tmp_path / "other")
    elsewhere = made(tmp_path / "elsewhere", "example.org")
    settings = make_settings(tmp_path / "data", tls_certificate=files.server)
    async with serve(settings) as (server, address):
        url = secure(address)
        async with httpx.AsyncClient(base_url=url, verify=trusting(files)) as http:
            site = Site(server.app, http, settings)
            await site.log_in()
            await site.settle()
            group = await site.make_group()
        token = (settings.secrets_dir / "node-token").read_text().strip()
        spec = site.az1.spec(group["id"])
        arbiter_url = NodeSettings("az1", url, tmp_path, token).arbiter_url(group["id"])
        for files_of, trusted in ((files, True), (stranger, False), (elsewhere, False)):
            client = ControllerClient(url, "az1", token, files_of.authority)
            arbiter = ArbiterClient(arbiter_url, spec.arbiter_token, "az1", spec.term, ca_file=str(files_of.authority))
            if trusted:
                assert (await client.sync(site.az1.report())).installation_id
                assert (await asyncio.to_thread(arbiter.read)).primary_site == "az1"
            else:
                with pytest.raises(RetryableError, match=r"(?i)certificate"):
                    await client.sync(site.az1.report())
                with pytest.raises(RetryableError, match="certificate"):
                    await asyncio.to_thread(arbiter.read)
            await client.close()


async def test_a_name_that_the_certificate_does_not_have(tmp_path: Path) -> None:
    files = made(tmp_path / "tls", "localhost")
    settings = make_settings(tmp_path / "data", tls_certificate=files.server)
    async with serve(settings) as (_, address), httpx.AsyncClient(verify=trusting(files)) as http:
        with pytest.raises(httpx.ConnectError, match="IP address mismatch"):
            await http.get(secure(address))
        assert (await http.get(secure(address).replace("127.0.0.1", "localhost"))).status_code == 300


async def test_a_renewed_certificate_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_module, "LOOK_SECONDS", 0.01)
    files = made(tmp_path / "tls")
    settings = make_settings(tmp_path / "data", tls_certificate=files.server)
    async with serve(settings) as (_, address):
        url = secure(address)
        async with httpx.AsyncClient(base_url=url, verify=trusting(files)) as http:
            assert (await http.get("/healthz")).status_code == 200
            before = await serial_number(url, files)
            files.server.unlink()
            made(tmp_path / "tls")
            for _ in range(2000):
                if await serial_number(url, files) != before:
                    break
                await asyncio.sleep(0.01)
            assert await serial_number(url, files) != before
            assert (await http.get("/healthz")).status_code == 200, "open connections go on"


def test_a_half_written_certificate_changes_nothing(tmp_path: Path) -> None:
    files = made(tmp_path / "tls")
    shown = ServerCertificate(files.server, None)
    good = files.server.read_bytes()
    for content in (b"", good[: len(good) // 2], good.partition(b"-----BEGIN CERTIFICATE")[0], None):
        if content is None:
            files.server.unlink()
        else:
            files.server.write_bytes(content)
        assert not shown.take_up()
    files.server.write_bytes(good)
    os.utime(files.server, (0, 0))
    assert shown.take_up()
    assert not shown.take_up()


@pytest.mark.parametrize(
    ("arguments", "policy", "words"),
    [
        (["--tls-certificate", "/nowhere/c.pem"], "", "/nowhere/c.pem"),
        ([], '"volumes:create": "nonsense"', "policy.yaml: the check of 'volumes:create' cannot be understood"),
    ],
)
def test_a_controller_says_in_a_sentence_why_it_does_not_start(
    tmp_path: Path, arguments: list[str], policy: str, words: str
) -> None:
    (tmp_path / "policy.yaml").write_text(policy)
    command = [sys.executable, "-m", "twinsite.cli.services", "controller", "--data", str(tmp_path), "--port", "0"]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert words in ended.stderr.splitlines()[-1]
    assert ended.stderr.splitlines()[-1].startswith("twinsite: ")


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    files, other = made(tmp_path / "tls"), made(tmp_path / "other")
    missing = tmp_path / "missing.pem"
    for certificate, key in ((missing, None), (files.authority, None), (files.server, missing)):
        with pytest.raises(ConfigurationError, match=str(certificate)):
            ServerCertificate(certificate, key)
    with pytest.raises(ConfigurationError, match=str(other.server)):
        ServerCertificate(files.server, other.server)
    with pytest.raises(ValueError, match="tls_certificate"):
        make_settings(tmp_path, tls_key=files.server)
    for wrong in (missing, tmp_path / "empty"):
        (tmp_path / "empty").write_text("")
        with pytest.raises(ConfigurationError, match=str(wrong)):
            NodeSettings("az1", "https://localhost", tmp_path, "t", ca_file=wrong).check()
