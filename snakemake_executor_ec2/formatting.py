"""What people read and write: amounts, sizes and times; and each thing said once."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

_UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def usd(amount: float | None) -> str:
    """An amount for people: `$0.0031`, `$12.40`, or `?` if it is unknown."""
    if amount is None:
        return "?"
    return f"${amount:.4f}" if amount < 1 else f"${amount:,.2f}"


def size(count: int) -> str:
    """Bytes for people, in the powers of ten that Snakemake uses: `84 MB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"


def ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def duration(seconds: float) -> str:
    """For people: `12 hours`, `30 minutes`, `45 s`."""
    if seconds >= 7200:
        return f"{seconds / 3600:.3g} hours"
    return f"{seconds / 60:.3g} minutes" if seconds >= 120 else f"{seconds:.3g} s"


def span(seconds: float) -> str:
    """A long time for people, in two units at most: `45 s`, `7.5 min`, `3 h 20 min`, `8 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 10:
        return f"{seconds / 60:.1f}".removesuffix(".0") + " min"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    hours = round(seconds / 3600)
    return f"{hours // 24:,} d" + (f" {hours % 24} h" if hours % 24 else "")


def seconds(text: str | float, *, bare: str) -> float:
    """`90s`, `15m` (or `15min`), `12h`, `7d` in seconds; a number without a unit is in the unit `bare`.

    Raises ValueError.
    """
    match = _DURATION.fullmatch(str(text).strip().lower())
    if match is None or (match[2] or bare) not in _UNITS_S:
        raise ValueError(f"{text!r} is not a time: write 90s, 15m, 12h or 7d, for example")
    return float(match[1]) * _UNITS_S[match[2] or bare]


class TellOnce:
    """Tells each thing once, whichever thread comes with it first."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def __call__(self, text: str, *, about: str | None = None) -> None:
        """`about` is what the text counts as, if it may be worded in several ways."""
        with self._lock:
            is_new = (about or text) not in self._told
            self._told.add(about or text)
        if is_new:
            self._tell(text)
