"""What is sent to no machine, whatever declares it: credentials, this plugin's own notes, `.git`."""

from __future__ import annotations

from pathlib import Path


def is_private(path: Path, workdir: Path, home: Path | None = None) -> bool:
    """Whether a path is, or is in, what is sent to no machine and what no result may lead to."""
    private = _private(workdir, home or Path.home())
    return ".git" in path.parts or any(path == each or each in path.parents for each in private)


def private_in(path: Path, workdir: Path) -> Path | None:
    """What of that a declared input is, is in, or holds."""
    if is_private(path, workdir):
        return path
    held = (each for each in _private(workdir, Path.home()) if path in each.parents)
    return next((each for each in held if each.exists()), None)


def _private(workdir: Path, home: Path) -> list[Path]:
    return [home / ".aws", home / ".ssh", home / ".gnupg", workdir / ".snakemake" / "ec2"]
