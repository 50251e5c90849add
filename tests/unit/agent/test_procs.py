"""What the kernel's counters say of want of memory."""

from __future__ import annotations

import os

import pytest

from snakemake_executor_ec2.agent import procs

_MACHINE = {"/proc/vmstat": b"nr_free_pages 5\noom_kill 7\nswap_ra 0\n"}
_OLDER = {
    "/proc/self/cgroup": b"9:name=systemd:/\n4:cpu,memory:/group\n0::/\n",
    "/sys/fs/cgroup/memory/group/memory.limit_in_bytes": b"104857600\n",
    "/sys/fs/cgroup/memory/group/memory.oom_control": b"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
}
_NEWER = {
    "/proc/self/cgroup": b"0::/user.slice/session-1.scope\n",
    "/sys/fs/cgroup/user.slice/session-1.scope/memory.max": b"104857600\n",
    "/sys/fs/cgroup/user.slice/session-1.scope/memory.events": b"low 0\nmax 9\noom 3\noom_kill 3\n",
}
_NO_LIMIT_OLDER = {"/sys/fs/cgroup/memory/group/memory.limit_in_bytes": b"9223372036854771712\n"}
_NO_LIMIT_NEWER = {"/sys/fs/cgroup/user.slice/session-1.scope/memory.max": b"max\n"}
_CONTAINER = {
    "/sys/fs/cgroup/memory.max": b"419430400\n",
    "/sys/fs/cgroup/memory.events": b"oom 1\noom_kill 1\n",
}


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({**_MACHINE, **_OLDER}, 2),
        ({**_MACHINE, **_NEWER}, 3),
        ({**_MACHINE, **_OLDER, **_NO_LIMIT_OLDER}, 7),
        ({**_MACHINE, **_NEWER, **_NO_LIMIT_NEWER}, 7),
        ({**_MACHINE, **_NEWER, **_NO_LIMIT_NEWER, **_CONTAINER}, 1),
        (_MACHINE, 7),
        ({}, 0),
    ],
    ids=[
        "older",
        "newer",
        "older without limit",
        "newer without limit",
        "newer with a limit above",
        "no groups",
        "no Linux",
    ],
)
def test_kills_are_those_of_our_group_or_of_the_machine(
    files: dict[str, bytes], kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a control group with a limit, the machine's count may be of others."""

    def read(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    monkeypatch.setattr(procs, "_read", read)
    monkeypatch.setattr(os.path, "exists", files.__contains__)
    assert procs.oom_kills() == kills
