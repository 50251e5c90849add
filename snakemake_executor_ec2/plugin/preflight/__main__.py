"""The child: takes a mount namespace, puts the made folders in the place of the real ones, and resolves.

    python -m snakemake_executor_ec2.plugin.preflight DOCUMENT '[[MADE, ROOT], …]'

An ordinary user needs a user namespace for it, in which nothing but the mounts is different.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

from snakemake_executor_ec2.agent.standins import keep_from_reading
from snakemake_executor_ec2.plugin.preflight import NO_NAMESPACE
from snakemake_executor_ec2.runner import run

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000


def main() -> int:
    """Exit status: 0 all is the same; 97 this system allows no namespace; else what Snakemake said."""
    document, folders = sys.argv[1], json.loads(sys.argv[2])
    workdir = Path.cwd()
    try:
        _take_namespace()
        for made, root in folders:
            _mount(made, root, _MS_BIND)
    except OSError as error:
        print(f"no namespace: {error}", file=sys.stderr)
        return NO_NAMESPACE
    os.chdir(workdir)  # the folder of that name, which is another one now
    keep_from_reading()
    _drop_capabilities()
    return run.main(document)


def _take_namespace() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNS if user == 0 else _CLONE_NEWNS | _CLONE_NEWUSER
    if library.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _mount("none", "/", _MS_REC | _MS_PRIVATE)


def _mount(source: str, target: str, flags: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None):
        raise OSError(ctypes.get_errno(), f"mount {target}")


def _drop_capabilities() -> None:
    """Stand-ins are unreadable by their mode alone: do without what lets this process read them."""
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    library.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))


if __name__ == "__main__":
    sys.exit(main())
