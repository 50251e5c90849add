"""Which logs and benchmarks of earlier jobs are sent: those that the job's own code may read."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from snakemake_executor_ec2.plugin.earlier_logs import read_logs, small_beside

RECORDS = ["logs/align/A.log", "bench/A.tsv", "results/A/report.txt"]
LOG, BENCHMARK, REPORT = RECORDS


def job(**rule: Any) -> Any:
    """A job of Snakemake's: its params, and what its rule runs."""
    kinds = dict.fromkeys(("shellcmd", "script", "notebook", "wrapper", "template_engine", "cwl", "run_func"))
    params = rule.pop("params", [])
    return SimpleNamespace(
        rule=SimpleNamespace(**{**kinds, "is_run": "run_func" in rule, **rule}), params=params
    )


def read(one: Any, command: str | None = None, sources: tuple[Path, ...] = ()) -> list[str]:
    return read_logs([one], RECORDS, commands=[command], sources=sources)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("sort results/A/sorted.bam > out/A.txt 2> logs/sort/A.log", []),
        ("awk '{print $1 * $2}' results/A/sorted.bam", []),
        ("tail -n1 logs/align/A.log results/A/sorted.bam", [LOG]),
        (f"cat '{Path.cwd()}/logs/align/A.log'", [LOG]),
        ("cd logs/align && cat ./A.log", [LOG]),
        ("multiqc --outdir=out logs/", [LOG]),
        ("align --sample A results/A/sorted.bam", []),
        ("multiqc -o out .", sorted(RECORDS)),
        ("multiqc $PWD", sorted(RECORDS)),
        ("cat logs/*/*.log bench/?.tsv", [BENCHMARK, LOG]),
        ("grep -h x */*/*.txt", [REPORT]),
        ("for x in A B; do cat logs/align/$x.log; done", [LOG]),
        ("f=results/A/sorted.bam; cat $(dirname $f)/report.txt", sorted(RECORDS)),
        ("multiqc $(dirname results/A/sorted.bam)", sorted(RECORDS)),
        ("f=results/A/sorted.bam; multiqc ${f%/*}", sorted(RECORDS)),
        ("cat bench/{A,B}.tsv", [BENCHMARK]),
        ("find . -name '*.bam'", sorted(RECORDS)),
    ],
)
def test_what_a_command_names(command: str, found: list[str]) -> None:
    """The file itself, a folder that it is in, or a pattern; what lies beside a named file only if
    the command asks for that one's folder."""
    assert read(job(), command) == sorted(found)


def test_what_params_and_functions_name(tmp_path: Path) -> None:
    """Also in functions of the workflow's that a `run:` body calls, and by the ending alone."""
    text = 'WHERE = "bench"\ndef read():\n    return open(WHERE + "/x")\n\ndef body():\n    return read()\n'
    (tmp_path / "Snakefile").write_text(text)
    of = runpy.run_path(str(tmp_path / "Snakefile"))

    assert read(job(params=[{"of": ["logs/align"]}], shellcmd="summary {params}")) == [LOG]
    assert read(job(run_func=of["body"])) == [BENCHMARK]
    assert read(job(run_func=lambda input: [each.replace(".bam", ".log") for each in input])) == [LOG]
    assert read(job(run_func=lambda input: Path(input[0]).parent.iterdir())) == sorted(RECORDS)
    assert read(job(shellcmd="Rscript -e 'list.files(commandArgs(TRUE)[1])' x")) == sorted(RECORDS)


def test_what_scripts_name(tmp_path: Path) -> None:
    """Scripts of the rule, and files of the workflow's that they call; Snakefiles name every log."""
    files = {
        "scripts/sum.py": "from lib import times\ntimes.all(snakemake.input)\n",
        "lib/times.py": "import glob\ndef all(_):\n    return glob.glob('bench/**/*.tsv', recursive=True)\n",
        "lib/unrelated.py": "open('logs/align/A.log')\n",
        "Snakefile": "rule align:\n    log: 'logs/align/{sample}.log'\n",
        "scripts/total.R": 'x <- log(a * b)\nreadLines(sprintf("logs/align/%s.log", name))\n',
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    sources = tuple(tmp_path / name for name in files)

    assert read(job(script="scripts/sum.py"), sources=sources) == [BENCHMARK]
    assert read(job(), "Rscript scripts/total.R results/A/sorted.bam", sources) == [LOG]


def test_code_that_cannot_be_read_here_may_read_all() -> None:
    """A wrapper from the web, say."""
    assert read(job(wrapper="v1.0/bio/multiqc")) == sorted(RECORDS)


def test_outputs_beside_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files that are no input themselves; not those elsewhere, folders, or what is not there."""
    monkeypatch.chdir(tmp_path)
    for folder in ("star/A", "star/B", "star/A/folder"):
        Path(folder).mkdir(parents=True)
    for name in ("star/A/a.bam", "star/A/Log.final.out", "star/B/Log.final.out"):
        Path(name).touch()
    Path("star/A/large").write_bytes(bytes((1 << 20) + 1))
    outputs = ["star/A/a.bam", "star/A/Log.final.out", "star/A/large", "star/A/folder", "star/A/gone"]
    assert small_beside([*outputs, "star/B/Log.final.out"], ["star/A/a.bam"]) == {"star/A/Log.final.out"}
