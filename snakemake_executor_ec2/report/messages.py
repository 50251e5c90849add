"""What the user reads of a run: one line for each event (see `levels.py`); of jobs that failed, see
`failed_job.py`."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.errors import Ec2ExecutorError, InstanceLost, LaunchError
from snakemake_executor_ec2.formatting import duration, ordinal, size, usd
from snakemake_executor_ec2.model import (
    InstanceType,
    JobPlan,
    JobResult,
    LaunchSpec,
    Machine,
    MachineStatus,
    Market,
    Offer,
    Transfer,
)
from snakemake_executor_ec2.report.levels import SLOW_S, Detail
from snakemake_executor_ec2.report.transfers import Waits
from snakemake_executor_ec2.report.ways_in import why_none
from snakemake_executor_ec2.sizing.quotas import Quota

if TYPE_CHECKING:
    from snakemake_executor_ec2.records.ledger import Entry

_CONSOLE_LINES = 10
ASKING_FOR_TYPES = "asking for instance types and prices; the answers are kept for the next runs"


def launched(plan: JobPlan, machine: Machine) -> str:
    price = f"${machine.price.usd_per_hour:.4g}/h" if machine.price else "at an unknown price"
    spot = "spot " if machine.market is Market.SPOT else ""
    return f"launched {spot}{machine.instance_type} {price} {machine.zone} ({machine.id}) for {plan.label}"


def clocks_differ(ahead_s: float) -> str:
    how = "ahead of" if ahead_s > 0 else "behind"
    return (
        f"the machine's clock is {abs(ahead_s) / 60:.0f} minutes {how} your computer's: the times of files "
        "are corrected when they are sent and fetched"
    )


def stand_ins_readable(plan: JobPlan) -> str:
    return (
        f"{plan.label} runs as root on its machine, so reading a file that no rule declares does not fail "
        "there: the file has its usual length, but holds only zeros. Log in as an ordinary user "
        "(--ec2-ssh-user) to make such a read fail"
    )


def made_of_stand_ins(outputs: Sequence[Path]) -> str:
    return (
        f"the job succeeded, but {', '.join(map(str, outputs))} holds a file that it moved there and that "
        "was never sent to the machine, because no rule declares it as input: add it to the rule's input"
    )


def installing(plan: JobPlan, machine: Machine) -> str:
    return f"installing software on {machine.id} for {plan.label}"


def running(plan: JobPlan, machine: Machine, waits: Waits, number: int = 1) -> str:
    """`number`: which one of its machine's jobs it is."""
    used = f", its {ordinal(number)} job" if number > 1 else ""
    return f"running {plan.label} on {machine.id}{used}{waits.told()}"


def ended(plan: JobPlan, result: JobResult) -> str:
    used = result.usage.peak_mem_mib or 0
    peak = f", peak memory {used} MiB" if used else ""
    if used * 2**20 > plan.requirements.mem_mb * 10**6:
        peak += f", more than its mem_mb ({plan.requirements.mem_mb})"
    after = f"after {result.seconds:.1f} s{peak}"
    if result.exit_code:  # why, and what it printed, comes next
        return Detail(f"{plan.label} failed {after}")
    return f"finished {plan.label} {after}"


def retrieved(plan: JobPlan, fetched: Transfer) -> str:
    text = f"retrieved {size(fetched.bytes)} in {fetched.seconds:.1f} s for {plan.label}"
    return text if fetched.seconds > SLOW_S else Detail(text)


def terminated(plan: JobPlan, entry: Entry, now: float) -> str:
    assert entry.machine is not None
    return Detail(f"terminated {entry.machine.id} of {plan.label}, estimated cost {usd(entry.cost_usd(now))}")


def no_capacity(spec: LaunchSpec, error: LaunchError) -> str:
    return f"EC2 has no {spec.offer.instance_type.name} in {spec.zone} now ({error.code}), trying the next"


def nowhere(codes: Collection[str], quota: Quota | None, waited_s: float) -> str:
    if quota is not None:
        return (
            f"the AWS account's limit {quota.code} ({quota.name}) left no room for it within "
            f"{duration(waited_s)}, and no machine of this run counts towards it; wait until other machines "
            "of the account have ended, or request a higher limit in the Service Quotas console"
        )
    told = ", ".join(sorted(code for code in codes if code))
    return (
        "EC2 had no capacity for it in any of the types and zones tried within "
        f"{duration(waited_s)}{f' ({told})' if told else ''}; try again later, or allow more types, zones or "
        "time with --ec2-instance-types, --ec2-subnets or --ec2-capacity-timeout"
    )


def waiting_for_capacity(plan: JobPlan, most_s: float) -> str:
    return (
        f"EC2 has no machine for {plan.label} now; trying again for at most {duration(most_s)} "
        "(--ec2-capacity-timeout)"
    )


def waiting_for_quota(quota: Quota, vcpus: float | None) -> str:
    limit = f" of {vcpus:g} vCPUs" if vcpus is not None else ""
    return (
        f"the AWS account's limit{limit} is reached ({quota.code}, {quota.name}): "
        "further jobs wait until machines have ended"
    )


def quota_too_small(quota: Quota, vcpus: float, best: InstanceType, region: str) -> str:
    return (
        f"the best instance type that fits, {best.name}, has {best.vcpus} vCPUs, and the AWS "
        f"account's limit {quota.code} ({quota.name}) is {vcpus:g} in {region}; request more in the "
        f"Service Quotas console, or run `aws service-quotas request-service-quota-increase --service-code "
        f"ec2 --quota-code {quota.code} --desired-value {best.vcpus}`"
    )


def throttled(error: Ec2ExecutorError) -> str:
    return f"{error.message}; trying again"


def expired(error: Ec2ExecutorError) -> str:
    return (
        f"{error.message}; running jobs continue, and further jobs start as soon as AWS accepts the "
        "credentials again"
    )


def no_spot(error: Ec2ExecutorError) -> str:
    return f"no more spot machines are used in this run: {error.message}"


def budget_reached(needed: float, runtime_min: int | None, spent: float, most: float) -> str:
    return (
        f"its machine would cost an estimated {usd(needed)} ({_estimated_for(runtime_min)}), and an "
        f"estimated {usd(spent)} of --ec2-max-cost {most:g} is spent: nothing more is launched. Run the same "
        "command with a larger --ec2-max-cost"
    )


def waiting_for_budget(spent: float, set_aside: float, most: float) -> str:
    return (
        f"an estimated {usd(spent)} of --ec2-max-cost {most:g} is spent, and {usd(set_aside)} is set aside "
        "for running machines: further jobs wait until some of these have ended"
    )


def budget_too_small(
    offer: Offer, needed: float, runtime_min: int | None, most: float, before: Collection[str]
) -> str:
    earlier = " minus the cost of earlier runs (--ec2-budget-period)" if before else ""
    return (
        f"the cheapest machine for it, {offer.instance_type.name}, would cost an estimated {usd(needed)} "
        f"({_estimated_for(runtime_min)}), more than --ec2-max-cost {most:g}{earlier}"
    )


def _estimated_for(runtime_min: int | None) -> str:
    return (
        "for one hour, because the rule has no runtime"
        if runtime_min is None
        else f"for its runtime of {runtime_min} min"
    )


def spot_notice(plan: JobPlan, at: str) -> str:
    """`at` is what the machine says (ISO 8601), or should say."""
    try:
        when = f"at {datetime.fromisoformat(at).astimezone(UTC):%H:%M:%S} UTC"
    except ValueError:
        when = "soon"
    return (
        f"EC2 reclaims the spot machine of {plan.label} {when}: the job continues until then, and starts "
        "again on another machine if it has not finished"
    )


def starts_again(plan: JobPlan, error: InstanceLost, reclaimed: int) -> str:
    """Another machine for a job that lost one; `reclaimed`: how many spot machines it has lost."""
    if not error.by_spot:
        return f"{error.message}; starting {plan.label} again on another machine"
    often = "" if reclaimed == 1 else f", for the {ordinal(reclaimed)} time"
    return (
        f"EC2 has reclaimed a spot machine{often} ({error.message}); starting {plan.label} again on another "
        "machine, which does not count as a retry"
    )


def gone(machine: Machine, status: MachineStatus) -> str:
    # EC2's messages begin with the code; others' may not.
    why = status.message if status.reason in status.message else f"{status.reason}: {status.message}"
    if status.reason == _BY_SOMEBODY:
        return (
            f"machine {machine.id} was terminated from outside ({status.reason}): by `snakemake-ec2 kill` or "
            "`stop`, in the EC2 console, or by another program"
        )
    return f"machine {machine.id} ended by itself ({why.strip(': .') or status.state})"


_BY_SOMEBODY = "Client.UserInitiatedShutdown"
"""EC2's reason if somebody has terminated the machine, and not the machine or EC2 itself."""


def unreachable(machine: Machine, timeout_s: float, why: str, console: str) -> str:
    text = (
        f"could not log in to machine {machine.id} within {timeout_s:.0f} s (--ec2-boot-timeout): "
        f"{why.rstrip('.')}. If this happens with every machine, {why_none(why)}"
    )
    lines = console.splitlines()[-_CONSOLE_LINES:]
    return f"{text}\nThe end of its console:\n{indented(lines)}" if lines else text


def no_budget_without_price(offer: Offer) -> str:
    return (
        f"--ec2-max-cost can't be kept: the price of {offer.instance_type.name}, the best type, is not known"
    )


def none_reachable(machines: int, why: str) -> str:
    return (
        f"no more machines are launched: this run launched {machines}, and could log in to none of them "
        f"({why.rstrip('.')}): {why_none(why)}"
    )


def no_thread(plan: JobPlan) -> str:
    return f"{plan.label} failed: {threads.NONE_LEFT}; allow more, or use fewer --jobs"


def unexpected(plan: JobPlan, error: BaseException) -> str:
    """The sentences for an error that is none of ours."""
    if threads.is_refusal(error):
        return no_thread(plan)
    told = "".join(traceback.format_exception(error)).splitlines()
    return f"{plan.label} failed because of a bug in the EC2 executor; please report it:\n{indented(told)}"


def silent(machine: Machine, error: Ec2ExecutorError, patience_s: float) -> str:
    return (
        f"{machine.id} does not answer ({error.message.rstrip('.')}): its job may still be running, so it is "
        f"asked again for up to {duration(patience_s)}"
    )


def breaks_off(machine: Machine, seconds: float, error: Ec2ExecutorError) -> str:
    return (
        f"machine {machine.id} lets us log in, but for {duration(seconds)} has broken off whatever was done "
        f"there: {error.message.rstrip('.')}"
    )


def answers_again(machine: Machine) -> str:
    return f"{machine.id} answers again"


def cancelled(plan: JobPlan) -> str:
    return f"{plan.label} was cancelled"


def adopted(plan: JobPlan, machine: Machine) -> str:
    return f"resuming {plan.label} on {machine.id}, where an earlier run started it"


def detached(lease_s: float) -> str:
    return f"works on until its lease of {duration(lease_s)} ends; run the same command again to resume it"


def left(plan: JobPlan, machine: Machine, why: str) -> str:
    return f"{machine.id} of {plan.label} is not terminated: it {why}"


def not_terminated(machine: Machine, error: Ec2ExecutorError, *, goes: bool) -> str:
    instead = (
        "it powers itself off instead, which also ends it" if goes else "trying again at the end of the run"
    )
    return f"{machine.id} could not be terminated ({error.message}); {instead}"


def cannot_store(plan: JobPlan, error: Ec2ExecutorError) -> str:
    return (
        f"the results of {plan.label} cannot be stored on your computer: {error.message.rstrip('.')}. Its "
        "machine keeps them; trying again until it works"
    )


def waits_for_the_journal(plan: JobPlan) -> str:
    return (
        f"{plan.label} waits until the journal can be written (is the disk of your computer full?): without "
        "it, its work would be lost if this run were killed"
    )


def journal_unwritten(waited_s: float) -> str:
    return (
        f"the journal could not be written for {duration(waited_s)}, and without it results could get lost. "
        "Make room on your computer's disk, then run the same command again"
    )


def indented(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
