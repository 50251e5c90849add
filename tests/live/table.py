"""The figures of a session, as a table in Markdown that can be published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.live.account import Seen

_LEAST_BILLED_S = 60.0
_HEADER = (
    "test",
    "",
    "machine",
    "to ssh",
    "software, inputs",
    "job",
    "results",
    "ended after",
    "told",
    "EC2's times",
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one test has shown."""

    name: str
    sentence: str
    outcome: str
    """`ok`, `FAILED` or `not shown`."""
    why: str = ""
    seconds: float = 0.0
    machine: str = ""
    boot_s: float | None = None
    prepare_s: float | None = None
    run_s: float | None = None
    fetch_s: float | None = None
    ended_after_s: float | None = None
    told_usd: float = 0.0
    ec2_usd: float = 0.0
    """What it comes to by the times that EC2 says, rather than by those in the journal."""


def figures(
    report: Mapping[str, Any], machines: Sequence[Seen], over: Mapping[str, float], ended_at: float
) -> dict[str, Any]:
    """The figures of a test, from the product's journal and from EC2."""
    jobs = report["jobs"]

    def most(part: str) -> float | None:
        return max((job[part] for job in jobs if job[part]), default=None)

    types = sorted({f"{each['type']} {each['market']}" for each in report["machines"] if each["type"]})
    return {
        "machine": ", ".join(types).replace(" on-demand", ""),
        "boot_s": most("boot_s"),
        "prepare_s": most("prepare_s"),
        "run_s": most("run_s"),
        "fetch_s": most("stage_out_s"),
        "ended_after_s": max((max(0.0, at - ended_at) for at in over.values()), default=None),
        "told_usd": report["total"]["usd"] or 0.0,
        "ec2_usd": sum(_by_ec2(each, report, over) for each in machines),
    }


def _by_ec2(machine: Seen, report: Mapping[str, Any], over: Mapping[str, float]) -> float:
    """The journal's price for as long as EC2 says that the machine was there."""
    told = next((each for each in report["machines"] if each["machine"] == machine.id), None)
    ended_at = machine.ended_at or over.get(machine.id)
    if told is None or not told["usd"] or ended_at is None:
        return 0.0
    usd_per_s = told["usd"] / max(_LEAST_BILLED_S, told["billed_s"])
    return float(usd_per_s * max(_LEAST_BILLED_S, ended_at - machine.launched_at))


def markdown(results: Sequence[Result]) -> str:
    """The table, and below it what each test shows."""
    rows = [_cells(each) for each in results]
    told, ec2 = sum(each.told_usd for each in results), sum(each.ec2_usd for each in results)
    rows.append(("total", *[""] * 7, f"${told:.4f}", f"${ec2:.4f}"))
    widths = [max(len(row[column]) for row in [_HEADER, *rows]) for column in range(len(_HEADER))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    lines = [line(_HEADER), "| " + " | ".join("-" * max(3, width) for width in widths) + " |"]
    lines += [line(row) for row in rows]
    lines += ["", *(_said(each) for each in results)]
    return "\n".join(lines)


def _said(result: Result) -> str:
    why = (
        f" {result.outcome}: {result.why}"
        if result.outcome != "ok"
        else (f" ({result.why})" if result.why else "")
    )
    return f"- `{result.name}`: {result.sentence}{why}"


def _cells(result: Result) -> tuple[str, ...]:
    times = (result.boot_s, result.prepare_s, result.run_s, result.fetch_s, result.ended_after_s)
    return (
        result.name,
        result.outcome,
        result.machine,
        *("" if each is None else f"{each:.1f} s" for each in times),
        f"${result.told_usd:.4f}",
        f"${result.ec2_usd:.4f}",
    )
