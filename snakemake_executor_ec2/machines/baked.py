"""Images that have a run's software: by what they are recognised, and which of them a run starts from. Pure
but for the question that is handed in."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace

from snakemake_executor_ec2.agent.client import PYTHONS
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.model import Arch, Image, Software
from snakemake_executor_ec2.ports import BakedImage
from snakemake_executor_ec2.report import baking

_FORMAT = 1
"""Where the agent keeps what it has installed. Another number: images made before no longer fit."""
_NEWEST = "the newest Amazon Linux 2023"
_NEWEST_GPU = "the newest Amazon Linux 2023 with GPU drivers"


def base_name(image: Image, *, named: bool, gpu: bool) -> str:
    """What an image counts as for the digest: itself if the user named it. Of Amazon's there is a new one
    every few weeks, which does not make one that was baked before useless."""
    return image.ami if named else _NEWEST_GPU if gpu else _NEWEST


def software_digest(software: Software, *, base: str, arch: Arch, ssh_user: str) -> str:
    """32 digits, the same for runs that would install the same in the same place of the same kind of machine.

    Tools are left out: if an image lacks one, it is installed on top.
    """
    wanted = asdict(replace(software, tools=(), late=()))
    parts = [_FORMAT, wanted, PYTHONS, base, arch.value, ssh_user]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def newest(images: Iterable[BakedImage], digest: str, arch: Arch) -> BakedImage | None:
    """The newest image that can be used and has this digest."""
    fitting = [
        each
        for each in images
        if each.state == "available" and each.digest == digest and each.image.arch is arch
    ]
    return max(fitting, key=lambda each: (each.made_at, each.image.ami), default=None)


@dataclass(frozen=True, kw_only=True)
class BakedChoice:
    """Which image the machines of a run start from. Threads may share it; each question is asked once."""

    find: Callable[[str], Iterable[BakedImage]]
    """The account's images with a digest. May raise Ec2ExecutorError: then there are none."""
    software: Software
    ssh_user: str
    now: Callable[[], float]
    tell: Callable[[str], None]
    """Prints a line for the user."""
    _chosen: dict[tuple[str, Arch], Image | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def in_place_of(self, base: Image, *, named: bool, gpu: bool) -> Image:
        """An image that was baked from `base`, or that itself. `named`: the user named it."""
        key = (base_name(base, named=named, gpu=gpu), base.arch)
        with self._lock:
            if key not in self._chosen:
                self._chosen[key] = self._choose(base, key[0], named=named)
            return self._chosen[key] or base

    def is_without(self, image: Image, error: Ec2ExecutorError) -> bool:
        """Start from the base from now on, if an image that was chosen is why EC2 refuses a launch; whether
        it may be."""
        if not image.has_software:
            return False
        with self._lock:
            for key, chosen in self._chosen.items():
                if chosen is not None and chosen.ami == image.ami:
                    self._chosen[key] = None
                    self.tell(baking.cannot_start(image, error))
        return True

    def _choose(self, base: Image, name: str, *, named: bool) -> Image | None:
        digest = software_digest(self.software, base=name, arch=base.arch, ssh_user=self.ssh_user)
        try:
            found = newest(self.find(digest), digest, base.arch)
        except Ec2ExecutorError as error:
            self.tell(baking.not_looked_for(error))
            return None
        if found is None:
            return None
        self.tell(baking.starts_from(found, self.now(), outdated=not named and found.base != base.ami))
        return replace(found.image, has_software=True)
