"""Where an image has /tmp in memory, as Amazon Linux 2023, the machine's first act puts it on the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from snakemake_executor_ec2.machines import user_data
from snakemake_executor_ec2.model import KeyPair


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root mounts, on Linux")
@pytest.mark.parametrize("in_memory", [True, False])
def test_tmp_is_on_the_disk(tmp_path: Path, *, in_memory: bool) -> None:
    """With real mounts, which nobody but the test's own shell sees."""
    text = user_data.cloud_config(
        host_key=KeyPair(private="", public=""), authorized_keys=[], lifetime_s=9, claim_s=9, ssh_user="ann"
    )
    command = yaml.safe_load(text)["bootcmd"][2]
    for name in ("disk", "memory"):
        (tmp_path / name).mkdir()
    hidden = f"mount --bind {tmp_path}/disk /var/tmp"
    mounted = "mount -t tmpfs tmpfs /tmp" if in_memory else f"mount --bind {tmp_path}/memory /tmp"
    script = f'{hidden} && {mounted} || exit 77; "$@" || exit 1; touch /tmp/made; stat -c %a /tmp'

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mounts of our own here")
    assert done.returncode == 0, done.stderr
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("made")}
    assert found == ({"disk/snakemake-ec2-tmp/made"} if in_memory else {"memory/made"})
    assert not in_memory or done.stdout == "1777\n"
