"""The agent's commands: `python3 agent.pyz COMMAND`. Answers are lines of JSON on standard output."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

_WITHOUT_ARGUMENTS = {
    "arrived": ("arriving", "arrived"),
    "pack": ("files", "pack"),
    "workdir": ("files", "workdir"),
    "left": ("leavings", "main"),
    "take": ("cache", "take"),
    "checksums": ("cache", "checksums"),
    "fetch": ("peers", "fetch"),
    "clean": ("clean", "main"),
    "have": ("away", "have"),
    "finished": ("away", "finished"),
    "end": ("away", "end"),
    "stand-ins": ("standins", "main"),
    "guard": ("lease", "guard"),
    "guarding": ("lease", "guarding"),
    "renew": ("lease", "renew"),
    "software": ("software", "main"),
    "prepare-image": ("imaging", "main"),
    "new-host-key": ("hostkey", "prepare"),
    "rotate-host-key": ("hostkey", "rotate"),
    "start": ("supervisor", "start"),
}
"""Commands that read what they need from standard input: module and function."""
_OF_LOGIN = ("SSH_CLIENT", "SSH2_CLIENT", "SSH_CONNECTION", "SSH_TTY")
"""By these, bash takes itself for the first shell of a login, and reads ~/.bashrc: in jobs it would set
another umask and another PATH, print what is for people, or end with an error."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status. Expected errors are one sentence on standard error."""
    from .state import keep_temporary_files_on_disk

    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["late"]:  # what follows is the program's own
        from . import late

        return late.become(given[1], given[2:])
    if given == ["talk"]:  # each command that it runs is to find all as it would alone
        from . import talk

        return talk.talk(main)
    options = _options(given)
    keep_temporary_files_on_disk()
    for name in _OF_LOGIN:
        os.environ.pop(name, None)
    try:
        return _run(options)
    except BrokenPipeError:  # the reader is gone; and nothing must be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        from .frames import ArchiveError, Damaged
        from .state import AGAIN, AgentError

        if not isinstance(error, (AgentError, ArchiveError, OSError)):
            raise
        print(error, file=sys.stderr)
        return AGAIN if isinstance(error, Damaged) else 1


def _options(given: list[str]) -> Any:
    """What is asked. The usual commands need no parser, whose import alone takes longer than some of them."""
    if len(given) == 1 and given[0] in _WITHOUT_ARGUMENTS:
        return SimpleNamespace(command=given[0])
    if given[:1] == ["unpack"]:
        return SimpleNamespace(command="unpack", transfer="".join(given[1:2]), lanes=given[2:])
    return _parser().parse_args(given)


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="agent.pyz", description="What runs a Snakemake job on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in _WITHOUT_ARGUMENTS:
        commands.add_parser(name)
    commands.add_parser("unpack", usage="agent.pyz unpack [TRANSFER [LANE ...]]")
    commands.add_parser("talk")
    commands.add_parser("lane").add_argument("name")
    commands.add_parser("supervisor").add_argument("label", help="for people who look at `ps`")
    commands.add_parser("run").add_argument("file")
    commands.add_parser("group").add_argument("file")
    commands.add_parser("serve").add_argument("files")
    commands.add_parser("status").add_argument("key", nargs="?")
    follow = commands.add_parser("follow")
    follow.add_argument("key")
    follow.add_argument("--events", type=int, default=0)
    follow.add_argument("--output", type=int, default=0)
    follow.add_argument("--patience", type=float, default=90.0)
    return parser


def _run(options: Any) -> int:
    # imported where they are used: a command should begin in no time
    command = options.command
    if command in _WITHOUT_ARGUMENTS:
        module, function = _WITHOUT_ARGUMENTS[command]
        return int(getattr(import_module(f"{__package__}.{module}"), function)() or 0)
    if command == "unpack":
        from .files import unpack

        return unpack(options.transfer, options.lanes)
    if command == "lane":
        from .lanes import lane

        return lane(options.name)
    if command == "serve":
        from .peers import serve

        return serve(options.files)
    if command == "follow":
        from .follow import follow

        return follow(options.key, options.events, options.output, options.patience)
    if command == "run":
        from snakemake_executor_ec2.runner import run

        return run.main(options.file)
    if command == "group":
        from . import group

        return group.run(options.file)
    from . import supervisor

    return supervisor.supervisor() if command == "supervisor" else supervisor.status(options.key)


if __name__ == "__main__":
    sys.exit(main())
