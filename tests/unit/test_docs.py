"""The documentation tells of everything that there is to be set."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import snakemake_executor_ec2
from snakemake_executor_ec2.plugin.settings import ExecutorSettings

POLICY = Path(snakemake_executor_ec2.__file__).parent / "aws/policy.json"
ROOT = Path(__file__).parents[2]
FURTHER = (ROOT / "docs" / "further.md").read_text()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ExecutorSettings)])
def test_every_option_is_documented(name: str) -> None:
    """docs/further.md has a row for each option."""
    assert f"| `--ec2-{name.replace('_', '-')}`" in FURTHER


RESOURCES = """threads mem_mb mem_mib disk_mb disk_mib runtime gpu gpu_model gpu_mem_mb
    ec2_instance_type ec2_arch ec2_spot ec2_ami ec2_nvme_gb ec2_network_gbps"""


@pytest.mark.parametrize("name", RESOURCES.split())
def test_every_resource_is_documented(name: str) -> None:
    """docs/further.md tells of each resource that sizes a machine."""
    assert f"`{name}`" in FURTHER


def test_the_policy_is_shown_as_it_is() -> None:
    """docs/further.md has the package's policy, word for word."""
    assert f"```json\n{POLICY.read_text()}```" in FURTHER


def test_the_threat_model_names_tests_that_there_are() -> None:
    """Each file that docs/threat-model.md names exists."""
    named = re.findall(
        r"`(tests/[\w/.]+|snakemake_\w+/[\w/.]+)`", (ROOT / "docs/threat-model.md").read_text()
    )
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []
