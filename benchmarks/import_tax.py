"""What importing the plugin adds to every start of Snakemake: `python -m benchmarks.import_tax`.

Pairs of `snakemake --version`, with the plugin's package found and not found, by turns, and of each the
best of a few starts: what else a computer does only ever adds to one. Bare Snakemake is the measure;
the target is at most 10 ms. Peers add 5 ms to 1.6 s.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import sizes

# Hides the plugin from the scan of installed packages, and does nothing else.
_HIDE = """
import pkgutil
original = pkgutil.iter_modules
def iter_modules(*arguments, **options):
    return (m for m in original(*arguments, **options) if m.name != "snakemake_executor_plugin_ec2")
if __import__("os").environ["IMPORT_TAX"] == "without":
    pkgutil.iter_modules = iter_modules
"""


def main() -> None:
    """Print the medians and what they differ by."""
    options = sizes(__doc__, pairs=(10, 1), starts=(8, 1))
    with TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(_HIDE)
        for side in ("with", "without"):
            _start(side, folder)  # both have their bytecode now
        taken = [_pair(folder, options.starts) for _ in range(options.pairs)]
    for i, kind in enumerate(("wall clock", "processor")):
        bare = statistics.median(before[i] for before, _ in taken)
        tax = statistics.median(after[i] - before[i] for before, after in taken)
        print(f"{kind}: bare snakemake --version {bare * 1000:.0f} ms, the plugin adds {tax * 1000:.1f} ms")
    print(f"(medians of {options.pairs} pairs, each side the best of {options.starts} starts)")


def _pair(folder: str, number_of_starts: int) -> tuple[tuple[float, float], tuple[float, float]]:
    starts: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    for number in range(number_of_starts):
        # By turns, so that a computer that slows down slows both.
        for side in sorted(starts, reverse=bool(number % 2)):
            starts[side].append(_start(side, folder))
    return _best(starts["without"]), _best(starts["with"])


def _best(starts: list[tuple[float, float]]) -> tuple[float, float]:
    return min(wall for wall, _ in starts), min(processor for _, processor in starts)


def _start(side: str, folder: str) -> tuple[float, float]:
    """Seconds that one start takes: by the clock on the wall, and of the processor."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"IMPORT_TAX": side, "PYTHONPATH": folder}
    began, used = time.perf_counter(), _processor_s()
    command = [sys.executable, "-m", "snakemake", "--version"]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, _processor_s() - used


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
