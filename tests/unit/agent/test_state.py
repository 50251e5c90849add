"""Where temporary files go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent import state
from snakemake_executor_ec2.agent.state import keep_temporary_files_on_disk

_DISK = "/dev/root / xfs rw,noatime 0 0\n"
_MEMORY = "tmpfs /tmp tmpfs rw,nosuid,nodev,size=950000k 0 0\n"
_NVME = "/dev/nvme1n1 /tmp ext4 rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "given", "used"),
    [
        (_DISK + _MEMORY, None, "/var/tmp"),
        (_DISK, None, None),
        (_DISK + _MEMORY + _NVME, None, None),
        (_DISK + _MEMORY, "/scratch", "/scratch"),
    ],
    ids=["in memory", "on the disk", "a disk mounted over it", "told where"],
)
def test_temporary_files_are_not_kept_in_memory(
    mounts: str, given: str | None, used: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would use up what the job has, and its disk_mb would be no room for them."""
    monkeypatch.setenv("TMPDIR", given or "")
    if not given:
        del os.environ["TMPDIR"]
    (tmp_path / "mounts").write_text(mounts)
    keep_temporary_files_on_disk(str(tmp_path / "mounts"))
    assert os.environ.get("TMPDIR") == used


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="a mount that is not the root is needed")
def test_temporary_files_are_on_local_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """If they are mounted, and nobody has said otherwise."""
    monkeypatch.setattr(state, "TEMPORARY", "/dev/shm")
    monkeypatch.setenv("TMPDIR", "/scratch")
    keep_temporary_files_on_disk(os.devnull)
    assert os.environ["TMPDIR"] == "/scratch"
    del os.environ["TMPDIR"]
    keep_temporary_files_on_disk(os.devnull)
    assert os.environ["TMPDIR"] == "/dev/shm"
