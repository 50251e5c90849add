"""What of a run's words reaches whom."""

from __future__ import annotations

import io
import logging
from inspect import signature

import pytest
from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake.settings.enums import Quietness

from snakemake_executor_ec2.plugin.voice import Voice
from snakemake_executor_ec2.report.levels import Detail, Failed, Lasting


def heard(quiet: set[Quietness], *, verbose: bool = False) -> tuple[Voice, io.StringIO]:
    """A voice through Snakemake's own handler, and what a user would see of it."""
    stream = io.StringIO()
    options = dict.fromkeys(("debug_dag", "dryrun", "printshellcmds"), False) | {"verbose": verbose}
    known = signature(DefaultFilter).parameters  # they differ between versions
    chosen = DefaultFilter(quiet, **{name: value for name, value in options.items() if name in known})
    handler = ColorizingTextHandler(stream=stream, formatter=DefaultFormatter(quiet))
    handler.addFilter(chosen)
    logger = logging.Logger("run", logging.DEBUG if verbose else logging.INFO)
    logger.addHandler(handler)
    return Voice(logger), stream


@pytest.mark.parametrize(
    ("quiet", "verbose", "expected"),
    [
        (set(), False, "step end careful why"),
        (set(), True, "step detail end careful why"),
        ({Quietness.PROGRESS, Quietness.RULES}, False, "end careful why"),  # `--quiet`
        ({Quietness.RULES}, False, "step end careful why"),
        ({Quietness.ALL}, False, ""),
    ],
)
def test_quiet_and_verbose_mean_what_they_mean_to_snakemake(
    quiet: set[Quietness], verbose: bool, expected: str
) -> None:
    """Single jobs' events are progress; the end of the run, warnings and failures are not. No colours
    where there is no terminal."""
    voice, stream = heard(quiet, verbose=verbose)
    voice.tell("step")
    voice.tell(Detail("detail"))
    voice.tell(Lasting("end"))
    voice.warn("careful")
    voice.failed("why")
    assert stream.getvalue().split() == expected.split()


def test_the_same_failure_of_many_jobs_is_told_now_and_then() -> None:
    """In full once, then in a line; another failure again in full."""
    voice, stream = heard(set())
    for number in range(1, 101):
        voice.failed(Failed(f"all of {number}", brief=f"like {number}", like="a"))
    voice.failed(Failed("another", brief="like it", like="b"))
    assert stream.getvalue().splitlines() == [
        "all of 1",
        "like 2",
        "like 10 (10 jobs up to now)",
        "like 100 (100 jobs up to now)",
        "another",
    ]


def test_what_could_command_a_terminal_is_spelled_out() -> None:
    """Also in a detail."""
    voice, stream = heard(set(), verbose=True)
    voice.tell(Detail("a \x1b[31mred\x1b[0m name"))
    voice.failed("\x1b]0;title\x07")
    assert stream.getvalue().splitlines() == [r"a \x1b[31mred\x1b[0m name", r"\x1b]0;title\x07"]
