"""What a job can use of a machine's memory, against what was measured on real ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_ec2.sizing.memory import RESERVED_MIB, job_mb, usable_mib

# (nominal MiB, MiB that are missing once Linux runs): Karpenter's measured table.
MEASURED = {
    "t3.micro": (1024, 103),
    "t3.medium": (4096, 253),
    "c5.large": (4096, 433),
    "m5.large": (8192, 559),
    "m6i.large": (8192, 405),
    "m6i.4xlarge": (65536, 2270),
    "c5.18xlarge": (147456, 6727),
}


@pytest.mark.parametrize("name", MEASURED)
def test_what_fits_by_the_rule_fits_in_reality(name: str) -> None:
    """The largest job that fits a type by our rule fits what was measured, with our reserve."""
    nominal, lost = MEASURED[name]
    assert job_mb(nominal) * 10**6 <= (nominal - lost - RESERVED_MIB) * 2**20


@pytest.mark.parametrize("name", MEASURED)
def test_the_rule_wastes_little(name: str) -> None:
    """What the rule leaves unused is at most 5 % of the machine and 300 MiB."""
    nominal, lost = MEASURED[name]
    assert nominal - lost - usable_mib(nominal) <= 0.05 * nominal + 300


@given(st.integers(0, 2**26))
def test_never_negative(nominal: int) -> None:
    """A machine of any size has no negative memory."""
    assert 0 <= job_mb(nominal) * 10**6 <= usable_mib(nominal) * 2**20


@given(st.integers(0, 2**26), st.integers(0, 2**26))
def test_monotonic(smaller: int, larger: int) -> None:
    """More nominal memory never means less for a job."""
    smaller, larger = sorted((smaller, larger))
    assert job_mb(smaller) <= job_mb(larger)


@given(st.integers(1, 2**26), st.integers(1, 2**26))
def test_the_rule_is_that_of_the_facts(nominal: int, mem_mb: int) -> None:
    """`job_mb` says the same as the rule written as an inequality, within 2 MiB of rounding."""
    left = 0.95 * nominal - 256 - (mem_mb * 10**6 / 2**20 + 300)
    if abs(left) > 2:
        assert (mem_mb <= job_mb(nominal)) is (left > 0)


def test_megabytes_are_not_mebibytes() -> None:
    """Snakemake's megabyte has 10^6 bytes, EC2's MiB 2^20."""
    assert job_mb(8192) == (8192 * 95 // 100 - 256 - 300) * 2**20 // 10**6
