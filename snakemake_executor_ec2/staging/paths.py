"""Where a file of this computer is on the machine: at the same absolute path, if that is possible."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_ec2.agent.resolving import link_here, resolve
from snakemake_executor_ec2.errors import StagingError
from snakemake_executor_ec2.staging.machine_links import MachineLinks
from snakemake_executor_ec2.staging.private import is_private


@dataclass(frozen=True, kw_only=True)
class PathMap:
    """The working directory here and there; what lies outside of it has the same path on both."""

    here: Path
    there: Path

    def to_machine(self, path: Path) -> Path:
        return self.there / path.relative_to(self.here) if self._inside(path, self.here) else path

    def to_controller(self, path: Path) -> Path:
        return self.here / path.relative_to(self.there) if self._inside(path, self.there) else path

    @staticmethod
    def _inside(path: Path, folder: Path) -> bool:
        return path == folder or folder in path.parents


@dataclass(frozen=True, kw_only=True)
class Sending:
    """A file or directory to send: where its content is here, and its path on the machine."""

    content: Path
    name: Path


def sendings(
    paths: Iterable[Path],
    path_map: PathMap,
    *,
    followed: Collection[Path] = (),
    machine_links: MachineLinks | None = None,
) -> list[Sending]:
    """What to send so that every path can be read on the machine.

    A symlink to something in the working directory stays one, with its modification time, and what
    it leads to is sent as well. Others, and those that are to be `followed`, become what they lead
    to: it may lie anywhere here and nowhere there. Links within a directory that is sent stay
    links, unless they lead out of it. What is among `machine_links` is sent as the link that it is, and
    with it only what its job has declared.
    Raises FileNotFoundError for a path that is not there, or a link to nothing; PermissionError for a
    folder that may not be read; StagingError for one
    that can only be read through a link that a machine made.
    """
    return _Sender(path_map, frozenset(followed), machine_links or MachineLinks(path_map.here)).all(paths)


_MOST_LINKS = 40


class _Sender:
    def __init__(self, path_map: PathMap, followed: frozenset[Path], machine_links: MachineLinks) -> None:
        self._map = path_map
        self._followed = followed
        self._links = machine_links
        self._found: dict[Path, Sending] = {}

    def all(self, paths: Iterable[Path]) -> list[Sending]:
        waiting = [(path, 0) for path in dict.fromkeys(paths)][::-1]
        seen: set[Path] = set()
        while waiting:
            path, links = waiting.pop()
            if links > _MOST_LINKS:
                raise StagingError(f"{path} is not read: links that a machine made lead in a circle")
            if path not in seen:
                seen.add(path)
                waiting += [(each, links + 1) for each in self._one(path)]
        return list(self._found.values())

    def _one(self, path: Path) -> list[Path]:
        """Send a path; returns what is to be sent besides."""
        for each in (*reversed(path.parents), path):
            ends = self._ends_of(each)
            if ends is None:
                continue
            (declared,) = ends
            if declared is None and each != path:
                raise StagingError(
                    f"{path} is not read: {each} is a link that a machine made, and it leads to "
                    f"{each.readlink()}, which its rule does not declare"
                )
            if declared is not None and path in self._followed:
                self._add(self._resolved(declared), self._map.to_machine(path))
                return []
            self._add(each, self._map.to_machine(each))
            return [] if declared is None else [declared / path.relative_to(each)]
        target = None if path in self._followed else _next_in_workdir(path, self._map)
        if target is not None:
            self._add(path, self._map.to_machine(path))
            return [target]
        return self._whole(path, self._map.to_machine(path))

    def _whole(self, path: Path, name: Path) -> list[Path]:
        content = self._resolved(path)
        if not content.is_dir():
            self._add(content, name)
            return []
        leads_out, beyond = self._links_in(content)
        if not leads_out:
            self._add(content, name)
            return beyond
        for child in sorted(content.iterdir()):
            if (ends := self._ends_of(child)) is not None:
                self._add(child, name / child.name)
                beyond += [end for end in ends if end and os.path.lexists(end)]
            # A link to nothing is somebody's, but nothing that a job could read.
            elif child.exists():
                beyond += self._whole(child, name / child.name)
        return beyond

    def _links_in(self, folder: Path) -> tuple[bool, list[Path]]:
        """Whether a directory holds a user's link, at any depth, to something outside of it; and what
        machines' links in it lead to outside of it that their jobs have declared."""
        beyond: list[Path] = []
        for parent, folders, files in os.walk(folder):
            for entry in (*folders, *files):
                path = Path(parent, entry)
                if not path.is_symlink():
                    continue
                if (ends := self._ends_of(path)) is not None:
                    there = [end for end in ends if end and os.path.lexists(end)]
                    beyond += [end for end in there if folder not in end.parents]
                elif folder not in path.resolve().parents:
                    return True, []
        return False, beyond

    def _resolved(self, path: Path) -> Path:
        """Where a path leads; never through a link that a machine made, unless to what its job declares."""

        def link(each: str) -> str | None:
            text = link_here(each)
            if text is not None and self._links.ends_of(Path(each), text) == (None,):
                raise StagingError(f"{path} is not read: it leads through {each}, a link that a machine made")
            return text

        end = resolve(str(path), link)
        if end is None or not os.path.lexists(end):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if is_private(Path(end), self._map.here):
            raise StagingError(f"{path} is not sent: {end} is private to this computer")
        return Path(end)

    def _ends_of(self, path: Path) -> tuple[Path | None] | None:
        text = link_here(str(path))
        return None if text is None else self._links.ends_of(path, text)

    def _add(self, content: Path, name: Path) -> None:
        self._found.setdefault(name, Sending(content=content, name=name))


def _next_in_workdir(link: Path, path_map: PathMap) -> Path | None:
    """Where a symlink leads to, if that is in the working directory and will be there on the machine."""
    if not link.is_symlink():
        return None
    text = link.readlink()
    if text.is_absolute() and path_map.here != path_map.there:
        return None
    target = Path(os.path.normpath(link.parent / text))
    # Not where `..` was meant to climb out of what another link leads to.
    same = path_map.here in target.parents and target.resolve() == link.resolve(strict=True)
    return target if same else None
