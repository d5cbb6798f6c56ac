"""The cost of a child as a user gives it: the name of a number, or a function that measures one."""

import sys
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType

import numpy as np

from nasnet_keras.pictures.pareto import COSTS

PLAIN = (type(None), bool, int, float, complex, str, bytes, PurePath)  # whose text says all of them
CACHED = type(lru_cache(len))
DEPTH = 8  # to which values in values are told


def name_of_cost(cost):
    """The name under which a cost is kept: itself, or that of the function which measures it; raises `ValueError`."""
    if isinstance(cost, str):
        return cost
    if not callable(cost):
        raise ValueError(f"`cost` must be a name or a function of a child's Architecture. Received: {cost!r}")
    name = getattr(cost, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier():
        return "cost"
    if name in ("reward", "genotype", *COSTS):
        raise ValueError(f"`cost` must be a function of another name, as every trial has this number. Received: {name}")
    return name


def check_cost(cost):
    """Raise `ValueError` unless it is None or a function whose number may be kept, as a tuner needs it."""
    if cost is not None and not callable(cost):
        rule = "a function of a child's Architecture, or None: what children report is kept without it"
        raise ValueError(f"`cost` must be {rule}. Received: {cost!r}")
    if cost is not None:
        name_of_cost(cost)


def mark_of_cost(cost):
    """What tells a function from others of its name: its Python, a space, a digest; None if nothing can be told.

    In every process of one Python it is the same; marks of two Pythons say nothing of each other. It goes by the
    function's own code, its defaults, what it was made with (a closure's values, a partial's arguments, the public
    attributes of a callable object, or of that whose method it is), and not by what it calls. What lies in those is
    told if it is data or a function, and else by its type alone. A counter or a cache there counts as a change.
    """
    try:
        digest = sha256(repr(_told(cost, whole=True)).encode()).hexdigest()
    except Exception:  # a user's own properties may raise anything, and a search is worth more than its mark
        return None
    return f"{sys.implementation.cache_tag} {digest[:16]}"


def _told(value, outer=(), whole=False):
    """A value in nested tuples of texts, without addresses; an object is its type alone unless data or `whole`."""

    def told(part, whole=False):
        return _told(part, (*outer, value), whole)

    kind = type(value).__qualname__
    if isinstance(value, np.ndarray | np.generic):
        content = told(value.tolist()) if value.dtype.hasobject else sha256(value.tobytes()).hexdigest()
        return str(value.dtype), value.shape, content
    if isinstance(value, Enum):
        return kind, value.name, told(value.value)
    if isinstance(value, PLAIN):
        return repr(value)
    if len(outer) == DEPTH or any(value is one for one in outer):
        return kind
    if isinstance(value, list | tuple):
        return kind, *map(told, value)
    if isinstance(value, set | frozenset | dict):
        return kind, *sorted(map(told, value.items() if isinstance(value, dict) else value), key=repr)
    if isinstance(value, CodeType):
        return value.co_name, value.co_code.hex(), value.co_names, *map(told, value.co_consts)
    if isinstance(value, FunctionType):
        made_with = value.__code__, value.__defaults__, value.__kwdefaults__, *_contents(value)
        return value.__qualname__, *map(told, made_with)
    if isinstance(value, partial):
        return kind, told(value.func, whole), told(value.args), told(value.keywords)
    if isinstance(value, MethodType):
        return told(value.__func__), told(value.__self__, whole)
    if isinstance(value, CACHED):
        return kind, told(value.__wrapped__, whole)
    if isinstance(value, type | BuiltinFunctionType):
        return value.__qualname__
    attributes, own = getattr(value, "__dict__", {}) if whole else {}, whole and callable(value)
    if is_dataclass(value):
        attributes = {field.name: getattr(value, field.name) for field in fields(value) if field.compare}
    public = sorted(item for item in attributes.items() if item[0][:1] != "_")
    return kind, own and told(type(value).__call__), *((name, told(part)) for name, part in public)


def _contents(function):
    """The values of a function's closure; a name that has none yet is left out."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):
            yield cell.cell_contents
