"""What the story does on a machine, with the real agent on a computer that is this one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent import talking
from snakemake_executor_ec2.agent.software import _digest
from snakemake_executor_ec2.errors import NotFetched, PreparationError, ResultsRefused, StagingError
from snakemake_executor_ec2.machines import session as session_module
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.machines.failure_detector import Reachability
from snakemake_executor_ec2.machines.host_keys import HostKeys
from snakemake_executor_ec2.machines.session import MachineSession
from snakemake_executor_ec2.model import JobPlan, Software
from snakemake_executor_ec2.timing import SystemClock
from tests.fakes.remote_host import FakeConnector, FakeMachine
from tests.fakes.session import FakeControl
from tests.unit.machines import launchers

ADDRESS = "203.0.113.1"


class World(launchers.World):
    """A machine with the agent on it, and a session there."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.cloud.pending_s = 0
        self.folder = folder
        self.there = FakeMachine(home=folder / "home", host_key=launchers.HOST_KEY.public)
        self.there.home.mkdir()
        self.cancel_token = FakeControl(self.clock)
        self.connection = Connection(
            cloud=self.cloud,
            connector=FakeConnector({ADDRESS: self.there}),
            clock=self.clock,
            cancel=self.cancel_token,
            machine=self.launch(),
            host_keys=(launchers.HOST_KEY.public,),
            patience_s=3600.0,
            lost_after_s=600.0,
            reachability=Reachability(),
            tell=self.said.append,
        )
        self.host_keys = HostKeys(first_is_enough=False, tell=self.said.append)
        self.session = MachineSession(self.connection, self.clock, self.said.append, {}, self.host_keys, [])
        self.session.move_in(lease_s=0)

    def plan(self, command: str, **more: object) -> JobPlan:
        """A job whose working directory is there already."""
        base = launchers.plan("run-1.1.1")
        return replace(base, command=command, workdir=self.folder / "work", **more)  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.connection.close()


def test_a_log_that_cannot_be_made_is_made_later(world: World) -> None:
    """What is in its way ends no story: the machine still has what the job prints."""
    log = world.folder / "logs" / "job.log"
    log.parent.write_text("in the way")
    world.clock.on_sleep = lambda _: log.parent.unlink(missing_ok=True)
    plan = world.plan("echo printed")
    world.session.stage_in(plan)
    assert world.session.run(plan, log).exit_code == 0
    assert log.read_text() == "printed\n"
    assert sum("cannot be written on your computer (File exists)" in each for each in world.said) == 1


def test_who_ends_the_run_before_the_log_can_be_written(world: World) -> None:
    """The job may well have ended: that what it made is not here is said, not that it was cancelled."""
    log = world.folder / "logs" / "job.log"
    log.parent.write_text("in the way")
    world.clock.on_sleep = lambda _: world.cancel_token.cancel()
    plan = world.plan("echo printed")
    world.session.stage_in(plan)
    with pytest.raises(NotFetched):
        world.session.run(plan, log)


def test_a_machine_that_is_out_of_memory_is_asked_again(world: World) -> None:
    """That it cannot tell of the job ends no job that works on."""
    world.there.starved_at = " follow "
    plan = world.plan("echo one; sleep 1; echo two")
    world.session.stage_in(plan)
    log = world.folder / "log"
    assert world.session.run(plan, log).exit_code == 0
    assert log.read_text() == "one\ntwo\n"
    assert any("cannot report on it (fork: Cannot allocate memory)" in each for each in world.said)


def test_an_installation_that_hangs_has_an_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is not asked for ever, and the end of the installer's log is told."""
    for name in ("_SOFTWARE_TIMEOUT_S", "_LAST_CALL_S"):
        monkeypatch.setattr(session_module, name, 1.0)
    software = Software(snakemake="9", setup="echo waiting for godot\nuntil [ -e godot ]; do sleep 0.1; done")
    session = MachineSession(world.connection, SystemClock(), world.said.append, {}, world.host_keys, [])
    with pytest.raises(PreparationError, match="within an hour") as caught:
        session.install_software(software)
    (world.there.home / "godot").touch()
    assert caught.value.log.endswith("waiting for godot\n")
    assert sum(each.endswith(" software") for each in world.there.commands) == 2


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("ln -s .git/hooks/pre-commit o", "in a hidden folder|no link of a job"),
        ("ln -s .snakemake/ec2/journal.sqlite o", "where no link of a job may lead"),
        ("mkdir o; ln -s ../Snakefile o/x", "would be code"),
        ("mkdir o; ln -s ../data o/x; ln -s x/../.hidden o/y", "in a hidden folder"),
        ("ln -s /usr o", "would write into it"),
        ("mkfifo o", "a pipe"),
        ("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"o\")'", "a socket"),
    ],
)
def test_what_no_later_call_could_fetch(world: World, command: str, why: str) -> None:
    """It is refused for good, by name and with the reason."""
    output = world.folder / "work" / "o"
    plan = world.plan(command, outputs=(output,))
    world.session.stage_in(plan)
    assert world.session.run(plan, world.folder / "log").exit_code == 0
    with pytest.raises(ResultsRefused, match=why) as caught:
        world.session.stage_out(plan, succeeded=True)
    assert str(output) in caught.value.message
    assert not isinstance(caught.value, NotFetched)


def test_an_output_that_was_not_made_is_not_waited_for(world: World) -> None:
    """It is the job's failure, and no other try would find it."""
    plan = world.plan("true", outputs=(world.folder / "work" / "o",))
    world.session.stage_in(plan)
    world.session.run(plan, world.folder / "log")
    with pytest.raises(StagingError, match="did not make") as caught:
        world.session.stage_out(plan, succeeded=True)
    assert not isinstance(caught.value, NotFetched)


def test_software_that_an_image_has_is_found_and_timed(world: World) -> None:
    """By the note of the agent that installed it; a run's machines share how long it took on each."""
    software = Software(snakemake="9", setup="exit 1")
    took: list[float] = []
    asked = {name: value for name, value in asdict(software).items() if name != "late"}
    note = world.there.home / f".snakemake-ec2/software-{_digest(asked)}.json"
    answer = {"python": sys.executable, "path": ["/opt/env/bin"], "how": "uv", "locked": ["snakemake==9"]}
    note.write_text(json.dumps(answer))
    for _ in range(2):
        session = MachineSession(world.connection, world.clock, world.said.append, {}, world.host_keys, took)
        session.install_software(replace(software, late=("python",)))

    assert list(session.saved_state()["path"]) == ["/opt/env/bin"]
    assert len(took) == 2
    assert max(took) < 30


def test_a_channel_that_does_not_come_about(world: World) -> None:
    """A machine that is short of memory starts no process for it: the files come all the same, once."""
    data = world.folder / "work" / "data"
    data.parent.mkdir()
    data.write_bytes(os.urandom(12 << 20))
    world.there.round_trip_s = world.there.hosts[-1].round_trip_s = 0.05
    world.there.starved_at = " lane "
    transfer = world.session.stage_in(world.plan("true", inputs=(data,)))
    assert transfer.bytes == 12 << 20
    (there,) = world.there.home.rglob("data")
    assert there.read_bytes() == data.read_bytes()
    assert sum(" lane " in each for each in world.there.commands) > 3


def test_a_machine_is_asked_little_before_its_job(world: World) -> None:
    """Each command costs two round trips and a start of Python: so short ones are asked for over one channel,
    which ends before the job begins to be followed."""
    plan = world.plan("true", outputs=(world.folder / "elsewhere" / "o",))
    world.session.stage_in(plan)
    (host,) = world.there.hosts
    assert host in talking._TALKS
    world.session.run(plan, world.folder / "log")
    assert host not in talking._TALKS
    first, *commands = world.there.commands
    assert '"talk"' in first
    assert [each.rpartition('agent.pyz" ')[2].split()[0] for each in commands] == ["unpack", "follow"]
