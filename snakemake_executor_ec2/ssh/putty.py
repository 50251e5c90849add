"""A private key as PuTTY, WinSCP and FileZilla take it: a `.ppk` file.

Version 2 of the format, which all versions of these programs read (appendix C of PuTTY's manual). Without a
passphrase, as OpenSSH's file of the same key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import KeyPair

_LINE = 64
_KIND = "ssh-ed25519"


def ppk(pair: KeyPair, comment: str) -> str:
    """The key of a run as text of a `.ppk` file. Raises ConfigurationError for keys that are not ours."""
    key = serialization.load_ssh_private_key(pair.private.encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError("only a run's own key, an ed25519 one, can be written for PuTTY")
    public = base64.b64decode(pair.public.split()[1])
    private = _string(key.private_bytes_raw())
    authenticated = b"".join(
        map(_string, (_KIND.encode(), b"none", comment.encode("ascii", "replace"), public, private))
    )
    mac_key = hashlib.sha1(b"putty-private-key-file-mac-key").digest()  # noqa: S324 -- the format's own
    mac = hmac.new(mac_key, authenticated, hashlib.sha1).hexdigest()
    return "".join(
        f"{line}\r\n"
        for line in (
            f"PuTTY-User-Key-File-2: {_KIND}",
            "Encryption: none",
            f"Comment: {comment.encode('ascii', 'replace').decode()}",
            *_lines("Public-Lines", public),
            *_lines("Private-Lines", private),
            f"Private-MAC: {mac}",
        )
    )


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _lines(name: str, data: bytes) -> list[str]:
    text = base64.b64encode(data).decode()
    pieces = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return [f"{name}: {len(pieces)}", *pieces]
