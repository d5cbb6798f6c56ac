"""The rules that many arguments share. Each raises a `ValueError` of one line that says what is allowed."""

import math
from numbers import Real


def check_integer(name, value, least=0, most=None, optional=False):
    """Raise unless the argument called `name` is an integer in a range, or None if that is allowed."""
    if value is None and optional:
        return
    if type(value) is not int or value < least or (most is not None and value > most):
        rule = f"an integer from {least}" + ("" if most is None else f" to {most}")
        raise ValueError(f"`{name}` must be {'None or ' * optional}{rule}. Received: {value!r}")


def check_positive(name, value, unit="", optional=False):
    """Raise unless the argument called `name` is a finite number above 0, or None if that is allowed."""
    if value is None and optional:
        return
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < math.inf:
        rule = f"a number{f' of {unit}' * bool(unit)} above 0"
        raise ValueError(f"`{name}` must be {'None or ' * optional}{rule}. Received: {value!r}")


def check_one_of(name, value, allowed, optional=False):
    """Raise unless the argument called `name` is one of some values, or None if that is allowed."""
    if value is None and optional:
        return
    if value not in tuple(allowed):
        choice = f"one of {', '.join(map(str, allowed))}"
        raise ValueError(f"`{name}` must be {'None or ' * optional}{choice}. Received: {value!r}")
