"""The rules that many arguments share. Each raises a `ValueError` of one line that says what is allowed."""

import ipaddress
import math
import numbers
import operator
from collections.abc import Iterable, KeysView, Mapping, Set


def as_integer(value):
    """A plain int of an integer of NumPy or the like; anything else, and a bool, as it is, for a check to refuse."""
    if isinstance(value, bool):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return value


def as_number(value):
    """A plain int or float of a number of NumPy or the like; anything else, and a bool, as it is."""
    value = as_integer(value)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, int) else value


def as_numbers(values):
    """A tuple of plain numbers, as `as_number` makes them, of whatever holds several; anything else as it is."""
    many = isinstance(values, Iterable) and getattr(values, "ndim", 1)  # NumPy's single values cannot be walked through
    return tuple(map(as_number, values)) if many else values


def take_numbers(one, *names):
    """Make plain numbers of a frozen object's attributes, as `as_number` does."""
    for name in names:
        object.__setattr__(one, name, as_number(getattr(one, name)))


def take_integers(one, *names):
    """Make plain ints of a frozen object's attributes, as `as_integer` does; of a list or tuple a tuple of them."""
    for name in names:
        value = getattr(one, name)
        many = isinstance(value, list | tuple)
        object.__setattr__(one, name, tuple(map(as_integer, value)) if many else as_integer(value))


def check_integer(name, value, least=0, most=None, optional=False):
    """Raise unless the argument called `name` is an integer in a range, or None if that is allowed."""
    if value is None and optional:
        return
    if type(value) is not int or value < least or (most is not None and value > most):
        rule = f"an integer from {least}" + ("" if most is None else f" to {most}")
        raise ValueError(f"`{name}` must be {'None or ' * optional}{rule}. Received: {value!r}")


def check_positive(name, value, unit="", optional=False, finite=False):
    """Raise unless the argument called `name` is a number above 0, or None if that is allowed."""
    if value is None and optional:
        return
    if not is_number(value) or not value > 0 or (finite and value == math.inf):
        rule = f"a {'finite ' * finite}number{f' of {unit}' * bool(unit)} above 0"
        raise ValueError(f"`{name}` must be {'None or ' * optional}{rule}. Received: {value!r}")


def check_rate(name, value, optional=False):
    """Raise unless the argument called `name` is a number from 0 to below 1, or None if that is allowed."""
    if value is None and optional:
        return
    if not is_number(value) or not 0 <= value < 1:
        rule = "a number from 0 to below 1"
        raise ValueError(f"`{name}` must be {'None or ' * optional}{rule}. Received: {value!r}")


def check_share(name, value):
    """Raise unless the argument called `name` is a number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be a number from 0 to 1. Received: {value!r}")


def names_of(name, value):
    """A tuple of texts of the names of classes in the argument called `name`, whose order says which is whose.

    Raises `ValueError` for what has no order, for one text, which would be the name of each letter, and for no list.
    """
    try:
        if isinstance(value, str | bytes | Mapping) or (isinstance(value, Set) and not isinstance(value, KeysView)):
            raise TypeError
        return tuple(one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in value)
    except TypeError:
        received = " ".join(repr(value).split())
        raise ValueError(f"`{name}` must be a list of names, one for each class. Received: {received}") from None


def check_order(name, names, known, order):
    """Raise where the names of classes in the argument called `name` are known ones in another order: each would be
    another class's.

    Args:
        names, known: lists or tuples of texts, or None; other names than the known ones may be given to classes.
        order: what the right one is called, such as `"the model's own order"`.
    """
    if names and known and sorted(names) == sorted(known) and list(names) != list(known):
        first = next(one for one, right in zip(names, known, strict=True) if one != right)
        raise ValueError(f"`{name}` must be in {order}, or left out. Received: {first!r} in between")


def check_range(name, value, optional=False):
    """Raise unless the argument called `name` is `(low, high)`, two finite numbers, or None if that is allowed."""
    if value is None and optional:
        return
    plain = as_numbers(value)
    pair = isinstance(plain, tuple) and len(plain) == 2 and all(map(is_number, plain))
    if not pair or not -math.inf < plain[0] < plain[1] < math.inf:
        rule = "(low, high), two finite numbers, the lower one first"
        raise ValueError(f"`{name}` must be {'None or ' * optional}{rule}. Received: {value!r}")


def first_difference(one, other, keys=None):
    """The first respect in which two descriptions differ: by this a run knows what belongs to it.

    Args:
        one, other: JSON-able dicts; a key that is missing counts as None.
        keys: which of them count; by default all of both.

    Returns:
        (key, value in `one`, value in `other`), or None.
    """
    for key in {**one, **other} if keys is None else keys:
        if one.get(key) != other.get(key):
            return key, one.get(key), other.get(key)
    return None


def is_number(value):
    """Whether a value is an int or a float; JSON knows no others."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_loopback(host):
    """Whether a host's name or address, be it a socket's, can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def check_one_of(name, value, allowed, optional=False):
    """Raise unless the argument called `name` is one of some values, or None if that is allowed."""
    if value is None and optional:
        return
    if value not in tuple(allowed):
        choice = f"one of {', '.join(map(str, allowed))}"
        raise ValueError(f"`{name}` must be {'None or ' * optional}{choice}. Received: {value!r}")
