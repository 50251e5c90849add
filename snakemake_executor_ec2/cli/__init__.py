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

_GROUPS = {
    "before a run": {
        "doctor": "say whether everything is there for a run on EC2, and what to do if not",
        "plan": "show which machines a workflow would get, and what they would cost",
        "bake": "make an image that has a workflow's software; list and delete such images",
    },
    "during a run, from another terminal": {
        "watch": "show what the run does now: jobs, machines, bytes, cost so far",
        "ps": "list machines: rule, state, age, cost so far, lease",
        "logs": "show what a job has printed",
        "ssh": "log in to a machine",
        "browse": "print what sftp, FileZilla, WinSCP or PuTTY need to look at a machine's files",
        "kill": "end machines now; their run starts the jobs again on others",
        "stop": "end this folder's runs and all their machines, or all machines of yours",
    },
    "after a run": {
        "report": "make an HTML page about a run: machines, times, costs, sizes, failures",
        "costs": "show what this folder's runs have cost, by run and by rule",
        "advise": "write a profile with sizes that have been enough for this folder's jobs",
        "gc": "find and end what dead runs left behind",
    },
    "other": {
        "away": "run the whole workflow in the cloud, while your computer is off",
        "cloud": "serve the embedded cloud until Ctrl-C",
    },
}
"""The commands, in the order in which a user meets them."""
_WITH_SNAKEMAKES = ("plan", "doctor", "bake", "away")
"""Commands that take Snakemake's own arguments."""
_COMMANDS = [name for group in _GROUPS.values() for name in group if name not in (*_WITH_SNAKEMAKES, "cloud")]
"""The others, each with a module of its name."""
_OF_THE_FOLDER = ("watch", "logs", "report", "costs", "advise")
"""Commands that ask nobody: they take an AWS region and profile, and have no use for them."""
_PACKAGE = "snakemake-executor-plugin-ec2"
_NOBODY_READS = 128 + 13
"""The exit status of a program that SIGPIPE has ended, as shells tell it."""
_WRONG_USAGE = 2


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
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["cloud"]:
        return _cloud(words[1:])
    if words[:1] and words[0] in _WITH_SNAKEMAKES:
        return int(importlib.import_module(f"{__name__}.{words[0]}").main(words[1:]))
    parser = _parser()
    if not words:
        parser.print_help()
        return _WRONG_USAGE
    options = parser.parse_args(words)
    return int(options.main(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snakemake-ec2",
        usage="%(prog)s [--version] COMMAND …",
        description=__doc__,
        epilog=_listed(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version(_PACKAGE)}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog=parser.prog
    )
    for name in (*_WITH_SNAKEMAKES, "cloud"):  # so that they are among the choices
        commands.add_parser(name)
    for name in _COMMANDS:
        module = importlib.import_module(f"{__name__}.{name}")
        about = (module.__doc__ or "").partition(": ")[2]
        command = commands.add_parser(name, description=about[:1].upper() + about[1:])
        add_common(command, asks_aws=name not in _OF_THE_FOLDER)
        module.add(command)
        command.set_defaults(main=module.main)
    return parser


def _listed() -> str:
    """All commands, by when they are of use."""
    lines = []
    for when, its in _GROUPS.items():
        lines += [f"{when}:", *(f"  {name:<8}{about}" for name, about in its.items()), ""]
    return "\n".join([*lines, "`snakemake-ec2 COMMAND --help` says more about each."])


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
