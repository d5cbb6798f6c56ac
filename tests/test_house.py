"""The package keeps to the plan in `house.py`, and each of its checks finds what it is for."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from house import (
    MAX_LINES,
    ROOT,
    house,
    undeclared,
    unpackaged,
    wrong_habits,
    wrong_imports,
    wrong_weights,
)

from nasnet_keras.genotype import list_genotypes, load_genotype

PACKAGE = ROOT / "nasnet_keras"
SETUP = ROOT / "setup.py"


def test_imports_point_upwards():
    assert list(wrong_imports(PACKAGE)) == []


def test_habits():
    assert list(wrong_habits(PACKAGE)) == []


def test_weights_folder():
    assert list(wrong_weights(ROOT / "weights")) == []


def test_every_import_is_declared():
    assert list(undeclared(PACKAGE, SETUP)) == []


def test_every_data_file_is_packaged():
    assert list(unpackaged(PACKAGE, SETUP)) == []


def test_the_command_line_starts_without_a_framework():
    """Help and bad input are answered at once; Keras and TensorFlow take seconds to import."""
    code = "import sys, nasnet_keras.cli; print({'keras', 'tensorflow', 'jax'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("set()\n", "")


@pytest.mark.parametrize("name", list_genotypes())
def test_stored_genotype(name):
    assert load_genotype(name).name == name


VIOLATIONS = [
    ("data", "from nasnet_keras.search.space import SearchSpace", "data:1: must not import search.space"),
    ("operations", "def f():\n    from nasnet_keras import network", "operations:2: must not import network"),
    ("operations", "from .cell import Cell", "operations:1: must not import cell"),
    ("operations", "from nasnet_keras import NASNet", "operations:1: must not import __init__"),
    ("training", "from nasnet_keras.genotype import Genotype", "training:1: must not import genotype"),
    ("search.oracle", "from ..network import NASNet", "search.oracle:1: must not import network"),
    ("search.controller", "import nasnet_keras.models.network as n", "search.controller:1: must not import network"),
    ("search.tuner", "from nasnet_keras.models.applications import x", "search.tuner:1: must not import applications"),
    ("search.space", "import numpy", "search.space:1: must not import numpy, only the standard library"),
    ("plot", "import keras.ops", "plot:1: must not import keras"),
    ("network", "import tensorflow as tf", "network:1: must not import tensorflow"),
    ("attic", "", "attic: has no row in HOUSE"),
]
BAD_HABITS = [
    ("print('x')", "x:2: print: the library logs"),
    ("from os import environ\nenviron.get('A')", "x:2: os.environ: an argument"),
    ("import cloudpickle", "x:2: cloudpickle: JSON"),
    ("import numpy as np\nnp.load('x', allow_pickle=True)", "x:3: allow_pickle"),
    ("import numpy as np\nnp.random.seed(1)", "x:3: numpy.random.seed: a generator"),
    ("import random\nrandom.choice('ab')", "x:3: random.choice: a generator"),
    ("from random import shuffle", "x:2: random.shuffle: a generator"),
    ("from keras.layers import Lambda", "x:2: keras.layers.Lambda: a registered layer"),
    ("def f():\n    '''F.'''\n    global g\n    g = 1", "x:4: global"),
    ("assert True", "x:2: assert"),
    ("def f():\n    pass", "x:2: f has no docstring"),
    ("class A:\n    '''A.'''\n    def m(self):\n        pass", "x:4: A.m has no docstring"),
    ("\n" * MAX_LINES, f"x: {MAX_LINES + 1} lines"),
]


@pytest.fixture
def small_house(tmp_path):
    """A package of empty modules, one for each row of the table, and a writer for one of them."""

    def write(name, source):
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(source, encoding="utf-8")
        return tmp_path

    for name in house():
        write(name, "")
    return write


@pytest.mark.parametrize(("name", "source", "message"), VIOLATIONS)
def test_a_wrong_import_is_found(small_house, name, source, message):
    found = list(wrong_imports(small_house(name, source)))
    assert len(found) == 1
    assert found[0].startswith(message)


@pytest.mark.parametrize(("source", "message"), BAD_HABITS)
def test_a_bad_habit_is_found(tmp_path, source, message):
    (tmp_path / "x.py").write_text(f'"""X."""\n{source}\n'[: -1 if source.isspace() else None], encoding="utf-8")
    found = list(wrong_habits(tmp_path))
    assert found
    assert found[0].startswith(message)


def test_an_undeclared_import_is_found(small_house, tmp_path):
    (tmp_path / "setup.py").write_text('REQUIRES = ["numpy>=2", "pillow"]')
    package = small_house("data", "import numpy as np\nimport PIL.Image\nimport json\nimport requests.adapters")
    assert list(undeclared(package, tmp_path / "setup.py")) == ["data:4: requests is not declared in setup.py"]


def test_a_forgotten_data_file_is_found(small_house, tmp_path):
    (tmp_path / "setup.py").write_text('DATA = ["*.tsv"]')
    package = small_house("data", "")
    (package / "a.tsv").touch()
    (package / "a.csv").touch()
    assert list(unpackaged(package, tmp_path / "setup.py")) == ["a.csv: is not in setup.py's package_data"]


def test_what_is_allowed_is_not_found(small_house):
    small_house("search.tuner", "import keras_tuner\nfrom nasnet_keras import data\nfrom . import oracle")
    small_house(
        "data", "import random\nimport numpy as np\nrandom.Random(1).random()\nnp.random.default_rng(1).random()"
    )
    package = small_house(
        "commands.views", "def search():\n    from nasnet_keras.search import search\n    print(search)"
    )
    assert list(wrong_imports(package)) == []
    assert not [line for line in wrong_habits(package) if "docstring" not in line]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "a", "file": "a.h5"}, "a: must have the README's keys"),
        ({"name": "a", "file": "b.h5"}, "b.h5: is in the index but not in the folder"),
        ({"name": "a", "url": "https://example.org/a"}, "a.h5: is not in the index"),
        ({"name": "a", "file": "a.h5", "size": 2}, "a.h5: `size` must be 1"),
        ({"name": "a", "file": "a.h5", "hash": "sha256:0"}, "a.h5: has another sha256"),
    ],
)
def test_a_wrong_weights_folder_is_found(tmp_path, entry, message):
    (tmp_path / "a.h5").write_bytes(b"0")
    (tmp_path / "index.json").write_text(json.dumps({"format": "nasnet-weights/1", "weights": [entry]}))
    assert any(line.startswith(message) for line in wrong_weights(tmp_path))


@pytest.mark.jax
def test_the_chosen_backend_runs():
    """The short selection would prove nothing if it ran on TensorFlow."""
    import keras

    assert keras.backend.backend() == os.environ.get("KERAS_BACKEND", "tensorflow")
    assert np.array_equal(keras.ops.convert_to_numpy(keras.ops.ones(2)), [1, 1])


def test_the_results_are_those_of_the_raw_results():
    command = [sys.executable, "benchmarks/results.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
