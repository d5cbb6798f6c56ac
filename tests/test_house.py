"""The package keeps to the plan in `house.py`, and each of its checks finds what it is for."""

import ast
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from house import (
    AT_ONCE,
    MAX_LINES,
    ROOT,
    below,
    circle,
    house,
    undeclared,
    unpackaged,
    wrong_habits,
    wrong_imports,
    wrong_references,
    wrong_weights,
)

from nasnet_keras.genotype import list_genotypes, load_genotype

PACKAGE = ROOT / "nasnet_keras"
SETUP = ROOT / "setup.py"


def test_every_folder_imports_what_its_row_says():
    assert list(wrong_imports(PACKAGE)) == []


def test_a_row_names_only_what_stands_above_it():
    """So no two folders can come to import each other."""
    above = {"__init__"}  # for the version
    for row in house():
        assert [place for place in row.inside if not below(place, above)] == []
        above.add(row.place)


def test_no_modules_import_each_other_in_a_circle():
    assert circle(PACKAGE) == []


def test_habits():
    assert list(wrong_habits(PACKAGE)) == []


def test_docstrings_name_modules_where_they_are():
    assert list(wrong_references(PACKAGE)) == []


def test_weights_folder():
    assert list(wrong_weights(ROOT / "weights")) == []


def test_every_import_is_declared():
    assert list(undeclared(PACKAGE, SETUP)) == []


def test_every_data_file_is_packaged():
    assert list(unpackaged(PACKAGE, SETUP)) == []


def test_the_command_line_starts_without_a_framework():
    """Help and bad input are answered at once; Keras and TensorFlow take seconds to import."""
    names = ", ".join(f"nasnet_keras.{name}" for name in AT_ONCE)
    code = f"import sys, {names}; print({{'keras', 'keras_tuner', 'tensorflow', 'jax'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("set()\n", "")


@pytest.mark.parametrize("name", list_genotypes())
def test_stored_genotype(name):
    assert load_genotype(name).name == name


VIOLATIONS = [
    ("data.splits", "from nasnet_keras.search.space import SearchSpace", "data.splits:1: must not import search.space"),
    (
        "program.cell",
        "def f():\n    from nasnet_keras.models import layers",
        "program.cell:2: must not import models.layers",
    ),
    ("program.cell", "from ..models.layers import Cell", "program.cell:1: must not import models.layers"),
    ("program.cell", "from nasnet_keras import NASNet", "program.cell:1: must not import __init__"),
    ("program.cell", "import keras", "program.cell:1: must not import keras"),
    ("weights.slim", "from nasnet_keras.models import layers", "weights.slim:1: must not import models.layers"),
    ("search.oracle", "from ..models.network import NASNet", "search.oracle:1: must not import models.network"),
    ("search.oracle", "import nasnet_keras.children.child as c", "search.oracle:1: must not import children.child"),
    ("search.tuner", "from nasnet_keras.training import fitting", "search.tuner:1: must not import training.fitting"),
    ("search.tuner", "from nasnet_keras.data import images", "search.tuner:1: must not import data.images"),
    ("search.results.final", "import keras", "search.results.final:1: must not import keras"),
    ("search.strategies.evolution", "import keras_tuner", "search.strategies.evolution:1: must not import keras_tuner"),
    (
        "search.strategies.evolution",
        "from .. import oracle",
        "search.strategies.evolution:1: must not import search.oracle",
    ),
    ("children.child", "from nasnet_keras.search import space", "children.child:1: must not import search.space"),
    ("checks", "from nasnet_keras import genotype", "checks:1: must not import genotype"),
    ("genotype", "import numpy", "genotype:1: must not import numpy, only the standard library"),
    ("models.network", "import tensorflow as tf", "models.network:1: must not import tensorflow"),
    ("attic.chest", "", "attic.chest: its folder has no row in HOUSE"),
    (
        "pictures.cells",
        "from nasnet_keras.models.layers import Cell",
        "pictures.cells:1: must not import models.layers",
    ),
]
CIRCLES = [
    {"data.images": "from nasnet_keras.data import splits", "data.splits": "def f():\n    from . import images"},
    {
        "genotype": "from nasnet_keras.pictures import curves",
        "pictures.curves": "from nasnet_keras.genotype import Block",
    },
    {"a": "import nasnet_keras.b", "b": "import nasnet_keras.c.d", "c.d": "from nasnet_keras.a import f"},
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
    """A package with some empty modules of the real one, and a writer for one of them."""

    def write(name, source):
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        return tmp_path

    for path in PACKAGE.rglob("*.py"):
        write(".".join(path.relative_to(PACKAGE).with_suffix("").parts), "")
    return write


@pytest.mark.parametrize(("name", "source", "message"), VIOLATIONS)
def test_a_wrong_import_is_found(small_house, name, source, message):
    found = list(wrong_imports(small_house(name, source)))
    assert len(found) == 1
    assert found[0].startswith(message)


@pytest.mark.parametrize("sources", CIRCLES)
def test_a_circle_is_found(small_house, sources):
    for name, source in sources.items():
        package = small_house(name, source)
    assert set(circle(package)) == set(sources)


@pytest.mark.parametrize(("source", "message"), BAD_HABITS)
def test_a_bad_habit_is_found(tmp_path, source, message):
    (tmp_path / "x.py").write_text(f'"""X."""\n{source}\n'[: -1 if source.isspace() else None], encoding="utf-8")
    found = list(wrong_habits(tmp_path))
    assert found
    assert found[0].startswith(message)


def test_a_stale_reference_is_found(small_house):
    small_house("children.tensorflow_child", "class Child:\n    pass")
    package = small_house(
        "data.splits",
        "# `turnaround.Child` and `launch.start`\n# `children.Child`, `tensorflow_child.Child`, `keras.Model`\n"
        "# `jax_child.Child`, `data.train`, `recipes.RECIPES`",
    )
    assert list(wrong_references(package)) == [
        "data.splits:1: `turnaround.Child`: the module has moved",
        "data.splits:1: `launch.start`: the module has moved",
        "data.splits:3: `jax_child.Child`: no such class there",
    ]


def test_an_undeclared_import_is_found(small_house, tmp_path):
    (tmp_path / "setup.py").write_text('REQUIRES = ["numpy>=2", "pillow"]')
    package = small_house("files", "import numpy as np\nimport PIL.Image\nimport json\nimport requests.adapters")
    assert list(undeclared(package, tmp_path / "setup.py")) == ["files:4: requests is not declared in setup.py"]


def test_a_forgotten_data_file_is_found(small_house, tmp_path):
    (tmp_path / "setup.py").write_text('DATA = ["*.tsv"]')
    package = small_house("files", "")
    (package / "a.tsv").touch()
    (package / "a.csv").touch()
    assert list(unpackaged(package, tmp_path / "setup.py")) == ["a.csv: is not in setup.py's package_data"]


def test_what_is_allowed_is_not_found(small_house):
    small_house("search.tuner", "import keras_tuner\nfrom nasnet_keras.data import loading\nfrom . import oracle")
    small_house("genotype", "def f():\n    from nasnet_keras.pictures.cells import genotype_svg")
    small_house("pictures.cells", "from nasnet_keras.genotype import Block")
    small_house(
        "data.splits", "import random\nimport numpy as np\nrandom.Random(1).random()\nnp.random.default_rng(1).random()"
    )
    package = small_house(
        "commands.views", "def search():\n    from nasnet_keras.search.tuner import search\n    print(search)"
    )
    assert list(wrong_imports(package)) == []
    assert circle(package) == []
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


def defined(path):
    """The names that a module defines at its top, imports included."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    return names


def test_whoever_imports_from_a_module_finds_it_there():
    """Also in functions, benchmarks, notebooks and tests, which no other check imports."""
    missing = []
    files = [
        path for part in ("nasnet_keras", "benchmarks", "notebooks", "tests") for path in (ROOT / part).rglob("*.py")
    ]
    for file in (path for path in files if path.parent.name != "fixtures"):  # whose writer is for an earlier commit
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("nasnet_keras."):
                continue
            place = ROOT.joinpath(*node.module.split("."))
            names = {alias.name for alias in node.names}
            if place.is_dir():
                inside = {path.stem for path in place.iterdir()} | defined(place / "__init__.py")
                lost = set() if "__getattr__" in inside else names - inside
            else:
                lost = names - defined(place.with_suffix(".py")) if place.with_suffix(".py").exists() else names
            missing += [f"{file.relative_to(ROOT)}:{node.lineno}: {node.module} has no {name}" for name in sorted(lost)]
    assert missing == []
