"""Which environment variables the code of Snakefiles reads, and which only libraries do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from snakemake_executor_ec2.plugin import environment


class Workflow:
    """Named as Snakemake's class, by which the watch knows a Snakefile's globals."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A watch that has seen nothing, and variables to read."""
    monkeypatch.setattr(environment, "_seen", {})
    monkeypatch.setattr(os.environ, "_data", dict(os.environ._data))  # type: ignore[attr-defined]
    monkeypatch.setattr(os.environb, "_data", os.environ._data)  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("ONE", "TWO", "THREE"):
        os.environ[name] = name.lower()
    environment.listen()


def run(code: str) -> dict[str, Any]:
    """Run code as Snakemake runs a Snakefile's."""
    space: dict[str, Any] = {"workflow": Workflow()}
    exec(compile(f"import os\n{code}", str(Path.cwd() / "Snakefile"), "exec"), space)  # noqa: S102
    return space


@pytest.mark.parametrize(
    "code",
    [
        "os.environ['ONE']",
        "os.environ.get('ONE')",
        "os.getenv('ONE', 'x')",
        "'ONE' in os.environ",
        "os.environb[b'ONE']",
        "os.path.expandvars('$ONE/x')",
        "os.environ.setdefault('ONE', 'x')",
        "from os import environ\nenviron.pop('ONE')",
        "(lambda wildcards: os.environ['ONE'])('a')",
        "[os.environ[name] for name in ('ONE',)]",
        "dict(os.environ); os.environ['ONE']",
    ],
)
def test_every_way_of_reading_is_seen(code: str) -> None:
    """With the value that was found."""
    run(code)
    assert environment.read() == {"ONE": "one"}


def test_a_variable_that_is_not_set_was_read_too(tmp_path: Path) -> None:
    """On the machine it must not be set, either. `~` asks for HOME."""
    run(
        "os.environ.get('MISSING'); os.path.expanduser('~/x')\n"
        "from pathlib import Path\nPath('~').expanduser()"
    )
    assert environment.read() == {"MISSING": None, "HOME": os.environ["HOME"]}


def test_the_first_value_counts() -> None:
    """What a Snakefile changes itself it changes there, too."""
    run("os.environ['ONE'] = os.environ['ONE'] + ':more'; os.environ['ONE']; os.environ['NEW'] = 'x'")
    assert environment.read() == {"ONE": "one"}


@pytest.mark.parametrize(
    "code",
    [
        "os.environ.copy()",
        "dict(os.environ)",
        "{**os.environ, 'X': 'y'}",
        "{name: value for name, value in os.environ.items()}",
        "list(os.environ)",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], env=dict(os.environ))",
        "import shutil, tempfile; shutil.which('ls'); tempfile.gettempdir()",
    ],
)
def test_reading_all_is_reading_none(code: str) -> None:
    """Nor is what libraries look up for themselves the workflow's."""
    run(code)
    assert environment.read() == {}


def test_modules_of_the_workflow_count_and_libraries_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At import and in functions; told apart by where they are."""
    library = tmp_path_factory.mktemp("library")
    monkeypatch.syspath_prepend(library)
    (tmp_path / "own_module.py").write_text(
        "import os\nA = os.environ['ONE']\ndef f(): return os.getenv('TWO')\n"
    )
    (library / "a_library.py").write_text("import os\nA = os.environ['THREE']\n")
    run("import own_module, a_library; own_module.f()")
    assert environment.read() == {"ONE": "one", "TWO": "two"}
    for name in ("own_module", "a_library"):
        del sys.modules[name]


def test_code_that_has_not_run_is_looked_through() -> None:
    """The body of a `run:` reads the environment when its job runs: what it names is known before."""
    space = run(
        "def other(): return os.path.expandvars('$TWO/x')\n"
        "def body(): return [os.environ.get('ONE'), other(), os.environ.get('MISSING')]\n"
        "def without(): return 'THREE'"
    )
    body, without = space["body"], space["without"]
    assert isinstance(body, FunctionType)
    assert environment.named_in(body) == {"ONE": "one", "TWO": "two"}
    assert environment.named_in(without) == {}


def test_what_a_resource_refers_to_is_known() -> None:
    """Snakemake puts variables into resources of profiles, `tmpdir` only where the job runs."""
    text = "/scratch/$ONE/${TWO}x/$MISSING/$ONEx"
    assert environment.named_by_text(text) == {"ONE": "one", "TWO": "two"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "machine") for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "CONDA_PREFIX", "HOME")),
        *((name, "secret") for name in ("AWS_PROFILE", "GITHUB_TOKEN", "api_key", "DB_PASSWORD")),
        *((name, "travels") for name in ("RUN_MODE", "DATA_DIR", "PATHS")),
    ],
)
def test_what_travels(name: str, kind: str) -> None:
    """What belongs to a computer stays, and what may be a secret has to be declared."""
    found = "machine" if environment.is_the_machines(name) else "travels"
    found = "secret" if environment.may_be_secret(name) else found
    assert found == kind


@pytest.mark.parametrize(
    "code",
    [
        "os.environ['ONE'] = 'x'",
        "del os.environ['ONE']",
        "os.environ.update(ONE='x')",
        "os.environ.pop('ONE')",
        "os.environb[b'ONE'] = b'x'",
    ],
)
def test_what_a_snakefile_sets_itself_is_known(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is run without a Snakefile needs it all the same; what libraries set is not it."""
    monkeypatch.setattr(environment, "_written", set())
    os.environ["TWO"] = "set by something else"
    run(code)
    assert environment.written() == {"ONE"}
