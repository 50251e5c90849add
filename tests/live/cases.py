"""The acceptance tests. Each runs a small workflow as a user would, and says in one sentence what holds.

A test raises `Failed` if it does not hold, and `NotShown` if it cannot be shown in this account. What it
returns is told beside the figures that all tests have."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.live.account import wait_until_over
from tests.live.kit import Kit, NotShown, Workflow, must

_LEASE_S = 90
_ENDS_WITHIN_S = 240
"""So long after its lease a machine may take to have powered itself off, and EC2 to say so."""


def smallest(kit: Kit) -> str:
    """A rule without any option runs on a machine of its own, and its result is here."""
    made = kit.workflow(
        "smallest",
        {
            "Snakefile": "rule greet:\n    output: 'greeting.txt'\n    resources: runtime=10\n"
            "    shell: 'echo from $(whoami) > {output}'\n"
        },
    )
    _succeeds(made)
    must((made.folder / "greeting.txt").read_text() == "from ec2-user\n", "the result is another one")
    return ""


def software(kit: Kit) -> str:
    """Your version of Snakemake is installed on the machine of a rule that needs it."""
    made = kit.workflow(
        "software",
        {
            "Snakefile": "import snakemake\n"
            "rule which:\n    output: 'version.txt'\n    resources: runtime=10\n"
            "    run:\n        open(output[0], 'w').write(snakemake.__version__)\n"
        },
    )
    _succeeds(made)
    from snakemake import __version__

    must((made.folder / "version.txt").read_text() == __version__, "it has another version")
    return f"Snakemake {__version__}"


def staging(kit: Kit) -> str:
    """Files arrive unchanged on the machine, and come back unchanged: the same checksums three times."""
    data = os.urandom(kit.megabytes * 10**6)
    small = {f"in/many/{number:03} ü.txt": f"{number}\n" * number for number in range(200)}
    made = kit.workflow(
        "staging",
        {
            "Snakefile": "rule copy:\n    input: data='in/data.bin', many='in/many'\n"
            "    output: data='out/data.bin', many=directory('out/many'), sums='out/sums.txt'\n"
            f"    resources: runtime=10, disk_mb={kit.megabytes * 3 + 1000}\n"
            "    shell: 'sha256sum {input.data} > {output.sums}; cp {input.data} {output.data}; '\n"
            "           'cp -r {input.many} {output.many}'\n",
            "in/data.bin": data,
            **small,
        },
    )
    _succeeds(made)
    here, back = hashlib.sha256(data), hashlib.sha256((made.folder / "out/data.bin").read_bytes())
    there = (made.folder / "out/sums.txt").read_text().split()[0]
    must(there == here.hexdigest(), "the input on the machine had another checksum than here")
    must(back.digest() == here.digest(), "the output has another checksum than the input")
    for name, content in small.items():
        must((made.folder / name.replace("in/", "out/", 1)).read_text() == content, f"{name} has changed")
    (job,) = made.report()["jobs"]
    up, down = (kit.megabytes / max(0.1, job[part]) for part in ("prepare_s", "stage_out_s"))
    return f"{kit.megabytes} MB and 200 small files: {up:.1f} MB/s up, {down:.1f} MB/s down"


def killed(kit: Kit) -> str:
    """After a SIGKILL the same command finds the running job, and fetches its result: it ran once."""
    made = kit.workflow(
        "killed",
        {
            "Snakefile": "rule long:\n    output: 'starts.txt'\n    resources: runtime=10\n"
            "    shell: 'date +%s >> /tmp/starts; sleep 20; cp /tmp/starts {output}'\n"
        },
    )
    made.start()
    machine = made.until_it_runs()
    made.kill()
    state = made.states().get(machine)
    must(state == "without a controller", f"`snakemake-ec2 ps` says of the machine: {state}")
    _succeeds(made)
    must(len((made.folder / "starts.txt").read_text().splitlines()) == 1, "the job was started again")
    must(len(kit.account.machines(kit.name, "killed")) == 1, "another machine was launched for it")
    return ""


def memory(kit: Kit) -> str:
    """A job that needs more memory than its machine has fails with that reason, and what to do about it."""
    # A machine of the embedded cloud has all of this computer's memory, which is not to be used up.
    limit = "ulimit -v 500000; " if kit.is_local else ""
    made = kit.workflow(
        "memory",
        {
            "Snakefile": "rule greedy:\n    output: 'never.txt'\n    resources: runtime=10, mem_mb=500\n"
            f"    shell: '{limit}/usr/bin/python3 greedy.py; touch {{output}}'\n",
            "greedy.py": "kept = []\nwhile True:\n    kept.append(b'x' * (64 << 20))\n",
        },
    )
    must(made.run() != 0, "the run succeeded")
    must("out of memory" in made.output, "memory is not named as the reason")
    must("mem_mb" in made.output, "it is not said that mem_mb can be raised")
    (job,) = made.report()["jobs"]
    return "limited by ulimit here" if kit.is_local else f"peak {job['peak_mem_mib'] or 0:.0f} MiB"


def spot(kit: Kit) -> str:
    """A job runs on a spot machine, and the table says what it saved."""
    made = kit.workflow(
        "spot",
        {
            "Snakefile": "rule cheap:\n    output: 'o.txt'\n    resources: runtime=10\n"
            "    shell: 'echo cheap > {output}'\n"
        },
    )
    if made.run("--ec2-spot", "only", "--ec2-capacity-timeout", "90s") != 0:
        if not made.report()["machines"]:
            raise NotShown(f"no spot machine was launched: {_last_error(made)}")
        _succeeds(made)
    (machine,) = made.report()["machines"]
    must(machine["market"] == "spot", "the machine was none of the spot market")
    return f"saved ${machine['saved_usd'] or 0:.4f}"


def budget(kit: Kit) -> str:
    """With a budget that no machine fits into, none is launched."""
    made = kit.workflow(
        "budget", {"Snakefile": "rule one:\n    output: 'o.txt'\n    shell: 'touch {output}'\n"}
    )
    must(made.run("--ec2-max-cost", "0.000001") != 0, "the run succeeded")
    must(not kit.account.machines(kit.name, "budget"), "a machine was launched")
    return "nothing was launched"


def abandoned(kit: Kit) -> str:
    """A machine whose Snakemake never comes back is listed, ends by itself when its lease is over, and
    `gc` removes what is left."""
    made = kit.workflow(
        "abandoned",
        {
            "Snakefile": "rule forever:\n    output: 'never.txt'\n    resources: runtime=60\n"
            "    shell: 'sleep 3600; touch {output}'\n"
        },
    )
    made.start("--ec2-lease", f"{_LEASE_S}s")
    machine = made.until_it_runs()
    made.kill()
    must(machine in made.states("--all"), "`snakemake-ec2 ps --all` does not list it")
    must("can resume it" in made.tool("gc"), "`snakemake-ec2 gc` does not say that it can be resumed")

    killed_at = time.time()
    over = wait_until_over(
        kit.account, kit.name, "abandoned", min(_LEASE_S + _ENDS_WITHIN_S, kit.seconds_left())
    )
    must(machine in over, f"it is alive {_ENDS_WITHIN_S} s after its lease")
    alone_s = over[machine] - killed_at
    must(alone_s > _LEASE_S / 2, f"it ended {alone_s:.0f} s after its Snakemake: not by its lease")
    (seen,) = kit.account.machines(kit.name, "abandoned")
    must("InstanceInitiatedShutdown" in seen.reason, f"it did not end by itself: {seen.reason}")

    must("0 machines" in made.tool("gc", "--yes"), "`snakemake-ec2 gc` ended a machine that had ended")
    must(machine not in made.states("--all"), "`snakemake-ec2 ps --all` lists it still")
    return f"ended by itself {alone_s:.0f} s after the last contact; its lease was {_LEASE_S} s"


CASES: dict[str, Callable[[Kit], str]] = {
    each.__name__: each
    for each in (smallest, software, staging, budget, memory, killed, spot, abandoned)
}  # fmt: skip


def _succeeds(made: Workflow) -> None:
    status = made.run()
    must(status == 0, f"Snakemake ended with {status}: {_last_error(made)}")


def _last_error(made: Workflow) -> str:
    """The last lines of what was printed, in one."""
    lines = [line.strip() for line in made.output.splitlines() if line.strip()]
    return " | ".join(lines[-4:])[-600:]


def output_of(made: Workflow) -> Path:
    """Where all that it has printed is kept."""
    return made.folder.with_suffix(".output.txt")
