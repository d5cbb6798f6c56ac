"""What an object of somebody's own is known by, such as a child or a rule that is no dataclass."""

import hashlib
import json
from functools import cached_property

import numpy as np

MOST = 200  # characters of JSON to which a value is kept as it is; a longer one is known by its digest


def public_attributes(one):
    """{name: value} of an object's own attributes, as far as JSON can hold them; an underscore in front hides one."""
    found = {}
    for name, value in sorted(getattr(one, "__dict__", {}).items()):
        if name[0] == "_" or isinstance(getattr(type(one), name, None), cached_property):
            continue
        try:
            text = json.dumps(value, default=_plain, allow_nan=False, sort_keys=True)
        except (TypeError, ValueError, RecursionError):
            continue
        found[name] = json.loads(text) if len(text) <= MOST else hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(type(value).__name__)
