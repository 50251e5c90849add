"""Names of the files that have what jobs printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_ec2.report.logs import find_log, log_path
from tests.unit.machines import launchers

KEY = "20261127-110158-c96c96.12.1"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("rule align (sample=A)", "align_sample=A.12.1.log"),
        ("rule align (sample=A, unit=1)", "align_sample=A,_unit=1.12.1.log"),
        ("group both (align, sort; sample=A)", "group_both_align,_sort_sample=A.12.1.log"),
        ("rule a (path=../../etc/passwd)", "a_path=.._.._etc_passwd.12.1.log"),
        ("rule größe (n=ü)", "größe_n=ü.12.1.log"),
        ("rule a (s=\n\x1b[31m)", "a_s=_31m.12.1.log"),
        ("(/)", "job.12.1.log"),
    ],
)
def test_a_log_has_the_rule_in_its_name(label: str, name: str) -> None:
    """And nothing that a shell, a terminal or a file system would take for something else."""
    assert find_log(Path("/logs"), KEY, label) == Path("/logs/20261127-110158-c96c96", name)


@pytest.mark.parametrize("letter", ["x", "ü", "界", "𝒳"])
def test_no_label_is_too_long(letter: str, tmp_path: Path) -> None:
    """Names of files have 255 bytes at most; two that begin alike are still two."""
    first = find_log(tmp_path, "r.1.1", f"rule a (s={letter * 500}1)")
    second = find_log(tmp_path, "r.2.1", f"rule a (s={letter * 500}2)")
    assert first != second
    first.parent.mkdir()
    first.write_text("")


def test_logs_of_earlier_versions_are_found(tmp_path: Path) -> None:
    """They had the key for a name; what is not there yet will have the new name."""
    plan = launchers.plan()
    new = log_path(plan, tmp_path)
    assert find_log(tmp_path, plan.key, plan.label) == new
    old = new.with_name(f"{plan.key}.log")
    old.parent.mkdir(parents=True)
    old.write_text("")
    assert find_log(tmp_path, plan.key, plan.label) == old
    new.write_text("")
    assert find_log(tmp_path, plan.key, plan.label) == new
