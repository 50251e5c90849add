"""Puts the calling process into a Linux of its own: user, mount, process-id, host-name and IPC namespaces.

The new root is a directory of the cloud's state. The computer's system directories (`/usr`, `/etc`, …)
are in it as overlays, so that the host may write to them and the computer never notices; where the
kernel refuses overlays they are read-only. Everything else of the computer is absent, except what the
specification binds in.

The one user of the new user namespace, 1000, is the user who runs the cloud; no privilege is needed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TypedDict

from . import linux

USER_ID = 1000
OVERLAY_REFUSED = "no overlay of "

_NAMESPACES = (
    linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_OWN_DIRECTORIES = {
    "home/ec2-user": 0o700,
    "root": 0o700,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "var/log": 0o755,
    "var/lib": 0o755,
    "var/cache": 0o755,
    "run": 0o755,
    "srv": 0o755,
    "mnt": 0o755,
    "media": 0o755,
    "proc": 0o755,
    "sys": 0o755,
    "dev": 0o755,
}


class SandboxSpec(TypedDict):
    """What a host is made of. `*_dir` are this computer's; pairs are (on this computer, in the host)."""

    root_dir: str
    scratch_dir: str
    image_dir: str
    hostname: str
    system_directories: list[str]
    masked: list[str]
    read_only: list[tuple[str, str]]
    read_write: list[tuple[str, str]]
    root_bytes: int | None


def enter(spec: SandboxSpec) -> None:
    """Return as process 1 of a new host; the process that called stays behind and ends when the host does."""
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(_NAMESPACES)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{USER_ID} {uid} 1")
    _write("/proc/self/gid_map", f"{USER_ID} {gid} 1")
    # Only now: a change of credentials takes the setting back.
    linux.die_with_parent(signal.SIGKILL)
    child = os.fork()
    if child:
        _wait_for(child)
    linux.die_with_parent(signal.SIGKILL)
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.set_hostname(spec["hostname"])
    _build_root(spec)
    linux.pivot_root(spec["root_dir"])


def _wait_for(child: int) -> None:
    os.closerange(3, 64)  # the control socket must close when the host dies, not when this watcher does
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _build_root(spec: SandboxSpec) -> None:
    root = Path(spec["root_dir"])
    if spec["root_bytes"] is None:
        linux.mount(str(root), str(root), None, linux.MS_BIND | linux.MS_REC)
    else:
        linux.mount("root", str(root), "tmpfs", linux.MS_NODEV, f"size={spec['root_bytes']},mode=755")
    for name, mode in _OWN_DIRECTORIES.items():
        directory = root / name
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(mode)
    _add_system_directories(spec, root)
    _add_devices(root)
    _add_kernel_views(root)
    for path in spec["masked"]:
        _bind(str(Path(spec["scratch_dir"]) / "empty"), root, path)
    for source, path in spec["read_only"]:
        _bind(source, root, path)
        linux.make_read_only(f"{root}{path}")
    for source, path in spec["read_write"]:
        _bind(source, root, path)


def _add_system_directories(spec: SandboxSpec, root: Path) -> None:
    for path in spec["system_directories"]:
        target = Path(f"{root}{path}")
        if Path(path).is_symlink():
            if not target.is_symlink():
                target.symlink_to(Path(path).readlink())
            continue
        target.mkdir(exist_ok=True)
        try:
            _overlay(path, target, spec)
        except OSError as error:
            print(f"{OVERLAY_REFUSED}{path} ({error}): it is read-only instead", file=sys.stderr)
            _add_without_overlay(path, target, root, spec)


def _overlay(path: str, target: Path, spec: SandboxSpec) -> None:
    scratch = Path(f"{spec['scratch_dir']}/layers{path}")
    upper, work = scratch / "upper", scratch / "work"
    upper.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    image = Path(f"{spec['image_dir']}{path}")
    # The image's layer comes first: where it has a directory, that one's owner counts, and the owner is us.
    lower = [str(image), path] if image.is_dir() else [path]
    layers = ":".join(_escaped(layer) for layer in lower)
    options = f"lowerdir={layers},upperdir={_escaped(str(upper))},workdir={_escaped(str(work))},userxattr"
    linux.mount("overlay", str(target), "overlay", 0, options)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _add_without_overlay(path: str, target: Path, root: Path, spec: SandboxSpec) -> None:
    image = Path(f"{spec['image_dir']}{path}")
    if path == "/etc":
        _copy_readable(Path(path), target)
        shutil.rmtree(target / "ssh", ignore_errors=True)
        for layer in (image, Path(f"{spec['scratch_dir']}/layers{path}/upper")):
            shutil.copytree(layer, target, symlinks=True, dirs_exist_ok=True)
        return
    linux.mount(path, str(target), None, linux.MS_BIND | linux.MS_REC)
    linux.make_read_only(str(target))
    programs = image / "local/bin"
    if programs.is_dir():
        _add_programs(programs, root, spec)


def _add_programs(programs: Path, root: Path, spec: SandboxSpec) -> None:
    """Put the image's programs before the computer's own in a /usr/local/bin that can't be written to."""
    own = Path(spec["scratch_dir"]) / "local-bin"
    shutil.copytree(programs, own, symlinks=True, dirs_exist_ok=True)
    computers = Path("/usr/local/bin")
    if not computers.is_dir():
        return
    _bind(str(computers), root, "/run/computer/bin")
    for program in computers.iterdir():
        if not (own / program.name).exists():
            (own / program.name).symlink_to(f"/run/computer/bin/{program.name}")
    linux.mount(str(own), f"{root}/usr/local/bin", None, linux.MS_BIND)


def _copy_readable(source: Path, target: Path) -> None:
    try:
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    except shutil.Error as error:
        print(f"{len(error.args[0])} unreadable files of {source} are not in the host", file=sys.stderr)


def _add_devices(root: Path) -> None:
    devices = root / "dev"
    linux.mount("dev", str(devices), "tmpfs", linux.MS_NOSUID | linux.MS_NOEXEC, "mode=755,size=64k")
    for name in _DEVICES:
        (devices / name).touch()
        linux.mount(f"/dev/{name}", str(devices / name), None, linux.MS_BIND)
    for name, destination in _DEVICE_LINKS.items():
        (devices / name).symlink_to(destination)
    (devices / "pts").mkdir()
    linux.mount("devpts", str(devices / "pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=620")
    (devices / "shm").mkdir()
    linux.mount("shm", str(devices / "shm"), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777")


def _add_kernel_views(root: Path) -> None:
    try:
        linux.mount("proc", str(root / "proc"), "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    except OSError:
        # A container engine hides parts of /proc, and then the kernel gives out no fresh one.
        linux.mount("/proc", str(root / "proc"), None, linux.MS_BIND | linux.MS_REC)
    linux.mount("/sys", str(root / "sys"), None, linux.MS_BIND | linux.MS_REC)
    linux.make_read_only(str(root / "sys"))


def _bind(source: str, root: Path, path: str) -> None:
    target = Path(f"{root}{path}")
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    linux.mount(source, str(target), None, linux.MS_BIND | linux.MS_REC)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 -- one write(2): these files take no other
        file.write(text)
