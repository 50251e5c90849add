"""Acceptance tests on a real AWS account, bounded and cleaned up; or on the embedded cloud.

scripts/live --max-cost 2 --region eu-central-1           what would be done, and where
scripts/live --max-cost 2 --region eu-central-1 --yes     do it
scripts/live --cloud local                                without an account, and without costs
"""

from __future__ import annotations

import argparse
import inspect
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.live.account import Account, open_account, wait_until_over
from tests.live.cases import CASES, output_of
from tests.live.kit import TOOL, Failed, Kit, NotShown
from tests.live.table import Result, figures, markdown

_OVER_WITHIN_S = 240.0
_PRICES = (
    "`told` is the product's estimate, `EC2's times` the same prices for as long as EC2 says that the "
    "machines were there; traffic comes on top. What AWS bills is known a day later: docs/live.md."
)


def main() -> int:
    options = _options()
    with _cloud(options.cloud):
        account, who = open_account(options.region, options.profile)
        where = "the embedded cloud of this computer" if options.cloud == "local" else who
        print(f"{where}; region {account.region}", flush=True)
        print(
            f"{len(options.only)} tests: at most ${options.max_cost:.2f}, {options.max_minutes:.0f} minutes"
        )
        if options.cloud != "local" and not options.yes:
            print("Nothing was launched. Add --yes to run the tests in this account.")
            return 2
        if not _doctor_agrees(options):
            print("Nothing was launched: `snakemake-ec2 doctor`, above, has found a problem.")
            return 2
        folder = Path(tempfile.mkdtemp(prefix="snakemake-ec2-live-"))
        status = 1
        try:
            status = _session(options, account, folder)
        finally:
            if options.keep or status:
                print(f"The workflows are kept in {folder}", flush=True)
            else:
                shutil.rmtree(folder)
        return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--max-cost", type=float, default=2.0, metavar="USD", help="for all tests; default: 2"
    )
    parser.add_argument("--max-minutes", type=float, default=60.0, metavar="MIN", help="default: 60")
    parser.add_argument("--region", help="default: that of your AWS configuration")
    parser.add_argument("--profile", help="a named profile of ~/.aws/config")
    parser.add_argument("--yes", action="store_true", help="run the tests in the account that is shown")
    parser.add_argument("--cloud", choices=["aws", "local"], default="aws", help="local: the embedded cloud")
    parser.add_argument(
        "--only", nargs="+", choices=CASES, default=[*CASES], metavar="TEST", help=", ".join(CASES)
    )
    parser.add_argument("--mb", type=int, default=100, help="how much the test `staging` sends; default: 100")
    parser.add_argument("--table", type=Path, metavar="FILE", help="also write the table to a file")
    parser.add_argument("--keep", action="store_true", help="keep the workflows' folders, to look at them")
    parser.add_argument(
        "options", nargs="*", help="after `--`: further options of Snakemake, such as --ec2-subnets"
    )
    return parser.parse_args()


@contextmanager
def _cloud(which: str) -> Iterator[None]:
    """The environment leads to AWS as it is, or to an embedded cloud for as long as the block runs."""
    if which != "local":
        yield
        return
    from snakemake_executor_ec2.local.cloud import EmbeddedCloud

    with EmbeddedCloud() as cloud:
        for name in cloud.unset:
            os.environ.pop(name, None)
        os.environ.update(cloud.env)
        yield


def _where(options: argparse.Namespace) -> list[str]:
    pairs = {"--ec2-region": options.region, "--ec2-profile": options.profile}
    return [word for name, value in pairs.items() if value for word in (name, value)]


def _doctor_agrees(options: argparse.Namespace) -> bool:
    """Whether a run would have all that it needs. Nothing is launched."""
    call = [sys.executable, "-c", TOOL, "doctor", *_where(options), *options.options]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout + done.stderr)
    return done.returncode == 0


def _session(options: argparse.Namespace, account: Account, folder: Path) -> int:
    """All tests, one after the other; then nothing of them may be left."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kit = Kit(
        name=f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        folder=folder,
        account=account,
        max_cost_usd=options.max_cost,
        max_seconds=options.max_minutes * 60,
        options=(*_where(options), *options.options),
        tool_options=tuple(word.replace("--ec2-", "--") for word in _where(options)),
        is_local=options.cloud == "local",
        megabytes=options.mb,
    )
    key_pairs = account.key_pairs()
    results: list[Result] = []
    try:
        for name in options.only:
            results.append(_test(kit, name))
            print(
                f"{results[-1].outcome:9}  {name} ({results[-1].seconds:.0f} s) {results[-1].why}", flush=True
            )
    finally:
        left, unseen = _tidy(kit, key_pairs)
        text = _text(kit, results, left, unseen)
        print(f"\n{text}")
        if options.table:
            options.table.write_text(text)
    return 1 if left or any(each.outcome == "FAILED" for each in results) else 0


def _test(kit: Kit, name: str) -> Result:
    """One test, and its figures when its machines have ended."""
    sentence = " ".join((inspect.getdoc(CASES[name]) or "").split())
    began, outcome, why = time.monotonic(), "ok", ""
    try:
        kit.seconds_left()
        why = CASES[name](kit)
    except NotShown as reason:
        outcome, why = "not shown", str(reason)
    except Failed as reason:
        outcome, why = "FAILED", str(reason)
    made = kit.workflows.get(name)
    if made is None:
        return Result(name=name, sentence=sentence, outcome=outcome, why=why)
    over = wait_until_over(kit.account, kit.name, name, _OVER_WITHIN_S if outcome == "ok" else 0.0)
    if outcome == "ok" and (
        alive := [each for each in kit.account.machines(kit.name, name) if each.is_alive]
    ):
        outcome, why = "FAILED", f"{alive[0].id} was alive {_OVER_WITHIN_S:.0f} s after the run"
        made.is_tidy = False
    made.close()
    if outcome == "FAILED":
        print("\n".join(["", f"== {name}: {output_of(made)}", *made.output.splitlines()[-40:], ""]))
    over = wait_until_over(kit.account, kit.name, name, _OVER_WITHIN_S) | over
    machines = kit.account.machines(kit.name, name)
    report = made.report()
    found = figures(report, machines, over, made.ended_at)
    kit.spent_usd += found["told_usd"]
    kit.runs |= {run["run"] for run in report["runs"]}
    del kit.workflows[name]
    seconds = time.monotonic() - began
    return Result(name=name, sentence=sentence, outcome=outcome, why=why, seconds=seconds, **found)


def _tidy(kit: Kit, key_pairs: set[str] | None) -> tuple[list[str], list[str]]:
    """End whatever is left of a test that was interrupted, first by the product and then without it. What
    is there even so, and what could not be looked at for want of a permission."""
    for made in kit.workflows.values():
        try:
            made.close()
            kit.runs |= {run["run"] for run in made.report()["runs"]}
        except Exception as error:  # whatever it is: the machines are ended below
            print(f"{made.name}: {error}")
    alive = [each.id for each in kit.account.machines(kit.name) if each.is_alive]
    if alive:
        kit.account.terminate(alive)
    wait_until_over(kit.account, kit.name, "", _OVER_WITHIN_S)
    there, unseen = kit.account.left(kit.name, kit.runs, key_pairs)
    return [*(f"machine {name}: the kit had to end it" for name in alive), *there], unseen


def _text(kit: Kit, results: list[Result], left: list[str], unseen: list[str]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("snakemake-executor-plugin-ec2", "snakemake"))
    lines = [
        f"`scripts/live` {kit.name}, {'the embedded cloud' if kit.is_local else 'AWS'}, region "
        f"{kit.account.region}, {versions}",
        "",
        markdown(results),
        "",
        f"Left behind: {'; '.join(left) or 'nothing'}.",
    ]
    if unseen:
        lines.append(f"Not looked at, because the permission is missing: {', '.join(unseen)}.")
    if not kit.is_local:
        lines += ["", _PRICES]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None
