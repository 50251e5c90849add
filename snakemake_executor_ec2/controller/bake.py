"""How an image is made that has a run's software: the way of one machine that gets no job.

    acquire a machine → may an image be made of it? → install → clean → make the image, wait → release it

The machine is a job's in all but the job: it is in the journal before it is launched, has a lease, and is
terminated on every way out. An image that is not finished is deleted.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.controller.context import RunContext
from snakemake_executor_ec2.controller.idle import ReadyMachine
from snakemake_executor_ec2.controller.machine import JobMachines, without_job
from snakemake_executor_ec2.errors import (
    Cancelled,
    CloudError,
    ConfigurationError,
    CredentialsExpired,
    Ec2ExecutorError,
    ThrottledError,
)
from snakemake_executor_ec2.formatting import duration
from snakemake_executor_ec2.machines.baked import software_digest
from snakemake_executor_ec2.model import Image, JobOutcome, JobPlan, Phase, Requirements, Software
from snakemake_executor_ec2.ports import ImageStore
from snakemake_executor_ec2.records.ledger import Entry
from snakemake_executor_ec2.report import baking, failed_job
from snakemake_executor_ec2.tags import SOFTWARE_TAG, image_tags
from snakemake_executor_ec2.timing import growing_s

IMAGE_S = 2 * 3600.0
"""How long EC2 may take to make an image."""
KNOWN_AFTER_S = 120.0
"""How long EC2 may not know an image that it has begun."""
_MEM_MB = 6000
_THREADS = 2
_RUNTIME_MIN = 60
"""What the machine needs for an installation: for the choice of its type, its budget and its lifetime."""
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """An image that is to be made."""

    plan: JobPlan
    """Of the machine: what it needs, and what it is called in the journal."""
    software: Software
    name: str
    """The image's, unique in the account's region."""
    tags: Mapping[str, str]
    login_keys: tuple[str, ...]
    """Public keys that the run's machines let in, and the image must not."""

    @property
    def digest(self) -> str:
        """Of what the image will hold."""
        return self.tags[SOFTWARE_TAG]


def order(
    software: Software,
    config: RunConfig,
    image: Image,
    *,
    base: str,
    gpu: bool,
    disk_mb: int,
    key: str,
    login_keys: tuple[str, ...],
    now: float,
) -> Order:
    """What to make of an image, which counts as `base` for the digest. `gpu`: it is for machines with GPUs;
    `key` is the machine's in the journal."""
    digest = software_digest(software, base=base, arch=image.arch, ssh_user=config.ssh_user)
    name = f"snakemake-ec2 {digest[:12]} {image.arch} {datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}"
    needed = Requirements(
        threads=_THREADS,
        mem_mb=_MEM_MB,
        disk_mb=disk_mb,
        runtime_min=_RUNTIME_MIN,
        # A setup script may look for a GPU; nothing else does.
        gpus=int(gpu and bool(software.setup.strip())),
        arch=image.arch,
        ami=image.ami,
        instance_types=config.instance_types,
    )
    return Order(
        plan=without_job(key=key, rule="bake", label=f"bake ({needed.arch})", needed=needed),
        software=software,
        name=name,
        tags=image_tags(
            name=name,
            digest=digest,
            base=image.ami,
            base_name=image.name,
            holds=baking.held(software),
            owner=getpass.getuser(),
        ),
        login_keys=login_keys,
    )


def bake(order: Order, images: ImageStore, context: RunContext, cancel: CancelToken) -> JobOutcome:
    """Make an image. What goes wrong is in the outcome; if all went well, its message says what there is."""
    machines = JobMachines(order.plan, context, cancel)
    entry: Entry | None = None
    try:
        host_key = context.new_key_pair()
        entry = context.ledger.open(order.plan, host_key.public)
        ready = machines.acquire(entry, host_key, 0, 0)
        try:
            told = _on_machine(order, images, context, cancel, ready, entry)
        except BaseException as error:
            machines.release(entry, ready, error)
            raise
        machines.release(entry, ready)
        entry.end_reason = "done"
        return JobOutcome(ok=True, message=told)
    except Ec2ExecutorError as error:
        cancelled = cancel.cancelled or isinstance(error, Cancelled)
        if entry is not None:
            entry.end_reason = "cancelled" if cancelled else "failed"
        if cancelled:
            return JobOutcome(ok=False, cancelled=True, message="no image was made: cancelled")
        message = failed_job.failed_by(order.plan, entry, error, context.clock.now())
        return JobOutcome(ok=False, message=message)
    finally:
        if entry is not None:
            context.ledger.close(entry)


def _on_machine(
    order: Order,
    images: ImageStore,
    context: RunContext,
    cancel: CancelToken,
    ready: ReadyMachine,
    entry: Entry,
) -> str:
    # EC2 judges by the machine and its tags: before there was one, it could not be asked.
    images.check(ready.machine.id, name=order.name, tags=order.tags)
    with context.ledger.phase(entry, Phase.PREPARE):
        with context.leases.renewing(ready.lease_s, ready.session):
            ready.session.install_software(order.software)
        if order.software.setup.strip():
            context.tell(baking.setup_is_not_run_again())
        if private := ready.session.before_image(order.login_keys):
            context.tell(baking.holds_private(private))
    with context.ledger.phase(entry, Phase.RUN):
        cancel.check()
        ami = images.make(ready.machine.id, name=order.name, tags=order.tags)
        context.tell(baking.imaging(ami, ready.machine))
        try:
            _wait(ami, images, context, cancel)
        except BaseException:
            _delete(ami, images, context)
            raise
    return baking.made(ami, order.name, ready.machine.disk_gib) + _others(ami, order, images)


def _delete(ami: str, images: ImageStore, context: RunContext) -> None:
    try:
        images.delete(ami)
    except ConfigurationError:
        return  # there is none any more
    except Ec2ExecutorError as error:
        context.tell(baking.not_deleted(ami, error))


def _wait(ami: str, images: ImageStore, context: RunContext, cancel: CancelToken) -> None:
    """Return when the image can be used. Raises CloudError if EC2 fails, or takes too long."""
    began, rounds, seen = context.clock.monotonic(), 0, False
    while True:
        state, why = _state(ami, images)
        if state == "available":
            return
        waited_s = context.clock.monotonic() - began
        if state == "unknown" and (seen or waited_s > KNOWN_AFTER_S):
            raise CloudError(f"the image {ami} was deleted before it was finished")
        if state not in ("pending", "unknown", "no answer"):
            raise CloudError(
                f"EC2 could not make the image {ami}: it is {state}" + (f" ({why})" if why else "")
            )
        if waited_s > IMAGE_S:
            raise CloudError(f"EC2 has not finished the image {ami} within {duration(IMAGE_S)}")
        seen = seen or state == "pending"
        cancel.wait(growing_s(rounds, _FIRST_PAUSE_S, _LONGEST_PAUSE_S))
        rounds += 1


def _state(ami: str, images: ImageStore) -> tuple[str, str]:
    """EC2 goes on with an image while it does not answer us."""
    try:
        return images.state(ami)
    except (ThrottledError, CredentialsExpired) as error:
        return "no answer", error.message


def _others(ami: str, order: Order, images: ImageStore) -> str:
    """What is said of older images for the same software, which still cost money."""
    with suppress(Ec2ExecutorError):
        others = [each for each in images.find(order.digest) if each.image.ami != ami]
        return baking.superseded(others) if others else ""
    return ""
