"""`python -m snakemake_executor_ec2.local serve`, and `snakemake-ec2 cloud`: the cloud for a shell."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .environment import shell_lines


def serve_main(arguments: Sequence[str]) -> int:
    """Serve an embedded cloud until Ctrl-C, SIGTERM, or the end of standard input if so told."""
    options = _parser().parse_args(list(arguments))

    from .serve import Settings, serve

    settings = Settings(
        state_dir=options.state_dir,
        cache_dir=options.cache_dir,
        pending_s=options.pending,
        boot_s=options.boot,
        software_s=options.software,
        ssh_port=options.ssh_port,
        disk_bytes=options.disk_mib and options.disk_mib << 20,
        parent_pipe=options.parent_pipe,
        plain=options.plain,
        policy=options.policy,
    )

    def ready(variables: dict[str, str]) -> None:
        print(shell_lines(variables), end="")
        if not options.print_env:
            print("# The embedded cloud serves until Ctrl-C.")
        sys.stdout.flush()

    serve(settings, ready)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snakemake-ec2 cloud",
        description="Serve EC2's API, with machines that can be logged into, on this computer. Prints the "
        "variables that point a shell and every AWS client in it at the cloud, then serves until Ctrl-C.",
    )
    parser.add_argument("command", nargs="?", choices=["serve"], default="serve", help=argparse.SUPPRESS)
    parser.add_argument(
        "--state-dir", type=Path, help="a new folder for the machines' files, removed at the end"
    )
    parser.add_argument(
        "--cache-dir", type=Path, help="a folder for downloaded packages that outlives the cloud"
    )
    parser.add_argument(
        "--pending", type=float, default=0.15, metavar="SECONDS", help="how long machines start"
    )
    parser.add_argument(
        "--boot", type=float, default=0.0, metavar="SECONDS", help="how long machines boot (EC2's: about 25)"
    )
    parser.add_argument(
        "--software",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how much longer a machine's first installation of packages takes (on a new EC2 machine an "
        "installation takes about 50)",
    )
    parser.add_argument(
        "--ssh-port",
        type=int,
        metavar="PORT",
        help="where the machines' ssh servers listen; 0: on a free port (default: 22, if you may use it)",
    )
    parser.add_argument("--disk-mib", type=int, metavar="MIB", help="the size of every machine's disk")
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="an IAM policy: calls that it does not allow are refused"
    )
    parser.add_argument("--parent-pipe", action="store_true", help="end when standard input ends")
    parser.add_argument("--plain", action="store_true", help="machines without a system of their own")
    parser.add_argument("--print-env", action="store_true", help="print nothing but the variables")
    return parser


if __name__ == "__main__":
    status = serve_main(sys.argv[1:])
    # Threads that still answer somebody would be waited for; there is nothing left for them to say.
    os._exit(status)
