"""The page: whatever things are called, it is the same page; it needs nothing else, and stays small."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from snakemake_executor_ec2.formatting import usd
from snakemake_executor_ec2.model import Failure, JobResult, KeyPair, Phase, Price, Usage
from snakemake_executor_ec2.records.rows import Attempt, RunRecord
from snakemake_executor_ec2.records.whereabouts import Whereabouts
from snakemake_executor_ec2.report.page import page
from snakemake_executor_ec2.report.sizes import sizes
from snakemake_executor_ec2.report.summary import Summary
from tests.fakes.records import run_record
from tests.unit.report import picture
from tests.unit.report.made_up import BEGAN_AT, attempt, machine, many, summary

HOSTILE = (
    "</td></title></style></script><script>alert(1)</script><img src=x onerror=alert(1)>"
    "\"' onload=alert(1) x='{{ 7 * 7 }}{% raw %}${7}&lt;\x00\x1b[2J\u202egnp.exe\ud800<!--"
)


class Read(HTMLParser):
    """A page's tags with their attributes' names, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, ...]] = []
        self.values: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.values += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self._in = ""
        self.tags.append((f"/{tag}",))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", data))

    def handle_data(self, data: str) -> None:
        if self._in in self.raw:
            self.raw[self._in].append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def named(name: str) -> Summary:
    """A run of two jobs in which everything that can have a name has this one."""
    of = replace(
        machine(1, BEGAN_AT, spot=True),
        id=name,
        instance_type=name,
        zone=name,
        price=Price(usd_per_hour=1.0, source=name),
    )
    where = Whereabouts(host=name, boot=name, folder=name, inode=1, device=1)
    run = run_record(
        name, began_at=BEGAN_AT, region=name, endpoint=name, account=name, ssh_user=name, where=where,
        login=KeyPair(private="THE PRIVATE KEY", public="x"),
    )  # fmt: skip
    used = Usage(peak_mem_mib=10, cpu_seconds=1.0, peak_disk_mib=1)
    facts: dict[str, Any] = {
        "run": name, "key": name, "label": name, "rule": name, "ended_at": BEGAN_AT + 90, "on": 1,
        "seconds": {"boot": 20.0, "run": 60.0},
    }  # fmt: skip
    failed = JobResult(exit_code=1, failure=Failure.EXIT, evidence=name, seconds=60.0, usage=used)
    attempts = [
        attempt(1, of, **facts, result=JobResult(exit_code=0, seconds=60.0, usage=used)),
        attempt(2, of, **facts, end_reason="failed", result=failed, phase=Phase.RUN),
        attempt(3, of, **facts, end_reason="lost", error=name),
    ]
    return summary(run, attempts)


def test_whatever_things_are_called_it_is_the_same_page() -> None:
    """Names that are markup, template code or control characters are shown, and are no part of the page."""
    plain, hostile = (Read(page(named(name))) for name in ("plain", HOSTILE))
    assert hostile.tags == plain.tags
    assert hostile.raw == plain.raw
    assert "<script>alert(1)</script>" in hostile.text
    assert "{{ 7 * 7 }}" in hostile.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", hostile.text)
    page(named(HOSTILE)).encode("utf-8")  # a lone surrogate would not be
    assert "THE PRIVATE KEY" not in page(named("plain"))


def test_every_script_and_style_is_the_page_s_own() -> None:
    """Its policy names their digests, and allows no request; nothing in the page would make one."""
    read = Read(page(named("plain")))
    (policy,) = [
        value for tag, name, value in read.values if (tag, name) == ("meta", "content") and "-src" in value
    ]
    rules = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    for kind in ("script", "style"):
        (text,) = read.raw[kind]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert rules == {"img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    links = [value for _, name, value in read.values if name in ("href", "src", "action", "data", "srcset")]
    assert [each for each in links if not each.startswith("#")] == ["data:,"]
    assert not any(name.startswith("on") or name == "style" for _, name, _ in read.values)
    assert "http" not in "".join(read.raw["style"] + read.raw["script"])


def test_every_section_can_be_reached() -> None:
    """Each link leads to a section; what scrolls can be scrolled by keyboard, and has a name."""
    read = Read(page(named("plain")))
    ids = {value for _, name, value in read.values if name == "id"}
    links = {value[1:] for _, name, value in read.values if name == "href" and value.startswith("#")}
    assert links <= ids
    assert {"timeline", "costs", "sizes", "failures", "jobs", "about"} <= links
    scrolled = [each for each in read.tags if each == ("div", "class", "tabindex", "role", "aria-label")]
    assert (
        len(scrolled)
        == sum(value.startswith("scroll") for _, name, value in read.values if name == "class")
        > 4
    )


def test_two_thousand_jobs() -> None:
    """Less than 2 MB, in a few seconds, with each job; also if none of them shares a machine or a lane, and
    with long names."""
    run, attempts = many(2000, at_a_time=100)
    apart = [
        replace(
            each,
            label=f"rule {'a_long_name' * 12} (sample={number:0200d})",
            on=replace(each.on, id=number, machine=machine(number, BEGAN_AT), ended_at=BEGAN_AT + 900),
            began_at=BEGAN_AT - 2,
        )
        for number, each in enumerate(attempts)
    ]
    for each in (attempts, apart):
        began = time.process_time()
        text = page(summary(run, each))
        assert time.process_time() - began < 10
        assert len(text.encode()) < 2_000_000
        assert text.count("<tr><th scope=row>") == 2000


def test_more_jobs_than_a_page_should_have() -> None:
    """The most expensive ones are shown, and the page says that there are more."""
    run, attempts = many(4200, at_a_time=50)
    text = page(summary(run, attempts))
    assert "The 2,500 most expensive of 4,200" in Read(text).text
    assert text.count("<tr><th scope=row>") == 2500
    assert len(text.encode()) < 2_000_000


def _summary_of_two(run: RunRecord, attempts: list[Attempt]) -> Summary:
    one = summary(run, attempts)
    return replace(one, runs=(*one.runs, replace(one.runs[0], record=replace(run, id="run-2"))))


def test_what_it_tells() -> None:
    """Costs, jobs, machines; a run on this computer would have cost so much; several runs have a table."""
    run, attempts = many(40, at_a_time=5)
    found = summary(run, attempts)
    text = Read(page(found)).text
    assert f"Cost, estimated {usd(found.total.usd)}" in text
    assert f"Machines {found.total.machine_count} " in text
    assert f"Jobs 40 {found.total.failed_count} failed" in text
    suggested = [text for rule in sizes(found.rules) for text in rule.suggestions]
    assert "threads=2: at most 1.1 of 4 were busy on average" in suggested
    assert all(each in text for each in suggested)
    assert "EC2 took the spot machine back" in text
    assert "Each of them with its jobs" not in text, "few machines have a row each"
    rehearsed = Read(page(summary(replace(run, endpoint="http://127.0.0.1:5000"), attempts))).text
    assert f"Would have cost {usd(found.total.usd)}" in rehearsed
    assert "on EC2 they would have cost this" in rehearsed
    both = Read(page(_summary_of_two(run, attempts)))
    assert "2 EC2 runs" in both.text
    assert ("section", "id") in both.tags
    assert "runs" in {value for _, name, value in both.values if name == "id"}


@pytest.mark.parametrize("price", [None, Price(usd_per_hour=0.1, source="x")])
def test_a_run_without_a_machine_or_a_price(price: Price | None) -> None:
    """There is a page all the same, and what is not known is told as such."""
    refused = attempt(1, None, end_reason="failed", error="no capacity", began_at=BEGAN_AT)
    text = Read(page(summary(run_record("run-1", began_at=BEGAN_AT), [refused], until=BEGAN_AT))).text
    assert "No machine was launched." in text
    assert "no capacity" in text
    of = machine(1, BEGAN_AT, price=price)
    one = attempt(1, of, seconds={"run": 60.0}, ended_at=BEGAN_AT + 60)
    text = Read(page(summary(run_record("run-1", began_at=BEGAN_AT), [one]))).text
    assert ("No price is known for 1 of the machines." in text) == (price is None)
    assert ("Cost, estimated ?" in text) == (price is None)


def test_spot_machines_that_were_lost_may_have_cost_more() -> None:
    """What they saved is no negative amount; and what a job took all of is told as spent while it ran."""
    of = machine(1, BEGAN_AT, spot=True)
    lost = attempt(1, of, seconds={"run": 60.0}, ended_at=BEGAN_AT + 60, end_reason="lost")
    text = Read(page(summary(run_record("run-1", began_at=BEGAN_AT), [lost]))).text
    assert "Spot cost more by $0.00" in text
    assert "spot machines: 1; jobs lost on them: 1" in text
    assert "$-" not in text
    assert "was spent while jobs ran." in text


def test_the_picture_in_readme_is_up_to_date() -> None:
    """`python -m tests.unit.report.picture` draws docs/report.svg as it is."""
    assert picture.PATH.read_text() == picture.picture()
