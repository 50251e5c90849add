"""Runs the cloud in this process: the API's threads, and one event loop for hosts and their sshd."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import platform
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from platformdirs import user_cache_path

from . import image
from .addresses import NoAddressError, choose_ssh_port
from .cache import prune_in_background
from .environment import SERVICES, cloud_environment
from .faultbook import FaultBook
from .fleet import Fleet
from .host import Host, HostError
from .iam import Policy, PolicyError
from .instance import Conditions
from .machine.sandbox import OVERLAY_REFUSED
from .removal import remove_tree

_LOOK_FOR_END_EVERY_S = 0.1
_STATE_PREFIX = "snakemake-ec2-cloud-"
_RAM_DISK = Path("/dev/shm")  # noqa: S108 -- made by mkdtemp there, too
_RAM_DISK_FREE = 4 << 30
"""Below this a computer, or the container we are in, has no memory to spare for hosts' homes."""
_MOTO_SETTINGS = (
    "MOTO_ENABLE_AMI_VALIDATION",
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION",
    "MOTO_ENABLE_KEYPAIR_VALIDATION",
)
_NO_NAMESPACES = (
    "this system allows no namespaces, so machines are plain processes: they see this "
    "computer's files, an undeclared input is not missed, and absolute paths are this computer's own"
)
_NO_OVERLAYS = (
    "this system allows no overlay file systems, so machines may read this computer's "
    "system directories and not write to them: what a job or --ec2-setup installs with sudo fails"
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the cloud is run."""

    state_dir: Path | None = None
    """For the hosts' files; by default a temporary folder. It is removed at the end."""
    cache_dir: Path | None = None
    """What outlives the cloud: packages and bytecode; by default in the user's cache folder."""
    pending_s: float = 0.15
    boot_s: float = 0.0
    software_s: float = 0.0
    """By how much a machine's first installation of packages is longer than here."""
    ssh_port: int | None = None
    """Where the machines' sshd listens. 0: on a free port; None: on 22, if this user may use it."""
    disk_bytes: int | None = None
    parent_pipe: bool = False
    """End when standard input ends."""
    plain: bool = False
    """Hosts without namespaces, even where there are some."""
    policy: Path | None = None
    """An IAM policy, of which callers need the permissions; None: everything is allowed."""


def serve(settings: Settings, ready: Callable[[dict[str, str]], None]) -> None:
    """Run until SIGTERM or SIGINT (or the end of standard input); `ready` is told how to reach the cloud."""
    policy = _policy(settings.policy)
    for name in _MOTO_SETTINGS:
        os.environ[name] = "true"
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    _remove_leftovers()
    state_dir = _state_dir(settings)
    with _held(state_dir), _ram_folder() as homes:
        asyncio.run(_serve(replace(settings, state_dir=state_dir), state_dir, homes, policy, ready))


async def _serve(
    settings: Settings,
    state_dir: Path,
    homes: Path | None,
    policy: Policy | None,
    ready: Callable[[dict[str, str]], None],
) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    _end_on_signals(loop, over)
    if settings.parent_pipe:
        _watch_parent(loop, over)
    isolated, reduced = (False, _NO_NAMESPACES) if settings.plain else await _try_out(state_dir)
    if reduced:
        print(f"embedded cloud: {reduced}", file=sys.stderr, flush=True)
    cache = _private_cache(settings.cache_dir or user_cache_path("snakemake-ec2"), state_dir)
    conditions = _conditions(settings, state_dir, cache, homes, isolated=isolated)
    fleet = _fleet(loop, conditions)
    # Only now: it takes a second, and must find moto's settings made.
    from .guard import Secrets
    from .server import CloudApp, make_http_server, warm_up
    from .wrap.patch import UnknownMoto

    facts = {"isolated": isolated, "ssh_port": conditions.ssh_port, "pid": os.getpid()}
    given = Secrets()
    try:
        app = CloudApp(fleet, given, facts, cache / "catalogue", policy)
    except UnknownMoto as error:
        raise SystemExit(f"embedded cloud: {error}") from error
    server = make_http_server(app)
    threading.Thread(target=server.serve_forever, args=[_LOOK_FOR_END_EVERY_S], daemon=True).start()
    threading.Thread(target=warm_up, daemon=True).start()
    prune_in_background(cache)
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        variables = cloud_environment(url, given, conditions.ssh_port, state_dir / "answers")
        conditions.services.update({name: variables[name] for name in SERVICES if name in variables})
        ready(variables)
        await over.wait()
    finally:
        # In a thread: it waits for the server's loop.
        await loop.run_in_executor(None, server.shutdown)
        await fleet.close()


def _conditions(
    settings: Settings, state_dir: Path, cache: Path, homes: Path | None, *, isolated: bool
) -> Conditions:
    return Conditions(
        state_dir=state_dir,
        cache=cache,
        homes_dir=homes,
        image=image.build(state_dir / "image", cache, isolated=isolated, software_s=settings.software_s),
        isolated=isolated,
        ssh_port=choose_ssh_port(settings.ssh_port),
        pending_s=settings.pending_s,
        boot_s=settings.boot_s,
        disk_bytes=settings.disk_bytes,
    )


def _fleet(loop: asyncio.AbstractEventLoop, conditions: Conditions) -> Fleet:
    """Ends with a sentence if its hosts could not have addresses."""
    fleet = Fleet(loop, conditions, FaultBook())
    try:
        fleet.addresses.give_back(fleet.addresses.take())
    except NoAddressError as error:
        raise SystemExit(f"embedded cloud: {error}") from error
    return fleet


def _end_on_signals(loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, over.set)


def _watch_parent(loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> None:
    def look() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            over.set()

    loop.add_reader(0, look)


async def _try_out(state_dir: Path) -> tuple[bool, str]:
    """Whether hosts can have a system of their own, and what is to be told of it: what decides is the kernel,
    its settings, security modules, and the container around us."""
    if sys.platform != "linux":
        return False, _NO_NAMESPACES
    directory = state_dir / "probe"
    nothing = image.Image(directory=directory / "image", variables={})
    host = Host(directory, hostname="ip-127-0-0-1.probe", image=nothing, isolated=True, root_bytes=None)
    try:
        await host.start()
    except HostError:
        return False, _NO_NAMESPACES + _advice()
    host.kill()
    await host.gone()
    return True, _NO_OVERLAYS if OVERLAY_REFUSED in host.log.read_text(errors="replace") else ""


def _advice() -> str:
    """What would give hosts a system of their own, where we know."""
    switch = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if switch.is_file() and switch.read_text().strip() == "1":
        return "; `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` would change that"
    return ""


def _policy(file: Path | None) -> Policy | None:
    if file is None:
        return None
    try:
        return Policy.parse(file.read_text())
    except (OSError, UnicodeDecodeError, PolicyError) as error:
        raise SystemExit(f"embedded cloud: --policy {file}: {error}") from error


def _state_dir(settings: Settings) -> Path:
    if settings.state_dir is None:
        return Path(tempfile.mkdtemp(prefix=_STATE_PREFIX))
    settings.state_dir.mkdir(parents=True, mode=0o700)
    return settings.state_dir.resolve()


def _private_cache(wanted: Path, state_dir: Path) -> Path:
    """What is in it is run on machines: a folder that others may write to is not taken."""
    wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
    if wanted.stat().st_uid != os.geteuid():
        print(
            f"embedded cloud: {wanted} is another user's, so packages are fetched anew; set XDG_CACHE_HOME",
            file=sys.stderr,
            flush=True,
        )
        return state_dir / "cache"
    wanted.chmod(0o700)
    return wanted


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """A folder of ours, which is removed in the end. Its lock is held for as long as this process
    lives, and so tells a later cloud whether the folder is a leftover."""
    try:
        with (directory / "lock.new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(platform.node())
            lock.flush()
            # Only now: a lock that nobody holds is a leftover's.
            (directory / "lock.new").rename(directory / "lock")
            yield
    finally:
        remove_tree(directory)


@contextmanager
def _ram_folder() -> Iterator[Path | None]:
    """Where hosts' homes are: an environment is some ten thousand links, which cost a disk's file
    system seconds of work on every host, and memory next to nothing."""
    try:
        disk = os.statvfs(_RAM_DISK)
        roomy = disk.f_bavail * disk.f_frsize >= _RAM_DISK_FREE
        directory = Path(tempfile.mkdtemp(prefix=_STATE_PREFIX, dir=_RAM_DISK)) if roomy else None
    except OSError:
        directory = None
    if directory is None:
        yield None
        return
    with _held(directory):
        yield directory


def _remove_leftovers() -> None:
    """Delete what clouds of this user's left on this computer that were killed, and nothing else."""
    for parent in (Path(tempfile.gettempdir()), _RAM_DISK):
        for directory in parent.glob(f"{_STATE_PREFIX}*"):
            with suppress(OSError):
                status = directory.lstat()
                if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                    continue
                with (directory / "lock").open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if lock.read() == platform.node():  # elsewhere locks of another computer are not seen
                        remove_tree(directory)
