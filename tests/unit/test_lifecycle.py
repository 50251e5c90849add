"""One job's story on fakes: what is lost is done elsewhere, and no machine is left but on purpose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.errors import ConnectionLost, InstanceLost, NotFetched, PreparationError
from snakemake_executor_ec2.journal import Journal, RunRecord
from snakemake_executor_ec2.lifecycle import MACHINES_PER_JOB, RECLAIMS_PER_JOB, Inherited, Kit, run_job
from snakemake_executor_ec2.model import (
    Failure,
    JobOutcome,
    JobPlan,
    JobResult,
    KeyPair,
    Market,
    Software,
    SpotUse,
)
from snakemake_executor_ec2.outage import Neighbours
from snakemake_executor_ec2.report.ledger import Ledger
from tests.fakes.workbench import NEW_HOST_KEY, FakeControl, FakeWorkbench, Scene
from tests.unit import launchers

PLAN = launchers.plan("run-1.1.1")
SPOT = launchers.plan("run-1.1.1", spot=SpotUse.PREFER, runtime_min=10)
ONLY_SPOT = launchers.plan("run-1.1.1", spot=SpotUse.ONLY)
RECLAIM = "Server.SpotInstanceTermination"


class World(launchers.World):
    """A kit on fakes, with a real journal."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.cloud.pending_s = 0
        self.scene = Scene(self.cloud)
        self.journal = Journal(folder, now=self.clock.now, warn=pytest.fail)
        login = KeyPair(private="made-up", public="ssh-ed25519 CCCC")
        for name in ("run-0", "run-1"):
            self.journal.begin_run(
                RunRecord(
                    id=name,
                    began_at=0.0,
                    pid=1,
                    region="us-east-1",
                    endpoint="",
                    ssh_user="ec2-user",
                    ssh_port=22,
                    login=login,
                    lease_s=3600.0,
                )
            )
        self.ledger = Ledger(self.clock, self.journal, "run-1")
        self.control = FakeControl(self.clock)
        self.kit = Kit(
            cloud=self.cloud,
            connector=self.scene,
            clock=self.clock,
            launcher=self.launcher,
            ledger=self.ledger,
            new_key_pair=lambda: launchers.HOST_KEY,
            workbench=lambda link: FakeWorkbench(link, self.scene),
            software=Software(snakemake="9"),
            boot_timeout_s=60.0,
            lease_s=3600.0,
            lost_after_s=600.0,
            neighbours=Neighbours(),
            keep_failed_s=0.0,
            log_folder=folder / "logs",
            tell=self.said.append,
        )

    def story(self, plan: JobPlan = PLAN, inherited: Inherited | None = None) -> JobOutcome:
        return run_job(plan, self.kit, self.control, inherited)

    def newest(self) -> str:
        """The id of the machine that was launched last."""
        return list(self.cloud.machines)[-1]

    def at_every(self, step: str, happening: Callable[[], object]) -> None:
        """Have something happen whenever a step is taken."""

        def again() -> None:
            self.scene.happens[step] = again
            happening()

        self.scene.happens[step] = again

    def end_later(self, reason: str) -> None:
        """The newest machine is ending, and EC2 says so after the next pause."""
        machine = self.newest()

        def end(_: float) -> None:
            self.clock.on_sleep = None
            self.cloud.end(machine, reason=reason)

        self.clock.on_sleep = end

    @property
    def endings(self) -> list[str]:
        return [each.ending for each in self.journal.attempts("run-1")]

    @property
    def markets(self) -> list[Market]:
        return [each.machine.market for each in self.cloud.machines.values()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.journal.close()
    assert not made.cloud.alive, "a machine is left"


def test_the_story(world: World) -> None:
    """Its steps, in their order, on one machine that ends with it."""
    assert world.story().ok
    steps = world.scene.steps
    assert steps[:3] == ["move in", "make host key", "rotate"]
    assert sorted(steps[3:5]) == ["install", "stage in"]
    assert steps[5:] == ["run", "stage out"]
    assert len(world.cloud.machines) == 1
    assert world.endings == ["done"]


@pytest.mark.parametrize("rotated", [True, False])
def test_a_new_host_key_locks_nobody_out(world: World, *, rotated: bool) -> None:
    """Where the connection breaks while it is put in place, the machine may show either; then the new one."""

    def cut() -> None:
        world.scene.keys["203.0.113.1"] = NEW_HOST_KEY if rotated else launchers.HOST_KEY.public
        raise ConnectionLost("The connection broke off.")

    world.scene.happens["rotate"] = cut
    assert world.story().ok
    assert len(world.cloud.machines) == 1
    assert [each.host_keys for each in world.journal.attempts("run-1")] == [(NEW_HOST_KEY,)]


def test_a_failed_job_is_no_lost_machine(world: World) -> None:
    """A job's own failure is told with its cause, and is not run again: that is Snakemake's to decide."""
    world.scene.results = [JobResult(exit_code=3, failure=Failure.EXIT)]
    outcome = world.story()
    assert not outcome.ok
    assert "exit code 3" in outcome.message
    assert len(world.cloud.machines) == 1
    assert world.endings == ["failed"]


@pytest.mark.parametrize("step", ["move in", "install", "stage in", "run", "stage out"])
def test_a_machine_that_is_lost_costs_another_one(world: World, step: str) -> None:
    """In whatever step: the job begins anew, on another machine."""
    world.scene.happens[step] = lambda: world.cloud.end(world.newest())
    assert world.story().ok
    assert len(world.cloud.machines) == MACHINES_PER_JOB
    assert world.endings == ["lost", "done"]
    assert any("starting rule align (run-1.1.1) again on another machine" in each for each in world.said)


def test_each_machine_has_its_own_log(world: World) -> None:
    """What a job printed on a machine that was lost is kept, beside what it prints on the next one."""
    world.scene.happens["stage out"] = lambda: world.cloud.end(world.newest())
    outcome = world.story()
    assert outcome.log is not None
    assert outcome.log.read_text() == "printed\n"
    assert outcome.log.with_name(f"{outcome.log.name}.1").read_text() == "printed\n"


def test_machines_are_not_lost_for_ever(world: World) -> None:
    """After some, the job has failed, and its sentence says that the machine ended."""
    world.at_every("run", lambda: world.cloud.end(world.newest()))
    outcome = world.story()
    assert not outcome.ok
    assert "ended by itself (Client.InstanceInitiatedShutdown)" in outcome.message
    assert len(world.cloud.machines) == MACHINES_PER_JOB


@pytest.mark.parametrize("step", ["move in", "install", "stage in", "run", "stage out"])
def test_two_reclaims_then_on_demand(world: World, step: str) -> None:
    """EC2 takes two spot machines back in whatever step: elsewhere each time, then on-demand."""
    taken = []

    def take_back() -> None:
        if world.markets[-1] is Market.SPOT:
            taken.append(world.newest())
            world.cloud.end(world.newest(), reason=RECLAIM)

    world.at_every(step, take_back)
    assert world.story(SPOT).ok
    assert world.markets == [Market.SPOT, Market.SPOT, Market.ON_DEMAND]
    first, second = (world.cloud.machines[each].machine for each in taken)
    assert (first.instance_type, first.zone) != (second.instance_type, second.zone)
    assert sum("which does not count as a retry" in each for each in world.said) == 2


def test_a_launch_that_ec2_takes_back_is_no_loss(world: World) -> None:
    """EC2 accepts a launch and then has no room: another type or zone, as often as it takes."""
    reasons = ["Server.InsufficientInstanceCapacity"] * 4

    def end() -> None:
        if reasons:
            world.cloud.end(world.newest(), reason=reasons.pop())

    world.at_every("move in", end)
    assert world.story().ok
    places = [(each.machine.instance_type, each.machine.zone) for each in world.cloud.machines.values()]
    assert len(places) == len(set(places)) == 5


def test_reclaims_and_losses_are_counted_apart(world: World) -> None:
    """A machine that crashes between two reclaims uses up neither."""
    reasons = [RECLAIM, "Client.InstanceInitiatedShutdown", RECLAIM]

    def end() -> None:
        if reasons:
            world.cloud.end(world.newest(), reason=reasons.pop(0))

    world.at_every("run", end)
    assert world.story(SPOT).ok
    assert world.markets == [Market.SPOT, Market.SPOT, Market.SPOT, Market.ON_DEMAND]


def test_nothing_but_spot_has_an_end_too(world: World) -> None:
    """Who wants only spot gets so many machines, and then the sentence that EC2 took them back."""
    world.at_every("run", lambda: world.cloud.end(world.newest(), reason=RECLAIM))
    outcome = world.story(ONLY_SPOT)
    assert not outcome.ok
    assert RECLAIM in outcome.message
    assert world.markets == [Market.SPOT] * (RECLAIMS_PER_JOB + 1)


def test_what_fails_because_the_machine_goes_down_is_its_end(world: World) -> None:
    """An installer that is killed with its machine has not failed: EC2, a moment later, says why it ended."""

    def killed() -> None:
        world.end_later(RECLAIM)
        raise PreparationError("the installer was terminated")

    world.scene.happens["install"] = killed
    assert world.story(SPOT).ok
    assert world.endings == ["lost", "done"]
    assert any(
        f"back (machine {next(iter(world.cloud.machines))} ended by itself" in each for each in world.said
    )


def test_an_installation_that_fails_is_told(world: World) -> None:
    """On a machine that is well it is the job's failure, and no other machine is tried."""

    def fail() -> None:
        raise PreparationError("no such package")

    world.scene.happens["install"] = fail
    outcome = world.story()
    assert "no such package" in outcome.message
    assert world.endings == ["failed"]


@pytest.mark.parametrize("fails", ["install", "stage in"])
def test_what_fails_does_not_wait_for_what_goes_on_beside_it(world: World, fails: str) -> None:
    """An hour of installation after an input that is missing, or of upload after a typo, is not paid for."""
    over, ended = threading.Event(), threading.Event()

    def fail() -> None:
        raise PreparationError("no such thing")

    def go_on() -> None:
        over.wait(30)
        ended.set()

    world.scene.happens[fails] = fail
    world.scene.happens["install" if fails == "stage in" else "stage in"] = go_on
    assert "no such thing" in world.story().message
    assert not ended.is_set()
    over.set()
    assert ended.wait(30)


def test_the_machine_s_own_word_waits_for_ec2_s(world: World) -> None:
    """A job that was interrupted on a spot machine: EC2's reason, seconds later, makes it a reclaim."""

    def interrupt() -> None:
        world.end_later(RECLAIM)
        raise InstanceLost("the job was interrupted: the machine is shutting down")

    world.scene.happens["run"] = interrupt
    assert world.story(SPOT).ok
    assert any("EC2 has taken a spot machine back (the job was interrupted" in each for each in world.said)


def test_a_machine_that_never_answers(world: World) -> None:
    """It ends after the boot timeout, and another one is tried."""
    world.scene.silent.add("203.0.113.1")
    assert world.story().ok
    assert world.endings == ["lost", "done"]
    assert any("did not let us in within 60 s" in each for each in world.said)


def test_a_crash_does_not_wait_for_the_lease(world: World) -> None:
    """EC2 calls it running, but its checks fail: given up after ten minutes, ended, done elsewhere."""

    def crash() -> None:
        world.scene.silent.add("203.0.113.1")
        world.cloud.impaired.add(world.newest())

    world.scene.happens["run"] = crash
    began = world.clock.monotonic()
    assert world.story().ok
    assert 600 <= world.clock.monotonic() - began < 700
    assert any("has crashed" in each for each in world.said)


def test_results_that_find_no_room_stay_on_the_machine(world: World) -> None:
    """Tried again for as long as a lease is long; then the machine is left, and that is said."""

    def no_room() -> None:
        raise NotFetched("o: No space left on device", here=True)

    world.at_every("stage out", no_room)
    outcome = world.story()
    assert not outcome.ok
    assert len(world.cloud.alive) == 1
    assert any("keeps the results until its lease ends" in each for each in world.said)
    assert sum("cannot be stored here" in each for each in world.said) == 1
    world.cloud.terminate(world.cloud.alive)


def test_results_that_cannot_be_fetched_stay_on_the_machine(world: World) -> None:
    """Whatever is in the way: tried again a few times, then the machine is left, and the way there told."""

    def refuse() -> None:
        raise NotFetched("Files could not be fetched: /w/o is a symlink that leads out, to /etc.")

    world.at_every("stage out", refuse)
    began = world.clock.monotonic()
    outcome = world.story()
    assert "a symlink that leads out" in outcome.message
    assert world.scene.steps.count("stage out") == 5
    assert world.clock.monotonic() - began < 120
    (machine,) = world.cloud.alive
    assert any(f"snakemake-ec2 ssh {machine}" in each for each in world.said)
    world.cloud.terminate([machine])


def test_results_that_can_be_fetched_a_moment_later(world: World) -> None:
    """A file that was still written to is no reason to stay away."""

    def changed() -> None:
        raise NotFetched("Files could not be fetched: /w/log changed while it was read.")

    world.scene.happens["stage out"] = changed
    assert world.story().ok


def test_ctrl_c_ends_the_machine_and_detach_does_not(world: World) -> None:
    """Cancelled while the job runs: the machine ends, unless the user detached."""
    world.scene.happens["run"] = world.control.cancel
    assert world.story().cancelled
    assert not world.cloud.alive

    world.control = FakeControl(world.clock)
    world.scene.happens["run"] = lambda: world.control.cancel(detach=True)
    assert world.story().cancelled
    assert len(world.cloud.alive) == 1
    assert any("works on until its lease of 60 minutes ends" in each for each in world.said)
    world.cloud.terminate(world.cloud.alive)


def test_a_failed_machine_is_kept_for_a_look(world: World) -> None:
    """With the lease that was asked for, and in the journal, so that nobody ends it before."""
    world.kit = replace(world.kit, keep_failed_s=300.0)
    world.scene.results = [JobResult(exit_code=3, failure=Failure.EXIT)]
    assert not world.story().ok
    assert world.scene.steps[-1] == "lease 300"
    (attempt,) = world.journal.attempts("run-1")
    assert attempt.kept_until is not None
    assert len(world.cloud.alive) == 1
    world.cloud.terminate(world.cloud.alive)


def test_a_job_is_gone_on_with(world: World) -> None:
    """What a dead run left at work is followed to its end, on its machine and no other; when that is
    lost, the job begins anew."""
    for lost in (False, True):
        record = world.journal.begin("run-0", PLAN, 0, "ssh-ed25519 AAAA")
        machine = world.launch("run-1.1.1", no=7 + lost)
        world.journal.note(record, bench={"remembered": True})
        attempt = replace(world.journal.attempt(record), machine=machine, bench={"remembered": True})
        before = len(world.cloud.machines)
        world.scene.steps.clear()
        if lost:
            world.scene.happens["run"] = lambda: world.cloud.end(world.newest())
        inherited = Inherited(attempt=attempt, cloud=world.cloud, connector=world.scene)
        assert world.story(PLAN, inherited).ok
        assert world.scene.steps[:2] == ["resume", "run"]
        assert len(world.cloud.machines) == before + lost


def test_a_lease_is_renewed_while_something_takes_long(world: World) -> None:
    """Files on their way and installations hold the machine as a job that is followed does."""
    world.kit = replace(world.kit, lease_s=0.04)
    renewed = threading.Event()
    world.scene.happens["renew"] = renewed.set
    world.scene.happens["stage in"] = lambda: renewed.wait(30)
    assert world.story().ok
    assert renewed.is_set()
