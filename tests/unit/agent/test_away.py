"""The agent on a machine that runs a whole workflow."""

from __future__ import annotations

import json
from pathlib import Path

from snakemake_executor_ec2.agent.trees import tree_digest
from snakemake_executor_ec2.away.project import note_of
from tests.unit.agent.machine import Machine

IGNORES_NONE = (
    'trap : TERM; python3 -c "import signal, time; '
    "signal.signal(signal.SIGTERM, lambda *_: exit(7)); print('up', flush=True); time.sleep(60)\"; "
    "status=$?; echo shortened; exit $status"
)


def test_it_says_what_is_there_and_removes_what_is_not_wanted_any_more(machine: Machine) -> None:
    """By content; a file that is there gets the mode and time that it has to have."""
    same, changed, gone, own = (machine.home / name for name in ("same", "changed", "gone", "own"))
    for path in (same, changed, gone, own):
        path.write_text(path.name)
    rows = {str(path): [tree_digest(str(path)), 0o640, 10**18] for path in (same, changed, gone)}
    assert sorted(machine.ask("have", request={"files": rows}).said["same"]) == sorted(rows)
    assert (same.stat().st_mode & 0o777, same.stat().st_mtime_ns) == (0o640, 10**18)

    changed.write_text("by a job")
    del rows[str(gone)]
    said = machine.ask("have", request={"files": rows}).said

    assert said == {"same": [str(same)], "removed": [str(gone)]}
    assert not gone.exists()
    assert own.exists()


def test_what_a_job_has_changed_is_not_removed(machine: Machine) -> None:
    """It is not what was sent."""
    file = machine.home / "sent"
    file.write_text("sent")
    machine.ask("have", request={"files": {str(file): [tree_digest(str(file)), 0o644, 0]}})
    file.write_text("made")
    assert machine.ask("have", request={"files": {}}).said["removed"] == []
    assert file.read_text() == "made"


def test_folders_are_compared_with_all_that_is_in_them(tmp_path: Path) -> None:
    """Names, contents, links; nothing that could be sent has none."""
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_text("1")
    before = tree_digest(str(tmp_path / "d"))
    (tmp_path / "d/e/f").write_text("2")
    assert tree_digest(str(tmp_path / "d")) != before
    (tmp_path / "l").symlink_to("d")
    assert tree_digest(str(tmp_path / "l")) != tree_digest(str(tmp_path / "d"))
    assert tree_digest(str(tmp_path / "missing")) is None


def test_finished_is_what_snakemake_has_noted(machine: Machine) -> None:
    """Unless a job that makes it is under way; with its logs, and other files that are asked for."""
    for name in ("done", "again", "done.log", "table.tsv"):
        (machine.home / name).write_text(name)
    (machine.home / "folder").mkdir()
    notes = {"done": {"log": ["done.log"]}, "again": {}, "gone": {}, "folder": {"log": None}}
    for name, note in notes.items():
        path = machine.home / note_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(note))
    under_way = machine.home / str(note_of("again")).replace("metadata", "incomplete")
    under_way.parent.mkdir(parents=True)
    under_way.write_text("{}")

    said = machine.ask("finished", request={"workdir": str(machine.home), "also": ["table.tsv", "no"]}).said

    rows = {row[0]: (row[1], row[2], row[4] is not None, row[5]) for row in said["files"]}
    assert rows == {
        "done": ("file", 4, False, True),
        "done.log": ("file", 8, False, False),
        "folder": ("directory", 0, True, True),
        "table.tsv": ("file", 9, False, False),
    }


def test_a_workflow_is_told_to_end_and_what_follows_it_is_run(machine: Machine) -> None:
    """Snakemake gets the time to end its machines, and the shell around it goes on after it."""
    machine.start(IGNORES_NONE)
    while b"up" not in machine.output():
        pass
    assert machine.ask("end", request={"key": "job", "patience_s": 20}).said == {"ended": True}
    assert machine.finish()["exit_code"] == 7
    assert b"shortened" in machine.output()
