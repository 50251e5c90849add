"""Keys for PuTTY: compared with what PuTTY's own `puttygen` makes of the same key."""

from __future__ import annotations

import base64
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from snakemake_executor_ec2.ssh.keys import new_key_pair
from snakemake_executor_ec2.ssh.putty import ppk


def test_a_ppk_holds_the_key() -> None:
    """The seed in it has the public half beside it."""
    pair = new_key_pair()
    lines = ppk(pair, "a comment").split("\r\n")
    assert lines[:3] == ["PuTTY-User-Key-File-2: ssh-ed25519", "Encryption: none", "Comment: a comment"]
    assert (lines[3], lines[6]) == ("Public-Lines: 2", "Private-Lines: 1")
    assert "".join(lines[4:6]) == pair.public.split()[1]
    blob = base64.b64decode(lines[7])
    assert struct.unpack(">I", blob[:4]) == (32,)
    public = Ed25519PrivateKey.from_private_bytes(blob[4:]).public_key().public_bytes_raw()
    assert base64.b64decode(pair.public.split()[1]).endswith(public)


@pytest.mark.skipif(shutil.which("puttygen") is None, reason="PuTTY's tools are not installed")
def test_putty_reads_it(tmp_path: Path) -> None:
    """And finds the same key in it."""
    pair = new_key_pair()
    path = tmp_path / "key.ppk"
    path.write_text(ppk(pair, "x"), newline="")
    read = subprocess.run(
        ["puttygen", path, "-O", "public-openssh"], capture_output=True, text=True, check=True
    )
    assert read.stdout.split()[:2] == pair.public.split()[:2]
    private = subprocess.run(
        ["puttygen", path, "-O", "private-openssh-new", "-o", "/dev/stdout"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "BEGIN OPENSSH PRIVATE KEY" in private.stdout
