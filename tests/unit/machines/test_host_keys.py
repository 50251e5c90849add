"""What becomes of machines whose host key could not be renewed."""

from __future__ import annotations

import itertools

import pytest

from snakemake_executor_ec2.errors import PreparationError
from snakemake_executor_ec2.machines.host_keys import SHARED_S, UNRENEWED, FirstKeys, HostKeys
from snakemake_executor_ec2.model import KeyPair
from tests.fakes.clock import FakeClock


def test_nothing_is_sent_unless_it_is_allowed() -> None:
    """The refusal names the machine, why, and the option."""
    keys = HostKeys(first_is_enough=False, tell=pytest.fail)
    with pytest.raises(PreparationError, match=r"i-1 could not .*\(no sudo\).*--ec2-allow-first-host-key"):
        keys.not_renewed("i-1", "no sudo")


def test_it_is_told_once_where_it_is_allowed() -> None:
    """Of ten machines that keep their keys the first one is named."""
    said: list[str] = []
    keys = HostKeys(first_is_enough=True, tell=said.append)
    for number in range(10):
        keys.not_renewed(f"i-{number}", "no sudo")
        keys.check()
    (only,) = said
    assert "i-0 " in only


@pytest.mark.parametrize("renewed", [True, False])
def test_more_are_launched_only_where_one_has_a_key_of_its_own(renewed: bool) -> None:
    """Several machines that can't renew theirs, and none that could, end the launching."""
    keys = HostKeys(first_is_enough=False, tell=pytest.fail)
    if renewed:
        keys.renewed()
    for number in range(UNRENEWED):
        keys.check()
        with pytest.raises(PreparationError):
            keys.not_renewed(f"i-{number}", "no sudo")
    if renewed:
        keys.check()
        return
    with pytest.raises(PreparationError, match="Nothing more is launched"):
        keys.check()


@pytest.mark.parametrize(("first_is_enough", "keys"), [(False, 2), (True, 4)])
def test_first_keys_are_shared_for_a_moment(first_is_enough: bool, keys: int) -> None:
    """Machines of the same seconds have the same first key, later ones another; none shares a key that it may
    keep."""
    clock = FakeClock()
    numbers = itertools.count()
    first = FirstKeys(
        first_is_enough=first_is_enough,
        clock=clock,
        make=lambda: KeyPair(private="", public=f"ssh-ed25519 {next(numbers)}"),
    )
    taken = []
    for _ in range(2):
        taken += [first.take(), first.take()]
        clock.advance(SHARED_S)
    assert len({*taken}) == keys
    assert taken[0] not in taken[2:]
