"""What a job has left beside its outputs."""

from __future__ import annotations

from tests.unit.agent.machine import Machine


def test_what_was_made_or_changed_is_told(machine: Machine) -> None:
    """Not what was there and stays as it is, nor what is declared, hidden, or only touched by a reader."""
    work = machine.home / "work"
    for name in ("old.txt", "changed.txt", "out/x", ".hidden/y", "tool/__pycache__/z"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("before")
    machine.start(
        "cd work; cat old.txt; echo more >> changed.txt; echo new > side.txt; echo > out/x; mkdir d;"
        "echo > d/z; echo > .hidden/y; echo > tool/__pycache__/z; echo > declared.txt; ln -s old.txt link"
    )
    machine.finish()
    request = {"key": "job", "roots": [str(work)], "own": [str(work / "out"), str(work / "declared.txt")]}
    found = machine.ask("left", request=request).said["files"]
    assert found == [[str(work / "changed.txt"), 11], [str(work / "side.txt"), 4], [str(work / "d/z"), 1]]


def test_no_more_is_told_than_an_answer_has_room_for(machine: Machine) -> None:
    """The controller takes no answer without end: the largest ones are told."""
    machine.start("mkdir work; cd work; for i in {100..999}; do printf %${i}s > ${i}" + "n" * 200 + "; done")
    machine.finish()
    found = machine.ask("left", request={"key": "job", "roots": [str(machine.home / "work")], "own": []})
    sizes = [size for _, size in found.said["files"]]
    assert sizes == [*range(999, 999 - len(sizes), -1)]
    assert 50 < len(sizes) < 400
