"""What the documentation shows runs: its commands, its Python snippets, and the examples in docstrings.

What takes long runs in a small world of its own, see `world`; what needs a machine, a download or an account that a
test has not is marked, in the page (`<!-- not run: … -->`) or in NOT_RUN.
"""

import doctest
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nasnet_keras
from nasnet_keras.cli import COMMANDS, parser

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"(?P<mark><!-- not run[^\n]*\n)?```(?P<language>bash|python)\n(?P<code>.*?)```", re.S)
QUICK = "docs/keras.md"  # its snippets stand for themselves
# Parts of commands, or of snippets, and why a test does not run them.
NOT_RUN = {
    "python3 -m venv": "an environment of its own: `.ci/run` has it",
    ". .venv/": "an environment of its own, likewise",
    "pip install": "needs a package index",
    "docker ": "needs Docker",
    "#SBATCH": "needs a cluster",
    "srun ": "needs a cluster",
    "ray up ": "needs a cluster",
    "ray submit ": "needs a cluster",
    "ray down ": "needs a cluster",
    "--engine ray": "needs a cluster; tests/search/distributed has a small one",
    "--role ": "needs two machines; tests/search/distributed has both on one",
    "ssh ": "needs two machines",
    "--devices 2": "needs two devices; tests/training/on_devices.py has made-up ones",
    "tfds:imagenet2012": "needs a download",
    "nasnet-keras serve ": "tests/serving runs it",
    "curl ": "tests/serving runs it",
    "unzip ": "tests/export reads the archive",
    "openssl ": "tests/serving has keys and certificates",
    "from nasnet_keras.serving.client": "tests/serving runs it",
    "import grpc": "tests/serving runs it",
    "import wandb": "needs an account",
}
NEEDED = {"litert": "ai_edge_litert"}  # packages of formats
# What makes a documented command small: the last of two equal options counts.
SMALL = {
    "search": "--max-trials 2 --blocks 1 --filters 2 --limit 40 --final-epochs 1 --workers 0",
    "train": "--repeats 1 --filters 4 --stem cifar --image-size 16 --epochs 1 --batch-size 4",
    "finetune": "--weights tiny.keras --repeats 1 --filters 4 --image-size 32 --epochs 2 --head-epochs 1 "
    "--batch-size 4",
}
SHORT = {
    "max_trials=60": "max_trials=2, child=CHILD",
    "max_trials=200": "max_trials=2, child=CHILD",
    "image_size=224": "image_size=32",
    "NASNetMobile()": "NASNetMobile(weights=None)",
    'fine_tune("NASNetMobile"': "fine_tune(keras.saving.load_model('tiny.keras')",
    "epochs=10": "epochs=2",
}
SHIM = f"""#!{sys.executable}
import sys
from nasnet_keras.cli import main
small = {SMALL!r}.get(sys.argv[1], "").split()
sys.exit(main(sys.argv[1:] + small))
"""


def blocks(language):
    """(id, code, mark) of what the pages show in a language."""
    for page in PAGES:
        found = [one for one in FENCE.finditer((ROOT / page).read_text("utf-8")) if one["language"] == language]
        for number, one in enumerate(found):
            yield f"{page}-{number}", one["code"], one["mark"]


def commands(code):
    """The lines of a block, each with what it goes on with, without comments."""
    if "#SBATCH" in code or code.startswith("{"):
        return [code]
    lines = code.replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s)#\s.*", "", line).strip() for line in lines) if line]


def not_run(code):
    """Why a test does not run a command or a snippet; None: one does."""
    if "…" in code:
        return "an outline"
    return next((reason for part, reason in NOT_RUN.items() if part in code), None)


def lacking(code):
    """A package that a command needs and this environment lacks."""
    return next((package for name, package in NEEDED.items() if name in code and find_spec(package) is None), None)


def runnable(language):
    for name, code, mark in blocks(language):
        parts = commands(code) if language == "bash" else [code]
        if not mark and any(not_run(part) is None for part in parts):
            yield pytest.param(code, id=name, marks=[] if name.startswith(QUICK) else [pytest.mark.long])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Photographs, a table of them, a trained network and what else the pages take for granted; all of it small."""
    from nasnet_keras import training

    place, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    rows = ["file,label,cat,outdoors,night"]
    for index, name in enumerate(("cat", "dog")):
        (place / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 120, (40, 48, 3))
            pixels[..., index] += 120
            Image.fromarray(pixels.astype("uint8")).save(place / "photos" / name / f"{number}.jpg")
            flags = [index == 0, index == 1 or number % 2, number % 3 == 0]
            labels = "|".join(word for word, flag in zip(("cat", "outdoors", "night"), flags, strict=True) if flag)
            rows.append(f"photos/{name}/{number}.jpg,{labels},{','.join(str(int(flag)) for flag in flags)}")
    (place / "photos.csv").write_text("\n".join(rows) + "\n")
    shutil.copytree(place / "photos" / "cat", place / "holiday")
    shutil.copy(place / "holiday" / "0.jpg", place / "holiday.jpg")
    nasnet_keras.NASNetMobile(weights=None, repeats=1, filters=4, input_shape=(32, 32, 3)).save(place / "tiny.keras")
    (place / "found").mkdir()
    nasnet_keras.load_genotype("tiny").save(place / "found" / "best_genotype.json")
    data = nasnet_keras.load_data(place / "photos", image_size=16)
    arguments = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (16, 16, 3), "classes": 2}
    network = nasnet_keras.NASNet("tiny", **arguments, class_names=data.class_names)
    training.fit(network, data, nasnet_keras.RECIPES["scans"], epochs=1, directory=place / "net")
    training.save_model(network, place / "net", input_shape=data.image_shape)
    shutil.copytree(place / "net", place / "mine")
    (place / "bin").mkdir()
    (place / "bin" / "nasnet-keras").write_text(SHIM)
    (place / "bin" / "nasnet-keras").chmod(0o755)
    return place


MADE = ("found", "net", "mine")  # what a block's own commands may make first


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A folder of one's own with everything that no command makes."""
    shutil.copytree(world, tmp_path / "here", ignore=shutil.ignore_patterns(*MADE))
    monkeypatch.chdir(tmp_path / "here")
    return world


@pytest.mark.parametrize("code", list(runnable("bash")))
def test_commands_of_the_pages_run(code, here):
    ran = 0
    environment = {**os.environ, "PATH": f"{here / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for line in commands(code):
        if not_run(line) or lacking(line):
            continue
        for name in MADE:
            if re.search(rf"(?<!--directory )\b{name}\b", line) and not Path(name).exists():
                shutil.copytree(here / name, name)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", line], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
        assert done.stdout
        ran += 1
    if not ran:
        pytest.skip(f"needs {lacking(code)}")


@pytest.mark.parametrize("code", list(runnable("python")))
def test_snippets_of_the_pages_run(code, tmp_path, monkeypatch, request):
    names = {"__name__": "snippet"}
    if request.node.get_closest_marker("long"):
        import keras

        request.getfixturevalue("here")
        child = nasnet_keras.ChildSettings(repeats=1, filters=2)
        names |= {"CHILD": child, "keras": keras, "images": np.zeros((1, 224, 224, 3), "float32")}
        for long, short in SHORT.items():
            code = code.replace(long, short)
    else:
        monkeypatch.chdir(tmp_path)
    exec(compile(code, "snippet", "exec"), names)


def shown_commands():
    """Every `nasnet-keras` command that the pages show, in blocks and in their text."""
    found = set()
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8").replace("\\\n", " ")
        found |= {re.sub(r"\s+#\s.*", "", line) for line in re.findall(r"nasnet-keras ([a-z][^`\n]*)", text)}
        found |= set(re.findall(rf"`((?:{'|'.join(COMMANDS)}) [^`\n]*--[^`\n]*)`", text))
    return sorted(line for line in found if "…" not in line)


def test_all_commands_that_are_shown_exist():
    """Their options too; that they do what the page says, the other tests show."""
    (known,) = [action.choices for action in parser()._actions if action.dest == "command"]
    assert len(shown_commands()) > 40
    for line in shown_commands():
        words = shlex.split(re.split(r"\s(?:\||&&|>|\))\s?", line)[0])
        options = known[words[0]]._option_string_actions if words[0] in known else words
        assert [word for word in words[1:] if word.startswith("--") and word.split("=")[0] not in options] == [], line
        if words[0] in known and sum(word.startswith("--") for word in words) > 2:  # a whole command
            needed = [action.option_strings for action in known[words[0]]._actions if action.required]
            assert [names for names in needed if names and not set(names) & set(words)] == [], line


def test_every_reason_not_to_run_is_needed():
    parts = [part for name, code, _ in blocks("bash") for part in commands(code)]
    parts += [code for name, code, mark in blocks("python") if not mark]
    assert [part for part in NOT_RUN if not any(part in one for one in parts)] == []


MODULES = sorted({*nasnet_keras._HOMES.values(), "data.images"})
SLOW = ("models.applications", "training.explanations")  # NASNetMobile, in whole


@pytest.mark.parametrize(
    "module", [pytest.param(name, marks=[pytest.mark.long] if name in SLOW else []) for name in MODULES]
)
def test_examples_in_docstrings(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(f"nasnet_keras.{module}"))
    assert found.attempted and not found.failed


@pytest.mark.parametrize("name", [name for name, one in nasnet_keras.RECIPES.items() if one.optimizer == "sgd"])
def test_the_page_says_what_a_recipe_is(name):
    """Its rate, its batches and its augmentation stand in its row."""
    recipe, page = nasnet_keras.RECIPES[name], (ROOT / "docs" / "training.md").read_text("utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]
    known = [f"{recipe.learning_rate:g}", f"batches of {recipe.batch_size}"]
    known += [] if recipe.augmentation == "none" else [f"(`{recipe.augmentation}`)"]
    known += [f"label smoothing {recipe.label_smoothing:g}"] * bool(recipe.label_smoothing)
    assert all(what in row for what in known)


@pytest.mark.parametrize("name", sorted(set(nasnet_keras.__all__) - {"RECIPES"}))  # a plain dict
def test_everything_public_has_an_example(name):
    assert ">>>" in (getattr(nasnet_keras, name).__doc__ or "")
