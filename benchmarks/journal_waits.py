"""What share of their time jobs wait in the journal: `python -m benchmarks.journal_waits`.

Twenty jobs at once on the embedded cloud, each with an input of 50 MB, whose upload keeps the disk busy that
the journal is on (the machines are on this computer, too). TMPDIR names another disk. The short
form fails for no share.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import sizes
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner

AT_MOST = 0.02

_SNAKEFILE = """
rule all:
    input: [f"{number}.out" for number in range(%d)]

rule one:
    input: "{number}.in"
    output: "{number}.out"
    shell: "wc -c < {input} > {output}"
"""


def main() -> None:
    """Print the share; fail if it is more than it may be."""
    options = sizes(__doc__, jobs=(20, 2), mib=(50, 5))
    with TemporaryDirectory() as name, EmbeddedCloud() as cloud:
        folder = Path(name, "work")
        folder.mkdir()
        for number in range(options.jobs):
            (folder / f"{number}.in").write_bytes(os.urandom(options.mib << 20))
        runner = WorkflowRunner(cloud, folder)
        files = {"Snakefile": _SNAKEFILE % options.jobs}
        done = runner(files, jobs=options.jobs, timeout_s=1800)
        if done.returncode:
            sys.exit(done.output)
        share = _tell(folder)
    sys.exit(share > AT_MOST and not options.short)


def _tell(folder: Path) -> float:
    seconds: Counter[str] = Counter()
    with closing(sqlite3.connect(folder / ".snakemake" / "ec2" / "journal.sqlite")) as journal:
        rows = journal.execute("SELECT seconds FROM attempts").fetchall()
    for (text,) in rows:
        seconds.update(json.loads(text))
    for phase, value in seconds.items():
        print(f"{phase}: {value / len(rows):.2f} s a job")
    share = seconds["journal"] / seconds.total()
    print(f"{len(rows)} jobs at once wait {share:.1%} of their time in the journal (at most {AT_MOST:.0%})")
    return share


if __name__ == "__main__":
    main()
