"""Who gets a large file from whom: once from the controller, then from each other, as a tree."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from snakemake_executor_ec2.machines.fan_out import SERVED_AT_ONCE, Copy, FanOut, File, Send, Wait

FILE = File(keys=("sent", "made"), size=200 << 20)


def copy(machine_id: str, zone: str = "a", size: int = 200 << 20) -> Copy:
    return Copy(
        machine_id=machine_id,
        zone=zone,
        name="n" * 64,
        path="/w/large",
        host_keys=("ssh-ed25519 AAAA",),
        ahead_s=0.0,
        content=Path("/w/large"),
        size=size,
    )


class World:
    """Machines that all need one file, in rounds: a transfer takes one."""

    def __init__(self, zones: dict[str, str]) -> None:
        self.fan_out = FanOut()
        self.zones = zones
        self.now = 0.0
        self.under_way: dict[str, str | None] = {}
        self.sources: list[str | None] = []
        self.most_at_once = 0

    def begin(self) -> None:
        for machine_id in self.zones.keys() - self.under_way.keys():
            step = self.fan_out.step(FILE, machine_id, self.zones[machine_id], self.now)
            if not isinstance(step, Wait):
                source = None if isinstance(step, Send) else step.machine_id
                self.fan_out.begin(FILE, machine_id, self.zones[machine_id], self.now, source)
                self.under_way[machine_id] = source
        served = Counter(source for source in self.under_way.values() if source)
        self.most_at_once = max(self.most_at_once, *served.values(), 0)

    def end(self) -> None:
        for machine_id, source in self.under_way.items():
            self.fan_out.has(FILE.keys[0], copy(machine_id, self.zones.pop(machine_id)))
            self.fan_out.end(FILE, machine_id)
            self.sources.append(source)
        self.under_way.clear()
        self.now += 1


def test_it_leaves_the_controller_once() -> None:
    """Twenty machines have it after four transfers, one of them the controller's, and none serves more than
    two at a time."""
    world = World({str(number): "a" for number in range(20)})
    rounds = 0
    while world.zones:
        world.begin()
        world.end()
        rounds += 1
    assert world.sources.count(None) == 1
    assert rounds == 4
    assert world.most_at_once == SERVED_AT_ONCE


def test_it_comes_to_another_zone_once() -> None:
    """Traffic between zones costs: the others there wait for the one that gets it."""
    zones = {str(number): "abc"[number % 3] for number in range(18)}
    world = World(dict(zones))
    while world.zones:
        world.begin()
        between = [one for one, source in world.under_way.items() if source and zones[one] != zones[source]]
        assert len({zones[one] for one in between}) == len(between)
        world.end()
    assert world.sources.count(None) == 1


def test_a_transfer_that_stands_still_is_not_waited_for() -> None:
    """One that goes on is, however long it takes."""
    fan_out = FanOut()
    fan_out.begin(FILE, "1", "a", 0.0, None)
    assert fan_out.step(FILE, "2", "a", 59.0) == Wait()
    fan_out.progressed(FILE, "1", 100 << 20)
    assert fan_out.step(FILE, "2", "a", 1000.0) == Wait()
    assert fan_out.step(FILE, "2", "a", 2000.0) == Send()
    fan_out.has("sent", copy("3"))
    for machine_id in "45":
        fan_out.begin(FILE, machine_id, "a", 3000.0, "3")
    assert fan_out.step(FILE, "2", "a", 3250.0) == Wait()
    assert isinstance(fan_out.step(FILE, "2", "a", 3270.0), Copy)  # who gets files has given up by now


@pytest.mark.parametrize("spoilt", ["has not", "gone", "avoid"])
def test_what_a_machine_cannot_give_is_sent(spoilt: str) -> None:
    """It has it no more, it has ended, or it was tried before."""
    fan_out = FanOut()
    fan_out.has("made", copy("1"))
    step = fan_out.step(FILE, "2", "a", 0.0)
    assert isinstance(step, Copy)
    if spoilt == "has not":
        for _ in range(3):
            fan_out.has_not(FILE, "1", reader="3")
        assert isinstance(fan_out.step(FILE, "2", "a", 0.0), Copy)  # one alone may be wrong, or hostile
        fan_out.has_not(FILE, "1", reader="4")
    if spoilt == "gone":
        fan_out.gone("1")
    avoid = ["1"] if spoilt == "avoid" else []
    assert fan_out.step(FILE, "2", "a", 0.0, avoid=avoid) == Send()


def test_a_failed_transfer_makes_room_for_another() -> None:
    """A machine that was to bring it, and did not, is not waited for."""
    fan_out = FanOut()
    fan_out.begin(FILE, "1", "a", 0.0, None)
    fan_out.end(FILE, "1")
    assert fan_out.step(FILE, "2", "a", 0.0) == Send()


def test_a_machine_that_is_cleaned_is_waited_for() -> None:
    """Its files are on the move."""
    fan_out = FanOut()
    fan_out.has("sent", copy("1"))
    fan_out.occupy("1", occupied=True)
    assert fan_out.step(FILE, "2", "a", 0.0) == Wait()
    fan_out.occupy("1", occupied=False)
    assert isinstance(fan_out.step(FILE, "2", "a", 0.0), Copy)


def test_those_that_are_not_needed_do_not_leave_all_at_once() -> None:
    """Of eight machines that have what twelve jobs will read, so many stay as can serve all at once; they
    go as it is read, the last one after the last reader."""
    fan_out = FanOut()
    staying = [str(number) for number in range(8)]
    for each in staying:
        fan_out.has("sent", copy(each))
    for number in range(12):
        fan_out.expect(str(number), [Path("/w/large")])
    number_staying = []
    for number in range(13):
        staying = [each for each in staying if not fan_out.leave(each, 0.0)]
        number_staying.append(len(staying))
        fan_out.settled(str(number))
    assert number_staying == [6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0]


def test_a_machine_is_needed_for_those_that_others_cannot_serve() -> None:
    """As long as it serves, and while more jobs are to read what it has than the other copies can serve."""
    fan_out = FanOut()
    fan_out.has("sent", copy("1"))
    assert not fan_out.needed("1", 0.0)
    fan_out.expect("job", [Path("/w/large")])
    assert fan_out.needed("1", 0.0, least=100 << 20)
    assert not fan_out.needed("1", 0.0, least=300 << 20)
    fan_out.has("sent", copy("2"))
    assert not fan_out.needed("1", 0.0)
    fan_out.begin(FILE, "3", "a", 0.0, "1")
    fan_out.settled("job")
    assert fan_out.needed("1", 0.0, least=300 << 20)
    fan_out.end(FILE, "3")
    assert not fan_out.needed("1", 0.0)
