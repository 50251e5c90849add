"""Plan, look at and end the machines of `snakemake --executor ec2`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from snakemake_executor_ec2.cli.common import add_common
from snakemake_executor_ec2.errors import Ec2ExecutorError

_COMMANDS = {
    "ps": "list machines: rule, state, age, cost so far, lease",
    "watch": "show what a run does at this moment: jobs, machines, bytes, cost so far",
    "logs": "show what a job printed",
    "ssh": "log in to a machine",
    "browse": "print what sftp, FileZilla, WinSCP or PuTTY need to look at a machine's files",
    "kill": "end machines now",
    "stop": "end everything: this folder's runs and their machines, or all of yours, or the account's",
    "gc": "find and end what dead runs left behind",
    "costs": "show what this folder's runs have cost, by run and by rule",
    "advise": "write a profile with sizes that this folder's jobs have shown to be enough",
    "report": "make an HTML page about a run: machines, times, costs, sizes, failures",
}

_WITH_SNAKEMAKES = ("plan", "doctor", "bake", "away")
"""Commands that take Snakemake's own arguments."""
_PACKAGE = "snakemake-executor-plugin-ec2"
_NOBODY_READS = 128 + 13
"""The exit status of a program that SIGPIPE has ended, as shells tell it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status. Expected errors are one sentence on stderr."""
    try:
        status = _main(arguments)
        sys.stdout.flush()
    except Ec2ExecutorError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # `snakemake-ec2 plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes again when it ends
        return _NOBODY_READS
    return status


def _main(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="snakemake-ec2", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {version(_PACKAGE)}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    cloud = commands.add_parser(
        "cloud",
        help="serve the embedded cloud until Ctrl-C",
        description="Serve the embedded cloud, a rehearsal of EC2 on your computer, until Ctrl-C. "
        "Prints `export NAME=value` lines that point any AWS tool at it.",
    )
    cloud.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    commands.add_parser("plan", help="show which machines a workflow would get, and what they would cost")
    commands.add_parser(
        "doctor", help="say whether everything is there for a run on EC2, and what to do if not"
    )
    commands.add_parser("away", help="have the whole run in the cloud, while your computer is off")
    commands.add_parser("bake", help="make an image that has a workflow's software; list and delete them")
    for name, about in _COMMANDS.items():
        module = importlib.import_module(f"{__name__}.{name}")
        command = commands.add_parser(name, help=about, description=module.__doc__)
        add_common(command)
        module.add(command)
        command.set_defaults(main=module.main)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["cloud"]:
        return _cloud(words[1:])
    if words[:1] and words[0] in _WITH_SNAKEMAKES:
        return int(importlib.import_module(f"{__name__}.{words[0]}").main(words[1:]))
    options = parser.parse_args(words)
    return int(options.main(options))


def _cloud(words: Sequence[str]) -> int:
    try:
        from snakemake_executor_ec2.local.__main__ import serve_main
    except ImportError as error:
        print(
            f"the embedded cloud needs more packages ({error.name}): "
            "pip install 'snakemake-executor-plugin-ec2[local]'",
            file=sys.stderr,
        )
        return 1
    return serve_main(list(words))


if __name__ == "__main__":
    sys.exit(main())
