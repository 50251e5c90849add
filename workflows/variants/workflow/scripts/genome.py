"""What the scripts of this workflow share: reading sequence, writing VCF, keeping a log."""

from __future__ import annotations

import gzip
import logging
import sys
from pathlib import Path
from typing import Any

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def log_to(path: str) -> logging.Logger:
    """A logger that writes to the rule's log file, without times, so that logs can be compared."""
    logging.basicConfig(filename=path, filemode="w", level=logging.INFO, format="%(levelname)s %(message)s")
    log = logging.getLogger("variants")

    def failed(kind: Any, error: Any, trace: Any) -> None:
        log.error("failed", exc_info=(kind, error, trace))
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = failed  # so that the log of a failed job says why
    return log


def reverse_complement(sequence: str) -> str:
    """The other strand, read in its own direction."""
    return sequence.translate(COMPLEMENT)[::-1]


def read_fasta(path: str | Path) -> tuple[str, str]:
    """The name and the sequence of the only record in a FASTA file, compressed or not."""
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt") as handle:
        name, *lines = handle.read().splitlines()
    if not name.startswith(">") or any(line.startswith(">") for line in lines):
        raise ValueError(f"{path} should hold exactly one sequence")
    return name[1:].split()[0], "".join(lines).upper()


def write_fasta(path: str | Path, name: str, sequence: str) -> None:
    """One record, eighty bases to the line."""
    lines = [f">{name}", *(sequence[at : at + 80] for at in range(0, len(sequence), 80))]
    Path(path).write_text("\n".join(lines) + "\n")


def vcf_header(contig: str, length: int, samples: list[str]) -> list[str]:
    """The header lines of a VCF: no date, no command line, so that equal calls make equal files."""
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    lines = [
        "##fileformat=VCFv4.3",
        f"##contig=<ID={contig},length={length}>",
        '##FILTER=<ID=PASS,Description="All filters passed">',
    ]
    if samples:
        lines += [
            '##FORMAT=<ID=GT,Number=1,Type=String,Description="Haploid genotype">',
            '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Bases that count at this position">',
            '##FORMAT=<ID=AD,Number=1,Type=Integer,Description="Of those, bases of the variant">',
        ]
        columns += ["FORMAT", *samples]
    return [*lines, "\t".join(columns)]


def read_vcf(path: str | Path) -> tuple[list[str], list[list[str]]]:
    """The header lines and the split records of a VCF, compressed or not."""
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt") as handle:
        lines = handle.read().splitlines()
    return [x for x in lines if x.startswith("#")], [x.split("\t") for x in lines if not x.startswith("#")]


def write_indexed_vcf(path: str | Path, lines: list[str]) -> None:
    """Write a VCF compressed in blocks, with its tabix index beside it."""
    import pysam

    with pysam.BGZFile(str(path), "w") as handle:
        handle.write(("\n".join(lines) + "\n").encode())
    pysam.tabix_index(str(path), preset="vcf", force=True)
