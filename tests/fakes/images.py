"""`FakeImages`: own images in memory, as `tests/contract/test_images.py` proves them to behave."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass

from snakemake_executor_ec2.errors import CloudError, ConfigurationError, Ec2ExecutorError
from snakemake_executor_ec2.model import Arch, Image
from snakemake_executor_ec2.ports import BakedImage, Clock, ImageStore
from snakemake_executor_ec2.tags import BASE_TAG, HOLDS_TAG, OWNER_TAG, SOFTWARE_TAG
from tests.fakes.cloud import FakeCloud


@dataclass(kw_only=True)
class _Made:
    name: str
    tags: Mapping[str, str]
    gib: int
    made_at: float
    ready_at: float
    failed: str = ""


class FakeImages:
    """Images of the machines of a `FakeCloud`."""

    def __init__(self, cloud: FakeCloud, clock: Clock) -> None:
        self.pending_s = 60.0
        self.fails = ""
        """Why EC2 can make no image of those that are begun from now on."""
        self.made: dict[str, _Made] = {}
        self._cloud = cloud
        self._clock = clock
        self._count = 0
        self._errors: dict[str, deque[Ec2ExecutorError]] = defaultdict(deque)

    def fail(self, method: str, error: Ec2ExecutorError) -> None:
        """The next call of a method raises this error."""
        if not hasattr(ImageStore, method):
            raise AssertionError(f"an ImageStore has no method {method!r}, so it would never fail")
        self._errors[method].append(error)

    def find(self, digest: str | None = None) -> tuple[BakedImage, ...]:
        self._raise_planned("find")
        found = [
            self._baked(ami, each)
            for ami, each in self.made.items()
            if digest in (None, each.tags[SOFTWARE_TAG])
        ]
        return tuple(sorted(found, key=lambda each: (-each.made_at, each.image.ami)))

    def check(self, machine_id: str, *, name: str, tags: Mapping[str, str]) -> None:  # noqa: ARG002
        self._raise_planned("check")

    def make(self, machine_id: str, *, name: str, tags: Mapping[str, str]) -> str:
        self._raise_planned("make")
        self._check(machine_id)
        known = [ami for ami, each in self.made.items() if each.name == name]
        if known:
            return known[0]
        self._count += 1
        now = self._clock.monotonic()
        ami = f"ami-{self._count:017x}"
        self.made[ami] = _Made(
            name=name,
            tags=dict(tags),
            gib=self._cloud.machines[machine_id].machine.disk_gib,
            made_at=self._clock.now(),
            ready_at=now + self.pending_s,
            failed=self.fails,
        )
        return ami

    def state(self, ami: str) -> tuple[str, str]:
        self._raise_planned("state")
        made = self.made.get(ami)
        if made is None:
            return "unknown", ""
        if self._clock.monotonic() < made.ready_at:
            return "pending", ""
        return ("failed", made.failed) if made.failed else ("available", "")

    def delete(self, ami: str) -> None:
        self._raise_planned("delete")
        if self.made.pop(ami, None) is None:
            raise ConfigurationError(f"{ami} is no image of `snakemake-ec2 bake`")

    # --- helpers ---------------------------------------------------------------------------

    def _raise_planned(self, method: str) -> None:
        if self._errors[method]:
            raise self._errors[method].popleft()

    def _check(self, machine_id: str) -> None:
        if machine_id not in self._cloud.alive:
            raise CloudError("the machine has ended", code="InvalidParameterValue")

    def _baked(self, ami: str, made: _Made) -> BakedImage:
        return BakedImage(
            image=Image(
                ami=ami, name=made.name, arch=Arch.X86_64, root_device="/dev/xvda", root_gib=made.gib
            ),
            digest=made.tags[SOFTWARE_TAG],
            state=self.state(ami)[0],
            base=made.tags[BASE_TAG].partition(" ")[0],
            base_name=made.tags[BASE_TAG].partition(" ")[2],
            holds=made.tags[HOLDS_TAG],
            owner=made.tags[OWNER_TAG],
            made_at=made.made_at,
            gib=made.gib,
            snapshots=(ami.replace("ami", "snap"),),
        )
