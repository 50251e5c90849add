"""`snakemake-ec2 … | head`: a reader that has seen enough."""

from __future__ import annotations

import os
import subprocess
import sys


def test_nobody_reads() -> None:
    """The command ends without a traceback, with the exit status of any program in such a pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    code = "import sys; from snakemake_executor_ec2.cli import main; sys.exit(main(['doctor', '--policy']))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 141
