"""What goes to a machine without being declared, as the user can see and change it."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from snakemake_executor_ec2.testing import WorkflowRunner

SNAKEFILE = """
rule all:
    input: "out/a.txt", "out/b.txt"

rule a:
    input: "data/a.csv"
    output: "out/a.txt"
    params: model=f"{workflow.basedir}/model.bin"
    shell: "python tools/helper.py {input} lookup/table.tsv > {output}"

rule b:
    input: "out/a.txt"
    output: "out/b.txt"
    params: model=f"{workflow.basedir}/model.bin"
    shell: "find . -name 'not*' -readable -o -name '*.csv' -readable -o -name 'large*' -readable > {output}"
"""


def test_the_user_says_what_travels_and_sees_it(run_workflow: WorkflowRunner) -> None:
    """Include, exclude and the size limit decide; reasons are shown, and once what is too large."""
    for name in ("large.sh", "model.bin"):
        (run_workflow.folder / name).write_bytes(bytes(10_000_001))
    run = run_workflow(
        {
            "Snakefile": SNAKEFILE,
            "data/a.csv": "a" * 1500,
            "tools/helper.py": "import sys\nprint(*(open(name).read() for name in sys.argv[1:]))\n",
            "tools/notes.py": "",
            "lookup/table.tsv": "looked up",
        },
        *("--ec2-include", "lookup/*.tsv", "--ec2-exclude", "tools/notes.py", "--ec2-show-staging"),
    )

    assert run.returncode == 0, run.output
    assert (run.folder / "out/a.txt").read_text().endswith("looked up\n")
    assert (run.folder / "out/b.txt").read_text() == ""
    assert run.output.count("large.sh is larger than 10 MB") == 1
    assert run.output.count("model.bin is larger than 10 MB") == 1
    assert run.output.count("sent with every job: 3 files") == 1
    assert "--ec2-include: lookup/table.tsv 9 B" in run.output
    assert "left out by --ec2-exclude, 1 file of 0 B: tools/notes.py" in run.output
    assert "sent to the machine of rule a: 1 file of 1.5 kB (input): data/a.csv 1.5 kB" in run.output


def test_snakefiles_from_the_web_are_fetched_by_this_computer_only(
    run_workflow: WorkflowRunner, tmp_path: Path
) -> None:
    """Machines get what was read here: they may have no way, or no right, to fetch it themselves."""
    site, asked = tmp_path / "site", list[str]()
    site.mkdir()
    (site / "Snakefile").write_text('rule all:\n    input: "one.txt"\n\ninclude: "part.smk"\n')
    (site / "part.smk").write_text('rule one:\n    output: "one.txt"\n    shell: "touch {output}"\n')

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/Snakefile"
        dry = run_workflow({}, "--snakefile", url, "--dry-run")
        by_dry_run = sorted(asked)
        asked.clear()
        run = run_workflow({}, "--snakefile", url)
        server.shutdown()

    assert dry.returncode == 0, dry.output
    assert run.returncode == 0, run.output
    assert sorted(asked) == by_dry_run != []
    assert (run.folder / "one.txt").exists()


RECORDS = r"""
rule all:
    input: "ignores.txt", "names.txt", "declares.txt", "hides.txt"

rule made:
    output: "made.txt"
    log: "logs/made.log"
    benchmark: "bench/made.tsv"
    shell: "echo told > {log}; touch {output}"

rule ignores:
    input: "made.txt"
    output: "ignores.txt"
    log: "logs/ignores.log"
    shell: "cp {input} {output} 2> {log}"

rule names:
    input: "made.txt"
    output: "names.txt"
    shell: "cat logs/*.log > {output}"

rule declares:
    input: "made.txt", log="logs/made.log"
    output: "declares.txt"
    shell: "cp {input.log} {output}"

rule hides:
    input: "made.txt"
    output: "hides.txt"
    shell: "cat $(printf 'l\\157gs/made.l\\157g') > {output}"
"""


def test_logs_are_sent_to_those_that_read_them(run_workflow: WorkflowRunner) -> None:
    """With a job that declares or names them. One that finds the name in another way is told what to do."""
    run = run_workflow({"Snakefile": RECORDS}, "--ec2-show-staging", "--keep-going", "--jobs", "4")

    told = "sent to the machine of rule {}: "
    assert run.returncode != 0
    assert told.format("ignores") + "1 file of 0 B (input): made.txt" in run.output
    assert told.format("hides") + "1 file of 0 B (input): made.txt" in run.output
    assert told.format("names") + "2 files of 5 B (input): logs/made.log 5 B, made.txt 0 B" in run.output
    for name in ("names", "declares"):
        assert (run.folder / f"{name}.txt").read_text() == "told\n", name
    assert not (run.folder / "hides.txt").exists()
    assert "logs/made.log exists on your computer but was not sent to the machine" in run.output
    assert "add it to the input of hides" in run.output
