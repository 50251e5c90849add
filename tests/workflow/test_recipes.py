"""The recipes of docs/how-to run on the embedded cloud, with stand-ins for programs that nobody has here."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from snakemake_executor_ec2.testing import WorkflowRunner

HOW_TO = Path(__file__).parents[2] / "docs/how-to"
RULES = {
    "r.md": ["fit_model"],
    "julia.md": ["simulate"],
    "licensed.md": ["optimize", "regress"],
    "spot.md": ["collect"],
    "big-data.md": ["tally"],
}
# Each writes what it was called with, and what it saw of licences, into the output that its command names.
SETUP = r"""
program() { sudo tee /usr/local/bin/$1 > /dev/null; sudo chmod 755 /usr/local/bin/$1; }
program Rscript << 'END'
#!/bin/bash
mkdir -p results && grep -c 'saveRDS' "${@: -1}" > results/model.rds
END
program julia << 'END'
#!/bin/bash
mkdir -p results && grep -c 'open' "${@: -1}" > results/paths.csv
END
program gurobi_cl << 'END'
#!/bin/bash
echo "$GRB_WLSACCESSID $(cat $GRB_LICENSE_FILE) $1" > results/plan.sol
END
program stata-mp << 'END'
#!/bin/bash
cat $3 $4 > $5; echo 'end of do-file' > regress.log
END
"""


@pytest.mark.slow
def test_the_recipes_run(run_workflow: WorkflowRunner) -> None:
    """Scripts arrive and are run, licences and their variables are there, groups leave results only."""
    code = "\n".join(
        text
        for page in RULES
        for text in re.findall(r"^```python\n(.*?)^```", (HOW_TO / page).read_text(), re.M | re.S)
        if "storage(" not in text
    )
    files = {
        "Snakefile": code.replace("part=range(40)", "part=range(2)"),
        "setup.sh": SETUP,
        "data/panel.csv": "a\n",
        "data/start.csv": "a\n",
        "data/panel.dta": "data\n",
        "scripts/fit.R": "saveRDS(1, snakemake@output[[1]])\n",
        "scripts/simulate.jl": "open(snakemake.output[1])\n",
        "scripts/regress.do": "do\n",
        "models/plan.mps": "model\n",
        "secrets/gurobi.lic": "licence\n",
        "resample.py": "print(1)\n",
    }
    run_workflow.place(files)
    (run_workflow.folder / "reads").mkdir()
    (run_workflow.folder / "reads/B.fastq.gz").write_bytes(gzip.compress(b"ACGT\nACGT\n"))
    run = run_workflow(
        files,
        *("--ec2-setup", "setup.sh", "--ec2-spot", "prefer", "--resources", "licenses=1"),
        *("--", *(rule for rules in RULES.values() for rule in rules)),
        env={"GRB_WLSACCESSID": "token-1", "GRB_WLSSECRET": "secret-1"},
        jobs=3,
    )

    assert run.returncode == 0, run.output
    results = run.folder / "results"
    assert (results / "model.rds").read_text() == "1\n"
    assert (results / "paths.csv").read_text() == "1\n"
    assert (results / "plan.sol").read_text() == "token-1 licence Threads=8\n"
    assert (results / "table.tex").read_text() == "do\ndata\n"
    assert (results / "draws.csv").read_text() == "1\n1\n"
    assert (run.folder / "counts/B.txt").read_text().split() == ["2", "ACGT"]
    assert not (run.folder / "trimmed").exists() or not list((run.folder / "trimmed").iterdir())
    assert "secret-1" not in run.output
