"""Key pairs: new ones, the user's own, and one sentence for each that cannot be used."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.ssh.connector import _private_key
from snakemake_executor_ec2.ssh.keys import fingerprint, load_key_pair, new_key_pair

_PEM = serialization.Encoding.PEM
_FORMATS = serialization.PrivateFormat
_KEYS: dict[str, Callable[[], Any]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
}


def _write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_a_new_key_pair_is_openssh_s(tmp_path: Path) -> None:
    """ssh-keygen agrees about both halves and the fingerprint."""
    pair = new_key_pair()
    assert pair.public.startswith("ssh-ed25519 ")
    assert pair.private not in repr(pair)
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    path = _write(tmp_path / "key", pair.private.encode())
    public = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True)
    assert public.stdout.strip() == pair.public
    listed = subprocess.run(["ssh-keygen", "-l", "-f", path], capture_output=True, text=True, check=True)
    assert fingerprint(pair.public) == listed.stdout.split()[1]


@pytest.mark.parametrize("kind", _KEYS)
@pytest.mark.parametrize("format_", [_FORMATS.OpenSSH, _FORMATS.PKCS8, _FORMATS.TraditionalOpenSSL])
def test_a_users_own_key(tmp_path: Path, kind: str, format_: serialization.PrivateFormat) -> None:
    """Every kind in every format that there is, and paramiko can use it."""
    if kind == "ed25519" and format_ is _FORMATS.TraditionalOpenSSL:
        pytest.skip("there is no such format of it")
    key = _KEYS[kind]()
    data = key.private_bytes(_PEM, format_, serialization.NoEncryption())
    pair = load_key_pair(_write(tmp_path / "key.pem", data))
    used = _private_key(pair)
    assert isinstance(used, paramiko.PKey)
    assert f"{used.get_name()} {used.get_base64()}" == pair.public


def test_a_key_that_others_may_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It works all the same."""
    path = _write(tmp_path / "key.pem", new_key_pair().private.encode(), 0o644)
    with caplog.at_level(logging.WARNING):
        load_key_pair(path)
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize("format_", [_FORMATS.OpenSSH, _FORMATS.PKCS8, _FORMATS.TraditionalOpenSSL])
def test_a_passphrase(tmp_path: Path, format_: serialization.PrivateFormat) -> None:
    """Nobody is asked for it; the sentence says what to do instead."""
    data = _KEYS["rsa"]().private_bytes(_PEM, format_, serialization.BestAvailableEncryption(b"secret"))
    with pytest.raises(ConfigurationError, match="passphrase"):
        load_key_pair(_write(tmp_path / "key.pem", data))


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", b"\xff" * 100]
)
def test_what_is_no_key(tmp_path: Path, data: bytes) -> None:
    """One sentence that names the file."""
    path = _write(tmp_path / "key.pem", data)
    with pytest.raises(ConfigurationError, match=r"key\.pem is no readable private key"):
        load_key_pair(path)


def test_a_missing_file_and_an_unknown_kind(tmp_path: Path) -> None:
    """Likewise."""
    with pytest.raises(ConfigurationError, match="No such file"):
        load_key_pair(tmp_path / "missing.pem")
    key = dsa.generate_private_key(2048)
    data = key.private_bytes(_PEM, _FORMATS.PKCS8, serialization.NoEncryption())
    with pytest.raises(ConfigurationError, match="neither"):
        load_key_pair(_write(tmp_path / "dsa.pem", data))
