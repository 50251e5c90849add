"""`snakemake-ec2 bake`: make an image that has a workflow's software, from which its runs then start."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from snakemake_executor_ec2.cli.interrupting import ignore_signals, interrupts, wait_for
from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError

HELP = """\
usage: snakemake-ec2 bake [--again] [--disk-mb N] [any arguments of snakemake]
       snakemake-ec2 bake --list [--region R] [--profile P]
       snakemake-ec2 bake --delete IMAGE … | --all [--yes] [--region R] [--profile P]

Makes an image that has what `snakemake --executor ec2` with these arguments would install on each
machine: Snakemake and its storage plugins, --ec2-requirements, what --ec2-setup leaves on the disk, conda
or apptainer if rules need them. One machine prepares it and is terminated. Runs in the same region find
the image and start from it. It costs money until it is deleted.

  --again       make it even if there is one already
  --disk-mb N   how much more than software the setup script puts on the disk (default: 1000)
  --list        the account's images of this command, and what they cost a month
  --delete      delete images and their snapshots; --all: all of them, after asking (--yes: without asking)
"""


def main(words: Sequence[str]) -> int:
    """Returns the exit status."""
    if "-h" in words or "--help" in words:
        print(HELP)
        return 0
    try:
        if "--list" in words or "--delete" in words:
            return _images(list(words))
        return _bake_all(list(words))
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return 1


# --- the images that there are ------------------------------------------------------------


def _images(words: list[str]) -> int:
    from snakemake_executor_ec2.aws.baked import Ec2Images
    from snakemake_executor_ec2.aws.clients import Clients
    from snakemake_executor_ec2.cli.common import add_common
    from snakemake_executor_ec2.report import baking
    from snakemake_executor_ec2.timing import SystemClock

    parser = argparse.ArgumentParser(prog="snakemake-ec2 bake")
    add_common(parser)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--delete", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("images", nargs="*")
    options = parser.parse_args(words)
    if bool(options.images) + options.all != bool(options.delete):
        parser.error("--delete takes images or --all, and nothing else does")
    images = Ec2Images(Clients(region=options.region, profile=options.profile), SystemClock())
    if options.delete and not options.all:
        return _delete(images, options.images)
    found = images.find()
    if not found:
        print(f"no image of `snakemake-ec2 bake` in {images.region}")
        return 0
    print(baking.listed(found, time.time()))
    if not options.delete:
        return 0
    if not options.yes and not _agreed(len(found)):
        print("nothing was deleted")
        return 1
    return _delete(images, [each.image.ami for each in found])


def _agreed(images: int) -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask on: give --yes to delete them")
    print(
        f"Delete {images} image{'s' * (images != 1)} of the account, including those of others? [y/N] ",
        end="",
    )
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _delete(images: Any, names: Sequence[str]) -> int:
    """Each, whatever becomes of the others."""
    failed = 0
    for name in dict.fromkeys(names):
        try:
            images.delete(name)
        except Ec2ExecutorError as error:
            print(error, file=sys.stderr)
            failed += 1
        else:
            print(f"deleted {name} and its snapshot", flush=True)
    return 1 if failed else 0


# --- another one --------------------------------------------------------------------------


def _bake_all(words: list[str]) -> int:
    from snakemake_executor_ec2.plugin.dag import look_at_jobs

    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--again", action="store_true")
    own.add_argument("--disk-mb", type=int, default=1000)
    options, rest = own.parse_known_args(words)
    statuses: list[int] = []
    done = look_at_jobs(rest, lambda dag, settings: statuses.append(_bake(dag, settings, options)))
    return max(statuses, default=1) if done else 1


def _bake(dag: Any, settings: Any, options: argparse.Namespace) -> int:
    """Make the images for a DAG of Snakemake's. Raises Ec2ExecutorError."""
    from snakemake_executor_ec2.controller.run import Run
    from snakemake_executor_ec2.plugin.baking import wanted

    if settings.cloud == "local":
        raise ConfigurationError(
            "the embedded cloud of --ec2-cloud local ends with this command, and so would its image: "
            "`snakemake-ec2 cloud` serves one that stays"
        )
    order = wanted(dag, settings, _to_stderr)
    config = replace(order.config, use_baked=False)
    run = Run(config, software=order.software, tell=_to_stderr, warn=_to_stderr)
    with interrupts():
        try:
            run.open()
            return max(_one(run, order, base, options, number) for number, base in enumerate(order.bases, 1))
        finally:
            ignore_signals()
            run.close()


def _one(run: Any, wanted: Any, base: Any, options: argparse.Namespace, number: int) -> int:
    """Make the image for one base, unless there is one; the exit status."""
    from snakemake_executor_ec2.controller.bake import order
    from snakemake_executor_ec2.machines import baked
    from snakemake_executor_ec2.report import baking
    from snakemake_executor_ec2.sizing import disk
    from snakemake_executor_ec2.tags import HOLDS_TAG

    image = run.feasibility.cloud.image(base.ami or None, base.arch, gpu=base.gpu)
    name = baked.base_name(image, named=bool(base.ami), gpu=base.gpu)
    ordered = order(wanted.software, wanted.config, image, base=name, gpu=base.gpu, disk_mb=options.disk_mb,
                    key=run.key_for(number, 1), login_keys=run.login_keys, now=time.time())  # fmt: skip
    found = baked.newest(run.images.find(ordered.digest), ordered.digest, base.arch)
    # What has another base, or fewer tools, is used all the same, and something is still missing.
    is_complete = found is not None and (found.base, found.holds) == (image.ami, ordered.tags[HOLDS_TAG])
    if found is not None and is_complete and not options.again:
        print(baking.exists(found, time.time()))
        return 0
    needed = ordered.plan.requirements
    offer, gib = run.feasibility.check(needed), disk.disk_gib(needed, image)
    _to_stderr(baking.intended(ordered.software, image, offer, gib, run.images.region))
    return _made(run, ordered)


def _made(run: Any, order: Any) -> int:
    """Wait until an image is made; the exit status."""
    from snakemake_executor_ec2.controller.bake import bake

    story = run.begin(order.plan, lambda context, cancel: bake(order, run.images, context, cancel))
    interrupted = wait_for(run, story)
    if story.done():  # else `Run.close` ends the machine
        outcome = story.result()
        print(outcome.message, file=sys.stdout if outcome.ok else sys.stderr)
    if interrupted or not story.done():
        raise KeyboardInterrupt
    return 0 if outcome.ok else 1


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
