"""The end of a run, on one screen: jobs by rule, cost, what failed, and what to look at next. Pure.

Costs are estimates, and labelled as such. The report (`snakemake-ec2 report`) has each job and machine.
"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from snakemake_executor_ec2.formatting import span, usd
from snakemake_executor_ec2.model import Failure, Phase
from snakemake_executor_ec2.report.failures import alike, cause
from snakemake_executor_ec2.report.idle import launched_ahead
from snakemake_executor_ec2.report.sizes import MB_PER_MIB, is_measured
from snakemake_executor_ec2.report.table import WIDTH, cut, paragraph
from snakemake_executor_ec2.report.table import table as lines_of

if TYPE_CHECKING:
    from snakemake_executor_ec2.records.ledger import Entry, MachineEntry

_RULES = 12
"""More rules than these are one line together: the end of a run fits one screen."""
_FAILURES = 5
_REASON = 300
"""Characters of a reason."""
_TOO_MUCH = 3.0
"""How many times what it used a job asks for if that is worth a word,"""
_WORTH_MB = 2000
"""and how much that is at least: below it, no machine is cheaper."""
_FAILED = ("failed", "lost")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is to be known of a run beside its entries."""

    id: str
    seconds: float
    """How long it took."""
    rehearsal: bool
    """Nothing was billed."""
    folder: str = ""
    """Where its journal is; empty: where the user is."""

    def command(self, *words: str) -> str:
        """A command of `snakemake-ec2` for this run's folder, to be copied."""
        where = ("-d", self.folder) if self.folder else ()
        return shlex.join(("snakemake-ec2", *words, *where))


def run_end(entries: Sequence[Entry], now: float, run: RunFacts) -> list[str]:
    """Lines of text; none if there was no machine."""
    used = [entry for entry in entries if entry.machine is not None]
    if not used:
        return []
    jobs = [entry for entry in entries if not _is_ahead(entry)]
    ahead = launched_ahead(_machines(used), now)
    return [
        *_headline(jobs, len(_machines(used)), run),
        *_by_rule(used, now, run),
        *_costs(_machines(used), now, run),
        *([ahead] if ahead else []),
        *_staying(_machines(used), run),
        *_failed(jobs, run),
        *_advice(jobs, run),
        *_look("Timeline, sizes, each job", run.command("report", run.id)),
    ]


def _headline(entries: Sequence[Entry], machines: int, run: RunFacts) -> Iterator[str]:
    last = {entry.label: entry.end_reason for entry in entries}
    ends = Counter("failed" if end in _FAILED else end for end in last.values())
    done = ends["done"]
    parts = [f"{count} {_ENDS.get(end, end)}" for end, count in ends.most_common() if end != "done"]
    told = f": {', '.join([f'{done} done', *parts])}" if parts else ""
    yield f"EC2: {_count(len(last), 'job')} on {_count(machines, 'machine')} in {span(run.seconds)}{told}"


_ENDS = {"left": "still on their machines", "running": "not finished"}


# --- the table ----------------------------------------------------------------------------


def _by_rule(used: Sequence[Entry], now: float, run: RunFacts) -> list[str]:
    """The most expensive rules first. The cost of a job is its share of its machine's; in all, each machine
    counts once."""
    rules: dict[str, list[Entry]] = defaultdict(list)
    for entry in used:
        rules[entry.rule].append(entry)
    costs = {rule: _together([entry.cost_usd(now) for entry in its]) for rule, its in rules.items()}
    order = sorted(rules, key=lambda rule: (-(costs[rule] or 0.0), rule))
    shown = order if len(order) <= _RULES + 1 else order[:_RULES]
    rows = [_row(rule, rules[rule], now, costs[rule], ran=_run_s(rules[rule])) for rule in shown]
    if others := order[len(shown) :]:
        theirs = [entry for rule in others for entry in rules[rule]]
        cost = _together([costs[each] for each in others])
        rows.append(_row(f"{len(others)} others", theirs, now, cost, ran=()))
    machines = _machines(used)
    total = _row("total", used, now, _together([each.cost_usd(now) for each in machines]), ran=())
    last = "would cost" if run.rehearsal else "cost"
    header = ("rule", "jobs", "machines", "median run", "longest", "machine time", last)
    return lines_of(header, rows, total=total, right=(1, *range(3, len(header))), fit=WIDTH)


def _run_s(its: Sequence[Entry]) -> list[float]:
    return [entry.seconds[Phase.RUN] for entry in its if Phase.RUN in entry.seconds]


def _row(
    name: str, its: Sequence[Entry], now: float, cost: float | None, *, ran: Sequence[float]
) -> tuple[str, ...]:
    machines = _machines(its)
    types = {each.machine.instance_type for each in machines if each.machine}
    kind = next(iter(types)) if len(types) == 1 else f"of {len(types)} types"
    return (
        name,
        str(len({entry.label for entry in its if not _is_ahead(entry)})),
        f"{len(machines)} {kind}",
        span(median(ran)) if ran else "",
        span(max(ran)) if ran else "",
        span(sum(entry.billed_s(now) for entry in its)),
        usd(cost),
    )


def _costs(machines: Sequence[MachineEntry], now: float, run: RunFacts) -> Iterator[str]:
    known = [cost for each in machines if (cost := each.cost_usd(now)) is not None]
    amount = usd(sum(known) if known else None)
    if run.rehearsal:
        said = f"A rehearsal, nothing was billed: on EC2 it would have cost an estimated {amount}"
    else:
        said = f"Estimated cost: {amount}"
    said += ", for machines with disk and address from launch to end, without traffic."
    yield from paragraph(said)
    if unknown := len(machines) - len(known):
        yield f"No price is known for {unknown} of the machines."
    sources = sorted({e.machine.price.source for e in machines if e.machine and e.machine.price})
    if sources:
        yield from paragraph(f"Prices: {'; '.join(sources)}.")


def _staying(machines: Sequence[MachineEntry], run: RunFacts) -> Iterator[str]:
    """Machines that cost money after the run, on purpose."""
    ids = [each.machine.id for each in machines if each.machine and each.kept_reason and not each.ended_at]
    if ids:
        billed = "stays on EC2 and is billed" if len(ids) == 1 else "stay on EC2 and are billed"
        stay = f"{_count(len(ids), 'machine')} {billed}"
        yield from _look(f"{stay} ({_some(ids)}); until when", run.command("ps"))


# --- what failed --------------------------------------------------------------------------


def _failed(entries: Sequence[Entry], run: RunFacts) -> Iterator[str]:
    """The same failure once, with how many jobs it was; and the one command that shows more."""
    last = {entry.label: entry for entry in entries}
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in last.values():
        if entry.end_reason in _FAILED:
            groups[entry.rule, alike(f"{_reason(entry)}: {entry.said}")].append(entry)
    ordered = sorted(groups.values(), key=len, reverse=True)
    for same in ordered[:_FAILURES]:
        first = same[0]
        who = first.label if len(same) == 1 else f"{len(same)} jobs of rule {first.rule}"
        said = f"; {'it' if len(same) == 1 else 'the first'} said: {first.said}" if first.said else ""
        yield from paragraph(f"Failed: {who}: {cut(_reason(first) + said, _REASON)}", indent="    ")
        yield from paragraph(f"    {cut(first.hint, _REASON)}", indent="    ") if first.hint else ()
    if more := ordered[_FAILURES:]:
        yield f"Failed: {_count(sum(map(len, more)), 'more job')}, for {_count(len(more), 'other reason')}"
    printed = next((same[0] for same in ordered if same[0].result is not None), None)
    if printed is not None:
        whose = "it" if len(ordered) == 1 == len(ordered[0]) else "the first"
        yield from _look(f"What {whose} printed", run.command("logs", printed.label))


def _reason(entry: Entry) -> str:
    first_line = cause(entry.error, entry.result).partition("\n")[0]
    return first_line or entry.end_reason


def _advice(entries: Sequence[Entry], run: RunFacts) -> Iterator[str]:
    """A word if jobs ask for much more than they use, or have run out of something."""
    short = {
        entry.rule
        for entry in entries
        if entry.result and entry.result.failure in (Failure.OUT_OF_MEMORY, Failure.DISK_FULL)
    }
    command = run.command("advise")
    if short:
        yield from _look(f"Sizes that are large enough for {_some(sorted(short))}", command)
        return
    asked: dict[str, float] = defaultdict(float)
    used: dict[str, float] = defaultdict(float)
    for entry in entries:
        if entry.asked and entry.result and is_measured(entry.result):
            asked[entry.rule] = max(asked[entry.rule], entry.asked.mem_mb)
            used[entry.rule] = max(used[entry.rule], entry.result.usage.peak_mem_mib * MB_PER_MIB)
    much = [each for each in asked if asked[each] >= max(_WORTH_MB, _TOO_MUCH * used[each])]
    if much:
        most = max(much, key=lambda rule: asked[rule] - used[rule])
        told = f"{cut(most, 24)} asked for {asked[most]:,.0f} MB of memory and used {used[most]:,.0f}"
        yield from _look(f"Rule {told}; better sizes", command)


def _look(what: str, command: str) -> list[str]:
    """A command to be copied: never broken, and on a line of its own if the line would be too long."""
    line = f"{what}: {command}"
    return [line] if len(line) <= WIDTH else [f"{what}:", f"    {command}"]


# --- helpers ------------------------------------------------------------------------------


def _is_ahead(entry: Entry) -> bool:
    """Whether it only stands for the job of a machine that was launched ahead, and got none."""
    return entry.on.ahead is entry


def _machines(entries: Sequence[Entry]) -> list[MachineEntry]:
    return list(dict.fromkeys(entry.on for entry in entries if entry.machine is not None))


def _together(amounts: Sequence[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])])
