"""The packages import in one direction, and ARCHITECTURE.md knows all of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import snakemake_executor_ec2

ROOT = Path(snakemake_executor_ec2.__file__).parent
LAYERS = (
    ("testing", "cli"),
    ("plugin",),
    ("doctor",),
    ("away",),
    ("controller",),
    ("machines",),
    ("report",),
    ("records",),
    ("local",),
    ("aws", "ssh"),
    ("staging", "sizing"),
    ("agent", "runner"),  # on the machine; Snakemake's part and that which needs no Snakemake
    ("errors", "model", "ports", "cancellation", "timing", "threads", "formatting", "tags"),
)
"""Each may import from those below it, and within itself."""
REHEARSES = {"testing", "cli", "plugin", "local"}
"""Who may know that there is an embedded cloud."""
KNOWS_SNAKEMAKE = {"plugin", "runner", "errors"}
"""Errors are Snakemake's own, so that it shows them as such."""


def modules() -> dict[str, Path]:
    """Every module by its name below the package, such as `aws.cloud`."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(module: str, *, lazy: bool) -> Iterator[str]:
    """What a module imports, of this package and of others; `lazy`: also in its functions.
    What only type checkers see does not count."""
    tree = ast.parse(MODULES[module].read_text())
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = MODULES[module].name == "__init__.py"
                parts = module.split(".")
                up = parts[: len(parts) - node.level + package]
                base = ".".join(["snakemake_executor_ec2", *up, *([node.module] if node.module else [])])
            for each in node.names:
                inner = f"{base}.{each.name}".removeprefix("snakemake_executor_ec2.")
                yield f"{base}.{each.name}" if inner in MODULES else base
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def ours(module: str, *, lazy: bool = True) -> set[str]:
    """What a module imports of this package."""
    prefix = "snakemake_executor_ec2."
    return {each.removeprefix(prefix) for each in imports(module, lazy=lazy) if each.startswith(prefix)}


def layer(module: str) -> int:
    top = module.partition(".")[0]
    (number,) = (number for number, names in enumerate(LAYERS) if top in names)
    return number


def wrong(module: str) -> Iterator[str]:
    """What a module imports and must not."""
    top = module.partition(".")[0]
    for other in ours(module):
        package = other.partition(".")[0]
        together = package == top or {top, package} <= {"agent", "runner", *LAYERS[-1]}
        if layer(other) < layer(module) or (layer(other) == layer(module) and not together):
            yield f"{module} imports {other}, which does not stand below it"
        if package == "local" and top not in REHEARSES:
            yield f"{module} knows of the embedded cloud"


def test_a_module_imports_from_its_own_layer_or_from_below() -> None:
    """Also in functions: an import that is put off is one all the same."""
    assert [text for module in sorted(MODULES) if module for text in wrong(module)] == []


def test_only_snakemakes_side_knows_snakemake() -> None:
    """Everything else would work for another workflow system."""
    knowing = {
        module
        for module in MODULES
        for each in imports(module, lazy=True)
        if each.startswith("snakemake") and not each.startswith("snakemake_executor_ec2")
    }
    assert {module.partition(".")[0] for module in knowing} <= KNOWS_SNAKEMAKE


def test_no_imports_in_a_circle() -> None:
    """As modules are loaded; what functions import later cannot fail so."""
    sorter = TopologicalSorter({module: ours(module, lazy=False) - {module} for module in MODULES})
    sorter.prepare()


def test_imports_are_at_most_nine_deep() -> None:
    """A module on the first level imports none of ours: so much one has to have read before the highest."""
    levels: dict[str, int] = {}
    for module in TopologicalSorter(
        {each: ours(each, lazy=False) - {each} for each in MODULES}
    ).static_order():
        below = ours(module, lazy=False) - {module} if module in MODULES else set()
        levels[module] = 1 + max((levels[each] for each in below), default=0)
    assert max(levels.values()) <= 9


def test_the_top_is_vocabulary() -> None:
    """What stands beside the packages is what all of them speak of."""
    alone = {module for module in MODULES if "." not in module and MODULES[module].name != "__init__.py"}
    assert alone == {*LAYERS[-1], "testing"}


def test_the_architecture_page_names_every_module() -> None:
    """By its own name, or with the folder that it is in."""
    page = (ROOT.parent / "ARCHITECTURE.md").read_text()
    missing = [
        module
        for module, path in MODULES.items()
        if path.name != "__init__.py"
        and f"`{path.relative_to(ROOT)}`" not in page
        and not any(f"`{folder.relative_to(ROOT)}/`" in page for folder in path.parents if folder > ROOT)
    ]
    assert not missing


def test_functions_are_short() -> None:
    """At most 45 lines, docstring included: what is longer has parts that have names."""
    longest = {
        f"{path.relative_to(ROOT)}: {node.name}": node.end_lineno - node.lineno + 1
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }
    assert {name: lines for name, lines in longest.items() if lines > 45} == {}


def test_what_is_private_of_snakemake_has_one_module_on_each_end() -> None:
    """`snakemake_private`, with the reason beside each: a new version of Snakemake is looked at there."""
    found = [
        f"{module}: {ast.unparse(node)}"
        for module, path in MODULES.items()
        if module.partition(".")[0] in KNOWS_SNAKEMAKE and not module.endswith("snakemake_private")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        and ast.unparse(node.value) not in {"self", "cls", "sys", "os", "super()"}
    ]  # fmt: skip
    ours = {"_request(job)._asdict", "made._order"}
    assert [each for each in found if each.partition(": ")[2] not in ours] == []
