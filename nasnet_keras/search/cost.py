"""The cost of a child as a user gives it: the name of a number, or a function that measures one."""

import hashlib
from contextlib import suppress
from functools import partial
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType

import numpy as np

from nasnet_keras.pictures.pareto import COSTS

PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, PurePath)  # whose text says all of them


def name_of_cost(cost):
    """The name under which a cost is kept: itself, or that of the function which measures it; raises `ValueError`."""
    if not isinstance(cost, str) and not callable(cost):
        raise ValueError(f"`cost` must be a name or a function of a child's Architecture. Received: {cost!r}")
    name = cost if isinstance(cost, str) else getattr(cost, "__name__", "")
    if isinstance(cost, str):
        return name
    if name in ("reward", "genotype", *COSTS):
        raise ValueError(f"`cost` must be a function of another name, as every trial has this number. Received: {name}")
    return name if name.isidentifier() else "cost"


def check_cost(cost):
    """Raise `ValueError` unless it is None or a function whose number may be kept, as a tuner needs it."""
    if cost is not None and not callable(cost):
        rule = "a function of a child's Architecture, or None: what children report is kept without it"
        raise ValueError(f"`cost` must be {rule}. Received: {cost!r}")
    if cost is not None:
        name_of_cost(cost)


def mark_of_cost(cost):
    """What tells a function from others of its name, in every process the same: a digest.

    It goes by where the function is defined, its own code, its defaults, what it was made with (a closure's values, a
    partial's arguments, a callable object's attributes), and not by what it calls.
    """
    return hashlib.sha256(repr(_told(cost)).encode()).hexdigest()[:16]


def _told(value, outer=()):
    """A value in nested tuples of texts, without addresses; of what is neither plain nor callable its type alone."""
    if isinstance(value, PLAIN):
        return repr(value)
    if any(value is one for one in outer):
        return "itself"

    def told(part):
        return _told(part, (*outer, value))

    def told_if_fixed(part):  # a list or a dict may be what the function writes into
        return type(part).__name__ if isinstance(part, list | dict | set) else told(part)

    if isinstance(value, tuple | list):
        return type(value).__name__, *map(told, value)
    if isinstance(value, set | frozenset):
        return "set", *sorted(repr(told(part)) for part in value)
    if isinstance(value, dict):
        return "dict", *sorted((repr(told(key)), repr(told(part))) for key, part in value.items())
    if isinstance(value, CodeType):
        return value.co_name, value.co_code.hex(), told(value.co_consts), value.co_names
    if isinstance(value, partial):
        return "partial", told(value.func), told(value.args), told(value.keywords)
    if isinstance(value, MethodType):
        return told(value.__func__), told(value.__self__)
    where = value if hasattr(value, "__qualname__") else type(value)
    where = str(getattr(where, "__module__", "")), where.__qualname__
    if isinstance(value, FunctionType):
        made_with = map(told_if_fixed, _contents(value))
        return *where, told(value.__code__), told(value.__defaults__), told(value.__kwdefaults__), *made_with
    if isinstance(value, type) or not callable(value):
        return where
    attributes = {name: told_if_fixed(part) for name, part in getattr(value, "__dict__", {}).items() if name[:1] != "_"}
    return *where, told(type(value).__call__), told(getattr(value, "__wrapped__", None)), told(attributes)


def _contents(function):
    """The values of a function's closure; a name that has none yet is left out."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):
            yield cell.cell_contents
