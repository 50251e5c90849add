"""Hold one sample's calls against the truth, inside the confident regions only."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import csv
from bisect import bisect_right
from pathlib import Path

from genome import log_to, read_vcf

log = log_to(snakemake.log[0])
sample = snakemake.wildcards.sample
intervals = [
    tuple(map(int, line.split("\t")[1:])) for line in Path(snakemake.input.bed).read_text().splitlines()
]
starts = [low for low, _ in intervals]


def confident(position: int) -> bool:
    """Whether a position, counted from one as in a VCF, lies in a confident region."""
    at = bisect_right(starts, position - 1) - 1
    return at >= 0 and position <= intervals[at][1]


def variants(path: str) -> set[tuple[int, str]]:
    """Position and base of every confident variant in a VCF."""
    return {(int(r[1]), r[4]) for r in read_vcf(path)[1] if confident(int(r[1]))}


truth, calls = variants(snakemake.input.truth), variants(snakemake.input.calls)
with Path(snakemake.input.coverage).open(newline="") as handle:
    coverage = next(csv.DictReader(handle, delimiter="\t"))
found, wrong, missed = len(truth & calls), len(calls - truth), len(truth - calls)
row = {
    "sample": sample,
    "mean_depth": coverage["mean_depth"],
    "true": len(truth),
    "found": found,
    "missed": missed,
    "wrong": wrong,
    "precision": f"{found / max(found + wrong, 1):.4f}",
    "recall": f"{found / max(len(truth), 1):.4f}",
}
Path(snakemake.output.counts).write_text("\t".join(row) + "\n" + "\t".join(map(str, row.values())) + "\n")
kinds = {"found": truth & calls, "missed": truth - calls, "wrong": calls - truth}
lines = [(position, base, kind) for kind, sites in kinds.items() for position, base in sites]
Path(snakemake.output.sites).write_text(
    "position\tbase\tkind\n" + "".join(f"{p}\t{b}\t{k}\n" for p, b, k in sorted(lines))
)
log.info("%d found, %d missed, %d wrong", found, missed, wrong)
