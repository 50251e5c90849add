"""What it costs to follow jobs that do nothing: `python -m benchmarks.idle_jobs`.

300 jobs that sleep, each on a light machine of its own that is reached over real ssh (paramiko here, one
asyncssh server in another process there; see `benchmarks.light_server`). While all of them run, the
controller, Snakemake included, may need 10 % of one core. The short form is five jobs and fails for no share.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from benchmarks import sizes
from benchmarks.light import Costs
from benchmarks.light_run import run

AT_MOST = 0.10


def main() -> None:
    """Print the share; fail if it is more than it may be."""
    options = sizes(__doc__, jobs=(300, 5), seconds=(180, 6))
    costs = Costs(job=options.seconds, boot=2, software=1, command=0.05, calls={})
    with _server(costs) as server:
        port = str(json.loads(server)["port"])
        took = run(options.jobs, options.jobs, costs, "--ec2-ssh-port", port, server=server)
    share = took.idle_cpu_s / took.idle_s if took.idle_s else 0.0
    print(
        f"{took.followed} jobs at a time for {took.idle_s:.0f} s: {share:.1%} of one core (at most "
        f"{AT_MOST:.0%}), {took.rss_mib:.0f} MiB, {took.threads} threads, {took.files} files"
    )
    sys.exit(took.followed < options.jobs or (share > AT_MOST and not options.short))


@contextmanager
def _server(costs: Costs) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.light_server", json.dumps(asdict(costs))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline()
        process.stdin.close()


if __name__ == "__main__":
    main()
