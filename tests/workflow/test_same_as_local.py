"""What a workflow leaves behind on EC2 is what it leaves behind here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.trees import order, records, snakemake, tree

EVERYTHING = Path(__file__).parent / "everything"
SAID = "on the command line"


def test_a_bit_of_everything_is_the_same_on_ec2(run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """Names, contents, modes, order of times and Snakemake's records are as after a local run."""
    here, there = _prepared(tmp_path / "here" / "workflow"), _prepared(run_workflow.folder)
    local = snakemake(here, "-c2", *_configuration(here))
    assert local.returncode == 0, local.stderr

    run = run_workflow({}, *_configuration(there), timeout_s=1000)

    assert run.returncode == 0, run.output
    # Locally there is but one node, and what is local to it stays.
    (here / "work" / "node.txt").unlink()
    assert tree(there) == tree(here)
    assert tree(there.parent / "outside") == tree(here.parent / "outside")
    assert order(there) == order(here)
    assert all(order(there).values())
    assert _time(there / "out/many/deep/z") < _time(there / "out/many/deep/a")
    assert len(records(there)) > 30
    assert len((there / "out/gathered.txt").read_text().splitlines()) == 3
    assert _placeless(records(there), there) == _placeless(records(here), here)
    assert "for rule params_and_attempt" in run.output
    assert "for rule here" not in run.output  # it is one of the localrules
    _same_reasons_to_run_again(there, here)


def _same_reasons_to_run_again(there: Path, here: Path) -> None:
    """What Snakemake finds to do after changes is what it finds after a local run."""
    assert _to_do(there) == _to_do(here) == set()
    # Not touched only: Snakemake sees by a checksum that a file is as it was.
    (there / "data" / "ancient.txt").write_text("newer\n")
    assert _to_do(there) == set()
    for folder in (there, here):
        snakefile = folder / "Snakefile"
        snakefile.write_text(
            snakefile.read_text()
            .replace("echo full >", "echo fuller >")
            .replace("number=3,", "number=4,")
            .replace('input:\n        "data/link.txt"', 'input:\n        "data/old.txt", "data/link.txt"')
        )
    changed = {"ensured", "params_and_attempt", "linked", "all"}
    assert _to_do(there) == _to_do(here) == changed
    assert _to_do(there, "--rerun-triggers", "params") == {"params_and_attempt", "all"}
    assert _to_do(there, "--rerun-triggers", "mtime") == set()


def _prepared(folder: Path) -> Path:
    """The workflow with its data, and what it reads and makes outside of its folder beside it."""
    shutil.copytree(EVERYTHING, folder, dirs_exist_ok=True)
    (folder / "outside").rename(folder.parent / "outside")
    data = folder / "data"
    (data / "tree" / "sub").mkdir(parents=True)
    (data / "tree" / "one.txt").write_text("one\n")
    (data / "tree" / "sub" / "two.txt").write_text("two\n")
    (data / "old.txt").write_text("old\n")
    (data / "ancient.txt").write_text("ancient\n")
    (data / 'an input\'s "name".txt').write_text("odd\n")
    (data / "link.txt").symlink_to(folder / "data" / "old.txt")
    (folder / "out").mkdir()
    (folder / "out" / "updated.txt").write_text("before\n")
    for old in (data / "old.txt", folder / "out" / "updated.txt"):
        os.utime(old, (1_000_000_000, 1_000_000_000))
    return folder


def _configuration(folder: Path) -> list[str]:
    outside = folder.parent / "outside"
    config = ["--configfile", "config/more.yaml", "--config", f"outside={outside}", f"said={SAID}"]
    return ["--set-scatter", "split=3", *config]


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns


def _placeless(noted: dict[str, dict[str, object]], folder: Path) -> dict[str, str]:
    """Snakemake's records, the same wherever the workflow is."""
    place = str(folder.parent)
    return {name.replace(place, ""): str(record).replace(place, "") for name, record in noted.items()}


def _to_do(folder: Path, *arguments: str) -> set[str]:
    """The rules that a dry run would run."""
    done = snakemake(folder, "-n", "-c2", "--quiet", "progress", *arguments, *_configuration(folder))
    assert done.returncode == 0, done.stderr
    heads = ("rule ", "localrule ", "checkpoint ")
    lines = (done.stdout + done.stderr).splitlines()
    return {line.split()[1].rstrip(":") for line in lines if line.startswith(heads)}
