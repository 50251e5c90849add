"""What a job waits for on its machine, with Snakemake there and without: `python -m benchmarks.direct`.

Seconds from the moment that the machine is ready (one can log in) to its command's first line, and from the
last line to its results being here, on the embedded cloud, by turns; on an image that has Snakemake and on
two that have not. There it is installed from the package index with an empty cache: how long that takes is
this computer's matter, a few seconds where the index is near. On a new EC2 machine it takes 49 s at best,
which is the third image. The short form is one job without Snakemake.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import sizes
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.local.image import SHARED_CACHE
from snakemake_executor_ec2.testing import WorkflowRunner

_SNAKEFILE = """
rule one:
    output: "times.txt"
    shell: "date +%s.%N > {output}; date +%s.%N >> {output}"
"""
_SETUP = f'echo "PATH={SHARED_CACHE}/benchmark/bin:$PATH" >> ~/.bash_profile\n'
"""What makes an image with Snakemake of one without: it is in the cache, which all machines see."""
_AS_ON_EC2_S = 43.0
"""How much longer than here: 49 to 75 s were measured in virtual machines with Amazon Linux's packages, and
an installation from a near index takes 6."""
_WITH = "with Snakemake"
_IMAGES = {
    _WITH: 0.0,
    "without Snakemake": 0.0,
    "without Snakemake, as slow as on EC2": _AS_ON_EC2_S,
}
_WAYS = {"direct": "auto", "with Snakemake": "never"}


class Waited(NamedTuple):
    """Seconds of one job."""

    before: float
    after: float

    @property
    def sum(self) -> float:
        return self.before + self.after


def main() -> None:
    """Print medians and ratios."""
    options = sizes(__doc__, rounds=(5, 1))
    images, ways = ({"without Snakemake": 0.0}, ("direct",)) if options.short else (_IMAGES, tuple(_WAYS))
    with TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        cache.mkdir(mode=0o700)
        if _WITH in images:
            _install(cache / "benchmark")
        for image, software_s in images.items():
            with EmbeddedCloud(cache_dir=cache, software_s=software_s) as cloud:
                found: dict[str, list[Waited]] = {way: [] for way in ways}
                for number in range(options.rounds):
                    for way in ways:
                        shutil.rmtree(cache / "uv", ignore_errors=True)
                        (cache / "uv").mkdir()
                        work = folder / f"{image}-{way}-{number}".translate({32: "-", 44: None})
                        found[way].append(_run(cloud, work, way, has_software=image == _WITH))
                _tell(image, found)


def _install(folder: Path) -> None:
    """This computer's version of Snakemake, in an environment of its own."""
    made = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(made, check=True)
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if uv is None:
        sys.exit("uv is needed: pip install uv")
    wanted = f"snakemake=={version('snakemake')}"
    python = folder / "bin" / "python"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), wanted], check=True)


def _run(cloud: EmbeddedCloud, folder: Path, way: str, *, has_software: bool) -> Waited:
    folder.mkdir()
    runner = WorkflowRunner(cloud, folder)
    files = {"Snakefile": _SNAKEFILE, "setup.sh": _SETUP}
    setup = ["--ec2-setup", "setup.sh"] if has_software else []
    done = runner(files, "--ec2-direct", _WAYS[way], *setup, timeout_s=600)
    if done.returncode:
        sys.exit(done.output)
    first, last = map(float, (folder / "times.txt").read_text().split())
    with closing(sqlite3.connect(folder / ".snakemake" / "ec2" / "journal.sqlite")) as journal:
        ((text, ended_at),) = journal.execute(
            "SELECT seconds, ended_at FROM attempts JOIN machines ON machines.id = machine_id"
        )
    seconds = json.loads(text)
    results_here = ended_at - seconds["terminate"]
    ready = results_here - sum(seconds[phase] for phase in ("prepare", "run", "stage out"))
    return Waited(before=first - ready, after=results_here - last)


def _tell(image: str, found: dict[str, list[Waited]]) -> None:
    print(f"image {image}:")
    medians = {way: statistics.median(each.sum for each in waited) for way, waited in found.items()}
    for way, waited in found.items():
        before, after = (statistics.median(each[i] for each in waited) for i in (0, 1))
        slowest = max(medians.values())
        print(
            f"  {way}: {before:.2f} s before the command, {after:.2f} s after it, "
            f"{medians[way] / slowest:.3f} of the slowest way's"
        )


if __name__ == "__main__":
    main()
