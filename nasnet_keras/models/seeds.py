"""Where random numbers come from when a network is made."""

import random
from contextlib import contextmanager


@contextmanager
def drawn_from(seed):
    """Inside, the initial weights and the generators of new layers follow from `seed` alone.

    Keras draws the seeds of its initialisers and generators from Python's `random`, and from nothing else. Outside,
    that goes on as if nothing had been; Keras' own global seed, NumPy's and TensorFlow's are not touched.

    Args:
        seed: an integer.
    """
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
