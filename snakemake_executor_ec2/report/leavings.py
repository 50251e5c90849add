"""What jobs left on machines that have ended, and what they went without: reported at the end of a run, and
if a later job misses it."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from snakemake_executor_ec2.formatting import size

_LARGEST = 3
_RULES = 5
"""Of more rules only the names are told."""
_FILES = 5000
"""Of each rule no more are kept in mind."""


class Leavings:
    """Files beside declared outputs, by the rule whose jobs left them. Jobs end in threads of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_rule: dict[str, dict[Path, int]] = defaultdict(dict)
        self._unread: dict[str, dict[str, None]] = defaultdict(dict)

    def note(self, rule: str, files: Mapping[Path, int]) -> None:
        """Keep in mind what a job of a rule has left, with sizes in bytes."""
        with self._lock:
            known = self._by_rule[rule]
            for path, size in files.items():
                if len(known) < _FILES:
                    known[path] = size

    def went_without(self, rule: str, names: Iterable[str]) -> None:
        """Keep in mind which files a job of a rule could not read, although it ended well."""
        with self._lock:
            self._unread[rule].update(dict.fromkeys(names))

    def left_by(self, path: Path) -> str | None:
        """The rule that has left a file."""
        with self._lock:
            return next((rule for rule, files in self._by_rule.items() if path in files), None)

    def lines(self, folder: Path) -> list[str]:
        """A line for each rule; names count from a folder."""
        with self._lock:
            order = sorted(self._by_rule.items(), key=lambda item: (-sum(item[1].values()), item[0]))
            unread = sorted((rule, list(names)) for rule, names in self._unread.items() if names)
        left = [(rule, files) for rule, files in order if files]
        lines = [_line(rule, files, folder) for rule, files in left[:_RULES]]
        if others := [rule for rule, _ in left[_RULES:]]:
            lines.append(f"so did {len(others)} other rules: {', '.join(sorted(others))}")
        return [*lines, *(_without(rule, names) for rule, names in unread)]


def _without(rule: str, names: Sequence[str]) -> str:
    told = ", ".join([*names[:_LARGEST], *(["…"] if len(names) > _LARGEST else [])])
    return (
        f"{rule} could not read {told}, not sent because no rule declares it as input, but did not "
        "fail: its results may lack that. Add it to the input, and run the rule again"
    )


def _line(rule: str, files: Mapping[Path, int], folder: Path) -> str:
    order = sorted(files, key=lambda path: (-files[path], path))
    names = [f"{os.path.relpath(path, folder)} {size(files[path])}" for path in order[:_LARGEST]]
    several = "1 file" if len(files) == 1 else f"{len(files)} files"
    told = ", ".join([*names, *(["…"] if len(order) > _LARGEST else [])])
    return (
        f"{rule} left {several} of {size(sum(files.values()))} that it does not declare: {told}. "
        "They were lost with the machine; declare what you need as output or log"
    )
