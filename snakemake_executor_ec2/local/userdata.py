"""Reads user-data as cloud-init does: gzip, `#cloud-config`, `#!` scripts, and MIME multiparts of these."""

from __future__ import annotations

import base64
import binascii
import email
import gzip
import shlex
import zlib
from dataclasses import dataclass, field
from typing import Any

import yaml

_CONFIG, _SCRIPT = "text/cloud-config", "text/x-shellscript"
_KNOWN_KEYS = {
    "bootcmd", "runcmd", "write_files", "ssh_authorized_keys", "ssh_keys", "ssh_deletekeys",
    "ssh_genkeytypes", "users", "disable_root",
}  # fmt: skip


@dataclass(kw_only=True)
class UserData:
    """What user-data asks for, and what was wrong with it."""

    config: dict[str, Any] = field(default_factory=dict)
    scripts: list[bytes] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def commands(self, key: str) -> bytes | None:
        """`bootcmd` or `runcmd` as one shell script, as cloud-init makes it: no command's failure ends it."""
        entries = self.config.get(key)
        if entries is None:
            return None
        if not isinstance(entries, list):
            self.complaints.append(f"{key}: expected a list, found {type(entries).__name__}")
            return None
        lines = [_shell_line(entry) for entry in entries]
        return ("#!/bin/sh\n" + "".join(f"{line}\n" for line in lines)).encode()

    def authorized_keys(self, user: str) -> list[str]:
        """The login keys given for the image's default user."""
        keys = _strings(self.config.get("ssh_authorized_keys"))
        for entry in self.config.get("users") or []:
            if isinstance(entry, dict) and entry.get("name") == user:
                keys += _strings(entry.get("ssh_authorized_keys"))
        return keys

    def files(self) -> list[tuple[str, bytes, int, bool]]:
        """`write_files`: (path, content, mode, whether to append)."""
        found = []
        for entry in self.config.get("write_files") or []:
            try:
                content = _decoded(entry.get("content") or "", entry.get("encoding"))
                mode = int(str(entry.get("permissions", "0644")), 8)
                found.append((entry["path"], content, mode, bool(entry.get("append"))))
            except (KeyError, AttributeError, ValueError, OSError) as error:
                self.complaints.append(f"write_files: {error!r} in {entry!r}")
        return found


def parse(data: bytes) -> UserData:
    """Never raises: what can't be read is a complaint, and the machine boots without it."""
    found = UserData()
    _add(_unpacked(data), found)
    for key in sorted(set(found.config) - _KNOWN_KEYS):
        found.complaints.append(f"{key}: not part of this rehearsal")
    return found


def _add(data: bytes, found: UserData) -> None:
    head = data.lstrip()[:64].lower()
    if not head:
        return
    if head.startswith((b"content-type: multipart", b"mime-version:")):
        for part in email.message_from_bytes(data.lstrip()).walk():
            if not part.is_multipart():
                payload = part.get_payload(decode=True)
                assert isinstance(payload, bytes)
                _add_part(part.get_content_type(), _unpacked(payload), found)
        return
    _add_part("", data, found)


def _add_part(kind: str, data: bytes, found: UserData) -> None:
    if data.startswith(b"#cloud-config") or kind == _CONFIG:
        _add_config(data, found)
    elif data.startswith(b"#!") or kind == _SCRIPT:
        found.scripts.append(data)
    else:
        found.complaints.append(f"Unhandled non-multipart ({kind or 'text/x-not-multipart'}) userdata")


def _add_config(data: bytes, found: UserData) -> None:
    try:
        config = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found.complaints.append(f"Failed loading yaml blob. {error}")
        return
    if config is None:
        return
    if not isinstance(config, dict):
        found.complaints.append(f"Failed loading yaml blob. Yaml load allows (dict,), found {type(config)}")
        return
    for key, value in config.items():
        found.config.setdefault(str(key), value)


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return data


def _decoded(content: str | bytes, encoding: str | None) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    for step in reversed((encoding or "").replace("gzip", "gz").replace("base64", "b64").split("+")):
        if step in ("b64", "b"):
            try:
                data = base64.b64decode(data, validate=False)
            except binascii.Error as error:
                raise ValueError(str(error)) from error
        elif step == "gz":
            data = gzip.decompress(data)
    return data


def _shell_line(entry: Any) -> str:
    return shlex.join(str(word) for word in entry) if isinstance(entry, list) else str(entry)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(entry) for entry in value or []]
