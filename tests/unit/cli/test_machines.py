"""Who may end a machine, and how its row of `ps` reads: from facts alone."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.away.machine import bare_plan
from snakemake_executor_ec2.aws.inventory import Found
from snakemake_executor_ec2.cli import main
from snakemake_executor_ec2.cli.common import attempt_named
from snakemake_executor_ec2.cli.machines import MARGIN_S, Row, ends_at, why_orphan
from snakemake_executor_ec2.cli.ps import cells
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Machine, MachineState, Market, Phase, Price
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.rows import Attempt, MachineRecord
from snakemake_executor_ec2.records.whereabouts import Verdict
from tests.fakes.records import PLAN, begin, machine_record, run_record
from tests.unit.machines import launchers

NOW = 1_800_000_000.0
MACHINE = Machine(
    id="i-1",
    instance_type="m5.large",
    zone="us-east-1a",
    market=Market.ON_DEMAND,
    price=Price(usd_per_hour=0.1, source="made up"),
    disk_gib=20,
    launched_at=NOW - 7200,
)
RUN = run_record("r", began_at=NOW - 7300, login=None)


def found(**more: Any) -> Found:
    facts = {
        "id": "i-1", "state": MachineState.RUNNING, "instance_type": "m5.large", "zone": "us-east-1a",
        "market": Market.ON_DEMAND, "launched_at": NOW - 7200, "address": "", "run": "r",
        "rule": "align", "owner": "me", "expires_at": NOW + 86_400,
    }  # fmt: skip
    return Found(**{**facts, **more})


def attempt(**more: Any) -> Attempt:
    facts = {
        "id": 1, "key": "r.1.1", "label": "rule align (a)", "rule": "align", "fingerprint": "", "outputs": (),
        "phase": Phase.RUN, "end_reason": "", "saved_state": {}, "outputs_fetched": None, "seconds": {},
        "usd": None, "began_at": NOW - 7300, "asked": PLAN.requirements,
    }  # fmt: skip
    of_machine: dict[str, Any] = {"run": "r", "owner": "r", "lease_s": 43_200.0}
    known = {each.name for each in fields(MachineRecord)} - facts.keys()
    of_machine |= {name: more.pop(name) for name in list(more) if name in known}
    return Attempt(**{**facts, **more}, on=machine_record(of_machine.pop("machine", MACHINE), **of_machine))


@pytest.mark.parametrize(
    ("attempt", "lease_left_s", "why"),
    [
        (attempt(), 60, ""),
        (attempt(phase=Phase.STAGE_OUT), 60, ""),
        (attempt(), -60, "its run is dead and its lease is over"),
        (None, 60, "its run is dead and never learned of its launch"),
        (attempt(phase=Phase.PREPARE, saved_state=None), 60, "its run is dead and no job works on it"),
        (attempt(saved_state=None), 60, "its run is dead and no job works on it"),
        (attempt(end_reason="done"), 60, "its run is dead and no job works on it"),
        (attempt(end_reason="failed", kept_until=NOW + 1), -60, ""),
        (
            attempt(end_reason="failed", kept_until=NOW - 1),
            60,
            "the time for which its failed job was kept is over",
        ),
    ],
)
def test_a_machine_of_a_dead_run(attempt: Attempt | None, lease_left_s: float, why: str) -> None:
    """It is wanted while its job may be gone on with and its lease runs, or while it is kept for a look."""
    assert why_orphan(found(), attempt, RUN, NOW + lease_left_s, NOW) == why


@pytest.mark.parametrize(
    ("expires_at", "why"),
    [
        (NOW + 1, ""),
        (NOW - MARGIN_S + 1, ""),
        (NOW - MARGIN_S - 1, "its lifetime is over"),
        (None, ""),
    ],
)
def test_a_machine_of_somebody_else(expires_at: float | None, why: str) -> None:
    """Only its own tag counts, and a margin for clocks that differ."""
    assert why_orphan(found(expires_at=expires_at), None, None, None, NOW) == why


@pytest.mark.parametrize(
    ("facts", "state", "lease"),
    [
        ({"verdict": Verdict.ALIVE, "lease_until": NOW + 43_200}, "run", "12 hours, renewed"),
        ({"lease_until": NOW + 1830}, "without a controller", "30 minutes left"),
        ({"lease_until": NOW + 172_800}, "without a controller", "24 hours left"),
        ({"lease_until": NOW - 5, "orphan": "its lease is over"}, "orphan: its lease is over", "0 s left"),
        ({"attempt": attempt(kept_until=NOW + 300)}, "without a controller", "5 minutes left"),
        ({"attempt": None, "verdict": None}, "running, of another folder", "at most 24 hours"),
        (
            {"attempt": None, "verdict": None, "found": found(expires_at=None, folder="pc:/w")},
            "running, of pc:/w",
            "?",
        ),
        (
            {"verdict": Verdict.ELSEWHERE, "found": found(folder="pc:/w")},
            "running, of pc:/w",
            "at most 24 hours",
        ),
        (
            {
                "attempt": attempt(phase=Phase.BOOT, saved_state=None, lease_s=None, claim_s=43_200.0),
                "lease_until": NOW + 36_000,
                "orphan": "its run is dead and no job works on it",
            },
            "orphan: its run is dead and no job works on it",
            "ends in 10 hours: it got no job",
        ),
    ],
)
def test_a_row_of_ps(facts: dict[str, Any], state: str, lease: str) -> None:
    """Rule, state, age, cost so far, and how long it stays: the shorter of lease and lifetime."""
    known = {
        "found": found(),
        "attempt": attempt(),
        "verdict": Verdict.DEAD,
        "lease_until": None,
        "orphan": "",
        "ours": True,
    }
    row = cells(Row(**{**known, **facts}), NOW)
    assert (row[2], row[7]) == (state, lease)
    assert row[5] == "2 hours"
    if facts.get("attempt", True):
        assert row[1] == "rule align (a)"
        assert row[6].startswith("$0.21")
    else:
        assert (row[1], row[6]) == ("align", "?")


def test_until_when_a_machine_waits() -> None:
    """Its own lease from the last sign of its run; before an agent came, the timer of its boot."""
    assert ends_at(NOW, RUN, attempt(lease_s=7200.0), found()) == NOW + 7200
    assert ends_at(NOW, RUN, None, found()) == NOW + RUN.lease_s
    booting = attempt(lease_s=None, claim_s=1800.0)
    assert ends_at(NOW, RUN, booting, found(launched_at=NOW - 60)) == NOW + 1740


@pytest.mark.parametrize("command", [["ssh", "x"], ["logs", "x"], ["kill", "x"], ["kill", ""]])
def test_a_name_that_nothing_has(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, no traceback, and no journal where there was none."""
    assert main([command[0], "--directory", str(tmp_path), *command[1:]]) == 1
    assert capsys.readouterr().err == f"nothing has run on EC2 in {tmp_path} yet\n"
    assert not list(tmp_path.iterdir())
    Journal(tmp_path, now=lambda: NOW, warn=pytest.fail).close()
    name = command[1]
    assert main([command[0], "--directory", str(tmp_path), *command[1:]]) == 1
    assert capsys.readouterr().err == f"no machine, job or rule {name!r} is in the journal of this folder\n"


def test_a_job_of_a_run_that_is_away(tmp_path: Path) -> None:
    """Its own command names it, on a machine whose journal is not here: where its output is, is said."""
    journal = Journal(tmp_path, now=lambda: NOW, warn=pytest.fail)
    begin(journal, "r", bare_plan("r.1.1", tmp_path))
    with pytest.raises(ConfigurationError, match="snakemake-ec2 ssh 'away controller' cat FILE"):
        attempt_named(journal, "rule align", Namespace(directory=tmp_path))


def test_a_name_that_several_jobs_have(tmp_path: Path) -> None:
    """The newest is meant where that does no harm; to end a machine, no other may be meant as well."""
    world = launchers.World()
    journal = Journal(tmp_path, now=lambda: NOW, warn=pytest.fail)
    for key in ("a", "b", "b2"):
        machine = world.launch(key)
        attempt_id = begin(journal, "r", launchers.plan(key))
        spec = world.cloud.launches[-1]
        on = journal.attempt(attempt_id).on.id
        journal.intend(on, spec)
        journal.launched(spec.token, machine)

    options = Namespace(directory=tmp_path)
    assert attempt_named(journal, "align", options).key == "b2"
    with pytest.raises(ConfigurationError, match="no machine, job or rule '' is in the journal"):
        attempt_named(journal, "", options, alone=True)
    assert attempt_named(journal, "rule align (b)", options, alone=True).key == "b"
    assert attempt_named(journal, machine.id, options, alone=True).key == "b2"
    assert attempt_named(journal, "(a)", options, alone=True).key == "a"
    with pytest.raises(
        ConfigurationError, match=r"matches several jobs: rule align \(b\), rule align \(b2\)"
    ):
        attempt_named(journal, "(b", options, alone=True)
    journal.end_machine(on, "done")
    assert attempt_named(journal, "(b", options, alone=True).key == "b", "the only one that is under way"
    journal.close()
