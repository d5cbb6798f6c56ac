"""A child computes with one thread an operation, so that the number of cores is not in its reward.

With several threads a convolution adds up in another order, and a child that trains for dozens of steps ends elsewhere:
two threads can move a reward by two points. Small operations are slower on two threads, too. Independent operations of
a child still run side by side, which changes nothing.

TensorFlow gives all sessions of a process one pool of threads, which the first of them fixes for ever; with
`TF_OVERRIDE_GLOBAL_THREADPOOL` each has a pool of its own. It asks for the variable once, before its first operation,
hence `give_sessions_own_threads` when this package is imported. So children have one thread whatever the process
has done before, and whoever trains a large network after them has all.
"""

import logging
import os
import sys
from functools import cache

VARIABLE = "TF_OVERRIDE_GLOBAL_THREADPOOL"
logger = logging.getLogger(__name__)


def give_sessions_own_threads():
    """Set the variable, unless TensorFlow runs already or somebody has set it."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not _is_running(tensorflow):
        os.environ.setdefault(VARIABLE, "1")


def _is_running(tensorflow):
    """Whether TensorFlow has begun to compute, after which it takes no number of threads."""
    threading = tensorflow.config.threading
    number = threading.get_intra_op_parallelism_threads()
    try:
        threading.set_intra_op_parallelism_threads(number + 1)
        threading.set_intra_op_parallelism_threads(number)
    except RuntimeError:
        return True
    return False


@cache
def use_one_thread():
    """Let the whole process compute with one thread an operation; where that is too late, say so, once."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:
        logger.warning(
            "TensorFlow runs with several threads an operation already: rewards may differ in their last digits from "
            "those of another process"
        )


def sessions_have_own_threads():
    """Whether a session's own number of threads counts."""
    return os.environ.get(VARIABLE, "").lower() in ("1", "true")
