"""Logs, benchmarks, small outputs of earlier jobs: sent with a job whose code names them, and with no other.

Snakemake lets rules read them without declaring them, as summaries do (`multiqc logs`, or `multiqc` in the
folders of its inputs), and some programs pass over in silence what they cannot read. So the job's command,
its params, its `run:` body or script, and the workflow's files that these name in turn are searched for the
file itself, a folder that it is in, a pattern that it matches, or its ending (`.replace(".txt", ".log")`);
code that looks at a file's folder, or lists one, may read them all. What is sent without need costs a few
kilobytes; what is not named has a stand-in, as any file that is not declared.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from snakemake_executor_ec2.runner.values import is_the_workflows

_LARGEST_BYTES = 1_000_000
"""A longer file is no script: it is not searched."""
_SMALL_BYTES = 1 << 20
"""An output that is larger is no report, and what reads it has declared it."""
_COMPUTED = re.compile(r"\$?\{[^{}]*\}|\$\w+|%[-\d.]*[sd]")
"""What code puts in while it runs: `$x`, `{x}`, `%s`. It may be anything."""
_ANYTHING = "\0"
_BETWEEN_WORDS = re.compile(r"[\s'\"`()\[\]<>|&;:,=]+")
_HERE = frozenset({".", "cwd", "getcwd", "getwd", "pwd", "rglob"})
"""Words for the working directory, and so for all that is in it."""
_FOLDERS = frozenset(
    ("dirname", "parent", "parents", "listdir", "scandir", "iterdir", "walk", "files", "dir_ls", "readdir")
)
"""Words for folders that no text names: `multiqc $(dirname {input})`, `list.files(…)`. They may be any."""


class _Words(NamedTuple):
    """What a text may name files by."""

    plain: frozenset[str]
    patterns: frozenset[str]
    endings: frozenset[str]


def small_beside(outputs: Iterable[Any], inputs: Collection[Any]) -> set[str]:
    """Of the outputs of earlier jobs the small files in a folder of these inputs that are none of them."""
    declared = set(map(str, inputs))
    folders = {each.rpartition("/")[0] for each in declared}
    return {
        path
        for path in map(str, outputs)
        if path not in declared and path.rpartition("/")[0] in folders and _is_small(path)
    }


def _is_small(path: str) -> bool:
    try:
        status = Path(path).stat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= _SMALL_BYTES


def read_logs(
    jobs: Collection[Any],
    records: Iterable[Any],
    *,
    commands: Iterable[str | None],
    sources: tuple[Path, ...],
) -> list[str]:
    """Of the files `records` that earlier jobs have written those that some jobs may read.

    `commands` are those of the jobs, as they will run. `sources` are the workflow's files.
    """
    names = sorted(map(str, records))
    if not names:
        return []
    found = _named_by(jobs, commands, sources)
    return names if found is None else [name for name in names if _is_named(name, found)]


def _named_by(
    jobs: Iterable[Any], commands: Iterable[str | None], sources: tuple[Path, ...]
) -> list[_Words] | None:
    """The words of all code that is run for some jobs; None if there is code that cannot be read here."""
    found, files = [], list[Path]()
    for job, command in zip(jobs, commands, strict=True):
        rule = job.rule
        texts = [command or rule.shellcmd or "", *map(str, _flat(job.params))]
        if rule.is_run:
            texts += _constants(rule.run_func)
        found += [_words(text, is_shell=text is command) for text in texts]
        for code in filter(None, (rule.script, rule.notebook, rule.wrapper, rule.template_engine, rule.cwl)):
            beside = [
                path for path in sources if path.name == Path(str(code)).name or _is_of(path, str(code))
            ]
            if not beside:
                return None
            files += beside
    called = _Called(sources)
    for words in found:
        files += called.by(words)
    seen: set[Path] = set()
    while files:
        path = files.pop()
        if path not in seen:
            seen.add(path)
            words = _words_of(path)
            found.append(words)
            files += called.by(words)
    return found


def _is_of(path: Path, wrapper: str) -> bool:
    """Whether a file is the code of a wrapper, which is named by its folder."""
    return path.name.startswith("wrapper.") and path.parent.name == Path(wrapper).name


class _Called:
    """The workflow's files by what code calls them: a script by its name, a module without its ending.

    Snakefiles are left out: they name every log, where they declare it.
    """

    def __init__(self, sources: Iterable[Path]) -> None:
        self._by_name: dict[str, list[Path]] = {}
        for path in sources:
            if path.suffix != ".smk" and not path.name.startswith("Snakefile"):
                for name in {path.name, path.stem}:
                    self._by_name.setdefault(name, []).append(path)

    def by(self, words: _Words) -> Iterator[Path]:
        for word in words.plain:
            last = word.rpartition("/")[2]
            for name in {last, last.rpartition(".")[2]}:
                yield from self._by_name.get(name, ())


def _flat(values: Any) -> Iterator[Any]:
    for value in values.values() if isinstance(values, Mapping) else values:
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            yield from _flat(value)
        else:
            yield value


def _constants(function: FunctionType) -> list[str]:
    """The texts and names in a function, and in those of the workflow's own that it calls."""
    found, seen = list[str](), set[CodeType]()
    waiting: list[tuple[CodeType, dict[str, Any]]] = [(function.__code__, function.__globals__)]
    while waiting:
        code, place = waiting.pop()
        if code in seen:
            continue
        seen.add(code)
        found += [*code.co_names, *(each for each in code.co_consts if isinstance(each, str))]
        waiting += [(each, place) for each in code.co_consts if isinstance(each, CodeType)]
        named = [place.get(name) for name in code.co_names]
        found += [each for each in named if isinstance(each, str)]
        waiting += [
            (each.__code__, each.__globals__)
            for each in named
            if isinstance(each, FunctionType) and is_the_workflows(each.__code__.co_filename)
        ]
    return found


def _words_of(path: Path) -> _Words:
    try:
        status = path.stat()
    except OSError:
        return _words("")
    return _words_of_file(path, status.st_mtime_ns) if status.st_size <= _LARGEST_BYTES else _words("")


@lru_cache(maxsize=1000)
def _words_of_file(path: Path, _mtime_ns: int) -> _Words:
    try:
        return _words(path.read_bytes().decode(errors="replace"))
    except OSError:
        return _words("")


def _words(text: str, *, is_shell: bool = False) -> _Words:
    """`is_shell`: a lone `*` is no multiplication."""
    plain, patterns, endings = set[str](), set[str](), set[str]()
    for word in _BETWEEN_WORDS.split(_COMPUTED.sub(_computed, text.replace(_ANYTHING, " "))):
        if not any(each in word for each in f"{_ANYTHING}*?"):
            plain.add(os.path.normpath(word) if "/" in word else word)
        elif any(map(str.isalnum, word)):
            patterns.add(word)
        elif _ANYTHING not in word and (is_shell or "/" in word):
            plain.add(".")
        ending = word.strip("\\^$*.?+" + _ANYTHING)
        if ending != word and ending.isalnum() and "." in word:
            endings.add(f".{ending}")
    if not (_HERE | _FOLDERS).isdisjoint(word.rpartition(".")[2] or word for word in plain):
        plain.add(".")
    return _Words(frozenset(plain), frozenset(patterns), frozenset(endings))


def _computed(found: re.Match[str]) -> str:
    name = found[0].strip("${}")
    # ${x%/*} is the folder of $x.
    return " . " if name == "PWD" or "%/" in name else _ANYTHING


def _is_named(name: str, found: Iterable[_Words]) -> bool:
    path = Path(os.path.relpath(name))
    ends = {"/".join(path.parts[begin:]) for begin in range(len(path.parts))}
    folders = {str(folder) for folder in path.parents if ".." not in path.parts}
    absolute = map(os.path.abspath, [str(path), *folders])
    names = {*ends, *(f"/{end}" for end in ends), *folders, *absolute}
    return any(
        not words.plain.isdisjoint(names)
        or path.suffix in words.endings
        or (words.patterns and any(map(_pattern(words.patterns).fullmatch, names)))
        for words in found
    )


@lru_cache(maxsize=1000)
def _pattern(patterns: frozenset[str]) -> re.Pattern[str]:
    """One expression for some patterns."""
    pieces = (re.split(r"(\*\*/?|[*?\0])", each.removeprefix("./").rstrip("/")) for each in patterns)
    return re.compile("|".join("".join(_REGEX.get(one, re.escape(one)) for one in each) for each in pieces))


_REGEX = {"**": ".*", "**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]", _ANYTHING: ".*"}
