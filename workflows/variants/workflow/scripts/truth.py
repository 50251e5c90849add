"""From the donor's tiles: its sequence of the locus, the differences, and where those are certain.

The donor's locus is the stretch of its genome whose tiles map to the reference in one unbroken order.
A position of the reference is confident if exactly one such tile covers it, away from gaps and tile ends.
"""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import itertools
from pathlib import Path

import pysam
from genome import log_to, read_fasta, reverse_complement, vcf_header, write_fasta

MARGIN = 10  # bases around a gap, where an alignment may be drawn in more than one way
MATCH, INSERTION, DELETION = 0, 1, 2

log = log_to(snakemake.log[0])
tile = snakemake.params.tile
contig, reference = read_fasta(snakemake.input.reference)
donor_name, donor = read_fasta(snakemake.input.donor)

with pysam.AlignmentFile(snakemake.input.bam, check_sq=False) as handle:
    tiles = [
        record
        for record in handle
        if not (record.is_unmapped or record.is_secondary or record.is_supplementary)
        and record.mapping_quality == 60
        and record.query_alignment_length >= tile // 5
    ]

# The locus: neighbouring tiles of the donor, all on one strand; of several such runs, the longest.
tiles.sort(key=lambda record: int(record.query_name))
runs: list[list[pysam.AlignedSegment]] = [[]]
for record in tiles:
    if runs[-1]:
        last = runs[-1][-1]
        step = (record.reference_start - last.reference_start) * (-1 if record.is_reverse else 1)
        near = int(record.query_name) - int(last.query_name) <= 3 * tile
        if record.is_reverse != last.is_reverse or not near or not 0 < step <= 5 * tile:
            runs.append([])
    runs[-1].append(record)
locus = max(runs, key=len)
start = int(locus[0].query_name)
end = min(int(locus[-1].query_name) + tile, len(donor))
sequence = donor[start:end]
if locus[0].is_reverse:
    sequence = reverse_complement(sequence)
write_fasta(snakemake.output.locus, f"{donor_name}:{start + 1}-{end}", sequence)

covered = [0] * len(reference)
doubtful = bytearray(len(reference))
variants = {}
for record in locus:
    bases, at, query = record.query_sequence, record.reference_start, 0
    for operation, length in record.cigartuples:
        if operation == MATCH:
            for position, base in enumerate(bases[query : query + length], at):
                covered[position] += 1
                if base != reference[position]:
                    variants[position] = base
            at += length
            query += length
        elif operation == DELETION:
            doubtful[max(at - MARGIN, 0) : at + length + MARGIN] = bytes([1]) * (
                at + length + MARGIN - max(at - MARGIN, 0)
            )
            at += length
        else:  # an insertion, or bases cut off at the tile's end
            if operation == INSERTION:
                doubtful[max(at - MARGIN, 0) : at + MARGIN] = bytes([1]) * (at + MARGIN - max(at - MARGIN, 0))
            query += length
    for edge in (record.reference_start, record.reference_end):
        low, high = max(edge - MARGIN, 0), min(edge + MARGIN, len(reference))
        doubtful[low:high] = bytes([1]) * (high - low)

confident = [count == 1 and not doubt for count, doubt in zip(covered, doubtful, strict=False)]
intervals, position = [], 0
for sure, group in itertools.groupby(confident):
    length = sum(1 for _ in group)
    if sure:
        intervals.append((position, position + length))
    position += length
Path(snakemake.output.bed).write_text("".join(f"{contig}\t{low}\t{high}\n" for low, high in intervals))

sites = [position for position in sorted(variants) if confident[position]]
lines = vcf_header(contig, len(reference), [])
lines += [f"{contig}\t{p + 1}\t.\t{reference[p]}\t{variants[p]}\t.\tPASS\t." for p in sites]
Path(snakemake.output.vcf).write_text("\n".join(lines) + "\n")
log.info(
    "locus %s:%d-%d in %d tiles; %d of %d bases confident; %d of %d differences in them",
    donor_name,
    start + 1,
    end,
    len(locus),
    sum(confident),
    len(reference),
    len(sites),
    len(variants),
)
