"""The agent as one file that the controller sends. Only the controller uses this module."""

from __future__ import annotations

import functools
import hashlib
import io
import shlex
import zipfile
from importlib import resources

_CONTROLLER_ONLY = {"answers.py", "bundle.py", "client.py", "image_client.py", "protocol.py", "storing.py"}
_CONTROLLER_ONLY |= {"away_client.py", "peer_client.py", "peer_terms.py", "striping.py", "transfer.py"}
_CONTROLLER_ONLY |= {"talking.py"}
_MAIN = "import sys\n\nfrom snakemake_executor_ec2.agent.__main__ import main\n\nsys.exit(main())\n"


@functools.cache
def bundle() -> bytes:
    """A zip file that Python runs. The same sources give the same bytes."""
    contents = {"__main__.py": _MAIN, "snakemake_executor_ec2/__init__.py": ""}
    for package in ("agent", "runner"):
        for source in resources.files(f"snakemake_executor_ec2.{package}").iterdir():
            if source.name.endswith(".py") and source.name not in _CONTROLLER_ONLY:
                contents[f"snakemake_executor_ec2/{package}/{source.name}"] = source.read_text(
                    encoding="utf-8"
                )
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            archive.writestr(zipfile.ZipInfo(name), contents[name], zipfile.ZIP_DEFLATED)
    return memory.getvalue()


@functools.cache
def digest() -> str:
    """Twelve characters that name this very agent."""
    return hashlib.sha256(bundle()).hexdigest()[:12]


def folder() -> str:
    """Where this very agent is on a machine, for its shell."""
    return f"$HOME/.snakemake-ec2/{digest()}"


def command(*arguments: str) -> str:
    """How a shell on a machine runs a command of the agent's."""
    # On a line of its own: what a login shell's startup files print comes before it.
    return f'echo; python3 "{folder()}/agent.pyz" {shlex.join(arguments)}'
