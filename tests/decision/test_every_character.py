"""Config values and wildcards have the same characters on the machine, whichever they are."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator

from snakemake.cli import parse_config

from tests.decision.conftest import Runs

_ODD = [
    *(
        "'whole'",
        '"said"',
        "back\\slash",
        "1,5",
        "50%5",
        "$HOME",
        "`id`",
        "$(id)",
        "a b",
        "1:2=3",
        "a;b",
        "*",
        "?",
    ),
    *(
        "q'uo(te)s",
        "[a]",
        "~",
        "#x",
        "!x",
        "&",
        "|",
        "<>",
        "a\\nb",
        "\\d+\\.x",
        "=",
        "-x",
        "--cores",
        "+",
        "''",
    ),
    *('""', 'it\'s "q"', "\\", "\\\\", "\\'", "@x", "\u00fcml\u00e4ut", "\u65e5\u672c", "e\u0301", "\u00a0"),
]

_CONFIG = """
import json
rule all:
    input: "shell.txt", "run.txt", "script.txt"
rule shell:
    output: "shell.txt"
    params: values=[str(config[name]) for name in sorted(config)]
    shell: "printf '%s\\\\n' {params.values:q} > {output}"
rule run:
    output: "run.txt"
    run:
        open(output[0], "w").write(json.dumps(config, sort_keys=True))
rule script:
    output: "script.txt"
    script: "show.py"
"""
_SHOW = "import json\njson.dump(snakemake.config, open(snakemake.output[0], 'w'), sort_keys=True)\n"

_WILDCARDS = """
import json
MADE, RAN = json.load(open("values.json"))
rule all:
    input: [f"made/{v}.txt" for v in MADE], [f"ran/{v}.txt" for v in RAN]
rule made:
    output: "made/{v}.txt"
    wildcard_constraints: v=".+"
    group: "g"
    shell: "printf '%s' {wildcards.v:q} > {output:q}"
rule ran:
    output: "ran/{v}.txt"
    wildcard_constraints: v=".+"
    group: "g"
    run:
        open(output[0], "w").write(wildcards.v)
"""


def _config_values() -> Iterator[str]:
    yield from filter(_is_taken, _ODD)
    for character in string.printable[:95]:
        yield from filter(_is_taken, (f"a{character}b", character * 2))


def _is_taken(value: str) -> bool:
    """Whether Snakemake's own parser takes a text for a value of --config: `~` is none, being YAML's null."""
    try:
        parse_config([f"key={value}"])
    except (AssertionError, ValueError):
        return False
    return True


def test_config_values_of_every_character(runs: Runs) -> None:
    """Every printable character of ASCII and some of Unicode, in `--config`, is what Snakemake reads it as.

    (Locally `run:` rules are told of them through a shell, which does not get over all of these.)
    """
    given = [f"k{i:03}={value}" for i, value in enumerate(_config_values())]
    expected = parse_config(given)

    decided = runs.decided({"Snakefile": _CONFIG, "show.py": _SHOW}, "--config", *given)

    assert decided.status == 0, decided.output
    assert json.loads(decided.tree["run.txt"][2]) == expected
    assert json.loads(decided.tree["script.txt"][2]) == expected
    # Of an empty one `:q` makes nothing.
    lines = [str(expected[name]) for name in sorted(expected) if str(expected[name])]
    assert decided.tree["shell.txt"][2].decode().split("\n")[:-1] == lines
    assert len(expected) > 200


def test_wildcards_of_every_character(runs: Runs) -> None:
    """File names with every printable character but `/`, in shell and `run:` rules of a group."""
    letters = [c for c in string.printable[:95] if c not in "/{}"]
    chunks = ["".join(letters[i : i + 16]) for i in range(0, len(letters), 16)]
    odd = [value for value in _ODD if "/" not in value and value not in ("*", "?")]
    every = [f"x{chunk}y" for chunk in chunks]
    # Each `run:` body is a Snakemake of its own: fewer of them.
    found = {"made": sorted({*every, *odd}), "ran": sorted({*every, *odd[::8]})}
    files = {"Snakefile": _WILDCARDS, "values.json": json.dumps([*found.values()])}

    # All in one group: one document, one call of Snakemake on the machine. Locally `run:` rules are told of
    # their wildcards through a shell, which does not get over all of these.
    decided = runs.decided(files, "--group-components", f"g={2 * len(found['made'])}")

    assert decided.status == 0, decided.output
    for folder, values in found.items():
        for value in values:
            assert decided.tree[f"{folder}/{value}.txt"][2] == value.encode()
