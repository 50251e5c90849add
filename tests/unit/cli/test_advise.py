"""`snakemake-ec2 advise`, from a folder's journal alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from snakemake_executor_ec2.cli import main
from snakemake_executor_ec2.model import JobResult, Phase, Usage
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.ledger import Ledger
from tests.fakes.clock import FakeClock
from tests.fakes.records import PLAN, run_record
from tests.unit.machines import launchers


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job has run ten minutes on EC2, and asked for no runtime."""
    clock = FakeClock()
    journal = Journal(tmp_path, now=clock.now, warn=pytest.fail)
    journal.begin_run(run_record("r1", began_at=clock.now()))
    ledger = Ledger(clock, journal, "r1")
    world = launchers.World(clock=clock)
    entry = ledger.open(PLAN, "k")
    entry.on.machine = world.launch(PLAN.key)
    spec = world.cloud.launches[-1]
    ledger.intend(PLAN.key, spec)
    ledger.launched(spec.token, entry.on.machine)
    with ledger.phase(entry, Phase.RUN):
        clock.sleep(600)
        ledger.ran(entry, JobResult(exit_code=0, seconds=600.0, usage=Usage(peak_mem_mib=800)))
    entry.end_reason, entry.on.ended_at = "done", clock.now()
    ledger.close(entry)
    journal.close_run("r1")
    journal.leave_run("r1", detached=False)
    journal.close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_profile_alone_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it rests on is beside it, on stderr; no file is made."""
    assert main(["advise"]) == 0
    told = capsys.readouterr()
    assert yaml.safe_load(told.out) == {"set-resources": {"one": {"runtime": 40}}}
    assert told.err.splitlines()[0].split()[:5] == ["rule", "resource", "asked", "used", "advised"]
    assert "rehearsals" not in told.err
    assert [path.name for path in folder.iterdir()] == [".snakemake"]


def test_its_own_file_is_replaced_and_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A profile of the user's stays as it is."""
    own = folder / "profiles/advised/config.yaml"
    assert main(["advise", "-o", str(own)]) == 0
    assert main(["advise", "-o", str(own)]) == 0
    assert yaml.safe_load(own.read_text()) == {"set-resources": {"one": {"runtime": 40}}}
    other = folder / "config.yaml"
    other.write_text("jobs: 5\n")
    assert main(["advise", "-o", "config.yaml"]) == 1
    assert other.read_text() == "jobs: 5\n"
    assert main(["advise", "-o", "profiles"]) == 1
    told = capsys.readouterr().err
    assert "config.yaml is there, and not by this command" in told
    assert "profiles is a folder; name a file in it: profiles/config.yaml" in told
    assert main(["advise", "-d", "elsewhere"]) == 1
