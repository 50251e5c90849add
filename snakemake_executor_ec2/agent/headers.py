"""Headers of an archive's members (pax), with what Python's tarfile leaves to floats: nanoseconds."""

from __future__ import annotations

import errno
import tarfile


class BadHeader(ValueError):
    """Records that cannot be read."""


def header(info: tarfile.TarInfo, mtime_ns: int, extra: dict[str, str] | None = None) -> bytes:
    info.pax_headers = extra or {}
    info.mtime = mtime_ns // 10**9
    if mtime_ns % 10**9:  # as text: a float has no room for nanoseconds
        sign, magnitude = ("-", -mtime_ns) if mtime_ns < 0 else ("", mtime_ns)
        info.pax_headers["mtime"] = f"{sign}{magnitude // 10**9}.{magnitude % 10**9:09d}"
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def nanoseconds(text: str) -> int:
    whole, _, fraction = text.strip().partition(".")
    value = abs(int(whole)) * 10**9 + int((fraction + "0" * 9)[:9])
    if value >= 2**63:
        raise ValueError(errno.ERANGE)
    return -value if whole.startswith("-") else value


def pax_records(data: bytes) -> dict[str, str]:
    """`LENGTH KEY=VALUE\\n` records, the length counting itself."""
    records = {}
    start = 0
    while start < len(data):
        space = data.find(b" ", start, start + 12)
        try:
            length = int(data[start:space]) if space > 0 else 0
        except ValueError:
            length = 0
        key, equals, value = data[space + 1 : start + length - 1].partition(b"=")
        if space < 0 or not equals or data[start + length - 1 : start + length] != b"\n":
            raise BadHeader
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        start += length
    return records
