"""What the user reads about images that have a run's software."""

from __future__ import annotations

from collections.abc import Sequence

from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.formatting import duration, usd
from snakemake_executor_ec2.model import Image, Machine, Offer, Software
from snakemake_executor_ec2.ports import BakedImage
from snakemake_executor_ec2.report.table import table
from snakemake_executor_ec2.sizing.cost import image_usd_per_month

HINT_S = 60.0
"""From so much preparation a machine on, an image is worth a hint."""
_DAY_S = 86_400.0
_HEADER = ("image", "name", "state", "age", "GiB", "a month", "made from", "by", "holds")


def held(software: Software) -> str:
    """What an image with some software holds, for people."""
    parts = [f"Snakemake {software.snakemake}", *software.tools]
    parts += ["--ec2-requirements"] if software.requirements.strip() else []
    parts += ["--ec2-setup"] if software.setup.strip() else []
    return ", ".join([*parts, *software.packages])


def starts_from(baked: BakedImage, now: float, *, outdated: bool) -> str:
    text = (
        f"machines start from your image {baked.image.ami}, {_age(baked.made_at, now)} old, which has the "
        "run's software: none is installed"
    )
    if outdated:
        text += f". Its base {baked.base} is not the newest any more: `snakemake-ec2 bake` makes a new one"
    return text


def cannot_start(image: Image, error: Ec2ExecutorError) -> str:
    return (
        f"machines cannot start from your image {image.ami} any more ({error.message}): from now on software "
        "is installed on each"
    )


def not_looked_for(error: Ec2ExecutorError) -> str:
    return f"images of your own were not looked for ({error.message}); software is installed on each machine"


def exists(baked: BakedImage, now: float) -> str:
    return (
        f"{baked.image.ami} ({baked.image.name}), {_age(baked.made_at, now)} old, has that already: nothing "
        "is made. --again makes a new one"
    )


def intended(software: Software, base: Image, offer: Offer, disk_gib: int, region: str) -> str:
    """Told before anything is launched."""
    per_hour = f"${offer.price.usd_per_hour:.4g} an hour" if offer.price else "an unknown price"
    return (
        f"making an image of {base.name} ({base.ami}, {base.arch}) in {region} with {held(software)}: one "
        f"machine prepares it, such as {offer.instance_type.name} for {per_hour}. Then the image costs at "
        f"most {usd(image_usd_per_month(disk_gib))} a month, until `snakemake-ec2 bake --delete` deletes it"
    )


def setup_is_not_run_again() -> str:
    return (
        "the image has what the setup script of --ec2-setup leaves on the disk. Machines that start from it "
        "do not run the script again: what it starts or mounts is not there"
    )


def holds_private(paths: Sequence[str]) -> str:
    return (
        f"the image holds files that look like credentials ({', '.join(paths)}): anyone who may start "
        "machines from it in your account can read them"
    )


def imaging(ami: str, machine: Machine) -> str:
    return f"EC2 makes {ami} of {machine.id}, which takes a few minutes"


def made(ami: str, name: str, gib: int) -> str:
    return (
        f"{ami} ({name}) is available: runs with the same options start from it. It costs at most "
        f"{usd(image_usd_per_month(gib))} a month"
    )


def superseded(images: Sequence[BakedImage]) -> str:
    """Added to what is said of a new image."""
    names = " ".join(each.image.ami for each in images)
    cost = usd(image_usd_per_month(sum(each.gib for each in images)))
    delete = f"`snakemake-ec2 bake --delete {names}`"
    return f". Older ones for the same software cost at most {cost} a month: {delete}"


def not_deleted(ami: str, error: Ec2ExecutorError) -> str:
    return (
        f"the unfinished image {ami} could not be deleted ({error.message}): see `snakemake-ec2 bake --list`"
    )


def listed(images: Sequence[BakedImage], now: float) -> str:
    """All images as a table for people, with what they cost."""
    rows = [
        (
            each.image.ami,
            each.image.name,
            each.state,
            _age(each.made_at, now),
            str(each.gib),
            usd(image_usd_per_month(each.gib)),
            f"{each.base_name} ({each.base})",
            each.owner,
            each.holds,
        )
        for each in images
    ]
    gib = sum(each.gib for each in images)
    total = ("total", "", "", "", str(gib), usd(image_usd_per_month(gib)), "", "", "")
    lines = table(_HEADER, rows, total=total, right=(4, 5))
    note = (
        "Costs are at most these, at us-east-1's price of a snapshot: blocks without data are not billed, "
        "and what two snapshots of one volume share is billed once."
    )
    return "\n".join([*lines, note])


def hint(seconds: Sequence[float]) -> str | None:
    """After a run: what its machines took to install software, if that is much; None if it is not."""
    if not seconds or sum(seconds) / len(seconds) <= HINT_S:
        return None
    machines = f"{len(seconds)} machine{'s' * (len(seconds) > 1)}"
    return (
        f"Installing software took {duration(round(sum(seconds) / len(seconds)))} a machine, on {machines}: "
        "`snakemake-ec2 bake` with the same arguments makes an image that has it, from which runs start"
    )


def _age(made_at: float, now: float) -> str:
    age_s = max(0.0, now - made_at)
    return f"{age_s / _DAY_S:.0f} days" if age_s >= 2 * _DAY_S else duration(round(age_s))
