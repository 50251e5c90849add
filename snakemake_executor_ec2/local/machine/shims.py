"""The system programs of a host that need a real systemd: this one file under each of their names.

`systemctl`, `systemd-run`, `shutdown`, `poweroff`, `halt`, `reboot` and `cloud-init`, as far as programs on
EC2 machines call them: powering off, timers that outlive their maker, questions with an obvious answer.
It is copied into the host as it is, and needs nothing but the standard library.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

# Before the host's own /run and /var: nothing, or its folder on this computer if it has no root of its own.
HOST_DIR = ""

_UNITS = Path(f"{HOST_DIR}/run/units")
_TRANSIENT = Path(f"{HOST_DIR}/run/systemd/transient")
_JOURNAL = Path(f"{HOST_DIR}/var/log")
_SIGNALS = {"poweroff": signal.SIGUSR2, "halt": signal.SIGUSR1, "reboot": signal.SIGTERM}
_CHANGES = {"poweroff", "halt", "reboot", "stop", "start", "restart", "reload", "kill"}
_STANDING_UNITS = ("sshd", "ssh", "cloud-init", "cloud-final", "systemd-journald", "systemd-logind")
_UNIT_SECONDS = {
    "us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3, "": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hr": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400, "w": 604800, "week": 604800, "weeks": 604800,
}  # fmt: skip
_RUN_FLAGS = [
    "--no-block", "--collect", "--wait", "--pipe", "--pty", "--quiet", "--scope", "--system", "--same-dir",
    "--no-ask-password", "--remain-after-exit", "--send-sighup", "-G", "-P", "-t", "-q", "-d", "-r",
]  # fmt: skip
_RUN_SHORT = {"-u": "--unit", "-p": "--property", "-E": "--setenv"}


def main() -> int:
    """Behave as the program under whose name this was started; its exit status."""
    name = Path(sys.argv[0]).name
    arguments = sys.argv[1:]
    if name == "cloud-init":
        return _cloud_init(arguments)
    if os.environ.get("USER", "root") != "root" and not _only_asks(name, arguments):
        print(f"{name}: Access denied: interactive authentication required (use sudo)", file=sys.stderr)
        return 1
    if name == "systemctl":
        return _systemctl(arguments)
    if name == "systemd-run":
        return _systemd_run(arguments)
    return _shutdown(name, arguments)


def _only_asks(name: str, arguments: list[str]) -> bool:
    return name == "systemctl" and not _CHANGES & set(arguments)


def _cloud_init(arguments: list[str]) -> int:
    finished = Path(f"{HOST_DIR}/var/lib/cloud/instance/boot-finished")
    if arguments[:1] != ["status"]:
        print(f"cloud-init: '{' '.join(arguments)}' is not part of this rehearsal", file=sys.stderr)
        return 1
    while "--wait" in arguments and not finished.exists():
        time.sleep(0.1)
    print("status: done" if finished.exists() else "status: running")
    return 0


def _shutdown(name: str, arguments: list[str]) -> int:
    how = "poweroff" if name == "shutdown" else name
    when: list[str] = []
    for argument in arguments:
        if argument in ("-r", "--reboot"):
            how = "reboot"
        elif argument in ("-H", "--halt"):
            how = "halt"
        elif argument == "-c":
            _stop_unit("scheduled-shutdown")
            return 0
        elif not argument.startswith("-"):
            when.append(argument)
    if name != "shutdown" or (when and when[0] in ("now", "+0")):
        return _tell_init(how)
    minutes = when[0].lstrip("+") if when else "1"
    if not minutes.isdigit():
        print(f"shutdown: '{minutes}': only 'now' and '+minutes' are part of this rehearsal", file=sys.stderr)
        return 1
    _arm("scheduled-shutdown", float(minutes) * 60, lambda: _tell_init(how))
    return 0


def _tell_init(how: str) -> int:
    pid = int(Path(f"{HOST_DIR}/run/init.pid").read_text()) if HOST_DIR else 1
    os.kill(pid, _SIGNALS[how])
    # A machine that powers off never returns from this.
    time.sleep(30)
    return 0


def _systemctl(arguments: list[str]) -> int:
    words = [argument for argument in arguments if not argument.startswith("-")]
    verb, units = (words[0] if words else "status"), words[1:]
    if verb in _SIGNALS:
        return _tell_init(verb)
    if verb == "is-system-running":
        print("running")
        return 0
    if verb in ("daemon-reload", "daemon-reexec", "reset-failed", "status") and not units:
        return 0
    if verb == "list-timers":
        print("\n".join(sorted(file.stem + ".timer" for file in _UNITS.glob("*.pid"))))
        return 0
    return max((_on_unit(verb, unit) for unit in units), default=1)


def _on_unit(verb: str, unit: str) -> int:
    name = unit.removesuffix(".service").removesuffix(".timer")
    transient = _unit_pid(name)
    known = name in _STANDING_UNITS or transient is not None
    if verb in ("is-active", "is-enabled", "status"):
        print("active" if known else "inactive")
        return 0 if known else 3
    if not known:
        print(f"Failed to {verb} {unit}: Unit {unit} not found.", file=sys.stderr)
        return 5
    if verb in ("stop", "kill") and transient is not None:
        _stop_unit(name)
    return 0


def _systemd_run(arguments: list[str]) -> int:
    options, command = _split_run(arguments)
    if "--on-calendar" in options:
        print("systemd-run: --on-calendar is not part of this rehearsal", file=sys.stderr)
        return 1
    if not command:
        print("systemd-run: Command line to execute required.", file=sys.stderr)
        return 1
    name = options.get("--unit", [f"run-u{os.getpid()}"])[-1]
    name = name.removesuffix(".service").removesuffix(".timer")
    environment = _environment(options.get("--setenv", []))
    directory = options.get("--working-directory", ["/"])[-1]

    def run() -> NoReturn:
        with suppress(OSError):
            os.chdir(f"{HOST_DIR}{directory}")
        os.execvpe(command[0], command, environment)  # noqa: S606 -- systemd's job

    if {"--wait", "--pipe", "--pty", "--scope", "-P", "-t"} & set(options):
        run()
    if _unit_pid(name) is not None:
        print(f"Failed to start transient timer unit: Unit {name}.timer was already loaded", file=sys.stderr)
        return 1
    try:
        delay = sum(_seconds(options[key][-1]) for key in ("--on-active", "--on-boot") if key in options)
    except ValueError as error:
        print(f"systemd-run: {error}", file=sys.stderr)
        return 1
    if delay:
        print(f"Running timer as unit: {name}.timer", file=sys.stderr)
    _arm(name, delay, run)
    return 0


def _split_run(arguments: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """(options, each with its values; the command)."""
    options: dict[str, list[str]] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        if word in _RUN_FLAGS:
            options[word] = []
            continue
        key, separator, value = word.partition("=")
        if key in _RUN_SHORT:
            key = _RUN_SHORT[key]
        elif not key.startswith("--"):  # -uNAME
            key, separator, value = _RUN_SHORT.get(word[:2], word[:2]), "=", word[2:]
        if not separator:
            value = rest.pop(0) if rest else ""
        options.setdefault(key, []).append(value)
    return options, rest


def _seconds(text: str) -> float:
    """systemd.time(7): a sum of numbers with units; seconds without one."""
    parts = re.findall(r"\s*([0-9.]+)\s*([a-z]*)", text)
    if not parts or "".join(re.split(r"\s*[0-9.]+\s*[a-z]*\s*", text)):
        raise ValueError(f"Failed to parse timer value: {text}")
    try:
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    except KeyError as error:
        raise ValueError(f"Failed to parse timer value: {text}") from error


def _environment(assignments: list[str]) -> dict[str, str]:
    """What systemd gives a unit: the system's variables and its own, nothing of the caller's."""
    found = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "USER": "root", "HOME": "/root"}
    with suppress(OSError):
        for line in Path(f"{HOST_DIR}/etc/environment").read_text().splitlines():
            key, separator, value = line.partition("=")
            if separator:
                found[key] = "".join(shlex.split(value))
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        found[key] = value if separator else os.environ.get(key, "")
    return found


def _arm(name: str, delay: float, action: Callable[[], object]) -> None:
    """Have `action` happen after `delay` seconds in a process that belongs to nobody."""
    for folder in (_UNITS, _JOURNAL, _TRANSIENT):
        folder.mkdir(parents=True, exist_ok=True)
    timer = _TRANSIENT / f"{name}.timer"
    if delay:
        timer.touch()
    due = time.monotonic() + delay
    pid = os.fork()
    if pid:
        (_UNITS / f"{name}.pid").write_text(str(pid))
        return
    os.setsid()
    log = os.open(_JOURNAL / f"unit-{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for target, source in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
        os.dup2(source, target)
    while (left := due - time.monotonic()) > 0:
        time.sleep(min(left, 60))
    timer.unlink(missing_ok=True)
    try:
        action()
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(203)
    os._exit(0)


def _unit_pid(name: str) -> int | None:
    try:
        pid = int((_UNITS / f"{name}.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def _stop_unit(name: str) -> None:
    pid = _unit_pid(name)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
    (_UNITS / f"{name}.pid").unlink(missing_ok=True)
    (_TRANSIENT / f"{name}.timer").unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
