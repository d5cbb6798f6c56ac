"""One trial, one reward: whatever starts the child, and however many threads its process has for other things."""

import json
import os
import subprocess
import sys

import pytest

SEARCH = ["--limit", "400", "--max-trials", "3", "--controller", "random", "--blocks", "2", "--filters", "16"]
COMMAND = [sys.executable, "-m", "nasnet_keras.cli", "search", *SEARCH, "--batch-size", "32", "--no-final"]
PYTHON = """
import sys
from nasnet_keras import ChildSettings, NASNet, SearchSpace, load_data, search
if "after a model" in sys.argv:
    import numpy as np
    import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(3)
    NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=2).predict(np.zeros((1, 8, 8, 3)))
    (tf.ones((300, 300)) @ tf.ones((300, 300))).numpy()
child = ChildSettings(filters=16, batch_size=32)
search(load_data("digits", limit=400), 3, sys.argv[1], "random", space=SearchSpace(blocks=2), child=child)
"""
# The ordinary network, which Keras trains: a recipe with smoothed labels is not plain gradient descent.
KERAS = """
import hashlib
from nasnet_keras import ChildSettings, load_data, load_genotype
from nasnet_keras.training import fitting
evaluate = fitting.evaluate
def noted(model, split):
    print(hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest())
    return evaluate(model, split)
fitting.evaluate = noted
child = ChildSettings(filters=16, batch_size=32, recipe="photos")
assert not child.is_interpreted()
child.evaluate(load_genotype("tiny"), load_data("digits", limit=200), 1)
"""
LATE = """
import logging
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(3)
tf.ones(3).numpy()
import nasnet_keras
from nasnet_keras.children.tensorflow_child import Child
from nasnet_keras.program.architecture import Architecture
logging.basicConfig(format="%(name)s: %(message)s")
tiny = nasnet_keras.load_genotype("tiny")
child = Child(Architecture(tiny, repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=2))
for images in np.zeros((2, 1, 8, 8, 3)), np.zeros((2, 2, 8, 8, 3)):
    child.logits(images[0])
"""


def start(command, **environment):
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def outputs(processes):
    """(stdout, stderr) of each."""
    ended = [(*process.communicate(timeout=280), process.returncode) for process in processes]
    assert [code for _, _, code in ended] == [0] * len(ended), ended
    return [(out, err) for out, err, _ in ended]


def rewards(folder):
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    return {trial["trial_id"]: (trial["genotype"], trial["reward"], trial["reason"]) for trial in trials}


@pytest.mark.long
def test_the_command_line_python_and_workers_give_the_same_rewards(tmp_path):
    """On one core too: the processes are told to have three threads, which their children do not take."""
    names = ("command", "workers", "fresh", "used")
    places = [tmp_path / name for name in names]
    command, workers, fresh, used = map(str, places)
    processes = [
        start([*COMMAND, "--directory", command]),
        start([*COMMAND, "--workers", "2", "--directory", workers]),
        start([sys.executable, "-c", PYTHON, fresh], TF_NUM_INTRAOP_THREADS="3"),
        start([sys.executable, "-c", PYTHON, used, "after a model"]),
    ]
    outputs(processes)
    found = {name: rewards(place) for name, place in zip(names, places, strict=True)}
    assert len(found["command"]) == 3 and len({reward for _, reward, _ in found["command"].values()}) > 1
    assert {name for name in names if found[name] != found["command"]} == set()


@pytest.mark.long
def test_children_that_keras_trains_have_one_thread_too():
    processes = [start([sys.executable, "-c", KERAS], TF_NUM_INTRAOP_THREADS=number) for number in ("1", "3")]
    (one, _), (three, _) = outputs(processes)
    assert len(one.strip()) == 64 and one == three


@pytest.mark.long
def test_it_is_said_once_where_tensorflow_ran_before():
    environment = {"TF_OVERRIDE_GLOBAL_THREADPOOL": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = {name: value for name, value in {**os.environ, **environment}.items() if value}
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("nasnet_keras.children.threads: TensorFlow runs with several threads") == 1
