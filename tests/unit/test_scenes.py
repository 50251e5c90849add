"""What tests script is checked: a misspelt step would never be taken, and its test pass for nothing."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.errors import ThrottledError
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud
from tests.fakes.session import Scene
from tests.unit.aws.scripted import ScriptedEc2


def test_a_step_that_no_session_takes_is_refused() -> None:
    """The steps that there are are told."""
    scene = Scene(FakeCloud(FakeClock()))
    with pytest.raises(AssertionError, match=r"'stage_out'; there are .*stage out"):
        scene.happens["stage_out"] = list


def test_a_method_that_no_cloud_has_cannot_fail() -> None:
    """Neither in memory, nor as boto3's client."""
    with pytest.raises(AssertionError, match="lunch"):
        FakeCloud(FakeClock()).fail("lunch", ThrottledError("later"))
    with pytest.raises(AssertionError, match="run_instance'"):
        ScriptedEc2().answer("run_instance", {})
