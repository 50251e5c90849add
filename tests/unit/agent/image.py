"""What is installed on a machine, made of scripts: interpreters and installers for the agent to find."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.unit.agent.machine import Answer, Machine

WANTED = {"snakemake": "9.99.1", "packages": ["snakemake-storage-plugin-none==0.1"]}


class Image:
    """What is installed on a machine, made of scripts."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.bin = folder / "bin"
        self.log = folder / "calls"
        self.bin.mkdir(parents=True)
        self.log.touch()
        for name in ("sh", "cat", "mkdir", "env", "dirname", "rm", "cp", "chmod", "sleep", "touch"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        # bash, whose login shells know nothing of this computer's own /etc/profile
        bash = shutil.which("bash")
        profile = 'if [ "$1" = -lc ]; then . ~/.bash_profile 2>/dev/null; shift; set -- -c "$@"; fi'
        (self.bin / "bash").write_text(f'#!{bash}\n{profile}\nexec {bash} "$@"\n')
        (self.bin / "bash").chmod(0o755)
        for name in [name for name in machine.environment if name.startswith(("PIP_", "UV_"))]:
            del machine.environment[name]
        machine.environment["PATH"] = str(self.bin)

    def program(self, name: str, script: str, folder: Path | None = None) -> Path:
        """A program that records its call and then does as told."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> {self.log}\n{textwrap.dedent(script)}')
        path.chmod(0o755)
        return path

    def python(self, prefix: Path, *, name: str = "python3", version: str = "3.12", lacking: str = "[]",
               writable: bool = True, snakemake: str | None = "9.99.1") -> Path:  # fmt: skip
        """An interpreter with its own prefix, that answers the probe as told."""
        site = prefix / "lib" / f"python{version}" / "site-packages"
        site.mkdir(parents=True)
        if snakemake:
            (site / f"snakemake-{snakemake}.dist-info").mkdir()
        numbers = version.replace(".", ", ")
        return self.program(
            name,
            f"""
            if [ "$1" = -m ]; then
                if [ "$2" = venv ]; then
                    mkdir -p "${{@: -1}}/bin"; cp "$0" "${{@: -1}}/bin/python"
                fi
                exit 0
            fi
            echo '{{"python": "{prefix}/bin/{name}", "version": [{numbers}], "scripts": "{prefix}/bin",
                "purelib": "{site}", "venv": true, "writable": {str(writable).lower()},
                "lacking": {lacking}}}'
            """,
            prefix / "bin",
        )

    def calls(self) -> list[str]:
        """The calls that change something: neither probes nor questions."""
        lines = [line for line in self.log.read_text().splitlines() if not line.startswith("uv pip freeze")]
        return [line for line in lines if line.startswith(("uv ", "sudo ", "dnf ")) or " -m " in line]

    def ask(self, **request: Any) -> Answer:
        """Ask for software."""
        return self.machine.ask("software", request={**WANTED, **request})


def install_uv(
    image: Image,
    *,
    failing: str = "",
    cached: bool = True,
    has: Sequence[str] = ("3.12",),
    has_wheels: str = "*",
) -> None:
    """A uv that fails at a command, or has nothing in its cache; that finds Python in some versions (and may
    fetch any), and wheels for those that a pattern of the shell's names."""
    own = [each for each in has if each != "fetched"]
    fetched = ["3.13", "3.12", "3.11"] if "fetched" in has else []
    for version in {*own, *fetched}:
        facts = {
            "python": f"python{version}", "version": [3, int(version[2:])], "scripts": "", "purelib": "",
            "venv": True, "writable": True, "lacking": [],
        }  # fmt: skip
        (image.bin / f"made-{version}").write_text(f"#!/bin/sh\necho '{json.dumps(facts)}'\n")
    image.program(
        "uv",
        f"""
        case "$*" in *--offline*) {"true" if cached else "exit 1"};; esac
        if [ "$1" = "{failing}" ]; then echo "error: no solution for this" >&2; exit 2; fi
        if [ "$1" = venv ]; then
            case "$*" in *only-managed*) versions="{" ".join(fetched)}";; *) versions="{" ".join(own)}";; esac
            below="${{3##*,<3.}}"; [ "$below" = "$3" ] && below=99
            environment="${{@: -1}}"
            for version in $versions; do
                if [ "${{version#3.}}" -lt "$below" ]; then
                    mkdir -p "$environment/bin"; cp "{image.bin}/made-$version" "$environment/bin/python"
                    chmod +x "$environment/bin/python"; echo "$version" > "$environment/version"
                    exit 0
                fi
            done
            exit 2
        fi
        if [[ "$1 $2" = "pip install" && "$4" = */env/bin/python ]]; then
            case "$(< "${{4%/bin/python}}/version")" in
                {has_wheels}) ;;
                *) echo "command 'gcc' failed" >&2; exit 1
            esac
        fi
        """,
    )
