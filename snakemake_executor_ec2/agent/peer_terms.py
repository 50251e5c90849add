"""What the controller tells machines that pass on files, and what it hears of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from snakemake_executor_ec2.agent.bundle import digest


@dataclass(frozen=True, kw_only=True)
class Served:
    """A file, as one machine names it."""

    name: str
    """In its cache."""
    path: str
    """In its job's tree, where it is if it is not in the cache."""
    size: int


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The same file, as the machine names it that wants it, and what it has to be."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Peer:
    """How one machine is logged in to by another."""

    address: str
    port: int
    user: str
    host_keys: tuple[str, ...]
    key: str = field(repr=False)
    certificate: str


@dataclass(frozen=True, kw_only=True)
class FetchedFiles:
    """Names of files that a machine has got of another, has not got, or got with other content."""

    there: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()
    why: str = ""
    """Why the other machine could not be asked for all; empty: it could."""
    reached: bool = False
    """Whether it has answered at all."""


def serving(files: Sequence[Served]) -> str:
    """The command that serves some files on a machine; it needs no quoting of what they are called."""
    told = json.dumps([[each.name, each.path, each.size] for each in files]).encode()
    return (
        f'python3 "$HOME/.snakemake-ec2/{digest()}/agent.pyz" serve {base64.urlsafe_b64encode(told).decode()}'
    )
