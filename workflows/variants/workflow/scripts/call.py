"""Call single-base variants in one window: a haploid caller that believes a clear majority of good bases."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import math
from pathlib import Path

import pysam
from genome import log_to, read_fasta, vcf_header

ERROR = 0.005  # the chance that a base which passed the filter is wrong
MAX_QUALITY = 999

log = log_to(snakemake.log[0])
sample, calling = snakemake.wildcards.sample, snakemake.params.calling
start, end = map(int, snakemake.wildcards.window.split("-"))
contig, reference = read_fasta(snakemake.input.reference)


def believed(read: pysam.AlignedSegment) -> bool:
    """Whether a read counts: mapped once, and to this place with confidence."""
    return not (
        read.is_unmapped
        or read.is_secondary
        or read.is_supplementary
        or read.mapping_quality < calling["min_mapping_quality"]
    )


with pysam.AlignmentFile(snakemake.input.bam) as handle:
    counts = handle.count_coverage(
        contig, start, end, quality_threshold=calling["min_base_quality"], read_callback=believed
    )

# How much likelier each base makes the variant than the reference, in tenths of powers of ten.
weight = 10 * math.log10((1 - ERROR) / (ERROR / 3))
lines = vcf_header(contig, len(reference), [sample])
for offset, column in enumerate(zip(*counts, strict=True)):
    position = start + offset
    depth, best = sum(column), max(range(4), key=column.__getitem__)
    support, base = column[best], "ACGT"[best]
    if (
        base != reference[position]
        and depth >= calling["min_depth"]
        and support >= calling["min_fraction"] * depth
    ):
        agree = column["ACGT".index(reference[position])]
        quality = min(round((support - agree) * weight), MAX_QUALITY)
        lines.append(
            f"{contig}\t{position + 1}\t.\t{reference[position]}\t{base}\t{quality}\tPASS\t."
            f"\tGT:DP:AD\t1:{depth}:{support}"
        )
Path(snakemake.output.vcf).write_text("\n".join(lines) + "\n")
log.info("%d variants between %d and %d", sum(not x.startswith("#") for x in lines), start, end)
