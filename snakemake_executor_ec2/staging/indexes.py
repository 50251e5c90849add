"""Indexes beside inputs: `genome.fa.fai`, `A.bam.bai`.

Tools look for them under the name of the file that they are given. Rules that declare the file seldom
declare its index, and on one computer it is there all the same. So it travels with the file, if it is small;
an index of gigabytes is told, for it would cost hours if nothing reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

_OF_SEQUENCES = (
    *(".fai", ".gzi", ".amb", ".ann", ".bwt", ".pac", ".sa", ".0123", ".bwt.2bit.64"),
    *(f".{part}.bt2" for part in (1, 2, 3, 4, "rev.1", "rev.2")),
    *(f".{kind}{part}" for kind in "np" for part in ("hr", "in", "sq", "db", "ot", "tf", "to")),
)
_OF_COMPRESSED = (".tbi", ".csi", ".gzi")
_APPENDED = {
    **dict.fromkeys((".fa", ".fasta", ".fna", ".fas"), _OF_SEQUENCES),
    ".bam": (".bai", ".csi"),
    ".cram": (".crai",),
    ".bcf": (".csi",),
    ".gz": _OF_COMPRESSED,
    ".bgz": _OF_COMPRESSED,
}
_IN_PLACE_OF_THE_ENDING = {
    **dict.fromkeys((".fa", ".fasta", ".fna", ".fas"), ".dict"),
    ".bam": ".bai",
    ".cram": ".crai",
}
_COMPRESSED = frozenset({".gz", ".bgz"})


def indexes(files: Iterable[Path]) -> list[Path]:
    """The indexes that lie beside some files, of any size."""
    names = dict.fromkeys(name for file in files for name in _names(file))
    return [path for path in map(Path, names) if path.is_file()]


def _names(file: Path) -> Iterator[str]:
    """Under which names tools look for the indexes of a file."""
    text, stem, ending = str(file), file, file.suffix.lower()
    yield from (text + suffix for suffix in _APPENDED.get(ending, ()))
    if ending in _COMPRESSED:
        stem, ending = file.with_suffix(""), file.with_suffix("").suffix.lower()
        if ending in _IN_PLACE_OF_THE_ENDING:
            yield from (text + suffix for suffix in _APPENDED[ending])
    if ending in _IN_PLACE_OF_THE_ENDING:
        yield str(stem.with_suffix(_IN_PLACE_OF_THE_ENDING[ending]))
