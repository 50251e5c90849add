"""What of a workflow goes to the machine that runs the whole of it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.plugin.away import notifying, refuse, without
from snakemake_executor_ec2.plugin.notify import receiver
from snakemake_executor_ec2.plugin.settings import ExecutorSettings


def workflow(**changes: Any) -> Any:
    facts = {
        "workdir_init": str(Path.cwd()),
        "persistence": SimpleNamespace(_metadata_path="x"),
        "envvars": set(),
        "resource_settings": SimpleNamespace(nodes=4),
    }
    return SimpleNamespace(**{**facts, **changes})


def test_options_that_the_machine_gets_otherwise_are_left_out() -> None:
    """With their values, in both forms; nothing else."""
    given = ["-j", "4", "--ec2-region", "eu-west-1", "--ec2-detach", "--ec2-ssh-from=1.2.3.4/32", "target"]
    left_out = ("--ec2-region", "--ec2-ssh-from", "--ec2-detach")
    assert without(given, left_out) == ["-j", "4", "target"]


@pytest.mark.parametrize(
    ("changes", "arguments", "words"),
    [
        ({"envvars": {"AWS_SECRET_ACCESS_KEY"}}, [], "your AWS credentials stay on your computer"),
        ({"workdir_init": "/elsewhere"}, [], "start it there"),
        ({"persistence": SimpleNamespace()}, [], "--persistence-backend"),
        ({"resource_settings": SimpleNamespace(nodes=None)}, [], "--jobs N is missing"),
        ({}, ["--profile", "mine"], "--profile names what is only on your computer"),
        ({}, ["--ec2-ssh-key=~/.ssh/id"], "a private key stays"),
    ],
)
def test_what_is_only_here_is_refused(changes: dict[str, Any], arguments: list[str], words: str) -> None:
    """Before anything is launched, with what to do instead."""
    with pytest.raises(ConfigurationError, match=words):
        refuse(workflow(**changes), ExecutorSettings(), arguments)


def test_the_rehearsal_that_ends_with_the_command_is_refused() -> None:
    """Its machines would end with it."""
    with pytest.raises(ConfigurationError, match="snakemake-ec2 cloud"):
        refuse(workflow(), ExecutorSettings(cloud="local"), [])


def test_an_ordinary_workflow_is_not_refused() -> None:
    """Variables that are not AWS's may be declared."""
    refuse(workflow(envvars={"TOKEN"}), ExecutorSettings(), ["-j", "2"])


def test_a_script_that_tells_of_the_end_goes_along(tmp_path: Path) -> None:
    """No rule names it; what is private, elsewhere or no file does not go."""
    for name in ("tell.py", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    told = receiver("python3 tell.py .git/config /etc/hostname --to lab")
    assert notifying(told, tmp_path) == (tmp_path / "tell.py",)
    assert notifying(receiver("https://example.org/x"), tmp_path) == ()
    assert notifying(None, tmp_path) == ()
