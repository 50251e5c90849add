from pathlib import Path

from beside import lines

Path(snakemake.output[0]).write_text(f"{lines(snakemake.input[0])} {snakemake.config['said']}\n")
