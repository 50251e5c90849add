"""Values of classes that a Snakefile defines."""

from __future__ import annotations

import functools

import pytest

from snakemake_executor_ec2.runner import values
from tests.decision.conftest import Runs

READS = {f"reads/{name}.txt": f"{name}\n" for name in "abc"}
COUNT = "open(snakemake.output[0], 'w').write(repr(dict(snakemake.params)))\n"
OWN_CLASS = """
import os
class Study:
    def __init__(self, there): self.there = there
    def __repr__(self): return f"Study({self.there})"
STUDY = Study(os.path.exists("reads/a.txt"))
rule all:
    input: "run.txt", "shell.txt", "script.txt"
rule run:
    output: "run.txt"
    run:
        open(output[0], "w").write(repr(STUDY))
rule told:
    output: "shell.txt"
    shell: "echo {STUDY!r:q} > {output}"
rule script:
    output: "script.txt"
    params: study=STUDY.there
    script: "scripts/count.py"
"""


def test_values_of_classes_in_the_snakefile_are_held_to(runs: Runs) -> None:
    """A class that the Snakefile defines has no module: its values are compared like others."""
    files = {"Snakefile": OWN_CLASS, "scripts/count.py": COUNT, **READS}
    local = runs.locally(files)
    assert local.status == 0, local.output

    decided = runs.decided(files)

    assert decided.status == 0, decided.output
    for name in ("run.txt", "shell.txt", "script.txt"):
        assert decided.tree[name] == local.tree[name]
    differs = runs.decided({}, "run.txt", "--forcerun", "run", hide=["reads"])
    assert differs.status != 0, differs.output
    assert "STUDY" in differs.output, differs.output


_HOLDING = """
import functools, os
import helper
class Study:
    def __init__(self):
        self.names = sorted(os.listdir("reads")) if os.path.isdir("reads") else []
    def get(self): return self.names
class Slotted:
    __slots__ = ("names",)
    def __init__(self): self.names = Study().names
class Called(Study):
    def __call__(self): return self.names
class Around:
    def __init__(self): self.inner, self.me = [Study()], self
S, SLOTTED, CALLED, AROUND, FAR = Study(), Slotted(), Called(), Around(), helper.Far()
PARTIAL = functools.partial(str, S.names)
"""
_HOLDER = """
rule r{number}:
    output: "{number}.txt"
    run:
        open(output[0], "w").write(str({code}))
"""
_READ = ["S.names", "S.get()", "SLOTTED.names", "CALLED()", "AROUND.inner[0].names", "FAR.get()", "PARTIAL()"]
_HELPER = """
import os
class Far:
    def __init__(self):
        self._names = os.path.isdir("reads")
    def get(self):
        return self._names
"""


def test_objects_are_compared_by_what_they_hold(runs: Runs) -> None:
    """Without a `repr` of their own, too: attributes, slots, objects in objects, what is called."""
    rules = [_HOLDER.format(number=number, code=code) for number, code in enumerate(_READ)]
    files = {"Snakefile": _HOLDING + "".join(rules), "helper.py": _HELPER, **READS}
    targets = [f"{number}.txt" for number in range(len(_READ))]

    differs = runs.decided(files, "--keep-going", *targets, hide=["reads"])

    assert differs.status != 0, differs.output
    for number, code in enumerate(_READ):
        assert f"DIFFERS: rule r{number} was not run" in differs.output, code
    assert not differs.tree.keys() & {*targets}
    assert runs.decided({}, targets[-1]).status == 0, "with the same view it runs"


class _Node:
    def __init__(self, *others: object) -> None:
        self.others = list(others)


def test_objects_that_hold_each_other_are_compared_once_each() -> None:
    """Circles and many ways to one object cost no more than the objects there are."""
    one = _Node()
    one.others.append(one)
    chain = _Node()
    for _ in range(60):
        chain = _Node(chain, chain)
    for value in (one, chain):
        assert values.is_compared(values.encode(value))
        assert values.same(values.encode(value), values.encode(value))


def test_what_cannot_be_compared_is_known_as_such() -> None:
    """A library's object that shows its address alone; and whatever holds one."""
    foreign = pytest.Stash()
    assert not values.is_compared(values.encode(foreign))
    assert not values.is_compared(values.encode([_Node(foreign)]))
    assert values.is_compared(values.encode([functools.partial(str, 1), str, len, functools]))
