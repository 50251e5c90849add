from pathlib import Path

import helper

text = Path(snakemake.input[0]).read_text()
table = Path(snakemake.params.table).read_text()
Path(snakemake.output[0]).write_text(helper.loud(text) + table + snakemake.params.word)
