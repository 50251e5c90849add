"""What choosing machines for a large workflow takes: `python -m benchmarks.select_machines`.

Ten thousand jobs, no two alike, on a full catalogue with made-up prices. The measure is the same
choice without anything worked out before: a look at every type for every job. Both must choose the
same machine for each. With spot there are six times as many offers, one for each zone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks import sizes
from snakemake_executor_ec2.aws import snapshot
from snakemake_executor_ec2.model import Arch, InstanceType, Market, Price, Requirements, SpotUse
from snakemake_executor_ec2.sizing.catalogue import Catalogue
from snakemake_executor_ec2.sizing.select import best

ZONES = tuple(f"us-east-1{letter}" for letter in "abcdef")


def main() -> None:
    """Print seconds of the processor's, and their ratio."""
    number = sizes(__doc__, jobs=(10_000, 300)).jobs
    dice = random.Random(4)  # noqa: S311  (not a secret)
    types = snapshot.read().types
    usd = {each.name: each.vcpus * 0.03 + each.mem_mib / 2**18 + dice.uniform(0, 0.5) for each in types}
    jobs = [_job(dice, runtime_min=each + 1) for each in range(number)]

    catalogue = _catalogue(types, usd, dice)
    ours_s, ours = _timed(jobs, lambda job: best(catalogue, job).instance_type.name)
    plain_s, plain = _timed(jobs, lambda job: _cheapest_of_all(types, usd, job))
    if ours != plain:
        raise SystemExit("the two do not choose the same machines")
    on_spot = [replace(job, spot=SpotUse.PREFER) for job in jobs]
    spot_s, _ = _timed(on_spot, lambda job: best(catalogue, job).market)

    print(f"{number} jobs on {len(types)} types, the catalogue's preparation included:")
    print(f"  on-demand       {ours_s:6.2f} s")
    print(f"  both markets    {spot_s:6.2f} s")
    print(f"  type by type    {plain_s:6.2f} s, which is {plain_s / ours_s:.0f} times as long as on-demand")
    print("(seconds of the processor's, which are not disturbed by what else runs)")


def _job(dice: random.Random, *, runtime_min: int) -> Requirements:
    return Requirements(
        threads=dice.randint(1, 64),
        mem_mb=dice.randint(1, 500_000),
        disk_mb=1000,
        runtime_min=runtime_min,
        arch=dice.choice(tuple(Arch)),
    )


def _catalogue(types: Sequence[InstanceType], usd: dict[str, float], dice: random.Random) -> Catalogue:
    def price(value: float) -> Price:
        return Price(usd_per_hour=value, source="made up")

    spot = {
        (each.name, zone): price(usd[each.name] * dice.uniform(0.2, 1.1)) for each in types for zone in ZONES
    }
    return Catalogue(
        types,
        zones=lambda _: ZONES,
        prices={(name, ""): price(value) for name, value in usd.items()},
        spot_prices=lambda: spot,
    )


def _cheapest_of_all(types: Sequence[InstanceType], usd: dict[str, float], job: Requirements) -> str:
    """The rules of `docs/machines.md`, for jobs that want neither a GPU nor a type by name."""
    return min(
        (usd[each.name], each.name)
        for each in types
        if job.arch in each.arches
        and Market.ON_DEMAND in each.markets
        and each.current_generation
        and not (each.burstable or each.bare_metal or each.accelerators or each.gpus)
        and not each.name.startswith(("hpc", "a1."))
        and each.vcpus >= job.threads
        and (each.mem_mib * 95 // 100 - 556) * 2**20 >= job.mem_mb * 10**6
    )[1]


def _timed(jobs: Sequence[Requirements], choose: Callable[[Requirements], str]) -> tuple[float, list[str]]:
    began = time.process_time()
    chosen = [choose(job) for job in jobs]
    return time.process_time() - began, chosen


if __name__ == "__main__":
    main()
