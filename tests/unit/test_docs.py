"""The documentation covers everything that can be set, and what it names exists."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import snakemake_executor_ec2
from snakemake_executor_ec2.cli import _COMMANDS
from snakemake_executor_ec2.plugin.settings import ExecutorSettings
from snakemake_executor_ec2.sizing.requirements import _OWN

PACKAGE = Path(snakemake_executor_ec2.__file__).parent
POLICIES = sorted((PACKAGE / "aws").glob("policy*.json"))
ROOT = Path(__file__).parents[2]
OPTIONS = (ROOT / "docs/options.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```", re.DOTALL)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ExecutorSettings)])
def test_every_option_is_documented(name: str) -> None:
    """docs/options.md has a row for each option."""
    assert f"| `--ec2-{name.replace('_', '-')}`" in OPTIONS


@pytest.mark.parametrize("field", dataclasses.fields(ExecutorSettings), ids=lambda field: field.name)
def test_defaults_are_as_they_are(field: dataclasses.Field[object]) -> None:
    """Where docs/options.md shows a value as the default, it is the setting's."""
    row = re.search(rf"^\| `--ec2-{field.name.replace('_', '-')}` \| (.*?) \|", OPTIONS, re.M)
    assert row is not None
    value = field.default
    if isinstance(value, bool):
        assert row[1] == "no"
    elif isinstance(value, (str, int)):
        assert row[1].strip("`") == str(value)
    else:
        assert not row[1].startswith("`") or field.name == "lease"


RESOURCES = "threads mem_mb mem_mib disk_mb disk_mib runtime gpu gpu_model gpu_mem_mb mpi tasks"


@pytest.mark.parametrize("name", [*RESOURCES.split(), *_OWN])
def test_every_resource_is_documented(name: str) -> None:
    """docs/options.md describes each resource that sizes a machine."""
    assert f"`{name}`" in OPTIONS


@pytest.mark.parametrize("name", [*_COMMANDS, "doctor", "plan", "bake", "away", "cloud"])
def test_every_command_is_documented(name: str) -> None:
    """docs/commands.md has a row for each command."""
    assert f"| `snakemake-ec2 {name}" in (ROOT / "docs/commands.md").read_text()


@pytest.mark.parametrize("policy", POLICIES, ids=[each.name for each in POLICIES])
def test_the_policies_are_shown_as_they_are(policy: Path) -> None:
    """docs/permissions.md has the package's policies, word for word."""
    assert f"```json\n{policy.read_text()}```" in (ROOT / "docs/permissions.md").read_text()


def test_the_threat_model_names_tests_that_there_are() -> None:
    """Each file that docs/threat-model.md names exists."""
    named = re.findall(
        r"`(tests/[\w/.]+|snakemake_\w+/[\w/.]+)`", (ROOT / "docs/threat-model.md").read_text()
    )
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_errors_that_are_explained_exist() -> None:
    """Each part of a message that docs/failures.md explains is in some text of the package."""
    table = (ROOT / "docs/failures.md").read_text().partition("| --- | --- |")[2].partition("\n\n")[0]
    messages = [
        each for row in table.strip().splitlines() for each in re.findall("`(.+?)`", row.split("|")[1])
    ]
    assert len(messages) > 8
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = "\n".join(node.value for node in nodes if isinstance(node.value, str))
    parts = [part.strip() for each in messages for part in each.split("…") if part.strip()]
    assert [part for part in parts if part not in texts] == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_pages_for_maintainers_name_files_that_there_are(page: str) -> None:
    """A path with a folder in it is below the package, or below the repository."""
    named = re.findall(r"`([\w.]+(?:/[\w.]+)+\.\w+)`", (ROOT / page).read_text())
    assert len(named) > 15
    real = [name for name in named if "NAME" not in name]
    missing = [name for name in real if not any((folder / name).exists() for folder in (PACKAGE, ROOT))]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the repository, and to a heading that it has."""
    broken = []
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        if "://" in link:
            continue
        name, _, fragment = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_decision_is_in_the_index() -> None:
    """docs/decisions/README.md links each page, by the number that its heading has."""
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text()
    for page in folder.glob("0*.md"):
        number = int(page.name.partition("-")[0])
        assert f"[{number}]({page.name})" in index
        assert page.read_text().startswith(f"# {number}. ")
