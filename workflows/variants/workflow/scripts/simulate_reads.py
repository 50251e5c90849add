"""Simulate single-end reads: uniform starts, both strands, substitution errors with low qualities."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import gzip
import math
import random

from genome import log_to, read_fasta, reverse_complement

log = log_to(snakemake.log[0])
params, sample = snakemake.params, snakemake.wildcards.sample
rng = random.Random(f"{params.seed}-{sample}")  # noqa: S311
_, locus = read_fasta(snakemake.input.locus)
length = params.length
count = round(params.depth * len(locus) / length)

# A read's qualities start high and sag towards its end; a few hundred such shapes are enough.
shapes = []
for _ in range(200):
    quality, shape = rng.uniform(36, 40), []
    for _ in range(length):
        quality = max(quality - rng.uniform(0, 0.09), 22)
        shape.append(chr(33 + round(quality)))
    shapes.append(shape)

errors = 0
with (
    open(snakemake.output.fastq, "wb") as raw,  # noqa: PTH123
    gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as handle,
):
    for number in range(count):
        start = rng.randrange(len(locus) - length + 1)
        read = locus[start : start + length]
        if rng.random() < 0.5:
            read = reverse_complement(read)
        bases, qualities = list(read), shapes[rng.randrange(len(shapes))].copy()
        at = -1
        while (at := at + 1 + int(math.log(1 - rng.random()) / math.log1p(-params.error_rate))) < length:
            bases[at] = rng.choice([base for base in "ACGT" if base != bases[at]])
            # Most errors look like errors; one in five keeps a quality that the caller believes.
            if rng.random() < 0.8:
                qualities[at] = chr(33 + rng.randint(3, 18))
            errors += 1
        handle.write(f"@{sample}.{number + 1}\n{''.join(bases)}\n+\n{''.join(qualities)}\n".encode())
log.info("%d reads of %d bases, %d errors", count, length, errors)
