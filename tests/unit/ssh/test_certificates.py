"""Certificates, as OpenSSH reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from snakemake_executor_ec2.ssh.certificates import authority_line, certify
from snakemake_executor_ec2.ssh.keys import fingerprint, new_key_pair

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")


def test_a_certificate_allows_one_command(tmp_path: Path) -> None:
    """From one address, for one user, for some time; no terminal, no forwarding."""
    authority, key = new_key_pair(), new_key_pair()
    certificate = certify(
        authority,
        key.public,
        user="ec2-user",
        command="agent serve x",
        source="10.0.0.7",
        since_s=1_800_000_000,
        until_s=1_800_000_600,
    )
    file = tmp_path / "key-cert.pub"
    file.write_text(certificate + "\n")
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", file], capture_output=True, text=True, check=True, env={"TZ": "UTC"}
    )
    lines = [line.strip() for line in shown.stdout.splitlines()]
    assert f"Signing CA: ED25519 {fingerprint(authority.public)} (using ssh-ed25519)" in lines
    assert "Valid: from 2027-01-15T08:00:00 to 2027-01-15T08:10:00" in lines
    assert lines[lines.index("Principals:") + 1] == "ec2-user"
    options = lines[lines.index("Critical Options:") + 1 :]
    assert options == ["force-command agent serve x", "source-address 10.0.0.7/32", "Extensions: (none)"]


def test_the_authority_is_no_login_key() -> None:
    """What a machine is told about it lets in nobody who has only that key."""
    assert authority_line("ssh-ed25519 AAAA") == "cert-authority,restrict ssh-ed25519 AAAA"
