"""Whose machines they are: none of others is ended, and none of ours forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from snakemake_executor_ec2.away import end as ending
from snakemake_executor_ec2.away import start as starting
from snakemake_executor_ec2.away.found import Away, Way, unready
from snakemake_executor_ec2.away.project import Project, Terms, controllers_of
from snakemake_executor_ec2.cli import away_start
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import ConfigurationError, PreparationError
from snakemake_executor_ec2.model import Requirements
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.records.whereabouts import Verdict
from snakemake_executor_ec2.tags import AWAY_RULE
from tests.fakes.clock import FakeClock
from tests.fakes.records import run_record
from tests.unit.away.test_project import STARTED
from tests.unit.cli.test_machines import MACHINE, NOW, attempt, found

HOST = STARTED.hostname
AWAY: dict[str, Any] = {"rule": AWAY_RULE, "saved_state": {"away": STARTED.as_json()}}
NOTHING = Project(
    workdir=Path("/w"),
    sources=(),
    written={},
    inputs=(),
    made=(),
    tracked=None,
    env={},
    unset=(),
    arguments=("--ec2-max-cost", "10"),
    software=cast("Any", None),
    also=(),
    patterns=(),
)


def order(**more: Any) -> starting.Order:
    facts: dict[str, Any] = {
        "project": NOTHING,
        "wheel": None,
        "requirements": Requirements(threads=1, mem_mb=1, disk_mb=1, runtime_min=60),
        "terms": Terms(lifetime_s=72 * 3600, keep_s=24 * 3600),
        "max_cost_usd": 10.0,
    }
    return starting.Order(**{**facts, **more})


@pytest.mark.parametrize(
    ("known", "folder", "launched_at", "ours"),
    [
        (attempt(**AWAY, kept_until=NOW + 3600), f"{HOST}:/w", NOW - 60, True),
        (attempt(**AWAY, kept_until=NOW + 3600), f"{HOST}1:/w", NOW - 60, False),
        # EC2 gives an address, and with it the name, to another's machine later, as it did before.
        (attempt(**AWAY, kept_until=NOW + 3600), f"{HOST}:/w", NOW - 86_400, False),
        (attempt(**AWAY, kept_until=NOW + 3600), f"{HOST}:/w", NOW + 86_400, False),
        (attempt(**AWAY, kept_until=NOW + 9e6, ended_at=NOW - 7000), f"{HOST}:/w", NOW - 60, False),
        (attempt(**{**AWAY, "rule": "align"}), f"{HOST}:/w", NOW - 60, False),
        (attempt(**{**AWAY, "saved_state": None}), f"{HOST}:/w", NOW - 60, False),
    ],
)
def test_a_machine_of_others_with_the_same_host_name(
    known: Attempt, folder: str, launched_at: float, ours: bool
) -> None:
    """`stop` ends those that were launched while the controller was there."""
    assert any(each.has_launched(folder, launched_at) for each in controllers_of([known])) is ours


def way_to(account: str | None, monkeypatch: pytest.MonkeyPatch) -> Way:
    run = replace(run_record("r"), account="111122223333")
    ec2 = SimpleNamespace(endpoint=run.endpoint, account=account)
    monkeypatch.setattr("snakemake_executor_ec2.controller.compose.cloud", lambda *_: ec2)
    return Way(Away(run=run, attempt=attempt(**AWAY)), Path("/w"), profile=None, tell=pytest.fail)


def test_another_account_shows_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no reason to take it for gone, which would launch a second one and forget the first."""
    with pytest.raises(ConfigurationError, match=r"111122223333.*444455556666"):
        way_to("444455556666", monkeypatch)
    way_to("111122223333", monkeypatch)
    way_to(None, monkeypatch)


def test_a_machine_that_shows_late_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller launched it just before its own end, or while it went down; what cannot be ended is
    tried once."""
    looks = [["i-2", "i-bad"], ["i-bad"], ["i-bad", "i-3"], ["i-bad"], ["i-bad"], ["i-late"]]
    ended: list[str] = []

    class Shown:
        def machines(self) -> list[Any]:
            return [found(id=each, folder=f"{HOST}:/w", launched_at=NOW) for each in looks.pop(0)]

        def end(self, names: list[str]) -> dict[str, Any]:
            ended.extend(names)
            return {each: PreparationError("no") for each in names if each == "i-bad"}

    way = SimpleNamespace(away=SimpleNamespace(attempt=attempt(**AWAY)), clock=FakeClock())
    failed: dict[str, Any] = {}
    assert set(ending._end_machines_of_jobs(cast("Any", Shown()), cast("Any", way), failed)) == {
        "i-2",
        "i-bad",
        "i-3",
    }
    assert ended == ["i-2", "i-bad", "i-3"]
    assert set(failed) == {"i-bad"}
    assert looks == [["i-late"]]


@pytest.mark.parametrize("fails", [True, False])
def test_a_start_that_fails_keeps_the_machine_no_longer(fails: bool) -> None:
    """Than after a workflow's end, also if it is killed: nothing runs there. Only once all is there, it has
    all of its lifetime."""
    leases: list[float] = []

    class Machine:
        saved: dict[str, Any] = {}  # noqa: RUF012
        session = SimpleNamespace(lease=leases.append, renew=lambda: None)
        let_go_of_dead_runs = begin = staticmethod(lambda *_, **__: None)
        send = staticmethod(lambda *_, **__: "sent")
        hostname = staticmethod(lambda: HOST)

        def install(self, *_: object) -> None:
            if fails:
                raise PreparationError("no such package")

    def start() -> None:
        machine, note = cast("Any", Machine()), lambda _: None
        starting.once_more(order(), "k", machine, MACHINE, left_s=200_000.0, note=note)

    if not fails:
        start()
        assert leases == [24 * 3600, 200_000.0]
        return
    with pytest.raises(PreparationError):
        start()
    assert leases == [24 * 3600]


def test_what_earlier_runs_have_cost_is_not_spent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's Snakemake does not know of them; what it has launched itself, it counts."""
    costs = {"i-old": 4.0, "i-away": 1.0}
    monkeypatch.setattr(
        away_start, "before_usd", lambda _journal, period, _now: costs if period == "month" else {}
    )
    journal = cast("Any", None)

    def left(period: str, **more: Any) -> tuple[str, ...]:
        config = RunConfig(budget_period=period)
        mine = away_start._beside_earlier(order(**more), journal, config, "i-away")
        return mine.paid_by(replace(MACHINE, price=None)).arguments

    assert left("run")[-2:] == ("--ec2-max-cost", "10.0000")
    assert left("month")[-2:] == ("--ec2-max-cost", "6.0000")
    assert left("month", max_cost_usd=None) == NOTHING.arguments


def test_one_start_at_a_time(tmp_path: Path) -> None:
    """A second one finds no machine while the first one's boots, and would launch another."""
    first = away_start._alone(tmp_path)
    with first, pytest.raises(ConfigurationError, match="another"), away_start._alone(tmp_path):
        pass
    with away_start._alone(tmp_path):
        pass


def test_what_a_start_left_that_was_killed() -> None:
    """Its machine is ended by the next start; one that is ready, or of a start that is alive, is not."""
    left = attempt(rule=AWAY_RULE, saved_state=None, run="left", machine=None)
    known = [
        left,
        attempt(rule=AWAY_RULE, saved_state=None, run="alive"),
        attempt(rule=AWAY_RULE, saved_state=None, run="over", ended_at=NOW),
        attempt(rule=AWAY_RULE, saved_state=None, run="closed"),
        attempt(rule=AWAY_RULE, saved_state=None, run="kept", kept_until=NOW),
        attempt(**AWAY, run="ready"),
        attempt(rule=AWAY_RULE, saved_state=None, run="ready"),
        attempt(saved_state=None, run="a job's"),
    ]
    written: list[tuple[str, object]] = []
    journal: Any = SimpleNamespace(
        attempts=lambda: known,
        run=lambda name: replace(run_record(name), closed=name == "closed"),
        verdict=lambda run: Verdict.ALIVE if run.id == "alive" else Verdict.DEAD,
        end_machine=lambda *_: written.append(("ended", _[1])),
        close_run=lambda name: written.append(("closed", name)),
        is_written=lambda: True,
    )
    (found_left,) = unready(journal)
    assert (found_left.run.id, found_left.attempt) == ("left", left)
    for ended in (False, True):
        cloud = SimpleNamespace(take_over=lambda: {"i-1": "running"}, close=lambda: ended)  # noqa: B023
        ending.end_unready(journal, cast("Any", SimpleNamespace(ec2=cloud, away=found_left)))
        assert written == ([("ended", "abandoned"), ("closed", "left")] if ended else [])
