"""`snakemake-ec2 bake`: what it refuses, and that a deletion which fails hinders no other."""

from __future__ import annotations

import os
import signal
import threading
from argparse import Namespace
from types import SimpleNamespace

import pytest

from snakemake_executor_ec2.cli import bake, main
from snakemake_executor_ec2.cli.interrupting import interrupts
from snakemake_executor_ec2.errors import CloudError, ConfigurationError
from snakemake_executor_ec2.model import JobOutcome


@pytest.mark.parametrize(
    "words", [["--list", "ami-1"], ["--delete"], ["--list", "--all"], ["--delete", "--all", "ami-1"]]
)
def test_which_images_are_meant_has_to_be_said(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Names or all of them, for a deletion; none for a list."""
    with pytest.raises(SystemExit):
        main(["bake", *words])
    assert "--delete takes images or --all" in capsys.readouterr().err


def test_no_image_on_a_cloud_that_ends_with_the_command() -> None:
    """It would be gone at once."""
    with pytest.raises(ConfigurationError, match="`snakemake-ec2 cloud` serves one that stays"):
        bake._bake(None, SimpleNamespace(cloud="local"), Namespace())


def test_a_deletion_that_fails_hinders_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Its sentence is printed, and the command has failed."""
    gone: list[str] = []

    def delete(name: str) -> None:
        if name == "ami-1":
            raise CloudError("the image ami-1 is deleted, but not its snapshot")
        gone.append(name)

    assert bake._delete(SimpleNamespace(delete=delete), ["ami-1", "ami-2", "ami-2"]) == 1
    assert gone == ["ami-2"]
    printed = capsys.readouterr()
    assert "but not its snapshot" in printed.err
    assert printed.out == "deleted ami-2 and its snapshot\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_story_and_what_comes_after_it(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """The machine's story is cancelled and waited for, a second signal hinders nothing, and no other image is
    begun."""
    over = False

    def cancel() -> None:
        nonlocal over
        os.kill(os.getpid(), number)
        over = True

    def begin(_plan: object, _tell: object) -> SimpleNamespace:
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        outcome = JobOutcome(ok=False, cancelled=True, message="no image was made: cancelled")
        return SimpleNamespace(done=lambda: over, result=lambda: outcome)

    before = signal.getsignal(number)
    run = SimpleNamespace(begin=begin, cancel=cancel, images=None)
    with pytest.raises(KeyboardInterrupt), interrupts():
        bake._made(run, SimpleNamespace(plan=None))

    assert over
    assert "no image was made: cancelled" in capsys.readouterr().err
    assert signal.getsignal(number) is before
