"""What the rules of a folder should ask for, by what their jobs have used: a profile to take or leave. Pure.

Nothing is advised that is less than what any job has used, failed ones included. A rule whose amounts differ
from job to job computes them, and is left alone. Less disk is only proposed in a comment: what a job's inputs
take of it is not measured.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from snakemake_executor_ec2.model import Failure, Requirements
from snakemake_executor_ec2.report import sizes
from snakemake_executor_ec2.report.sizes import margin, ran_out, up
from snakemake_executor_ec2.report.summary import JobRow, Sum
from snakemake_executor_ec2.report.table import WIDTH, cut
from snakemake_executor_ec2.report.table import table as lines_of

_DURATIONS = 2.0
"""Jobs differ more in their time than in their memory, and `runtime` ends them: the margin, once more."""
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One resource of a rule."""

    rule: str
    resource: str
    asked: tuple[float, float] | None
    """The least and the most that the last run's jobs asked for at first; None: the rule says nothing."""
    used: float | None
    """The most that a job ever used; None: not measured."""
    value: int | None
    """What is advised; None: leave it as it is."""
    grows: bool = False
    """The rule asks for more at each attempt, and so does the advice."""
    jobs: int
    """So many that succeeded are behind it,"""
    runs: int
    """in so many runs."""
    why: str

    @property
    def expression(self) -> str:
        """For Snakemake's `set-resources`."""
        return f'"{self.value} * attempt"' if self.grows else str(self.value)


@dataclass(frozen=True, kw_only=True)
class _Resource:
    """How one is read, and rounded."""

    name: str
    asked: Callable[[Requirements], float | None]
    used: Callable[[JobRow], float]
    short: Failure
    """How jobs fail that had too little."""
    ended: str
    """The same in words."""
    step: int
    least: int = 0
    factor: float = 1.0
    """On top of the margin."""


_MEMORY = _Resource(
    name="mem_mb",
    asked=lambda it: it.mem_mb,
    used=sizes.mem_mb,
    short=Failure.OUT_OF_MEMORY,
    ended="ran out of memory",
    step=100,
    least=sizes.LEAST_MB,
)
_RUNTIME = _Resource(
    name="runtime",
    asked=lambda it: it.runtime_min,
    used=lambda job: job.result.seconds / 60 if job.result else 0.0,
    short=Failure.RUNTIME,
    ended="ran over their runtime",
    step=5,
    factor=_DURATIONS,
)
_DISK = _Resource(
    name="disk_mb",
    asked=lambda it: it.disk_mb,
    used=lambda job: job.result.usage.peak_disk_mib * sizes.MB_PER_MIB if job.result else 0.0,
    short=Failure.DISK_FULL,
    ended="found the disk full",
    step=1000,
)


def advice(rules: Sequence[Sum]) -> list[Advice]:
    """For each resource of each rule of which a job has ended on a machine, in the order of names."""
    ended = sorted((rule for rule in rules if any(job.result for job in rule.jobs)), key=lambda it: it.name)
    return [each for rule in ended for each in _of_rule(rule)]


def advised(requirements: Requirements, rule: Mapping[str, Advice]) -> Requirements:
    """What a job asks for at its first attempt, with the profile applied. `rule` is its rule's advice by
    resource."""
    facts = {name: each.value for name, each in rule.items() if each.value is not None}
    return replace(
        requirements,
        mem_mb=facts.get("mem_mb", requirements.mem_mb),
        disk_mb=facts.get("disk_mb", requirements.disk_mb),
        runtime_min=facts.get("runtime", requirements.runtime_min),
    )


def by_rule(advices: Sequence[Advice]) -> dict[str, dict[str, Advice]]:
    """The same by rule and resource."""
    found: dict[str, dict[str, Advice]] = defaultdict(dict)
    for each in advices:
        found[each.rule][each.resource] = each
    return dict(found)


def _of_rule(rule: Sum) -> list[Advice]:
    found = [_one(rule, _MEMORY), _disk(rule), _one(rule, _RUNTIME)]
    (seen,) = sizes.sizes([rule])
    if seen.cores is not None and seen.cores.asked[1] > 1:
        threads = [text for text in seen.suggestions if "threads" in text]
        found.append(
            Advice(
                rule=rule.name,
                resource="threads",
                asked=seen.cores.asked,
                used=seen.cores.most,
                value=None,
                jobs=seen.measured,
                runs=found[0].runs,
                why=f"perhaps {threads[0]}" if threads else "about right",
            )
        )
    return found


def _one(rule: Sum, of: _Resource) -> Advice:
    """Of a resource, all of whose use is measured."""
    ended = [job for job in rule.jobs if job.result]
    good = _good(rule)
    used = max(map(of.used, ended))
    asked, before = _asked(rule, of)
    need = used * margin(len(good)) * of.factor if good else used
    short = ran_out(rule, of.short)
    if short:
        need = max(need, sizes.MORE * max(max(of.used(job), of.asked(job.asked) or 0) for job in short))
    enough = max(of.least, up(need, of.step))
    value, why = _judged(of, asked, used=used, enough=enough, short=len(short), few=not good and not short)
    if value is None and asked and asked[1] == asked[0] >= used and before not in (set(), {asked}):
        # This may come from an earlier profile: without its line there, the rule's own would return.
        value, why = round(asked[0]), f"as in the last run: {why}"
    group = "+" in rule.name
    return Advice(
        rule=rule.name,
        resource=of.name,
        asked=asked,
        used=used if good or used else None,
        value=None if group else value,
        grows=_grows(rule, of),
        jobs=len(good),
        runs=len({job.run for job in good}),
        why="jobs of a group: its rules say what it needs" if group else why,
    )


def _judged(
    of: _Resource, asked: tuple[float, float] | None, *, used: float, enough: int, short: int, few: bool
) -> tuple[int | None, str]:
    """What to ask for, None for the same as now; and why."""
    if few:
        return None, "too little to go on: no job of it has succeeded and was measured"
    if asked is None:
        return enough, "not set: estimates and budgets need it"
    least, most = asked
    if least != most:
        ran = f"; {short} {of.ended}" if short else ""
        return None, f"the rule computes it, {least:,.0f} to {most:,.0f}; at most {used:,.0f} were used{ran}"
    if enough > least and (short or used > least):
        words = f"{short} {of.ended}" if short else "used more than was asked for"
        return enough, words
    if enough <= least * sizes.WORTH:
        after = f"; {short} {of.ended} with less" if short else ""
        return enough, f"at most {used / least:.0%} of it was used{after}"
    return None, "about right"


def _disk(rule: Sum) -> Advice:
    """More, if a disk was full. Less is not advised, but said: inputs are not in what is measured."""
    found = _one(rule, _DISK)
    if found.value is None or found.asked is None or found.value >= found.asked[1]:
        return found
    enough = found.value
    is_much = found.asked[1] - enough >= sizes.LEAST_DISK_MB
    why = f"perhaps {enough} and the size of its inputs" if is_much else "about right"
    return replace(found, value=None, why=why)


def _good(rule: Sum) -> list[JobRow]:
    return [job for job in rule.jobs if job.result and sizes.is_measured(job.result)]


def _asked(rule: Sum, of: _Resource) -> tuple[tuple[float, float] | None, set[tuple[float, float] | None]]:
    """The least and most that jobs asked for at their first attempt: in the last run, and in those before."""
    first: dict[str, dict[str, float | None]] = defaultdict(dict)
    for job in sorted(rule.jobs, key=lambda each: each.began_at):
        first[job.run].setdefault(job.label, of.asked(job.asked))
    by_run: list[tuple[float, float] | None] = []
    for jobs in first.values():
        known = [each for each in jobs.values() if each is not None]
        by_run.append((min(known), max(known)) if len(known) == len(jobs) else None)
    return by_run[-1], set(by_run[:-1])


def _grows(rule: Sum, of: _Resource) -> bool:
    """Whether attempts at the same job of a run have asked for different amounts."""
    found: dict[tuple[str, str], set[float | None]] = defaultdict(set)
    for job in rule.jobs:
        found[job.job].add(of.asked(job.asked))
    return any(len(amounts) > 1 for amounts in found.values())


# --- as text ------------------------------------------------------------------------------


def table(advices: Sequence[Advice]) -> str:
    """What was asked for, used and is advised, for people."""
    header = ("rule", "resource", "asked", "used", "advised", "jobs", "runs", "why")
    rows, last = [], ""
    for each in advices:
        rows.append(
            (
                cut(each.rule, 24) if each.rule != last else "",
                each.resource,
                _range(each.asked),
                "?" if each.used is None else _amount(each.used),
                "" if each.value is None else each.expression.strip('"'),
                str(each.jobs),
                str(each.runs),
                each.why,
            )
        )
        last = each.rule
    return "\n".join(lines_of(header, rows, right={2, 3, 4, 5, 6}, wrap=WIDTH))


def _range(asked: tuple[float, float] | None) -> str:
    if asked is None:
        return "-"
    least, most = map(_amount, asked)
    return least if least == most else f"{least}-{most}"


def _amount(number: float) -> str:
    return f"{number:.1f}" if number < 10 and number != round(number) else f"{number:.0f}"


def profile(advices: Sequence[Advice], *, notes: Sequence[str] = ()) -> str:
    """The text of a `config.yaml` for Snakemake; empty if there is nothing to set. `notes` are put above
    it."""
    setting = {rule: list(each.values()) for rule, each in by_rule(advices).items()}
    if not any(each.value is not None for each in advices):
        return ""
    lines = [FIRST_LINE, *(f"# {note}" for note in notes), "set-resources:"]
    for rule, its in setting.items():
        if any(each.value is not None for each in its):
            lines.append(f"  {_key(rule)}:")
            lines += [_line(each) for each in its if each.value is not None]
        lines += [
            f"    # {_plain(each.resource)}: {_plain(each.why)}"
            for each in its
            if each.why.startswith("perhaps")
        ]
    return "\n".join(lines) + "\n"


FIRST_LINE = "# Written by snakemake-ec2 advise: sizes that follow from what earlier jobs have used."
"""By which a file of ours is known again."""


def _line(each: Advice) -> str:
    based = f"{each.jobs} job{'s' * (each.jobs != 1)} of {each.runs} run{'s' * (each.runs != 1)}"
    return f"    {each.resource}: {each.expression}  # {_plain(each.why)}; {based}"


def _key(rule: str) -> str:
    is_plain = re.fullmatch(r"[A-Za-z_]\w*", rule, re.ASCII) and rule.lower() not in _YAML_WORDS
    return rule if is_plain else json.dumps(rule)


def _plain(text: str) -> str:
    """One line of a comment, whatever a name has in it."""
    return " ".join(text.split())
