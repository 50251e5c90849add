"""Run each Snakemake job on its own EC2 machine. Start reading in `controller/job.py`."""
