"""`snakemake-ec2 doctor`: whether everything is there for a run on EC2, and what to do if not."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from snakemake_executor_ec2.errors import ConfigurationError

if TYPE_CHECKING:
    from snakemake_executor_ec2.doctor.findings import Finding, Report

HELP = """\
usage: snakemake-ec2 doctor [--json] [--policy] [any arguments of snakemake]

Looks at everything that `snakemake --executor ec2` needs with these arguments: credentials, region,
permissions, network, the way in over ssh, the account's limits, image, key, clock, versions. Each gets
a line: ok, warning, problem with what to do, or not tested. If permissions are missing, the policy that
grants them is shown, with a letter to the administrator. Nothing is launched, made or billed.

  --json      for programs
  --policy    print the whole policy that a run needs, and look at nothing
  --ec2-*, --profile, -d …   as for snakemake; no Snakefile is needed

exit status: 1 if there is a problem, 0 otherwise

examples:
  snakemake-ec2 doctor --ec2-region eu-central-1
  snakemake-ec2 doctor --ec2-profile lab --ec2-ssh-key ~/lab.pem
"""


def main(words: Sequence[str]) -> int:
    """Returns the exit status: 1 if there is a problem."""
    if "-h" in words or "--help" in words:
        print(HELP)
        return 0
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--json", action="store_true")
    own.add_argument("--policy", action="store_true")
    options, rest = own.parse_known_args(list(words))
    if options.policy:
        from snakemake_executor_ec2.aws.policy import FILE

        print(FILE.read_text(), end="")
        return 0

    from snakemake_executor_ec2.doctor.findings import Report, lines, problem

    def tell(found: Finding) -> None:
        if not options.json:
            print("\n".join(lines(found)), flush=True)

    try:
        report = _report(rest, tell)
    except ConfigurationError as error:  # of Snakemake's parser, or of a rehearsal that does not start
        found = problem("options", error.message, "`snakemake --help` lists the options")
        tell(found)
        report = Report(findings=(found,))
    print(json.dumps(report.as_json(), indent=2) if options.json else "\n".join(report.end()))
    return report.exit_status


def _report(arguments: Sequence[str], tell: Callable[[Finding], None]) -> Report:
    from snakemake_executor_ec2.doctor.examine import Examination
    from snakemake_executor_ec2.plugin.options import settings_of, usable_config
    from snakemake_executor_ec2.plugin.rehearsal import rehearsing
    from snakemake_executor_ec2.timing import SystemClock

    settings = settings_of(arguments)
    with ExitStack() as stack:
        if settings.cloud == "local":
            stack.enter_context(rehearsing())
            print("Asking the embedded cloud on your computer instead of AWS.", file=sys.stderr)
        config, wrong = usable_config(settings)
        return Examination(config=config, clock=SystemClock(), wrong_options=wrong, tell=tell).report()
