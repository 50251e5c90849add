"""One job after another on a machine: the next one sees nothing of what the one before has left."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.client import Agent, JobStart
from snakemake_executor_ec2.agent.protocol import Finished
from snakemake_executor_ec2.agent.transfer import Upload
from snakemake_executor_ec2.model import Cleaned, KeyPair
from snakemake_executor_ec2.ports import RemoteHost
from snakemake_executor_ec2.ssh.connector import SshConnector
from tests.unit.local.conftest import Machine

_WORK = "/data/project"
_numbers = itertools.count()
_SEEN = (
    "find ~ /tmp /var/tmp /dev/shm -path ~/.snakemake-ec2 -prune -o -print | sort; ipcs;"
    "ls -a / /data ~/.snakemake-ec2 | grep -v before-job"
)


@pytest.fixture(scope="module")
def line(machine: Machine) -> Iterator[RemoteHost]:
    login = KeyPair(private=machine.login_key.private, public=machine.login_key.public)
    connector = SshConnector(user="ec2-user", login_keys=[login], port=machine.rig.cloud.ssh_port)
    found = connector.connect(machine.address, host_keys=[machine.host_key.public], timeout_s=10)
    agent = Agent(found)
    agent.install()
    agent.guard(600.0)
    assert found.run("sudo rm -f /etc/ssh/*.pub").exit_code == 0  # as when its host key was renewed
    after(found, "true")  # the agent's own files are there from now on
    yield found
    found.close()


@pytest.fixture
def host(line: RemoteHost) -> RemoteHost:
    """A machine that has its software."""
    ready = (
        "mkdir -p /data ~/kept ~/.snakemake-ec2/env/bin; chmod 755 ~/kept; rmdir ~/.profile;"
        "touch /tmp/kept-file ~/.profile ~/.snakemake-ec2/env/bin/t"
    )
    assert line.run(ready).exit_code == 0
    return line


def after(
    host: RemoteHost,
    mess: str,
    *,
    note: bool = True,
    keep: dict[str, str] | None = None,
    made: dict[str, str] | None = None,
    folder: str = _WORK,
) -> Cleaned:
    """What cleaning comes to after a job that ran this."""
    agent, key = Agent(host), f"job{next(_numbers)}"
    assert agent.workdir([folder])[0].ok
    agent.start(JobStart(key=key, command=mess, cwd=folder, label="a", note=note))
    last = [line.event for line in agent.follow(key)][-1]
    assert isinstance(last, Finished)
    assert last.result.exit_code == 0, host.run(f"cat ~/.snakemake-ec2/jobs/{key}/output.log").stdout
    return agent.clean(key, keep or {}, made or {})


def seen(host: RemoteHost) -> bytes:
    return host.run(_SEEN).stdout


LEFT = {
    "files": "mkdir -p ~/a/b /tmp/c; touch ~/a/b/x ~/.hidden /tmp/c/y /var/tmp/z /dev/shm/w $PWD/side",
    "odd names": r"cd /tmp; touch -- -rf 'a b' $'new\nline' $'bytes\xff'; mkdir ~/'*'; touch ~/'*'/x",
    "closed folders": "mkdir -p ~/closed/in /tmp/ro/in; touch /tmp/ro/x; chmod 5 /tmp/ro; chmod 0 ~/closed",
    "links": "ln -s /etc ~/etc; ln -s ~ /tmp/home; ln -s /nowhere $PWD/nowhere",
    "many files": "mkdir ~/many; cd ~/many; seq 60000 | xargs touch",
    "processes": "(setsid sleep 1000 &); nohup setsid sleep 1000 > /dev/null 2>&1 & sleep 0.1",
    "a writer": "mkdir /tmp/w; setsid bash -c 'while touch /tmp/w/$RANDOM $0/$$; do :; done' $PWD &",
    "a library": "mkdir -p ~/.local/lib/python3.9; touch ~/.local/lib/python3.9/x.py",
    "bytecode": "cd ~/.snakemake-ec2/env/bin; mkdir -p __pycache__; touch __pycache__/t.pyc",
    "shared memory": "ipcmk -M 100000; ipcmk -S 1; ipcmk -Q",
}
"""By what it is: the commands of a job."""
_SET_BACK = (
    "cd ~/.snakemake-ec2; cp -p before-job t; "
    """python3 -c 'import json; a = json.load(open("t")); a["clock"] += 1; """
    """json.dump(a, open("before-job", "w"))'; touch -r t before-job; rm t"""
)
"""As if it had been a second later when the job began: the clock is that of all machines."""
CHANGED = {
    "a file at home": ("echo export A=1 >> ~/.profile", "it has changed /home/ec2-user/.profile"),
    "its time put back": (
        "touch -r ~/.profile /tmp/t; echo export A=2 >> ~/.profile; touch -r /tmp/t ~/.profile",
        "it has changed /home/ec2-user/.profile",
    ),
    "a file gone": ("rm ~/.profile", "it has removed /home/ec2-user/.profile"),
    "a folder closed": ("chmod 511 ~/kept", "it has changed /home/ec2-user/kept"),
    "a folder for a file": ("rm ~/.profile; mkdir ~/.profile", "it has changed /home/ec2-user/.profile"),
    "a temporary file of before": ("echo >> /tmp/kept-file", "it has changed /tmp/kept-file"),
    "a file replaced": ("cp ~/.profile ~/p; mv ~/p ~/.profile", "it has changed /home/ec2-user/.profile"),
    "a login": (
        "echo ssh-ed25519 AAAA >> ~/.ssh/authorized_keys",
        "it has changed /home/ec2-user/.ssh/author",
    ),
    "software": ("echo 2 > ~/.snakemake-ec2/env/bin/t", "it has changed the software on its machine: /home/"),
    "more software": (
        "touch ~/.snakemake-ec2/env/bin/u",
        "it has changed the software on its machine: /home/",
    ),
    "less software": ("rm ~/.snakemake-ec2/env/bin/t", "it has removed some of the software"),
    "the clock": (_SET_BACK, "the clock was set back"),
    "the agent": ("touch ~/.snakemake-ec2/*/agent.pyz", "it has changed the software on its machine: /home/"),
    "a timer": ("sudo systemd-run --on-active=900 --unit=j true", "it has left a unit of systemd: j.timer"),
    "the system": ("touch /etc/job.sh", "it has changed /etc"),
    "a folder of the system": ("mkdir /scratch", "it has changed what is in /"),
    "a program for all": ("mkdir -p /opt/tool; touch /opt/tool/x", "it has changed "),
}


def test_what_is_new_is_removed(host: RemoteHost) -> None:
    """Files anywhere that a job may write, whatever their names and modes; its processes; its tree. Then
    nothing is done where nothing is left."""
    before = seen(host)
    for mess in ("\n".join(f"({each})" for each in LEFT.values()), "true"):
        cleaned = after(host, mess)
        assert cleaned.changed == ""
        assert cleaned.free_mib > 0
        time.sleep(0.1)
        assert seen(host) == before
        assert b"sleep\0" not in host.run("cat /proc/[0-9]*/cmdline").stdout


@pytest.mark.parametrize(("mess", "told"), CHANGED.values(), ids=CHANGED)
def test_what_has_changed_ends_its_use(host: RemoteHost, mess: str, told: str) -> None:
    """What was there before a job cannot be put back: the answer names it."""
    assert after(host, mess).changed.startswith(told)


@pytest.mark.parametrize("folder", ["/home/alice/project", "/opt/[a] *b/c"])
def test_a_working_directory_may_be_anywhere(host: RemoteHost, folder: str) -> None:
    """Also where only root may write: the agent has made it, so it is not the system's."""
    assert after(host, "mkdir in; touch in/x y", folder=folder).changed == ""
    assert host.run(f"ls -d '{folder}'").exit_code != 0
    assert after(host, "touch /opt/x", folder=folder).changed.startswith("it has changed /opt")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's machines may change what is in /usr")
def test_a_find_that_fails_finds_nothing_clean(host: RemoteHost) -> None:
    """busybox's, for instance, knows no -cnewer."""
    broken = "#!/bin/sh\necho find: unrecognized: -cnewer >&2; exit 1"
    assert (
        host.run(f"mkdir -p /tmp/bin; echo '{broken}' > /tmp/bin/find; chmod 755 /tmp/bin/find").exit_code
        == 0
    )
    put = "sudo cp /tmp/bin/find /usr/local/sbin/find"
    try:
        assert host.run(put).exit_code == 0
        told = after(host, "touch /etc/x").changed
        assert told == (
            "what it has changed in the system could not be looked up (find: unrecognized: -cnewer)"
        )
    finally:
        host.run("sudo rm -f /usr/local/sbin/find")


def test_what_was_not_noted_is_not_clean(host: RemoteHost) -> None:
    """Nothing is known then of what a job has changed; nor is it when it is asked for a second time."""
    assert "was not noted" in after(host, "true", note=False).changed
    assert after(host, "true").changed == ""
    assert "was not noted" in Agent(host).clean(f"job{next(_numbers) - 1}", {}, {}).changed


def test_a_machine_still_ends_itself(host: RemoteHost) -> None:
    """The guard of its lease is there after each job, also where that has killed all it could."""
    assert after(host, "pkill -9 -f [g]uarding; true").changed == ""
    assert b"guarding" in host.run("cat /proc/[0-9]*/cmdline").stdout


# --- large files that stay ----------------------------------------------------------------

_NAME = "a" * 64
_LARGE = f"{_WORK}/in/large"
SPOILT = {
    "appended to": "echo x >> FILE",
    "changed with its old time": "cp -p FILE t; printf x 1<> FILE; touch -r t FILE",
    "touched": "touch FILE",
    "closed": "chmod 600 FILE",
    "linked": "ln FILE $PWD/another",
    "replaced": "cp FILE x; mv x FILE",
    "moved away": "mv FILE away",
    "replaced by a folder": "rm FILE; mkdir FILE",
}


def send(host: RemoteHost, folder: Path, *names: str) -> None:
    source = folder / "large"
    if not source.exists():
        source.write_bytes(b"0" * (2 << 20))
    assert Agent(host).workdir([_WORK])[0].ok
    Upload([Entry(path=str(source), name=name) for name in names or [_LARGE]]).over(host)


def test_an_unchanged_file_stays(host: RemoteHost, tmp_path: Path) -> None:
    """For as many jobs as read it, at any place; the answer may be lost and asked for again."""
    send(host, tmp_path)
    agent, keep = Agent(host), {_LARGE: _NAME}
    assert after(host, "cat in/large > /dev/null", keep=keep).changed == ""
    for place in (_LARGE, f"{_WORK}/elsewhere/it", _LARGE):
        assert agent.workdir([_WORK])[0].ok
        assert agent.take({place: "b" * 64}, 0) == frozenset()
        for _ in range(2):
            assert agent.take({place: _NAME}, 0) == {place}
        assert host.run(f"wc -c < {place}").stdout == b"2097152\n"
        assert after(host, "true", keep={place: _NAME}).changed == ""
    assert after(host, "true").changed == ""  # it stays also where a job has no use for it
    assert agent.workdir([_WORK])[0].ok
    assert agent.take({}, 1 << 40) == frozenset()  # but not when its room is needed
    assert agent.take(keep, 0) == frozenset()


def test_a_changed_file_does_not_stay(host: RemoteHost, tmp_path: Path) -> None:
    """Nor one of which that is not certain. One that another one's change does not touch stays."""
    names = {f"{_WORK}/in/{number}": f"{number:064x}" for number, _ in enumerate((*SPOILT, "untouched"))}
    send(host, tmp_path, *names)
    messes = [mess.replace("FILE", path) for path, mess in zip(names, SPOILT.values(), strict=False)]
    assert after(host, "\n".join(messes), keep=names).changed == ""
    assert Agent(host).workdir([_WORK])[0].ok
    assert Agent(host).take(names, 0) == {list(names)[-1]}


def test_what_is_kept_may_be_changed_too(host: RemoteHost, tmp_path: Path) -> None:
    """By a job that looks for it: then it does not stay any longer."""
    send(host, tmp_path)
    assert after(host, "true", keep={_LARGE: _NAME}).changed == ""
    assert after(host, "for f in ~/.snakemake-ec2/cache/*; do echo x >> $f; done").changed == ""
    assert Agent(host).workdir([_WORK])[0].ok
    assert Agent(host).take({_LARGE: _NAME}, 0) == frozenset()


def test_what_a_job_has_made_stays(host: RemoteHost) -> None:
    """Its checksum is told by its name; it gets the mode and time that it has on the controller."""
    agent, place = Agent(host), f"{_WORK}/made"
    assert after(host, "head -c 3000000 /dev/zero > made", made={place: _NAME}).changed == ""
    known = {_NAME: hashlib.sha256(bytes(3_000_000)).hexdigest()}
    assert agent.checksums([_NAME, "b" * 64, "../lease"]) == known
    assert agent.workdir([_WORK])[0].ok
    status = {place: (0o444, 1_700_000_000_123_456_789)}
    assert agent.take({place: _NAME}, 0, status=status) == {place}
    assert host.run(f"stat -c '%a %s %.9Y' {place}").stdout == b"444 3000000 1700000000.123456789\n"
