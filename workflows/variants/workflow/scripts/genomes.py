"""Copy the two genomes out of the installed package that ships them."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

from importlib.metadata import distribution

from genome import log_to, read_fasta, write_fasta

log = log_to(snakemake.log[0])
genomes = snakemake.params.genomes
package = distribution(genomes["package"])
for role in ("reference", "donor"):
    name, sequence = read_fasta(str(package.locate_file(genomes[role])))
    log.info("%s: %s, %d bases", role, name, len(sequence))
    if role == "reference":
        sequence = sequence[: snakemake.params.length]
    write_fasta(snakemake.output[role], name, sequence)
