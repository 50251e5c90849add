"""Before anything is launched: would machines decide as this computer did?

Snakemake resolves one job of each rule again, on this computer, in a folder that holds what machines would
get and a mount namespace in which that folder is the working directory. What differs there differs on a
machine. Jobs that run their own command have nothing to resolve and are left out.

Only Linux has such namespaces, and not everywhere for ordinary users. Without them there is no preflight:
machines compare all the same, and the difference costs a launch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.errors import ConfigurationError, SnakefileUnreadable
from snakemake_executor_ec2.plugin.preflight.folders import make_folders, refused_files
from snakemake_executor_ec2.staging.view import View

NO_NAMESPACE = 97
"""Exit status of the child if it could not have one."""
MOST_ENTRIES = 30_000
"""In a larger folder the preflight would take seconds."""
_TIMEOUT_S = 120.0
_COMPUTERS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "TERM", "TZ")
_TOLD_LINES = 8


def check(
    document: Mapping[str, Any],
    *,
    view: View,
    sent: Iterable[Path],
    env: Mapping[str, str],
    unset: Iterable[str] = (),
    programs: Collection[str] = (),
) -> bool:
    """Resolve the jobs of a document once more, seeing only `sent` and stand-ins for the rest of `view`.

    Returns whether that was possible here. Raises ConfigurationError with what differs, and
    SnakefileUnreadable if the Snakefile could not even be read. `programs` are those that it called here.
    """
    texts = frozenset(map(str, sent))
    if view.entries > MOST_ENTRIES or not sys.platform.startswith("linux"):
        return False
    with tempfile.TemporaryDirectory(prefix="snakemake-ec2-preflight-") as place:
        spec = Path(place, "decision.json")
        spec.write_text(json.dumps({**document, "check": True}))
        with make_folders(view, texts) as folders:
            done = _resolve(spec, folders, _environment(env, unset))
        if done is None:
            return False
        differs = Path(f"{spec}.differs")
        if differs.exists():
            sentences = [f"- {line}" for line in differs.read_text().splitlines()]
            raise ConfigurationError(
                "Nothing was launched, because machines would compute something else than was decided on "
                "your computer:\n" + "\n".join([*sentences, *_about(programs)])
            )
    if done.returncode in (0, NO_NAMESPACE):
        return done.returncode == 0
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    told = [f"    {line}" for line in said[-_TOLD_LINES:]]
    raise SnakefileUnreadable(
        "Nothing was launched, because Snakemake could not read the workflow with only the files that are "
        "sent to machines. Name what is missing with --ec2-include, or read it in a rule. Snakemake "
        "said:\n" + "\n".join([*told, *_about(programs)]),
        files=refused_files(said, view, texts),
    )


def _resolve(spec: Path, folders: object, env: Mapping[str, str]) -> subprocess.CompletedProcess[str] | None:
    """What the child says; None if it takes too long."""
    # -P: modules of the workflow's are not ours to import.
    child = [sys.executable, "-P", "-m", "snakemake_executor_ec2.plugin.preflight"]
    try:
        return subprocess.run(
            [*child, str(spec), json.dumps(folders)],
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def _about(programs: Collection[str]) -> list[str]:
    """Where a difference may come from that the Snakefile's own text does not show."""
    if not programs:
        return []
    return [
        f"The Snakefile calls {', '.join(programs)} while it is read. A program's output depends on the "
        "computer and on files that are not sent; call it in a rule, or pass its output with --config."
    ]


def _environment(given: Mapping[str, str], unset: Iterable[str]) -> dict[str, str]:
    """What a machine has: its own variables, for which this computer's stand, and those that travel."""
    own = {n: v for n, v in os.environ.items() if n in _COMPUTERS or n.startswith(("LC_", "LD_"))}
    return {**{n: v for n, v in own.items() if n not in set(unset)}, **given}
