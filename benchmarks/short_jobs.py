"""Many short jobs on machines that are used again: `python -m benchmarks.short_jobs`.

1,000 jobs of 10 s, 50 at a time, of one rule, on light hosts (see `benchmarks.light`) that boot in 25 s and
install software for 40 s. The ideal is one boot and one installation, and then jobs without a pause; the run
may take 1.25 times as long, 60 machines, and a quarter of what a machine for each job would cost. The short
form is 12 jobs of a second, three at a time, and fails for no time.
"""

from __future__ import annotations

import math
import sys

from benchmarks import sizes
from benchmarks.light import Costs
from benchmarks.light_run import run

AT_MOST = 1.25
_SHARE = 0.25


def main() -> None:
    """Print what it took; fail if that is more than it may be."""
    options = sizes(__doc__, jobs=(1000, 12), together=(50, 3), seconds=(10, 1))
    costs = Costs(job=options.seconds)
    if options.short:
        costs = Costs(job=options.seconds, boot=1, software=1, command=0.05, calls={})
    ideal_s = costs.boot + costs.software + math.ceil(options.jobs / options.together) * costs.job
    alone_s = options.jobs * max(60.0, costs.boot + costs.software + costs.job)
    took = run(options.jobs, options.together, costs)
    ratio, share = took.running_s / ideal_s, took.billed_s / alone_s
    machines = round(1.2 * options.together)
    print(f"{options.jobs} jobs of {costs.job:g} s, {options.together} at a time: {took}")
    print(
        f"{ratio:.2f} of the ideal {ideal_s:.0f} s (at most {AT_MOST}); {took.machines} machines (at most "
        f"{machines}); {share:.2f} of what is billed for a machine each (at most {_SHARE})"
    )
    sys.exit(took.machines > machines or (not options.short and (ratio > AT_MOST or share > _SHARE)))


if __name__ == "__main__":
    main()
