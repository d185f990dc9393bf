"""The scripts of the run-book that make a block device of a volume, and give it back."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

from tests.support.attached_disk import require_tools, run
from tests.support.installation import Installation

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPT_SECONDS_MAX = 120.0


def test_a_disk_is_attached_written_detached_and_attached_again(tmp_path: Path) -> None:
    require_tools()
    installation = Installation()
    name = f"test-{uuid.uuid4().hex[:8]}"
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": paths, "TWINSITE_DATA": str(installation.directory)}

    def script(*command: str) -> str:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, timeout=SCRIPT_SECONDS_MAX
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    try:
        installation.start()
        script("twinsite", "volume", "create", name, "--size", "1", "--az", "az1", "--wait")
        device = script(str(DEPLOY / "attach"), name)
        run("mkfs.ext4", "-q", device)
        for words in ("order 1\n", "order 1\norder 2\n"):
            run("mount", device, str(mounted))
            with (mounted / "orders").open("a") as orders:
                orders.write(words.splitlines()[-1] + "\n")
            assert (mounted / "orders").read_text() == words
            run("umount", str(mounted))
            script(str(DEPLOY / "detach"), name, device)
            assert "available" in script("twinsite", "volume", "show", name)
            assert not Path(f"/run/{name}.disk").exists()
            device = script(str(DEPLOY / "attach"), name)
        script(str(DEPLOY / "detach"), name, device)
        assert installation.stop()[0] == 0
    finally:
        installation.close()
