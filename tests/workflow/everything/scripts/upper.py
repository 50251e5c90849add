from pathlib import Path

import helper

text = Path(snakemake.input[0]).read_text()
Path(snakemake.output[0]).write_text(helper.loud(text) + snakemake.params.word)
