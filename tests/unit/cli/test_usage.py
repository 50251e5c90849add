"""What a user is told who does not know the command yet, or mistypes."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.cli import _GROUPS, main


def test_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """All commands with what they do, on one screen; and an exit status that is no success."""
    assert main([]) == 2
    shown = capsys.readouterr().out
    for name, about in ((name, about) for group in _GROUPS.values() for name, about in group.items()):
        assert f"  {name:<8}{about}" in shown
    assert len(shown.splitlines()) < 45
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("command", ["ps", "logs", "report", "ssh"])
def test_help_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its usage begins with its name; options for AWS are shown only if it asks AWS."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: snakemake-ec2 {command} [-h]")
    assert ("--region" in shown) is (command in ("ps", "ssh"))


@pytest.mark.parametrize("command", ["plan", "doctor"])
def test_a_mistyped_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence with the option that was probably meant, not Snakemake's hundred lines of usage."""
    assert main([command, "--ec2-regoin", "eu-central-1"]) == 1
    told = "".join(capsys.readouterr())
    assert "unrecognized arguments: --ec2-regoin; perhaps --ec2-region" in " ".join(told.split())
    assert "usage:" not in told


def test_an_option_of_other_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`ps` and `away setup` have --region; among Snakemake's arguments it is --ec2-region."""
    assert main(["plan", "--region", "eu-central-1"]) == 1
    assert "unrecognized arguments: --region; perhaps --ec2-region" in capsys.readouterr().err


def test_a_value_that_an_option_cannot_have(capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with it; its name is right, and none is proposed."""
    assert main(["plan", "--ec2-max-cost", "five"]) == 1
    assert capsys.readouterr().err == "argument --ec2-max-cost: invalid float value: 'five'\n"


def test_ssh_needs_a_name_only(capsys: pytest.CaptureFixture[str]) -> None:
    """A command for the machine may be left out."""
    with pytest.raises(SystemExit):
        main(["ssh"])
    assert capsys.readouterr().err.endswith("the following arguments are required: name\n")
