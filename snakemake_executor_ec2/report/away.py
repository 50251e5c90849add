"""Sentences about a whole run on a machine of its own."""

from __future__ import annotations

from snakemake_executor_ec2.agent.answers import JobState
from snakemake_executor_ec2.agent.protocol import Finished
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.formatting import duration, size, usd
from snakemake_executor_ec2.model import Machine, MachineState, Transfer
from snakemake_executor_ec2.sizing.cost import cost_usd, usd_per_hour


def intended(
    what: str, usd_an_hour: float | None, lifetime_s: float, keep_s: float, most_usd: float | None
) -> str:
    """`most_usd` is what may be spent on it and its jobs together."""
    price, jobs = "at an unknown price", "Jobs' machines are not included"
    if usd_an_hour is not None:
        own_usd = usd_an_hour * lifetime_s / 3600
        price = f"at {usd(usd_an_hour)} an hour with its disk and address, {usd(own_usd)} at the most"
        if most_usd is not None:
            jobs += f": --ec2-max-cost leaves {usd(max(0.0, most_usd - own_usd))} for them"
    return (
        f"Launching the controller's machine, {what}, {price}: it ends when everything has been fetched "
        f"after a good end, {duration(keep_s)} after the workflow has ended (--keep), and "
        f"{duration(lifetime_s)} after its launch in any case (--lifetime). {jobs}."
    )


def no_machine(why: str, lifetime_s: float) -> str:
    return (
        f"{why}. This is about the controller's machine: its runtime is --lifetime ({duration(lifetime_s)}); "
        "--mem-mb, --disk-gb and --machine say what it has"
    )


def sent(transfer: Transfer) -> str:
    files = f"{transfer.files} file{'s' * (transfer.files != 1)}"
    kept = f"; {transfer.kept} are there already" if transfer.kept else ""
    return f"sent {files} ({size(transfer.bytes)}) to the controller's machine{kept}"


def started(machine: Machine, transfer: Transfer, lifetime_s: float, keep_s: float) -> str:
    price = ""
    if machine.price is not None:
        price = f" ({usd(usd_per_hour(machine.price, machine))} an hour)"
    return (
        f"The workflow runs on {machine.id}, {machine.instance_type}{price}; your computer may be off now. "
        f"{size(transfer.bytes)} were sent. The machine ends {duration(keep_s)} after the workflow, or "
        f"{duration(lifetime_s)} after its launch, whichever comes first.\n"
        "How it is: snakemake-ec2 away status; what it prints: away attach; results, also in between: away "
        "fetch; end it: away stop"
    )


def stays() -> str:
    return "runs the workflow"


def journal_waits() -> str:
    return "the journal cannot be written: trying again before the workflow is started"


def journal_unwritten() -> str:
    return "the journal cannot be written: the machine could not be found again, so nothing was started"


def cancelled() -> str:
    return "nothing was started: cancelled"


def hint(error: Ec2ExecutorError) -> str:
    """What is to be done about a launch that was refused because of the machine's role."""
    text = error.message.lower()
    if "passrole" in text or "instance profile" in text or "iaminstanceprofile" in text:
        return (
            "\n`snakemake-ec2 away setup` makes the role and instance profile of such machines; `away setup "
            "--print` shows an administrator what users need to give it to them"
        )
    return ""


def none_here() -> str:
    return (
        "no run of this folder is away: `snakemake-ec2 away start` begins one. For another folder, go there, "
        "or name it with --directory"
    )


def gone(machine: Machine, state: MachineState, reason: str) -> str:
    why = f" ({reason})" if reason else ""
    return (
        f"{machine.id}, which ran the workflow, is {state}{why}, and what was not fetched is lost with its "
        "disk. `snakemake-ec2 away start` begins again from what is in this folder"
    )


def crashed(machine: Machine, why: str) -> str:
    return (
        f"{machine.id}, which runs the workflow, does not answer ({why}). If EC2 says that it has failed, "
        "`snakemake-ec2 away start` reboots it and goes on from what was finished; `away start --reboot` "
        "does so whatever EC2 says. Until then it costs money: `away stop` ends it"
    )


def rebooting(machine: Machine) -> str:
    return f"{machine.id} has crashed: rebooting it; its disk has what was finished"


def starts_already() -> str:
    return "another `snakemake-ec2 away start` is at work in this folder: wait for it, or end it"


def runs_already(machine: Machine) -> str:
    return (
        f"the workflow runs on {machine.id} already, and nothing was sent: see `snakemake-ec2 away status`, "
        "`away attach`. What you have changed here is sent by an `away start` after its end; to end it now, "
        "`away fetch`, then `away stop`"
    )


def nobody_to_tell(program: str) -> str:
    return (
        f"--ec2-notify: the machine of the controller has no program {program}: give a URL, or a script of "
        "the project's"
    )


def beside(machine: Machine) -> str:
    return (
        f"A run of this folder is away on {machine.id}, and does not know what is made here meanwhile: "
        "use its results (snakemake-ec2 away fetch), or end it (away stop), before you run the workflow here."
    )


def too_little_left(machine: Machine, left_s: float) -> str:
    return (
        f"{machine.id} ends in {duration(max(0.0, left_s))}, with its lifetime: fetch what is finished "
        "(`snakemake-ec2 away fetch`), end it (`away stop`), and start on a new one"
    )


def again(machine: Machine, transfer: Transfer, left_s: float) -> str:
    return (
        f"The workflow runs on {machine.id} again, for {duration(left_s)} at the most; "
        f"{size(transfer.bytes)} were sent, {transfer.kept} files were there already"
    )


def state_of(state: JobState) -> str:
    """How the workflow is, for people."""
    if isinstance(state.last, Finished):
        code = state.last.result.exit_code
        return "has ended well" if code == 0 else f"has failed (exit status {code}): see away logs"
    words = {
        "running": "is running",
        "lost": "ended when its machine went down: `away start` goes on",
        "interrupted": "was interrupted, because its machine went down: `away start` goes on",
        "unknown": "was not started: `away start` starts it",
    }
    return words.get(state.state, f"is {state.state}")


def status(
    machine: Machine,
    state: JobState,
    *,
    now: float,
    until: float | None,
    lease_left_s: float | None,
    progress: str,
) -> list[str]:
    cost = cost_usd(machine, now - machine.launched_at)
    price = "?" if cost is None else usd(cost)
    lefts = [*([until - now] if until else []), *([lease_left_s] if lease_left_s is not None else [])]
    ends = f", ends in {duration(max(0.0, min(lefts)))}" if lefts else ""
    lines = [
        f"The workflow {state_of(state)}.",
        f"Controller: {machine.id}, {machine.instance_type}, {price} so far{ends}",
    ]
    return [*lines, f"Progress: {progress}"] if progress else lines


def fetched(transfer: Transfer, refused: int, newer: int = 0) -> str:
    files = f"{transfer.files} file{'s' * (transfer.files != 1)} ({size(transfer.bytes)})"
    if not transfer.files:
        known = transfer.kept or refused or newer
        files = "nothing new" if known else "nothing: no finished result was found"
    here = f", {transfer.kept} were here already" if transfer.kept else ""
    no = f"; {refused} are no results of the workflow's rules, and were left there" if refused else ""
    stay = ""
    if newer:
        stay = (
            f"; {newer} in this folder {'is' if newer == 1 else 'are'} newer than there, and not replaced: "
            "remove what you want to have from there and fetch again, or end the machine (away stop)"
        )
    return f"fetched {files}{here}{no}{stay}"


def goes_on() -> str:
    return "the run goes on without you: `snakemake-ec2 away attach` again, `away stop` ends it"


def attached_to_its_end(code: int) -> str:
    if code == 0:
        return (
            "The workflow has ended well: `snakemake-ec2 away fetch` brings its results, and ends the machine"
        )
    return (
        f"The workflow has failed (exit status {code}): `snakemake-ec2 away fetch` brings what is finished. "
        f"{waits()}"
    )


def waits() -> str:
    return (
        "Its machine waits for --keep, and costs money: `snakemake-ec2 away start` goes on there, `away "
        "status` says how long it stays, `away stop` ends it"
    )


def ended(machine: Machine, others: int) -> str:
    jobs = f", and {others} machine{'s' * (others != 1)} of its jobs" if others else ""
    return f"terminated {machine.id}{jobs}"
