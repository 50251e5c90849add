"""Values of Python as JSON, so that two computers can say whether theirs are the same.

What a job is made of (params, config, globals of a Snakefile) is decided by the controller. It travels
as JSON: plain values whole, in a form that keeps types, names and order; others (tables, objects) as
their type and a digest, which can be compared but not made again. Both ends use this module.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import hashlib
import json
import pathlib
import re
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import snakemake_private

Encoded = Any
"""JSON: None, bool, int, str and lists stand for themselves; the rest is `{"t": kind, "v": …}`."""

_MAX_DEPTH = 40
_MAX_COMPARED = 1 << 16
"""Characters of JSON above which a value that is only compared travels as a digest."""
_MAX_TOLD = 100
_INSTALLED = frozenset(
    pathlib.Path(place) for place in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()) if place
)
"""Where libraries are: their code is no part of a workflow."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_TEXTS: dict[type, Callable[[Any], str]] = {
    pathlib.PosixPath: str,
    pathlib.PurePosixPath: str,
    datetime.datetime: datetime.datetime.isoformat,
    datetime.date: datetime.date.isoformat,
    decimal.Decimal: str,
    bytes: bytes.hex,
    float: float.hex,
}
"""Types that a text gives back exactly."""
_FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "PosixPath": pathlib.Path,
    "PurePosixPath": pathlib.PurePosixPath,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "Decimal": decimal.Decimal,
    "bytes": bytes.fromhex,
    "float": float.fromhex,
}


class OrderedSet(set):  # type: ignore[type-arg]
    """A set that is walked through in the order in which the controller's was."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._order = list(values)
        super().__init__(self._order)

    def __iter__(self) -> Iterator[Any]:
        known = [value for value in self._order if value in self]
        return iter([*known, *(value for value in set.__iter__(self) if value not in self._order)])

    def __repr__(self) -> str:
        return "{" + ", ".join(map(repr, self)) + "}" if self else "set()"

    def __reduce__(self) -> tuple[Any, ...]:
        return set, (list(self),)  # a script's Python has not this class

    def __deepcopy__(self, _: Any) -> OrderedSet:
        return OrderedSet(self)


class OrderedFrozenSet(frozenset):  # type: ignore[type-arg]
    """The same for one that does not change."""

    _order: list[Any]

    def __new__(cls, values: Iterable[Any]) -> OrderedFrozenSet:
        order = list(values)
        made = super().__new__(cls, order)
        made._order = order
        return made

    def __iter__(self) -> Iterator[Any]:
        return iter(self._order)

    def __repr__(self) -> str:
        return f"frozenset({{{', '.join(map(repr, self))}}})" if self else "frozenset()"

    def __reduce__(self) -> tuple[Any, ...]:
        return frozenset, (list(self),)  # a script's Python has not this class

    def __deepcopy__(self, _: Any) -> OrderedFrozenSet:
        return OrderedFrozenSet(self)


def encode(value: Any, depth: int = 0) -> Encoded:
    """A value as JSON. Never raises: what has no plain form becomes a type and a digest."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind.__name__ == "TBDString":
        return {"t": "tbd"}
    if kind in _TEXTS:
        return {"t": kind.__name__, "v": _TEXTS[kind](value)}
    if depth > _MAX_DEPTH:
        return _opaque(value)
    if kind is list:
        return [encode(item, depth + 1) for item in value]
    if kind in (tuple, set, frozenset):
        return {"t": kind.__name__, "v": [encode(item, depth + 1) for item in value]}
    if kind in (OrderedSet, OrderedFrozenSet):
        name = "set" if kind is OrderedSet else "frozenset"
        return {"t": name, "v": [encode(item, depth + 1) for item in value]}
    if isinstance(value, dict):
        return {"t": "dict", "v": [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]}
    if isinstance(value, str):
        return str.__str__(value)
    if snakemake_private.is_named_list(value):
        return _named_list(value, depth)
    if module_of(value) == "numpy" and hasattr(value, "item") and not getattr(value, "shape", None):
        return {"t": "numpy", "dtype": str(value.dtype), "v": encode(value.item(), depth + 1)}
    return _opaque(value)


def named(values: Any) -> Encoded:
    """A job's input, output, params or log: its items, and which names stand for which of them."""
    return _named_list(values, 0)


def _named_list(values: Any, depth: int) -> Encoded:
    names = [[name, *span] for name, span in snakemake_private.names_of(values)]
    return {"t": "named", "v": [encode(item, depth + 1) for item in values], "names": names}


def compact(encoded: Encoded) -> Encoded:
    """The same, if it is small; else a digest, for values that are only compared."""
    text = json.dumps(encoded)
    if len(text) <= _MAX_COMPARED:
        return encoded
    return {"t": "large", "v": hashlib.sha256(text.encode()).hexdigest(), "told": tell(encoded)}


def is_undecided(encoded: Encoded) -> bool:
    """Whether the controller has left a value, or a part of it, to the machine (Snakemake's `<TBD>`)."""
    return _holds(encoded, "tbd")


def is_plain(encoded: Encoded) -> bool:
    """Whether `decode` gives the value back."""
    return not any(_holds(encoded, kind) for kind in ("tbd", "opaque", "large", "numpy"))


def _holds(encoded: Encoded, kind: str) -> bool:
    if isinstance(encoded, list):
        return any(_holds(item, kind) for item in encoded)
    if not isinstance(encoded, dict):
        return False
    return encoded["t"] == kind or _holds(encoded.get("v"), kind)


def decode(encoded: Encoded) -> Any:
    """The value, if it is plain; sets keep their order. Raises ValueError for one that is not."""
    if isinstance(encoded, list):
        return [decode(item) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    kind: str = encoded["t"]
    content: Any = encoded.get("v")
    if kind in _FROM_TEXT:
        return _FROM_TEXT[kind](content)
    if kind == "tuple":
        return tuple(map(decode, content))
    if kind == "set":
        return OrderedSet(map(decode, content))
    if kind == "frozenset":
        return OrderedFrozenSet(map(decode, content))
    if kind == "dict":
        return {decode(key): decode(value) for key, value in content}
    if kind == "named":
        return _decode_named(encoded)
    raise ValueError(f"a {kind} value cannot be made again")


def _decode_named(encoded: Encoded) -> Any:
    made = named_list("Namedlist")(map(decode, encoded["v"]))
    snakemake_private.set_names(made, ((name, (begin, end)) for name, begin, end in encoded["names"]))
    return made


def named_list(name: str) -> Any:
    """One of Snakemake's classes for the values of a job."""
    try:
        from snakemake import iocontainers as place
    except ImportError:  # Snakemake 9.14
        from snakemake import io as place
    return getattr(place, name)


def same(one: Encoded, other: Encoded) -> bool:
    """Whether two values are the same, types included: `True` is not `1`."""
    return json.dumps(_untold(one)) == json.dumps(_untold(other))


def _untold(encoded: Encoded) -> Encoded:
    """Without what is only for people."""
    if isinstance(encoded, list):
        return [_untold(item) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    return {key: _untold(value) for key, value in encoded.items() if key != "told"}


def only_order_differs(one: Encoded, other: Encoded) -> bool:
    """Whether two different values are the same but for an order that Python, or the file system, chose:
    that of a set, or of a list of plain items, as `glob_wildcards` and `os.listdir` give them."""
    return not same(one, other) and same(_unordered(one), _unordered(other))


def lasting(encoded: Encoded) -> Encoded:
    """What is the same in another process: without the order of sets, and what is only for people."""
    return _untold(_unordered(encoded, lists=False))


def _unordered(encoded: Encoded, *, lists: bool = True) -> Encoded:
    if isinstance(encoded, list):
        if lists and not any(isinstance(item, list | dict) for item in encoded):
            return sorted(encoded, key=json.dumps)
        return [_unordered(item, lists=lists) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    if encoded["t"] == "dict":
        return {**encoded, "v": [[key, _unordered(value, lists=lists)] for key, value in encoded["v"]]}
    if encoded["t"] == "tuple":
        return {**encoded, "v": [_unordered(item, lists=lists) for item in encoded["v"]]}
    content = _unordered(encoded.get("v"), lists=lists)
    if encoded["t"] in ("set", "frozenset"):
        content = sorted(content, key=json.dumps)
    return {**encoded, "v": content}


def tell(encoded: Encoded) -> str:
    """A value for a sentence: short, whatever it is."""
    if isinstance(encoded, dict) and encoded["t"] in ("opaque", "large"):
        return str(encoded["told"])
    try:
        text = repr(decode(encoded))
    except ValueError:
        text = json.dumps(encoded)
    size = f" ({len(encoded['v'] if isinstance(encoded, dict) else encoded)} items)" if _many(encoded) else ""
    return (text if len(text) <= _MAX_TOLD else f"{text[:_MAX_TOLD]}…") + size


def _many(encoded: Encoded) -> bool:
    content = encoded.get("v") if isinstance(encoded, dict) else encoded
    return isinstance(content, list) and len(content) > 3


def module_of(value: Any) -> str:
    """The module of a value's class; a class that a Snakefile defines has none."""
    return type(value).__module__ or ""


def is_the_workflows(file: str | None) -> bool:
    """Whether a file of code belongs to the workflow, and not to an installed library."""
    return bool(file) and _INSTALLED.isdisjoint(pathlib.Path(str(file)).parents)


def is_own(value: Any) -> bool:
    """Whether a value is of a class that the workflow defines, in a Snakefile or a module of its own."""
    module = module_of(value)
    if not module:
        return True
    return is_the_workflows(getattr(sys.modules.get(module), "__file__", None))


def is_compared(encoded: Encoded) -> bool:
    """Whether `same` looks at all of a value: nothing tells foreign objects without a `repr` apart."""
    if isinstance(encoded, list):
        return all(map(is_compared, encoded))
    if not isinstance(encoded, dict):
        return True
    if encoded["t"] == "opaque":
        return encoded["v"] is not None
    return is_compared(encoded.get("v"))


def _opaque(value: Any) -> Encoded:
    kind = type(value)
    name = ".".join(filter(None, (module_of(value), kind.__qualname__)))
    told = f"a value of type {name}"
    try:
        if is_own(value) or isinstance(value, functools.partial):
            digest, told = _digest_of_attributes(value), _told_attributes(value, name)
        else:
            digest = _digest(value)
    except Exception:  # whatever a foreign object's code does
        digest = None
    return {"t": "opaque", "type": name, "v": digest, "told": told}


def _attributes(value: Any) -> dict[str, Any]:
    """What an object holds, or a `functools.partial` is made of."""
    if isinstance(value, functools.partial):
        code = getattr(value.func, "__qualname__", type(value.func).__qualname__)
        return {"func": code, "args": value.args, "keywords": value.keywords}
    slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
    return {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}


def _slots(kind: type) -> tuple[str, ...]:
    names = kind.__dict__.get("__slots__", ())
    return tuple(name for name in ([names] if isinstance(names, str) else names) if not name.startswith("__"))


def _digest_of_attributes(value: Any) -> str | None:
    """Each object once, however often others hold it; None if something in it can't be compared."""
    known = _objects.known
    if id(value) in known:
        return known[id(value)]
    known[id(value)] = "a circle"
    _objects.depth += 1
    try:
        encoded = [[name, encode(each)] for name, each in sorted(_attributes(value).items())]
        text = json.dumps(_untold(encoded))
        known[id(value)] = hashlib.sha256(text.encode()).hexdigest() if is_compared(encoded) else None
        return known[id(value)]
    finally:
        _objects.depth -= 1
        if not _objects.depth:
            known.clear()


def same_text(here: str | None, there: str | None) -> bool:
    """Whether two texts of code are the same, but for where objects are in memory, on which no two processes
    agree: `{output}` in an f-string is `<function output at 0x7f…>`."""
    if here is None or there is None:
        return here is there
    return here == there or _ADDRESS.sub("", here) == _ADDRESS.sub("", there)


def _told_attributes(value: Any, name: str) -> str:
    told = ", ".join(f"{key}={each!r:.40}" for key, each in list(_attributes(value).items())[:3])
    text = _ADDRESS.sub("", f"{name}({told})")
    return text if len(text) <= _MAX_TOLD else f"{text[:_MAX_TOLD]}…"


class _Objects(threading.local):
    """Objects whose digests are being made, by their ids."""

    def __init__(self) -> None:
        self.known: dict[int, str | None] = {}
        self.depth = 0


_objects = _Objects()


def _digest(value: Any) -> str | None:
    """What tells a library's value from another one of its type; None if nothing does on two computers.

    Tables are compared as Snakemake's own records do (`Persistence._serialize_param_pandas`).
    """
    if module_of(value).startswith("pandas"):
        import pandas as pd  # type: ignore[import-untyped]

        hashed = pd.util.hash_pandas_object(value).tolist()
        columns = list(map(str, getattr(value, "columns", ())))
        text = repr((hashed, columns))
    elif module_of(value) == "numpy":
        text = f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    elif isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type, types.ModuleType)):
        text = getattr(value, "__qualname__", value.__name__)  # their code is the same where the Snakefile is
    else:
        text = repr(value)
    return None if _ADDRESS.search(text) else hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
