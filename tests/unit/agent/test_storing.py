"""What this computer cannot store: now, or ever."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent.storing import is_for_good

_TRY = """
import sys
from snakemake_executor_ec2.agent.storing import is_for_good
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    with open(sys.argv[1], "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
except OSError as error:
    print(error.errno, is_for_good(error))
"""


@pytest.mark.parametrize(
    ("code", "ever"), [(errno.ENAMETOOLONG, True), (errno.ENOSPC, False), (errno.EIO, False)]
)
def test_errors_of_file_systems(code: int, *, ever: bool) -> None:
    """A name that is too long stays so; a disk that is full does not."""
    assert is_for_good(OSError(code, "")) is ever


def test_a_limit_of_this_process_passes(tmp_path: Path) -> None:
    """`ulimit -f`: the kernel says "File too large" as if the file system said so."""
    command = f'ulimit -f 8; exec "{sys.executable}" -c "$0" "{tmp_path}/large"'
    done = subprocess.run(["bash", "-c", command, _TRY], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(errno.EFBIG), "False"]
