"""Links among what a job has made: what they may lead to, and what is fetched with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from snakemake_executor_ec2.agent.archive import Refused
from snakemake_executor_ec2.agent.resolving import link_here, resolve
from snakemake_executor_ec2.staging.machine_links import MachineLinks
from snakemake_executor_ec2.staging.paths import PathMap
from snakemake_executor_ec2.staging.private import is_private
from snakemake_executor_ec2.staging.sources import has_name_of_code

LINKS_IN_A_ROW = 5
_READ_BY_SNAKEMAKE = frozenset({"profiles", "workflow"})
"""Folders in which Snakemake looks for settings and rules by itself."""
_SECRET = frozenset({".aws", ".git", ".gnupg", ".snakemake", ".ssh"})
_MACHINES_OWN = ".snakemake-ec2"
"""The agent's folder in a machine's home: environments of Python have links into it."""


@dataclass(frozen=True, kw_only=True)
class LinkRules:
    """What the links among one job's results may lead to. All paths are absolute."""

    paths: PathMap
    made: Iterable[Path]
    """What the job makes: its outputs, logs and benchmarks."""
    inputs: Iterable[Path]
    sources: Iterable[Path] = ()
    home: Path = field(default_factory=Path.home)

    def judge(self, target: str, text: str, end: str | None) -> str:
        """As `agent.landing.Judge`. A link into a hidden folder or onto code is refused, unless it leads
        to what the job declares: who writes to the result would write there."""
        if text.startswith("/"):
            here = str(self.paths.to_controller(Path(os.path.normpath(text))))
            # Where it leads to was found by its name on the machine: under another name, links of the user's
            # own may be on the way.
            end = resolve(here, link_here) if here != text else end
            text = here
        if end is None:
            return text  # in a circle: nobody gets anywhere
        near = os.path.normpath(Path(target).parent / text)
        for each in dict.fromkeys(map(Path, (near, end))):
            if why := self._danger(each):
                raise Refused(f"{target} is a link that leads to {each}, {why}")
        if target in self._made and Path(end).is_dir() and not self.is_declared(Path(end)):
            raise Refused(
                f"{target} is a link to the folder {end}, which is not among the rule's input: Snakemake "
                "would write into it"
            )
        return text

    def declared_end(self, target: str, text: str) -> Path | None:
        """What of the job's own a link leads to: that is sent on with it."""
        near = Path(os.path.normpath(Path(target).parent / text))
        return near if self.is_declared(near) else None

    def is_declared(self, path: Path) -> bool:
        """Whether a path is an input or a result of the job, or in a folder that is one."""
        return not self._declared.isdisjoint(map(str, (path, *path.parents)))

    def _danger(self, path: Path) -> str:
        if is_private(path, self.paths.here, self.home):
            return "where no link of a job may lead"
        if self.is_declared(path):
            return ""
        for zone in (self.paths.here, self.home):
            if zone in path.parents:
                parts = path.relative_to(zone).parts
                hidden = any(part.startswith(".") and part != _MACHINES_OWN for part in parts)
                if hidden or not _SECRET.isdisjoint(parts):
                    return "in a hidden folder"
                special = zone == self.paths.here and not _READ_BY_SNAKEMAKE.isdisjoint(parts)
                if special or has_name_of_code(path):
                    return "which would be code"
                break
        if not _SECRET.isdisjoint(path.parts):
            return "in a hidden folder"
        return "which is code of the workflow" if str(path) in self._sources else ""

    @cached_property
    def _made(self) -> frozenset[str]:
        return frozenset(_both_names(self.made))

    @cached_property
    def _declared(self) -> frozenset[str]:
        given = list(self.inputs)
        return self._made | frozenset(_both_names(given)) | {os.path.realpath(path) for path in given}

    @cached_property
    def _sources(self) -> frozenset[str]:
        return frozenset(_both_names(self.sources))


def _both_names(paths: Iterable[Path]) -> Iterable[str]:
    """Each path as it is given, and without links among its folders."""
    for path in paths:
        yield str(path)
        yield str(Path(os.path.realpath(path.parent), path.name))


def noting(rules: LinkRules, known: MachineLinks) -> Callable[[str, str, str | None], str]:
    """`rules.judge`, which also remembers each link that it lets in as one that a machine made."""

    def judge(target: str, text: str, end: str | None) -> str:
        text = rules.judge(target, text, end)
        known.note(Path(target), text, rules.declared_end(target, text) if end is not None else None)
        return text

    return judge


def dangling(paths: Iterable[Path], workdir: Path) -> tuple[Path, ...]:
    """What links among the paths lead to, where that is in the working directory and not there.

    No rule declares it: a machine that has gone bad could name anything. So nothing is among it that
    would be code, be read without being asked for, or be written through a link among the results.
    """
    results = frozenset(map(str, paths))
    targets = set()
    for path in map(Path, results):
        for _ in range(LINKS_IN_A_ROW):
            if not path.is_symlink():
                break
            path = Path(os.path.normpath(path.parent / path.readlink()))
            inside = workdir in path.parents and _is_data(path, workdir)
            if inside and not os.path.lexists(path) and not _leads_through(path, results):
                targets.add(path)
    return tuple(sorted(targets))


def _leads_through(path: Path, results: frozenset[str]) -> bool:
    """Whether a path is below a result or a link in one."""

    def link(folder: str) -> str | None:
        text = link_here(folder)
        if text is not None and (folder in results or any(str(p) in results for p in Path(folder).parents)):
            raise _Through
        return text

    try:
        end = resolve(str(path), link)
    except _Through:
        return True
    return end is None


class _Through(Exception):
    pass


def _is_data(path: Path, workdir: Path) -> bool:
    parts = path.relative_to(workdir).parts
    special = any(part.startswith(".") or part in _READ_BY_SNAKEMAKE for part in parts)
    return not special and not has_name_of_code(path)
