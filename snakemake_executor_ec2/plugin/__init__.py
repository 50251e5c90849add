"""Snakemake's side: options, jobs as Snakemake has them, what it is told. Nothing else knows Snakemake."""
