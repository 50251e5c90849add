"""Bytes, for people."""

from __future__ import annotations


def size(count: int) -> str:
    """Bytes for people, in the powers of ten that Snakemake uses: `84 MB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"
