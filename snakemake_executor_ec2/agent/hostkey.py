"""`rotate-host-key`: the key that came with user-data could be read there, so it is replaced."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from .state import AgentError, home, say

_PLACE = "/etc/ssh/ssh_host_ed25519_key"
# Old and new key files change places by renames; where anything fails the old ones stay. sshd reads
# its keys when it is told to reload; the process that listens is the parent of no sshd but init's child.
_INSTALL = """
set -eu
place=$1 new=$2
install -m 600 -o root -g "$(stat -c %g "$place" 2>/dev/null || echo 0)" "$new" "$place.new"
[ ! -e "$place" ] || chmod --reference="$place" "$place.new"
install -m 644 -o root -g root "$new.pub" "$place.pub.new"
[ ! -e "$place" ] || cp -p "$place" "$place.old"
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


def rotate(place: str = _PLACE) -> int:
    """`rotate-host-key` -> {"host_key": "ssh-ed25519 AAAA…"}; where it fails, the old key stays."""
    folder = tempfile.mkdtemp(prefix="key-", dir=home())
    try:
        new = os.path.join(folder, "key")
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", new])
        with open(new + ".pub", encoding="ascii") as file:
            public = " ".join(file.read().split()[:2])
        as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        _run([*as_root, "sh", "-c", _INSTALL, "sh", place, new])
    finally:
        shutil.rmtree(folder)
    say({"host_key": public})
    return 0


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=45, check=False)
    except FileNotFoundError as error:
        raise AgentError(f"{command[0]} is missing on the machine") from error
    except subprocess.TimeoutExpired as error:
        raise AgentError(f"{command[0]} took longer than 45 s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AgentError(said[-1] if said else f"{command[0]} failed with exit status {done.returncode}")
