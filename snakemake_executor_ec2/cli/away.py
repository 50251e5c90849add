"""`snakemake-ec2 away`: have the whole run in the cloud, with its controller on a machine of its own."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError

if TYPE_CHECKING:
    from snakemake_executor_ec2.away.found import Away, Way
    from snakemake_executor_ec2.away.machine import AwayMachine
    from snakemake_executor_ec2.records.journal import Journal

_INTERRUPTED = 128 + 2
"""The exit status of a program that Ctrl-C has ended, as shells tell it."""
HELP = """\
usage: snakemake-ec2 away setup [--print] [--region R] [--profile P]
       snakemake-ec2 away start [options] [any arguments of snakemake]
       snakemake-ec2 away status | attach | logs [-f] | fetch [PATTERN …] | stop [--yes]

Runs `snakemake --executor ec2` with these arguments on a small machine beside those of its jobs: your
computer may be off meanwhile. `start` sends the project there, also once more, after a change, a failure or
a crash: then only what has changed.

  setup            make the role that the machine needs, or (--print) show it for an administrator
  start            --machine TYPE    its type (default: the cheapest with --mem-mb)
                   --mem-mb N        its memory (default: 3000)
                   --disk-gb N       its disk, for all inputs and results (default: 50)
                   --lifetime TIME   how long it stays at the most (default: 3d)
                   --keep TIME       how long it stays when the workflow has ended (default: 1d)
                   --role NAME       its instance profile (default: that of `away setup`)
                   --reboot          reboot it if it does not answer, whatever EC2 says of it
                   --wait            show what Snakemake prints, fetch results; exit as Snakemake does
  status           how the workflow is, what it has cost, its machines
  attach           show what its Snakemake prints, as if it ran here, and exit as it does; Ctrl-C leaves it
                   at work
  logs             what its Snakemake has printed; -f: and what it prints from now on
  fetch            bring finished results home, also in between. A fetch of everything after a good end
                   also ends the machine (--stay: it does not)
  stop             end the workflow, its machines and the controller's; what was not fetched is lost

status, attach, logs, fetch and stop take --directory, --region and --profile as `snakemake-ec2 ps` does.
"""


def main(words: Sequence[str]) -> int:
    """Returns the exit status."""
    commands: dict[str, Callable[[list[str]], int]] = {
        "setup": _setup,
        "start": _start,
        "status": _status,
        "attach": _attach,
        "logs": _logs,
        "fetch": _fetch,
        "stop": _stop,
    }
    if not words or words[0] not in commands or "-h" in words or "--help" in words:
        print(HELP)
        return 0 if "-h" in words or "--help" in words else 2
    try:
        return commands[words[0]](list(words[1:]))
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return 1


# --- the role -----------------------------------------------------------------------------


def _setup(words: list[str]) -> int:
    from snakemake_executor_ec2.aws import away_role
    from snakemake_executor_ec2.aws.clients import Clients

    parser = _parser("setup")
    parser.add_argument("--print", action="store_true", dest="shown")
    options = parser.parse_args(words)
    role = f"who may take the role {away_role.NAME}, which an instance profile of that name has"
    documents = {
        role: away_role.trust(),
        "permissions of the role": away_role.permissions(),
        "what users need beside the package's policy": json.loads(away_role.FOR_USERS.read_text()),
    }
    if options.shown:
        for about, document in documents.items():
            print(f"# {about}\n{json.dumps(document, indent=2)}")
        return 0
    try:
        away_role.make(Clients(region=options.region, profile=options.profile))
    except ConfigurationError:
        raise  # no credentials, no region: an administrator could not help
    except Ec2ExecutorError as error:
        print(
            f"{error}\n`snakemake-ec2 away setup --print` shows what an administrator has to make",
            file=sys.stderr,
        )
        return 1
    print(f"The role and the instance profile {away_role.NAME} are there; neither costs anything.")
    return 0


# --- start --------------------------------------------------------------------------------


def _start(words: list[str]) -> int:
    from snakemake_executor_ec2.aws.away_role import NAME
    from snakemake_executor_ec2.plugin.dag import look_at_jobs

    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--machine", default="")
    own.add_argument("--mem-mb", type=int, default=3000)
    own.add_argument("--disk-gb", type=int, default=50)
    own.add_argument("--lifetime", default="3d")
    own.add_argument("--keep", default="1d")
    own.add_argument("--role", default=NAME)
    own.add_argument("--reboot", action="store_true")
    own.add_argument("--wait", action="store_true")
    options, rest = own.parse_known_args(words)
    statuses: list[int] = []
    profiles: list[str | None] = []

    def look(dag: Any, settings: Any) -> None:
        from snakemake_executor_ec2.cli.away_start import start

        profiles.append(settings.profile)
        statuses.append(start(dag, settings, rest, options))

    done = look_at_jobs(rest, look)
    status = max(statuses, default=1) if done else 1
    if status or not options.wait or statuses == []:
        return status
    return _unless_left(lambda: _wait(profiles[-1]))


def _wait(profile: str | None) -> int:
    """Follow the run of this folder to its end and fetch it; Snakemake's exit status. `profile` is AWS's: one
    of Snakemake's may have named it."""
    from snakemake_executor_ec2.away.found import newest, reachable
    from snakemake_executor_ec2.report import away as told

    options = _parser("start").parse_args([f"--profile={profile}"] if profile else [])
    with _way(options, follow=True) as (journal, way):
        if way is None:
            return 0  # there was nothing to do
        machine = reachable(way)
        code = machine.follow(way.away.attempt.key, _show).result.exit_code
        left = _bring(machine, way, [])
        if code == 0 and not left and newest(journal) is not None:
            _end(journal, way)
        elif code:
            print(told.waits())
        return 0 if code == 0 else 1


def _unless_left(look: Callable[[], int]) -> int:
    """What `look` at a run returns; Ctrl-C ends the look only, and says so."""
    from snakemake_executor_ec2.report import away as told

    try:
        return look()
    except KeyboardInterrupt:
        print(f"\n{told.goes_on()}", file=sys.stderr)
        return _INTERRUPTED


# --- afterwards ---------------------------------------------------------------------------


def _status(words: list[str]) -> int:
    from snakemake_executor_ec2.away.found import reachable
    from snakemake_executor_ec2.plugin.broken_pipe import plain
    from snakemake_executor_ec2.report import away as told

    with _way(_parser("status").parse_args(words)) as (_, way):
        if way is None:
            print(told.none_here())
            return 0
        machine, key = reachable(way), way.away.attempt.key
        steps = re.findall(r"\d+ of \d+ steps \(\d+%\) done", machine.tail(key))
        lines = told.status(
            way.away.machine,
            machine.status(key),
            now=time.time(),
            until=way.away.until,
            lease_left_s=machine.lease_left_s(),
            progress=steps[-1] if steps else "",
        )
        for line in lines:
            print(line)
        for words in (["ps"], ["costs"]):
            if text := plain(machine.own_words(*words)).strip():
                print(f"\n{text}")
    return 0


def _attach(words: list[str]) -> int:
    return _unless_left(lambda: _attached(words))


def _attached(words: list[str]) -> int:
    from snakemake_executor_ec2.away.found import reachable
    from snakemake_executor_ec2.report import away as told

    with _way(_parser("attach").parse_args(words), follow=True) as (_, way):
        way = _there(way)
        machine, key = reachable(way), way.away.attempt.key
        state = machine.status(key)
        if state.state == "unknown":
            raise ConfigurationError(f"the workflow {told.state_of(state)}")
        code = machine.follow(key, _show).result.exit_code
    print(told.attached_to_its_end(code), file=sys.stderr)
    return 0 if code == 0 else 1


def _logs(words: list[str]) -> int:
    return _unless_left(lambda: _shown(words))


def _shown(words: list[str]) -> int:
    from snakemake_executor_ec2.away.found import reachable

    parser = _parser("logs")
    parser.add_argument("-f", "--follow", action="store_true")
    options = parser.parse_args(words)
    with _way(options, follow=options.follow) as (_, way):
        machine = reachable(_there(way))
        key = _there(way).away.attempt.key
        if options.follow:
            machine.follow(key, _show)
        else:
            _show(machine.tail(key).encode(errors="surrogateescape"))
    return 0


def _fetch(words: list[str]) -> int:
    from snakemake_executor_ec2.agent.protocol import Finished
    from snakemake_executor_ec2.away.found import reachable

    parser = _parser("fetch")
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("patterns", nargs="*")
    options = parser.parse_args(words)
    with _way(options) as (journal, way):
        way = _there(way)
        machine = reachable(way)
        # Before it is looked for: what is finished after this is not fetched, and ends nothing.
        last = machine.status(way.away.attempt.key).last
        left = _bring(machine, way, options.patterns)
        ended_well = isinstance(last, Finished) and last.result.exit_code == 0
        if ended_well and not options.patterns and not options.stay and not left:
            _end(journal, way)
    return 0


def _stop(words: list[str]) -> int:
    from snakemake_executor_ec2.report import away as told

    parser = _parser("stop")
    parser.add_argument("--yes", action="store_true")
    options = parser.parse_args(words)
    with _way(options) as (journal, way):
        if way is None:
            print(told.none_here())
            return 0
        if not options.yes and not _agreed(way.away):
            print("nothing was ended")
            return 1
        if not way.status().state.is_gone:
            try:
                way.machine().end(way.away.attempt.key)
            except Ec2ExecutorError as error:
                print(
                    f"its Snakemake could not be told ({error}): its machines are ended without it",
                    file=sys.stderr,
                )
        _end(journal, way)
    return 0


def _agreed(away: Away) -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask on: give --yes to end it")
    print(f"End the run on {away.machine.id}, and lose what was not fetched yet? [y/N] ", end="")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# --- what they share ----------------------------------------------------------------------


def _parser(name: str) -> argparse.ArgumentParser:
    from snakemake_executor_ec2.cli.common import add_common

    parser = argparse.ArgumentParser(prog=f"snakemake-ec2 away {name}")
    add_common(parser)
    return parser


@contextmanager
def _way(options: argparse.Namespace, *, follow: bool = False) -> Iterator[tuple[Journal | None, Way | None]]:
    """The folder's journal, and the way to its run's machine; None: no run is away."""
    from snakemake_executor_ec2.away.found import Way, newest
    from snakemake_executor_ec2.cli.common import folder_journal, to_stderr

    with folder_journal(options) as journal:
        away = newest(journal)
        if away is None:
            yield journal, None
            return
        folder = options.directory.absolute()
        with Way(away, folder, profile=options.profile, tell=to_stderr, follow=follow) as way:
            yield journal, way


def _there(way: Way | None) -> Way:
    from snakemake_executor_ec2.report import away as told

    if way is None:
        raise ConfigurationError(told.none_here())
    return way


def _bring(machine: AwayMachine, way: Way, patterns: Sequence[str]) -> int:
    """Fetch, what Snakemake has printed as well, and say so; how many files were left there."""
    from snakemake_executor_ec2.away.fetch import fetch, keep_log
    from snakemake_executor_ec2.cli.common import to_stderr
    from snakemake_executor_ec2.controller.leases import Leases
    from snakemake_executor_ec2.report import away as told

    with Leases().renewing(way.away.started.keep_s, machine.session):
        home = fetch(machine, way.away.started, patterns, to_stderr)
        keep_log(machine, way.away.attempt.key)
    print(told.fetched(home.transfer, len(home.refused), len(home.newer)))
    return len(home.refused) + len(home.newer)


def _end(journal: Journal | None, way: Way) -> None:
    from snakemake_executor_ec2.away.end import end
    from snakemake_executor_ec2.report import away as told

    assert journal is not None
    print(told.ended(way.away.machine, end(journal, way)))


def _show(data: bytes) -> None:
    from snakemake_executor_ec2.plugin.broken_pipe import plain

    text = data.decode(errors="replace")
    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
