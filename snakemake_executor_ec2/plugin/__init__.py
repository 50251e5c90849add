"""Snakemake's side: options, jobs as Snakemake has them, what it is told. Only this package knows Snakemake."""
