"""Where a workflow's code finds itself on a machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import os, sys
from snakemake_executor_ec2.runner import places
places.lead_home("/home/me")
def snakefile(text):
    exec(compile(text, "/w/Snakefile", "exec"), {})
"""


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            "HOME": "/home/ec2-user",
            "PATH": "/usr/bin:/bin",
            "XDG_CACHE_HOME": str(folder.parent / "cache"),
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "asked",
    [
        "os.path.expanduser('~/refs/x.fa')",
        "os.path.expanduser(Path('~/refs/x.fa'))",
        "os.fsdecode(os.path.expanduser(b'~/refs/x.fa'))",
        "os.path.expandvars('$HOME/refs/x.fa')",
        "os.environ['HOME'] + '/refs/x.fa'",
        "os.getenv('HOME') + '/refs/x.fa'",
        "Path('~/refs/x.fa').expanduser()",
        "Path.home() / 'refs' / 'x.fa'",
        "(lambda wildcards: expanduser('~/refs/x.fa'))(1)",
    ],
)
def test_home_is_the_controllers_for_code_of_the_workflow(asked: str, tmp_path: Path) -> None:
    """By all ways in which Python asks for it."""
    text = f"import os\\nfrom pathlib import Path\\nfrom os.path import expanduser\\nprint({asked})"
    assert run(f'snakefile("""{text}""")', tmp_path) == "/home/me/refs/x.fa"


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess; snakefile('import os; os.system(\"echo ~\")')",
        "exec(compile('import os; print(os.path.expanduser(\"~\"))', sys.prefix + '/lib/a.py', 'exec'), {})",
        "exec(compile('import os; print(os.environ[\"HOME\"])', '/x/site-packages/a.py', 'exec'), {})",
    ],
)
def test_home_is_the_machines_for_all_others(code: str, tmp_path: Path) -> None:
    """Commands and libraries write there: caches, settings."""
    assert run(code, tmp_path) == "/home/ec2-user"


def test_paths_before_workdir_count_from_where_snakemake_was_started(tmp_path: Path) -> None:
    """And those after it from the working directory, whatever the Snakefile calls that."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "base.yaml").write_text("place: runs/one\n")
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "Snakefile").write_text(
        'configfile: "conf/base.yaml"\nworkdir: config["place"]\n'
        'rule a:\n    output: "a.txt"\n    shell: "pwd > {output}"\n'
    )
    run(
        "from snakemake import cli\n"
        "parser, options = cli.parse_args(['--snakefile', '../../Snakefile', '--directory', '.', '-c1'])\n"
        f"places.begin_in({str(tmp_path)!r}, options)\n"
        "sys.exit(not cli.args_to_api(options, parser))",
        tmp_path / "runs" / "one",
    )
    assert (tmp_path / "runs/one/a.txt").read_text() == f"{tmp_path}/runs/one\n"
    assert not (tmp_path / "runs/one/runs").exists()


def test_the_snakefile_is_called_as_it_is_on_the_controller(tmp_path: Path) -> None:
    """`workflow.basedir` is the same text on both, if the machine has the Snakefile at that place."""
    for name in ("workflow", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "workflow" / "Snakefile").write_text(
        'rule a:\n    output: "a.txt"\n    shell: "echo {workflow.basedir} > {output}"\n'
    )
    (tmp_path / "closed").mkdir(mode=0)  # as /root is, which root's own workflows are in
    for here, there in (
        (f"{tmp_path}/closed/workflow", f"{tmp_path}/work/../workflow"),
        ("/" + "n" * 300, f"{tmp_path}/work/../workflow"),
        (f"{tmp_path}/workflow", f"{tmp_path}/workflow"),
        (f"{tmp_path}/work/../workflow", f"{tmp_path}/work/../workflow"),
        ("/nowhere/workflow", f"{tmp_path}/work/../workflow"),
    ):
        run(
            "from snakemake import cli\n"
            "parser, options = cli.parse_args(['--snakefile', '../workflow/Snakefile', '-F', '-c1'])\n"
            f"places.call_snakefile({here!r} + '/Snakefile', options)\n"
            "sys.exit(not cli.args_to_api(options, parser))",
            tmp_path / "work",
        )
        assert (tmp_path / "work" / "a.txt").read_text() == f"{there}\n"
