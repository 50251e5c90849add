"""`new-host-key`, `rotate-host-key`: the key that came with user-data could be read there: it is replaced.

In two steps, so that both keys can be pinned while it is not certain which one sshd shows: the answer
of the second may be lost. Either may be asked for again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from typing import IO

from .state import AgentError, home, say, try_lock

_PLACE = "/etc/ssh/ssh_host_ed25519_key"
# Old and new key files change places by renames; where anything fails the old ones stay. sshd reads
# its keys when it is told to reload; the process that listens is the parent of no sshd but init's child.
_INSTALL = """
set -eu
place=$1 new=$2
install -m 600 -o root -g "$(stat -c %g "$place" 2>/dev/null || echo 0)" "$new" "$place.new"
[ ! -e "$place" ] || chmod --reference="$place" "$place.new"
install -m 644 -o root -g root "$new.pub" "$place.pub.new"
[ ! -e "$place" ] || [ -e "$place.old" ] || cp -p "$place" "$place.old"
mv -f "$place.new" "$place"
if systemctl reload sshd 2>/dev/null || systemctl reload ssh 2>/dev/null ||
   kill -HUP "$(cat /run/sshd.pid /var/run/sshd.pid 2>/dev/null | head -n 1)" 2>/dev/null ||
   pkill -HUP -o -x sshd
then
    mv -f "$place.pub.new" "$place.pub"
    rm -f "$place.old"
else
    [ ! -e "$place.old" ] || mv -f "$place.old" "$place"
    rm -f "$place.pub.new"
    echo "sshd could not be told to use it" >&2
    exit 1
fi
"""


def prepare(place: str = _PLACE) -> int:
    """`new-host-key` -> {"host_key": "ssh-ed25519 AAAA…"}: made once, and not in use before `rotate`."""
    key = _new_key()
    with _alone():
        if not (os.path.exists(key) or _in_use(key, place)):
            folder = tempfile.mkdtemp(prefix="key-", dir=home())
            try:
                made = os.path.join(folder, "key")
                _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", made])
                os.replace(made + ".pub", key + ".pub")
                os.replace(made, key)  # last: where it is, its public half is, too
            finally:
                shutil.rmtree(folder)
        say({"host_key": " ".join(_public(key))})
    return 0


def rotate(place: str = _PLACE) -> int:
    """`rotate-host-key`: let sshd show the new key from now on; where that fails, the old key stays."""
    key = _new_key()
    with _alone():
        if not _in_use(key, place):
            _run([*_as_root(), "sh", "-c", _INSTALL, "sh", place, key])
        with suppress(FileNotFoundError):
            os.unlink(key)  # sshd's own is for root alone
    return 0


def _new_key() -> str:
    return os.path.join(home(), "host-key")


def _alone() -> IO[bytes]:
    return try_lock(os.path.join(home(), "host-key.lock"), wait=True)  # type: ignore[return-value]


def _in_use(key: str, place: str) -> bool:
    """Whether sshd has the new key. An image made of such a machine has our files, and another key."""
    return _public(key) == _public(place) != []


def _public(key: str) -> list[str]:
    """The type and the key of a public half; empty if there is none."""
    try:
        with open(key + ".pub", "rb") as file:
            found = file.read()
    except FileNotFoundError:
        return []
    except PermissionError:  # cloud-init before 23.1 writes it for root alone
        found = _run([*_as_root(), "cat", key + ".pub"])
    return found.decode(errors="replace").split()[:2]


def _as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=45, check=False)
    except (FileNotFoundError, PermissionError) as error:  # the latter, if PATH has folders closed to us
        raise AgentError(f"{command[0]} is missing on the machine") from error
    except subprocess.TimeoutExpired as error:
        raise AgentError(f"{command[0]} took longer than 45 s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AgentError(said[-1] if said else f"{command[0]} failed with exit status {done.returncode}")
    return done.stdout
