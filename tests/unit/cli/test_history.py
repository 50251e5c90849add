"""`snakemake-ec2 report` and `costs`, from a folder's journal alone: no EC2 is asked."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.cli import main
from snakemake_executor_ec2.model import JobResult, Phase, Usage
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.ledger import Ledger
from tests.fakes.clock import FakeClock
from tests.fakes.records import PLAN, run_record
from tests.unit.machines import launchers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs that have ended, with one job on one machine each, and one that launched nothing."""
    clock = FakeClock()
    journal = Journal(tmp_path, now=clock.now, warn=pytest.fail)
    for name in ("20261101-aaa", "20261102-bbb", "20261103-ccc"):
        journal.begin_run(run_record(name, began_at=clock.now()))
        if name != "20261103-ccc":
            _one_job(clock, journal, name)
        journal.close_run(name)
        journal.leave_run(name, detached=False)
    journal.close()
    return tmp_path


def _one_job(clock: FakeClock, journal: Journal, run: str) -> None:
    ledger = Ledger(clock, journal, run)
    world = launchers.World(clock=clock)
    plan = replace(PLAN, key=f"{run}.1.1")
    entry = ledger.open(plan, "k")
    entry.on.machine = world.launch(plan.key)
    spec = world.cloud.launches[-1]
    ledger.intend(plan.key, spec)
    ledger.launched(spec.token, entry.on.machine)
    with ledger.phase(entry, Phase.RUN):
        clock.sleep(600)
        ledger.ran(
            entry, JobResult(exit_code=0, seconds=600.0, usage=Usage(peak_mem_mib=85, cpu_seconds=9.0))
        )
    entry.end_reason, entry.on.ended_at = "done", clock.now()
    ledger.close(entry)


def test_costs_of_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each run that used a machine, and one for the rule; JSON and CSV say the same."""
    assert main(["costs", "-d", str(folder)]) == 0
    text = capsys.readouterr().out
    assert [line.split()[:4] for line in text.splitlines()[1:3]] == [
        [name, "ended", "1", "1"] for name in ("20261101-aaa", "20261102-bbb")
    ]
    assert text.splitlines()[4].split()[:5] == ["total", "2", "2", "20", "min"]
    assert main(["costs", "-d", str(folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert main(["costs", "-d", str(folder), "--csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [each["run"] for each in facts["runs"]] == [each["run"] for each in lines]
    assert sum(float(each["usd"]) for each in lines) == pytest.approx(facts["total"]["usd"])
    assert f"${facts['total']['usd']:.4f}" in text


def test_a_page_of_the_last_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written beside the workflow, whole or not at all; another run by its name, or all of them."""
    monkeypatch.chdir(folder)
    assert main(["report"]) == 0
    assert "wrote ec2-report.html" in capsys.readouterr().err
    page = Path("ec2-report.html").read_text()
    assert "<title>EC2 run 20261102-bbb</title>" in page
    assert page.endswith("</html>")
    assert main(["report", "20261101", "-o", "-"]) == 0
    assert "<title>EC2 run 20261101-aaa</title>" in capsys.readouterr().out
    assert main(["report", "--all", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["jobs"]) == 2
    assert main(["report", "--csv", "--output", "jobs.csv"]) == 0
    (line,) = csv.DictReader(Path("jobs.csv").read_text().splitlines())
    assert (line["run"], line["peak_mem_mib"], line["run_s"]) == ("20261102-bbb", "85", "600.0")
    assert {path.name for path in folder.iterdir()} == {".snakemake", "ec2-report.html", "jobs.csv"}


def test_a_table_for_the_text_of_snakemake_s_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rendered as Snakemake renders it, with the command that the page on this describes."""
    from docutils.core import publish_parts  # type: ignore[import-untyped]
    from docutils.writers.html4css1 import Writer  # type: ignore[import-untyped]

    assert main(["report", "-d", str(folder), "--rst", "-o", str(folder / "ec2-jobs.rst")]) == 0
    text = f"What we did.\n\n.. include:: {folder / 'ec2-jobs.rst'}\n"
    page = publish_parts(text, writer=Writer(), settings_overrides={"halt_level": 2})["html_body"]
    assert "<caption>EC2: 1 job on 1 machine, $0.0" in page
    for cell in (PLAN.label, "c7i.large", "done", "10"):
        assert f">{cell}" in page.replace('<span class="pre">', "").replace("</span>", "")


def test_nobody_is_shown_what_no_run_does(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`watch` is for a run that is at work; which command shows past ones is said."""
    assert main(["watch", "-d", str(folder)]) == 1
    assert "`snakemake-ec2 report` is about past ones" in capsys.readouterr().err
    assert main(["watch", "-d", str(tmp_path / "elsewhere")]) == 1
    assert f"nothing has run on EC2 in {tmp_path / 'elsewhere'} yet" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["ps"], ["watch"], ["logs", "a"], ["stop"], ["costs"], ["ssh", "a"]])
def test_a_folder_below_that_of_the_runs(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option that leads to them is said, and no AWS region asked for."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    below = folder / "scripts"
    below.mkdir()
    monkeypatch.chdir(below)
    assert main(words) == 1
    assert f"nothing has run on EC2 in {below} yet, but in {folder}: add -d .." in capsys.readouterr().err


def test_machines_of_rehearsals_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After them nobody is asked for an AWS region: that no machine is left is known."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    journal = Journal(tmp_path, now=FakeClock().now, warn=pytest.fail)
    journal.begin_run(
        run_record("r", endpoint="http://127.0.0.1:4000", cloud_env={"AWS_REGION": "us-east-1"})
    )
    journal.close_run("r")
    journal.leave_run("r", detached=False)
    journal.close()
    assert main(["stop", "-d", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("no machine is left: this folder's runs were rehearsals")
    journal = Journal(tmp_path, now=FakeClock().now, warn=pytest.fail)
    journal.begin_run(run_record("served", endpoint="http://127.0.0.1:4001"))
    journal.leave_run("served", detached=True)
    journal.close()
    assert main(["stop", "-d", str(tmp_path)]) == 1
    assert "no AWS region is set" in capsys.readouterr().err, (
        "it may have left machines on a cloud that is served"
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["report", "2027"], "no run '2027' in this folder has used a machine; the last are 20261101-aaa"),
        (["report", "2026"], "'2026' names several runs: 20261101-aaa, 20261102-bbb"),
        (["report", "-o", "none/x.html"], "none/x.html cannot be written"),
        (["costs", "-d", "elsewhere"], "nothing has run on EC2 in "),
    ],
)
def test_what_cannot_be_told(
    folder: Path,
    words: list[str],
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sentence, exit status 1, and no file."""
    monkeypatch.chdir(folder)
    assert main(words) == 1
    told = capsys.readouterr()
    assert why in told.err
    assert told.out == ""
    assert [path.name for path in folder.iterdir()] == [".snakemake"]
