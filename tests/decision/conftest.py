"""Runs a workflow locally and through the runner, which sees less than the controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.workflow.trees import tree

_PROJECT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What became of a call of Snakemake's."""

    status: int
    output: str
    tree: Mapping[str, tuple[str, int, bytes]]


@dataclass(frozen=True)
class Runs:
    """A folder in which the same workflow is run both ways."""

    folder: Path

    def locally(self, files: Mapping[str, str], *arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        """With Snakemake's own executor."""
        return self._run(self.folder / "local" / "w", files, ["snakemake", "-c4", *arguments], env or {})

    def decided(
        self,
        files: Mapping[str, str],
        *arguments: str,
        hide: Collection[str] = (),
        env: Mapping[str, str] | None = None,
        machine_env: Mapping[str, str | None] | None = None,
    ) -> Ran:
        """Through the document and the runner, from which the paths `hide` are hidden."""
        told = {"HIDE": ":".join(hide), "MACHINE_ENV": json.dumps(machine_env or {}), **(env or {})}
        command = ["tests.decision.controller", *arguments]
        return self._run(self.folder / "decided" / "w", files, command, told)

    def _run(self, folder: Path, files: Mapping[str, str], command: list[str], env: Mapping[str, str]) -> Ran:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(_PROJECT), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return Ran(status=done.returncode, output=done.stdout, tree=tree(folder))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Runs workflows both ways."""
    return Runs(tmp_path)
