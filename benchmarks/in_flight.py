"""A thousand jobs at the same time: `python -m benchmarks.in_flight`.

1,000 jobs of 60 s, all in flight, each on a light host of its own (see `benchmarks.light`) that boots in 25 s
and installs software for 40 s. The ideal is what AWS's pace and one job take: the calls for 1,000 machines,
a boot, an installation, a job. The run may take 1.3 times as long from its first launch, and its process,
Snakemake and the light hosts included, 1 GiB of memory. The short form is 30 short jobs, and fails for no
time.
"""

from __future__ import annotations

import math
import sys

from benchmarks import sizes
from benchmarks.light import Costs
from benchmarks.light_run import run
from snakemake_executor_ec2.aws.together import MOST
from snakemake_executor_ec2.timing import LAUNCHES_AT_ONCE, LAUNCHES_PER_S

AT_MOST = 1.3
AT_MOST_MIB = 1024


def main() -> None:
    """Print what it took; fail if that is more than it may be."""
    options = sizes(__doc__, jobs=(1000, 30), seconds=(60, 1))
    costs = Costs(job=options.seconds)
    if options.short:
        costs = Costs(job=options.seconds, boot=1, software=1, command=0.05, calls={})
    calls = math.ceil(options.jobs / MOST)
    launching_s = max(0, calls - LAUNCHES_AT_ONCE) / LAUNCHES_PER_S
    ideal_s = launching_s + costs.boot + costs.software + costs.job
    took = run(options.jobs, options.jobs, costs, "--ec2-reuse", "never")
    ratio = took.running_s / ideal_s
    print(f"{options.jobs} jobs of {costs.job:g} s in flight: {took}")
    print(
        f"{ratio:.2f} of the ideal {ideal_s:.0f} s (at most {AT_MOST}); {took.rss_mib:.0f} MiB (at most "
        f"{AT_MOST_MIB})"
    )
    sys.exit(took.rss_mib > AT_MOST_MIB or (ratio > AT_MOST and not options.short))


if __name__ == "__main__":
    main()
