"""Build BWA's index of the reference in a directory of its own."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

import shutil
from pathlib import Path

from genome import log_to
from pybwa import BwaIndex

log = log_to(snakemake.log[0])
folder = Path(snakemake.output[0])
folder.mkdir(parents=True)
fasta = folder / "reference.fa"
shutil.copyfile(snakemake.input.reference, fasta)
BwaIndex.index(fasta)

# The dictionary names the folder it was made in, which would find its way into every BAM.
dictionary = fasta.with_suffix(".dict")
fields = [line.split("\t") for line in dictionary.read_text().splitlines()]
kept = ["\t".join(field for field in line if not field.startswith("UR:")) for line in fields]
dictionary.write_text("\n".join(kept) + "\n")
log.info("%d files, %d bytes", len(list(folder.iterdir())), sum(f.stat().st_size for f in folder.iterdir()))
