"""`prepare-image`: what an image must not keep is removed, before one is made of this machine.

A machine that starts from the image is another machine: it must not let in whom this one lets in, show its
host key, believe that it has been set up, or end with its lease. Of the agent's own folder only what was
installed stays. Whatever else is there was on the base image, or the setup script has put it there.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from typing import IO, Any

from . import setup_mounts
from .state import AgentError, command_line, read_request, say

_KEPT = ("env", "uv", "shims", "conda", "apptainer")
_REMEMBERED = "software-*.json"
_GONE = (
    "etc/ssh/ssh_host_*",
    "var/lib/cloud/instance",
    "var/lib/cloud/instances",
    "var/lib/cloud/data",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/dhclient/*",
    "var/lib/dhcp/*",
    "var/lib/NetworkManager/*lease*",
    "var/log/journal/*",
    "tmp/*",
    "tmp/.[!.]*",
)
"""Whom it was and whom it knew: host keys, user-data and cloud-init's marks, addresses, what was logged."""
_HISTORIES = (".bash_history", ".zsh_history", ".python_history", ".lesshst", ".viminfo", ".wget-hsts")
_LOGINS = (".ssh/authorized_keys", ".ssh/authorized_keys2")
_PRIVATE = (
    ".aws/credentials",
    ".docker/config.json",
    ".git-credentials",
    ".netrc",
    ".pypirc",
    ".ssh/id_*[!b]",
)
"""Where programs keep what lets them in elsewhere: for the user to judge."""
_GUARD_ENDS_S = 10.0


def main() -> int:
    """`prepare-image`: {"keys": ["ssh-ed25519 AAAA…", …]} -> {"private": [paths]}

    `keys` are login keys of ours. `private` are files that look like credentials: they stay. Fails if
    anything of what must go is still there. Afterwards there is no agent and no lease on the machine.
    """
    request = read_request()
    # By who asks and not by the user's id: sudo need not make it 0, as in a namespace.
    if "home" not in request and os.geteuid() != 0:
        return _as_root({**request, "home": os.path.expanduser("~")})
    home = str(request.get("home") or os.path.expanduser("~"))
    keys = [str(each) for each in request.get("keys") or []]
    say({"private": clean("/", home, keys)})
    return 0


def _as_root(request: dict[str, Any]) -> int:
    try:
        done = subprocess.run(
            ["sudo", "-n", *command_line("prepare-image")],
            input=json.dumps(request).encode(),
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise AgentError("the machine has no sudo, without which it cannot be cleaned") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AgentError(said[-1] if said else "the machine could not be cleaned as root")
    sys.stdout.write(done.stdout.decode())
    return 0


def clean(root: str, home: str, keys: list[str]) -> list[str]:
    """Clean the system below `root`; `home` is the agent's user's, as it is called there. The files that look
    like credentials. Raises AgentError."""
    ours = os.path.join(root, home.lstrip("/"), ".snakemake-ec2")
    if lost := setup_mounts.lost_in_an_image(ours, os.path.join(root, "etc/fstab")):
        raise AgentError(
            f"the setup script mounts {', '.join(lost)}, which an image would not have: machines that start "
            "from it do not run the script again. A line in /etc/fstab mounts it at every boot"
        )
    _end_lease(ours)
    homes = _homes(root, home)
    for pattern in _GONE:
        for path in glob.glob(os.path.join(glob.escape(root), pattern)):
            _remove(path)
    _empty(os.path.join(root, "etc/machine-id"))  # systemd makes a new one
    for folder, _, names in os.walk(os.path.join(root, "var/log")):
        for name in names:
            _empty(os.path.join(folder, name))
    blobs = {key.split()[1] for key in keys if len(key.split()) > 1}
    for each in homes:
        for name in _HISTORIES:
            _remove(os.path.join(each, name))
        for name in _LOGINS:
            _shut_out(os.path.join(each, name), blobs)
    _check(root, homes, blobs)
    found = (glob.glob(os.path.join(glob.escape(each), name)) for each in homes for name in _PRIVATE)
    private = sorted("/" + os.path.relpath(path, root) for paths in found for path in paths)
    _keep_only_software(ours)  # last: the agent, too, is in that folder
    os.sync()
    return private


def _end_lease(ours: str) -> None:
    """Take the lease away, and wait until its guard has noticed: it must not write any more."""
    _remove(os.path.join(ours, "lease"))
    try:
        lock = open(os.path.join(ours, "guard.lock"), "rb")  # noqa: SIM115
    except FileNotFoundError:
        return
    until = time.monotonic() + _GUARD_ENDS_S
    with lock:
        while not _locks(lock):
            if time.monotonic() > until:
                raise AgentError("the guard of the machine's lease does not end")
            time.sleep(0.05)


def _locks(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _homes(root: str, home: str) -> list[str]:
    """The homes of everybody who may log in."""
    found = {home.lstrip("/"), "root"}
    with (
        suppress(OSError),
        open(os.path.join(root, "etc/passwd"), encoding="utf-8", errors="replace") as file,
    ):
        found.update(line.split(":")[5].lstrip("/") for line in file if line.count(":") >= 6)
    paths = (os.path.join(root, each) for each in sorted(found) if each)
    return [path for path in paths if os.path.isdir(path)]


def _keep_only_software(ours: str) -> None:
    with suppress(FileNotFoundError):
        kept = {*_KEPT, *map(os.path.basename, glob.glob(os.path.join(glob.escape(ours), _REMEMBERED)))}
        for name in os.listdir(ours):
            if name not in kept:
                _remove(os.path.join(ours, name))


def _shut_out(path: str, blobs: set[str]) -> None:
    """Remove our login keys; those that the image had before stay."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except FileNotFoundError:
        return
    others = [line for line in lines if not blobs & set(line.split())]
    if len(others) == len(lines):
        return
    if not any(line.strip() for line in others):
        os.unlink(path)
        return
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:  # its owner and mode stay
        file.writelines(others)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _empty(path: str) -> None:
    """Programs that have it open go on writing to it."""
    if not os.path.isfile(path) or os.path.islink(path):
        return
    try:
        os.truncate(path, 0)
    except PermissionError:  # a root that is not one to the kernel, as in a namespace
        new = open(f"{path}.new", "wb")  # noqa: SIM115 - nothing is written to it
        new.close()
        shutil.copymode(path, new.name)
        os.replace(new.name, path)


def _check(root: str, homes: list[str], blobs: set[str]) -> None:
    """Raise AgentError if anything is there that must not be in an image."""
    # Others write there, too: journald makes a new journal for the first line after the old one is gone.
    patterns = [pattern for pattern in _GONE if not pattern.startswith(("tmp/", "var/log/"))]
    left = [path for pattern in patterns for path in glob.glob(os.path.join(glob.escape(root), pattern))]
    for path in (os.path.join(home, name) for home in homes for name in _LOGINS):
        with suppress(FileNotFoundError), open(path, encoding="utf-8", errors="surrogateescape") as file:
            if blobs & set(file.read().split()):
                left.append(path)
    if left:
        raise AgentError(f"an image of the machine would keep what it must not: {', '.join(left[:5])}")
