"""What importing the plugin adds to every start of Snakemake: `python -m benchmarks.import_tax`.

Snakemake looks for plugins while it makes its options. In processes that do so with the plugin's package
hidden, the package is imported afterwards, on its own clock: two whole starts differ by more from one time to
the next than the import takes. The start without the plugin is the measure; the target is at most 10 ms.
Peers add 5 ms to 1.6 s.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from benchmarks import sizes

# Hides the plugin from the scan of installed packages until Snakemake has made its options.
_START = """
import json, pkgutil, sys, time
began = time.perf_counter(), time.process_time()
modules_of = pkgutil.iter_modules
pkgutil.iter_modules = lambda *given, **named: (
    each for each in modules_of(*given, **named) if each.name != "snakemake_executor_plugin_ec2"
)
import snakemake.cli
snakemake.cli.get_argument_parser()
known = set(sys.modules)
assert not any("ec2" in name for name in known), "the plugin was not hidden"
bare = time.perf_counter(), time.process_time()
import snakemake_executor_plugin_ec2
over = time.perf_counter(), time.process_time()
took = [after - before for at in ((began, bare), (bare, over)) for before, after in zip(*at)]
print(json.dumps([*took, len(set(sys.modules) - known)]))
"""


def main() -> None:
    """Print the fastest and the median of both."""
    options = sizes(__doc__, starts=(20, 1))
    _start()  # all have their bytecode now
    taken = [_start() for _ in range(options.starts)]
    for number, clock in enumerate(("wall clock", "processor")):
        bare, tax = [each[number] for each in taken], [each[number + 2] for each in taken]
        print(f"{clock}: a start without the plugin takes {_both(bare)}, the plugin adds {_both(tax)}")
    print(
        f"modules that it adds: {round(taken[0][4])} (of each: the fastest, and the median of {len(taken)})"
    )


def _both(seconds: list[float]) -> str:
    return f"{min(seconds) * 1000:.1f} ms ({statistics.median(seconds) * 1000:.1f} ms)"


def _start() -> list[float]:
    """Seconds of a start without the plugin by both clocks, the same of its import, and modules."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", _START], env=env, check=True, capture_output=True, text=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
