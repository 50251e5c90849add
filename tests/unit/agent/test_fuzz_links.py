"""Well-formed archives whose links try to lead somewhere: what the file system says of them afterwards.

Archives of random members (`test_fuzz.py`) seldom hold two links that work together. These do: each is what a
tar program would write of a tree, sent by a machine that knows where the interesting files are.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from pathlib import Path

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from snakemake_executor_ec2.agent.archive import ArchiveError, read_archive
from snakemake_executor_ec2.staging.links import LinkRules, noting
from snakemake_executor_ec2.staging.machine_links import MachineLinks
from snakemake_executor_ec2.staging.paths import PathMap
from tests.unit.agent.test_archive_hostile import hostile, member

_PRECIOUS = (".git/hooks/pre-commit", ".snakemake/ec2/journal.sqlite", "workflow/rules/a.smk", "Snakefile")
"""What nothing of a job's may lead to."""
_PLACES = st.sampled_from(["a", "b", "a/x", "a/y", "a/x/z", "b/x", "b/x/z"])
_STEPS = st.sampled_from(
    ["..", "../..", "a", "b", "x", "y", "z", "a/x", "b/x", ".git", ".git/hooks", ".snakemake",
     ".snakemake/ec2", "workflow", "hooks", "ec2", "rules", *_PRECIOUS, "pre-commit", "journal.sqlite",
     "a.smk", "in.txt", "shortcut"]
)  # fmt: skip
_texts = st.builds(
    lambda root, steps: root + "/".join(steps),
    st.sampled_from(["", "", "", "/work/", "{home}/.ssh/", "{home}/"]),
    st.lists(_STEPS, min_size=1, max_size=3),
)
_ENDS = st.sampled_from(["a", "b", "b/x", "in.txt", "shortcut", "shortcut/hooks", *_PRECIOUS])


@st.composite
def _entry(draw: st.DrawFn) -> tuple[str, str]:
    """A place, and what is there. A link is mostly one that reaches what it is meant to reach."""
    place = draw(_PLACES)
    what = draw(st.sampled_from(["file", "folder", "aimed", "aimed", "aimed", "any"]))
    if what == "aimed":
        return place, "link:" + os.path.relpath(draw(_ENDS), Path(place).parent)
    return place, "link:" + draw(_texts) if what == "any" else what


def _with_folders(entries: list[tuple[str, str]]) -> dict[str, str]:
    """The folders that members are in are there, unless they are something else."""
    found = dict(entries)
    for place in list(found):
        for parent in list(Path(place).parents)[:-1]:
            found.setdefault(str(parent), "folder")
    return found


_entries = st.lists(_entry(), min_size=1, max_size=3).map(_with_folders)
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


def _member(name: str, kind: str, home: Path) -> bytes:
    if kind == "file":
        return member("work/" + name, data=b"from the machine")
    if kind == "folder":
        return member("work/" + name, "d", mode=0o755)  # an ordinary user is to look into it afterwards
    return member("work/" + name, "l", link=kind.removeprefix("link:").format(home=home))


def _contents(folder: Path) -> dict[str, str]:
    """Every file below a folder but the results, as it is."""
    return {
        str(path): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "machine-links"
    }


def _results(folder: Path) -> list[Path]:
    """The results, and what a program that goes through them comes to, also behind links."""
    found: list[Path] = []
    for top in (folder / "a", folder / "b"):
        found.append(top)
        for place, folders, files in os.walk(top, followlinks=False):
            found += [Path(place, each) for each in (*folders, *files)]
    return [path for path in found if os.path.lexists(path)]


@settings(max_examples=400, deadline=None, phases=_PHASES)
@given(entries=_entries, order=st.randoms(use_true_random=False), twice=st.booleans())
@example(entries={"a": "folder", "b": "link:/work/shortcut/a"}, order=random.Random(0), twice=True)  # noqa: S311
def test_no_result_leads_to_what_is_precious(entries: dict[str, str], order: object, twice: bool) -> None:
    """In whatever order members come, and over what an earlier job left: nothing outside of the results is
    written, and neither a result nor anything below it leads to a key, a hook, the journal or code."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(os.path.realpath(name), "home")
        folder = home / "here"
        for path in (*_PRECIOUS, "in.txt"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(f"precious {path}")
        (folder / "shortcut").symlink_to(".git")  # the user's own
        (home / ".ssh").mkdir()
        (home / ".ssh" / "id").write_text("precious key")
        before = _contents(home)
        rules = LinkRules(
            paths=PathMap(here=folder, there=Path("/work")),
            made=[folder / "a", folder / "b"],
            inputs=[folder / "in.txt"],
            sources=[folder / "Snakefile"],
            home=home,
        )

        def place(name: str) -> str:
            if name not in ("/work/a", "/work/b"):
                raise ArchiveError(name)
            return str(folder / name.rpartition("/")[2])

        members = [_member(each, kind, home) for each, kind in sorted(entries.items())]
        if twice:
            order.shuffle(members)  # type: ignore[attr-defined]
        for _ in range(1 + twice):
            with contextlib.suppress(ArchiveError, OSError):
                read_archive(hostile(*members), place, judge=noting(rules, MachineLinks(folder)))

        after = {path: text for path, text in _contents(home).items() if path in before}
        assert after == before
        precious = {os.path.realpath(folder / each) for each in _PRECIOUS} | {str(home / ".ssh" / "id")}
        zones = {str(folder / ".git"), str(folder / ".snakemake" / "ec2"), str(home / ".ssh")}
        for result in _results(folder):
            end = os.path.realpath(result)
            assert end not in precious | zones, f"{result} leads to {end}"
            assert not any(end.startswith(zone + "/") for zone in zones), f"{result} leads into {end}"
