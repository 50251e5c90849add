"""ssh key pairs: new ones for a run, the user's own from a file. Needs only `cryptography`."""

from __future__ import annotations

import base64
import hashlib
import logging
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import KeyPair

_log = logging.getLogger(__name__)
_Private = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def new_key_pair() -> KeyPair:
    """A new ed25519 key pair."""
    return _key_pair(ed25519.Ed25519PrivateKey.generate())


def load_key_pair(path: Path) -> KeyPair:
    """The user's own key from a `*.pem` file (RSA, ed25519 or ECDSA, in any usual format).

    Raises ConfigurationError if it is missing, unreadable or has a passphrase. Warns where
    others may read the file.
    """
    try:
        data = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"The ssh key {path} cannot be read: {error.strerror}.") from error
    if mode & 0o077:
        _log.warning("The ssh key %s can be read by others; `chmod 600` would change that.", path)
    return _key_pair(_parse(data, path))


def fingerprint(public: str) -> str:
    """`SHA256:…` of a public key (`ssh-ed25519 AAAA…`), as ssh-keygen shows it."""
    blob = base64.b64decode(public.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _parse(data: bytes, path: Path) -> _Private:
    openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    try:
        key = load(data, password=None)
    except TypeError as error:  # what `cryptography` raises for a passphrase that is wanted
        raise _encrypted(path) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if "password" in str(error).lower():
            raise _encrypted(path) from error
        raise ConfigurationError(f"The ssh key {path} is no readable private key: {error}.") from error
    if not isinstance(key, _Private):
        raise ConfigurationError(f"The ssh key {path} is neither an RSA, an ed25519 nor an ECDSA key.")
    return key


def _encrypted(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"The ssh key {path} is protected by a passphrase; name one without, or leave out "
        "--ec2-ssh-key: a key is made for each run."
    )


def _key_pair(key: _Private) -> KeyPair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(private=private.decode("ascii"), public=public.decode("ascii"))
