"""This very installation as a wheel, for a machine that cannot get it from a package index."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

OWN = "snakemake-executor-plugin-ec2"
_PACKAGES = ("snakemake_executor_ec2", "snakemake_executor_plugin_ec2")
_WHEEL = "Wheel-Version: 1.0\nGenerator: snakemake-ec2\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_ABOUT = ("METADATA", "entry_points.txt")


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel in memory."""

    name: str
    content: bytes

    @property
    def path(self) -> str:
        """Where it is kept in a working directory: another content is another path."""
        return f".snakemake/away/{hashlib.sha256(self.content).hexdigest()[:12]}/{self.name}"


def own_wheel() -> Wheel | None:
    """Ours; None if this installation came from a package index, which has it for machines too."""
    found = distribution(OWN)
    return _wheel(found) if not_from_an_index(found) else None


def pins() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Snakemake's own packages and plugins that are installed here, as `name==version`; and the names of
    those that no package index has."""
    names = {
        str(each.name).lower().replace("_", "-"): each
        for each in distributions()
        if str(each.name or "").lower().replace("_", "-").startswith("snakemake-")
    }
    names.pop(OWN, None)
    elsewhere = tuple(sorted(name for name, each in names.items() if not_from_an_index(each)))
    return tuple(
        f"{name}=={names[name].version}" for name in sorted(names) if name not in elsewhere
    ), elsewhere


def not_from_an_index(installed: Distribution) -> str:
    """Where a package was installed from, if that was a folder, a file or a repository."""
    try:
        return str(json.loads(installed.read_text("direct_url.json") or "{}").get("url", ""))
    except (ValueError, AttributeError):
        return ""


def _wheel(found: Distribution) -> Wheel:
    """The same sources give the same bytes."""
    name = f"{OWN.replace('-', '_')}-{found.version}"
    contents = dict(_sources())
    for file in _ABOUT:
        contents[f"{name}.dist-info/{file}"] = (found.read_text(file) or "").encode()
    contents[f"{name}.dist-info/WHEEL"] = _WHEEL.encode()
    rows = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in sorted(contents.items())]
    contents[f"{name}.dist-info/RECORD"] = "\n".join([*rows, f"{name}.dist-info/RECORD,,", ""]).encode()
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in contents.items():
            archive.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)
    return Wheel(name=f"{name}-py3-none-any.whl", content=memory.getvalue())


def _sources() -> Iterator[tuple[str, bytes]]:
    root = Path(__file__).parents[2]
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root).as_posix(), path.read_bytes()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
