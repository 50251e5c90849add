"""Runs Snakemake's own workflow tests with the local executor and with `ec2`, and compares.

    python -m tests.conformance [--only EXPRESSION] [--table FILE] [--sample]

Snakemake's source distribution, of the installed version, is downloaded with pip into a folder
outside of this repository and never committed. `--sample` is the cross-section that CI runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from tests.conformance.reasons import NOT_A_PREMISE
from tests.conformance.table import Comparison, table

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "snakemake-ec2", "conformance")
TEST_TIMEOUT_S = 300


def main() -> int:
    """Run both sides; exit status 1 where a test passes locally, is no exception, and fails on EC2."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("--only", metavar="EXPRESSION", help="run tests that match, as pytest's -k")
    parser.add_argument("--sample", type=int, metavar="N", help="run every Nth test only")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the comparison as a page")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time")
    options = parser.parse_args()

    sources = _download()
    with tempfile.TemporaryDirectory(prefix="snakemake-ec2-conformance-") as folder:
        scratch = Path(folder)
        local, submitting = _run("local", sources, scratch, options, {})
        # Only what could be another's fault is worth a second run.
        candidates = sorted(
            test for test, outcome in local.items() if outcome == "passed" and test in submitting
        )
        print(f"{len(local)} tests, {len(candidates)} of them pass locally and submit a job", flush=True)
        with _cloud() as env:
            remote, _ = _run("ec2", sources, scratch, options, env, candidates)
    comparison = Comparison(
        snakemake=version("snakemake"), local=local, submitting=frozenset(submitting), remote=remote
    )
    text = table(comparison, NOT_A_PREMISE)
    print(text)
    if options.table:
        options.table.write_text(text)
    return 1 if comparison.failures(NOT_A_PREMISE) else 0


def _download() -> Path:
    """Snakemake's source distribution, unpacked; downloaded where it is not there yet."""
    release = version("snakemake")
    target = CACHE / f"snakemake-{release}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            what = ["--no-deps", "--no-binary", ":all:", f"snakemake=={release}"]
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "-d", folder, *what], check=True
            )
            archive = next(Path(folder).glob("*.tar.gz"))
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            (Path(folder) / f"snakemake-{release}").rename(target)
    # The tests put the folder that they are run in on PYTHONPATH, for Snakemakes that they start.
    shutil.copy(HERE / "inject" / "sitecustomize.py", target)
    return target


def _run(
    side: str,
    sources: Path,
    scratch: Path,
    options: argparse.Namespace,
    env: Mapping[str, str],
    tests: list[str] | None = None,
) -> tuple[dict[str, str], set[str]]:
    """Outcomes by test, and the tests that submitted a job."""
    notes = scratch / f"{side}.notes"
    report = scratch / f"{side}.xml"
    notes.touch()
    selection = [f"tests/tests.py::{test}" for test in tests] if tests is not None else ["tests/tests.py"]
    # A file, not the command line: hundreds of tests are a long line.
    (scratch / f"{side}.selection").write_text("\n".join(selection))
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="),
        *("-o", "filterwarnings=default", "--timeout", str(TEST_TIMEOUT_S), "-n", str(options.jobs)),
        *("--junitxml", str(report), "--rootdir", str(sources), "--tb", "short"),
        *(["-k", options.only] if options.only else []),
        f"@{scratch / f'{side}.selection'}",
    ]
    if options.sample and tests is None:
        command += ["-p", "conformance_sampling"]
    variables = {
        **{name: value for name, value in os.environ.items() if name != "CI"},
        **env,
        "EC2_CONFORMANCE": side,
        "EC2_CONFORMANCE_NOTES": str(notes),
        "EC2_CONFORMANCE_REQUIREMENTS": str(HERE / "requirements.txt"),
        "EC2_CONFORMANCE_SAMPLE": str(options.sample or 1),
        # `tests` is Snakemake's own package there; its sitecustomize is ours.
        "PYTHONPATH": os.pathsep.join([str(HERE / "inject"), str(HERE / "plugins")]),
        "TMPDIR": str(scratch),
    }
    log = Path(os.environ.get("EC2_CONFORMANCE_LOGS") or scratch) / f"{side}.log"
    with log.open("wb") as output:
        subprocess.run(
            command, cwd=sources, env=variables, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if not report.exists():
        raise SystemExit(f"pytest did not run:\n{log.read_text()[-4000:]}")
    return _outcomes(report), set(notes.read_text().split())


def _outcomes(report: Path) -> dict[str, str]:
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  a file that pytest just wrote
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        outcomes[case.attrib["name"]] = outcome
    return outcomes


@contextlib.contextmanager
def _cloud() -> Iterator[dict[str, str]]:
    from snakemake_executor_ec2.local.cloud import EmbeddedCloud

    with EmbeddedCloud() as cloud:
        yield dict(cloud.env)


if __name__ == "__main__":
    sys.exit(main())
