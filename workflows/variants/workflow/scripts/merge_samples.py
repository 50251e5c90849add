"""Merge the samples' VCFs into one, with a missing genotype where a sample has no such call."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

from genome import log_to, read_vcf, write_indexed_vcf

log = log_to(snakemake.log[0])
sites: dict[tuple[int, str, str], dict[str, str]] = {}
samples, head, contig = [], [], ""
for path in snakemake.input.vcfs:
    header, records = read_vcf(path)
    sample = header[-1].split("\t")[-1]
    samples.append(sample)
    head = header[:-1]
    for record in records:
        contig = record[0]
        sites.setdefault((int(record[1]), record[3], record[4]), {})[sample] = record[9]
columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]
lines = [*head, "\t".join(columns)]
for (position, reference, variant), calls in sorted(sites.items()):
    genotypes = [calls.get(sample, ".:.:.") for sample in samples]
    fields = [contig, str(position), ".", reference, variant, ".", "PASS", ".", "GT:DP:AD", *genotypes]
    lines.append("\t".join(fields))
write_indexed_vcf(snakemake.output.vcf, lines)
log.info("%d sites in %d samples", len(sites), len(samples))
