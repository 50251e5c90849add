"""What scripts of rules need of the machine's Python."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from snakemake_executor_ec2.staging.script_imports import lacking

PANDAS = f"pandas=={version('pandas')}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import pandas as pd", (PANDAS,)),
        ("from pandas.api import types", (PANDAS,)),
        ("def f():\n    import pandas", (PANDAS,)),
        ("import nowhere_at_all.x", ("nowhere_at_all",)),
        ("import os, sys\nfrom pathlib import Path", ()),
        ("try:\n    import pandas\nexcept ImportError:\n    pandas = None", ()),
        ("from snakemake.script import snakemake\nimport yaml, snakemake", ()),
        ("import helper\nfrom . import other\nfrom lib.x import y\nimport tools", ()),
        ("this is no Python", ()),
    ],
)
def test_what_machines_lack_is_known_from_the_text(tmp_path: Path, text: str, told: tuple[str, ...]) -> None:
    """Neither the standard library, nor what Snakemake brings, nor modules that travel."""
    (tmp_path / "scripts" / "lib").mkdir(parents=True)
    (tmp_path / "scripts" / "helper.py").write_text("")
    (tmp_path / "tools.py").write_text("")
    script = tmp_path / "scripts" / "a.py"
    script.write_text(text)

    assert lacking([script], own=[tmp_path], have=["snakemake==9"]) == told


def test_what_requirements_name_is_there(tmp_path: Path) -> None:
    """With all that it requires itself; comments and options of the file are none."""
    script = tmp_path / "a.py"
    script.write_text("import pandas, numpy")

    have = ["# pandas", "-r more.txt", "pandas >= 1 # any"]
    assert lacking([script], own=(), have=have) == ()
    assert lacking([script], own=(), have=["# pandas"]) == (f"numpy=={version('numpy')}", PANDAS)


def test_a_notebook_is_read_as_its_code(tmp_path: Path) -> None:
    """Its cells of code, without what is IPython's; a file that is none brings nothing."""
    cells = [
        {"cell_type": "markdown", "source": ["import numpy"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "import pandas\n", "!ls"]},
    ]
    (tmp_path / "a.py.ipynb").write_text(json.dumps({"cells": cells}))
    (tmp_path / "b.py.ipynb").write_text("")

    scripts = [tmp_path / name for name in ("a.py.ipynb", "b.py.ipynb", "missing.py")]
    assert lacking(scripts, own=(), have=()) == (PANDAS,)
