"""Put one sample's windows into one indexed VCF, in the order of the genome."""
# ruff: noqa: F821 (Snakemake defines "snakemake")

from genome import log_to, read_vcf, write_indexed_vcf

log = log_to(snakemake.log[0])
header, records = [], []
for path in snakemake.input.vcfs:
    header, found = read_vcf(path)
    records += found
records.sort(key=lambda record: int(record[1]))
write_indexed_vcf(snakemake.output.vcf, header + ["\t".join(record) for record in records])
log.info("%d variants from %d windows", len(records), len(snakemake.input.vcfs))
