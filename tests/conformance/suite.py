"""Snakemake's own test suite, run with pytest and either executor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.conformance.outcomes import KINDS, Outcome

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "snakemake-ec2", "conformance")
TEST_TIMEOUT_S = 1200
"""One test runs a workflow of twelve jobs ten times."""
_MODULE = "tests/tests.py"
_WHY_LENGTH = 160


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The unpacked source distribution, and how its tests are run."""

    sources: Path
    scratch: Path
    """A folder for the tests' own temporary ones."""
    logs: Path
    jobs: int
    """Tests at a time."""
    direct: str = "auto"
    """What `--ec2-direct` is."""

    @classmethod
    def downloaded(cls, *, scratch: Path, logs: Path, jobs: int, direct: str = "auto") -> Suite:
        """The suite of the installed Snakemake; downloaded with pip where it is not there yet."""
        release = version("snakemake")
        target = CACHE / f"snakemake-{release}"
        if not target.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                _download(release, Path(folder))
                (Path(folder) / f"snakemake-{release}").rename(target)
        # The tests put the folder that they are run in on PYTHONPATH, for Snakemakes that they start.
        shutil.copy(HERE / "inject" / "sitecustomize.py", target)
        logs.mkdir(parents=True, exist_ok=True)
        return cls(sources=target, scratch=scratch, logs=logs, jobs=jobs, direct=direct)

    def collect(self, expression: str | None) -> list[str]:
        """The names of all tests, or of those that match, as pytest's -k has it."""
        matching = ["-k", expression] if expression else []
        found = subprocess.run(
            [*self._pytest(), "--collect-only", *matching, _MODULE],
            cwd=self.sources,
            env=self._environment("local"),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        lines = found.stdout.splitlines()
        tests = [line.split("::", 1)[1] for line in lines if line.startswith(f"{_MODULE}::")]
        if not tests:
            raise SystemExit(f"pytest found no tests:\n{found.stdout[-4000:]}")
        return tests

    def run(
        self, side: str, tests: Sequence[str], env: Mapping[str, str] | None = None
    ) -> dict[str, Outcome]:
        """Run some tests on one side (SIDES), and say what became of each."""
        notes, report, selection = (self.scratch / f"{side}.{what}" for what in ("notes", "xml", "tests"))
        notes.write_text("")
        report.unlink(missing_ok=True)
        # A file, not the command line: hundreds of tests are a long line.
        selection.write_text("\n".join(f"{_MODULE}::{test}" for test in tests))
        command = [
            *(*self._pytest(), "--timeout", str(TEST_TIMEOUT_S), "-n", str(self.jobs), "--tb", "short"),
            *("-vv", "--junitxml", str(report), f"@{selection}"),
        ]
        log = self.logs / f"{side}.log"
        with log.open("ab") as output:
            subprocess.run(
                command,
                cwd=self.sources,
                env={**self._environment(side), **(env or {})},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if not report.exists():
            raise SystemExit(f"pytest did not run:\n{log.read_text()[-4000:]}")
        noted = Counter(line.partition(" ")[::2] for line in notes.read_text().splitlines())
        return {
            test: replace(
                at,
                submits=("submits", test) in noted,
                direct=noted["direct", test],
                runner=noted["runner", test],
                kinds=tuple(kind for kind in KINDS if (kind, test) in noted),
            )
            for test, at in _outcomes(report, self.scratch).items()
        }

    def _pytest(self) -> list[str]:
        return [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="),
            *("-o", "filterwarnings=default", "--rootdir", str(self.sources)),
        ]

    def _environment(self, side: str) -> dict[str, str]:
        return {
            # With CI set, Snakemake's tests expect what its own CI has.
            **{name: value for name, value in os.environ.items() if name != "CI"},
            "EC2_CONFORMANCE": "local" if side == "local" else "ec2",
            "EC2_CONFORMANCE_NOTES": str(self.scratch / f"{side}.notes"),
            "EC2_CONFORMANCE_DIRECT": self.direct,
            # `tests` is Snakemake's own package there; its sitecustomize is ours.
            "PYTHONPATH": str(HERE / "inject"),
            "TMPDIR": str(self.scratch),
        }


def _download(release: str, folder: Path) -> None:
    what = ["--no-deps", "--no-binary", ":all:", f"snakemake=={release}"]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "-d", folder, *what], check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as tar:
        # Python has had it since 3.11.4 only; the archive is Snakemake's own, as its code is that runs here.
        safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(folder, **safely)  # noqa: S202


def _outcomes(report: Path, scratch: Path) -> dict[str, Outcome]:
    today = datetime.now(UTC).date().isoformat()
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  a file that pytest just wrote
        bad = {child.tag: child for child in case if child.tag in ("failure", "error", "skipped")}
        how = "failed" if bad.keys() & {"failure", "error"} else "skipped" if bad else "passed"
        why = next((_one_line(child.attrib.get("message", ""), scratch) for child in bad.values()), "")
        outcomes[case.attrib["name"]] = Outcome(how=how, why=why, date=today)
    return outcomes


def _one_line(message: str, scratch: Path) -> str:
    """The first line, shortened, without paths of the computer where the test was run."""
    line = message.strip().split("\n")[0]
    for folder, name in ((scratch, "…"), (CACHE, "…"), (Path.home(), "~")):
        line = line.replace(str(folder), name)
    return line if len(line) <= _WHY_LENGTH else line[: _WHY_LENGTH - 1] + "…"
