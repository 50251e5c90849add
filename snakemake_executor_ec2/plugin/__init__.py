"""Snakemake's side: options, Snakemake's jobs, and what is reported to it. Nothing else knows Snakemake."""
