"""What commit 93c521a left on disk is read, gone on with and answered from as it was then: see fixtures/README.md.

Everything happens in copies. Where a training goes on, another machine's sums may differ in their last digits, so
figures are compared with room for what some steps make of that.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import keras
import numpy as np
import pytest

import nasnet_keras
from nasnet_keras import ChildSettings, export_saved_model, load_data, load_model, preprocess_input, read_image
from nasnet_keras.cli import main
from nasnet_keras.data import batches
from nasnet_keras.training.identity import check_resumption, told
from nasnet_keras.training.recipes import Recipe

FIXTURES = Path(__file__).parent / "fixtures"
# Where a file written on this machine would say that it was.
PLACES = (tempfile.gettempdir() + os.sep, str(Path.home()) + os.sep, str(FIXTURES))
TOLERANCE = 1e-5
# After training goes on: of a loss, relative, and of a probability.
TRAINED = 1e-3
# The same, where moving variances take the unbiased variance of a batch, as they do since.
UNBIASED = 3e-2
# One of 30 validation images more or less; see `searches.json`.
REWARD = 1.01 / 30


def stored(name):
    """A JSON file of the fixtures."""
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


def arrays(name):
    """The arrays of a fixture."""
    with np.load(FIXTURES / name, allow_pickle=False) as file:
        return dict(file)


def close(got, wanted, tolerance=TOLERANCE):
    """Compare arrays, or nested figures of which only floats have room."""
    if isinstance(wanted, np.ndarray):
        np.testing.assert_allclose(np.asarray(got), wanted, rtol=0, atol=tolerance)
    elif isinstance(wanted, dict):
        assert [key for key in got if key in wanted] == list(wanted)  # what is new does not count
        for key, value in wanted.items():
            close(got[key], value, tolerance)
    elif isinstance(wanted, list):
        assert len(got) == len(wanted)
        for one, value in zip(got, wanted, strict=True):
            close(one, value, tolerance)
    elif isinstance(wanted, float):
        assert got == pytest.approx(wanted, rel=tolerance, abs=tolerance)
    else:
        assert got == wanted


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Copies fixtures to an empty folder, where the commands run that made them."""
    monkeypatch.chdir(tmp_path)

    def copy(*names):
        for name in names:
            source = FIXTURES / name
            shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
        return tmp_path

    return copy


def printed(words, capsys):
    """The object that a command prints as its last line."""
    capsys.readouterr()
    assert main(words) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def content(folder):
    """{file: its bytes} of a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_fixtures_are_small_and_name_no_place_of_a_machine():
    total = 0
    for file in FIXTURES.rglob("*"):
        if file.is_file() and file.suffix not in (".py", ".pyc", ".md"):
            data = file.read_bytes()
            total += len(data)
            assert not [place for place in PLACES if os.fsencode(place) in data], file
    assert 0 < total < 1_500_000


@pytest.mark.parametrize("load", [keras.models.load_model, load_model])
def test_a_network_of_the_zoo(load):
    record, known = stored("zoo.json"), arrays("zoo.npz")
    model = load(FIXTURES / "zoo.keras")
    assert type(model) is nasnet_keras.NASNet and model.count_params() == record["parameters"]
    assert json.loads(json.dumps(model.get_config())) == record["config"]
    close(model.predict(known["images"], verbose=0), known["predictions"])


def test_a_compiled_network_goes_on_with_its_training():
    record, known = stored("compiled.json"), arrays("compiled.npz")
    model = keras.models.load_model(FIXTURES / "compiled.keras")
    images, labels = known["images"], known["labels"]
    close(model.predict(images, verbose=0), known["predictions"])
    evaluated = model.evaluate(images, labels, batch_size=16, return_dict=True, verbose=0)
    close(dict(sorted(evaluated.items())), dict(sorted(record["evaluate"].items())))
    assert int(model.optimizer.iterations) == record["iterations"] > 0
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    history = model.fit(images, labels, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    close(dict(sorted(history.items())), dict(sorted(record["two epochs more"].items())), TRAINED)
    assert int(model.optimizer.iterations) == record["iterations"] + 4
    after = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


def test_a_finetuned_directory_gives_the_same_figures(copied, capsys):
    folder = copied("finetuned", "photos")
    before = content(folder / "finetuned")
    commands = {row["words"][0]: row for row in stored("finetuned.json")}
    assert set(commands) == {"finetune", "evaluate", "predict"}
    for row in stored("finetuned.json"):
        if row["words"][0] != "finetune":
            whole = ["--matrix"] if row["words"][0] == "evaluate" else []
            close(printed([*row["words"], *whole], capsys), row["printed"])
    assert content(folder / "finetuned") == before


def test_a_finetuning_that_has_ended_is_not_done_again(copied, capsys):
    folder = copied("finetuned", "photos", "zoo.keras")
    before = content(folder / "finetuned")
    row = next(row for row in stored("finetuned.json") if row["words"][0] == "finetune")
    close(printed(row["words"], capsys), row["printed"])
    after = content(folder / "finetuned")
    kept = [name for name in before if name != "model.keras"]
    assert set(after) == {*before, "README.md", "curves.svg"}  # which that version did not write
    assert [after[name] for name in kept] == [before[name] for name in kept]


def test_a_directory_keeps_the_images_that_its_training_did_not_see(copied):
    """Whatever the rule for new directories is: the loss that `evaluate` gave is that of these very files."""
    folder = copied("photos")
    model, parts = load_model(FIXTURES / "finetuned"), stored("splits.json")["photos by seed"]["3"]
    for row in (row for row in stored("finetuned.json") if row["words"][0] == "evaluate"):
        figures = row["printed"]
        files = parts[figures["split"]]
        images = preprocess_input(np.stack([read_image(folder / file) for file in files]))
        labels = [model.class_names.index(Path(file).parts[1]) for file in files]
        right = model.predict(images, verbose=0)[np.arange(len(files)), labels]
        assert figures["images"] == len(files)
        close(float(np.mean(-np.log(right))), figures["loss"])


@pytest.mark.parametrize("seed", [0, 3])
def test_photographs_are_split_as_before(seed, copied):
    """By the rule of then, which directories of then keep."""
    copied("photos")
    data = load_data("photos", seed=seed, split_rule="seeded")
    parts = stored("splits.json")["photos by seed"][str(seed)]
    known = {read_image(file).tobytes(): file.as_posix() for file in Path("photos").rglob("*.png")}
    assert len(known) == 24 == sum(map(len, parts.values()))
    for part, files in parts.items():
        assert [known[image.tobytes()] for image in getattr(data, part).images] == files


@pytest.mark.parametrize("limit", [None, 240])
def test_digits_are_split_as_before(limit):
    data, known = load_data("digits", limit=limit), stored("splits.json")["digits by limit"][str(limit)]
    for part, digest in known.items():
        split = getattr(data, part)
        assert sha256(split.images.tobytes() + split.labels.astype("int32").tobytes()).hexdigest() == digest


def test_an_interrupted_training_is_told_that_its_crops_are_others(copied):
    directory = copied("interrupted_training") / "interrupted_training"
    identity = json.loads((directory / "history.json").read_text())["identity"]
    changes = check_resumption(directory, {**identity, "crops": "of files"})
    assert [change["what"] for change in changes] == ["crops"]
    assert "crops are cut from the files' own pixels" in told(directory, changes)[0]
    assert not check_resumption(directory, identity)


def test_a_training_is_told_that_its_crops_were_squeezed(copied):
    directory = copied("interrupted_training") / "interrupted_training"
    path = directory / "history.json"
    state = json.loads(path.read_text())
    known = {**state["identity"], "crops": "of files"}  # as versions in between kept it
    path.write_text(json.dumps({**state, "identity": known}))
    changes = check_resumption(directory, {**known, "crop sides": "of images"})
    assert [change["what"] for change in changes] == ["crop sides"]
    assert "files of another shape were squeezed" in told(directory, changes)[0]
    assert not check_resumption(directory, known)


def test_an_interrupted_training_ends_as_if_nothing_had_happened(copied, capsys, monkeypatch):
    # Since then crops are cut from the files' own pixels, so other ones; cut as they were, all is as it was.
    monkeypatch.setattr(Recipe, "crops", False)
    monkeypatch.setattr(batches, "crops", lambda augmentation: False)
    folder = copied("interrupted_training", "photos")
    record, known = stored("training.json"), arrays("training.npz")
    assert not (folder / "interrupted_training" / "model.keras").exists()
    close(printed(record["words"], capsys), record["printed"], UNBIASED)
    history = json.loads((folder / "interrupted_training" / "history.json").read_text(encoding="utf-8"))
    close(history["epochs"], record["epochs"], UNBIASED)
    assert history["epochs"][0] == record["epochs"][0]  # that was there, and was not done again
    predictions = load_model("interrupted_training").predict(preprocess_input(known["images"]), verbose=0)
    close(predictions, known["predictions"], UNBIASED)


def trials(folder):
    """The trials of a search, without what only the clock knows."""
    lines = (folder / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def test_a_search_that_has_ended_trains_nothing(copied, capsys, monkeypatch):
    folder, record = copied("search_finished"), stored("searches.json")["finished"]

    def refuse(*_, **__):
        raise AssertionError("a child is trained")

    monkeypatch.setattr(ChildSettings, "evaluate", refuse)
    monkeypatch.setattr(ChildSettings, "train_interpreted", refuse)
    before = content(folder / "search_finished")
    figures = printed(record["words"], capsys)
    assert Path(figures.pop("directory")) == folder / record["printed"].pop("directory")
    assert figures == record["printed"]
    after = content(folder / "search_finished")
    for name in ("trials.jsonl", "best_genotype.json", "search.json", "children.json"):
        assert after[name] == before[name]
    assert all(after[name] == before[name] for name in before if name.startswith(("final/", "controller/")))


def test_a_search_that_was_killed_ends_as_the_other_did(copied):
    """In a process of its own: the command says how many threads TensorFlow has, if TensorFlow is not there yet."""
    folder, record = copied("search_interrupted"), stored("searches.json")["interrupted"]
    wanted, begun = trials(FIXTURES / "search_finished"), trials(folder / "search_interrupted")
    assert 0 < len(begun) < len(wanted)
    environment = {name: value for name, value in os.environ.items() if name != "TF_NUM_INTRAOP_THREADS"}
    environment["PYTHONPATH"] = str(Path(nasnet_keras.__file__).parents[1])
    words = [sys.executable, "-m", "nasnet_keras.cli", *record["words"]]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    ended = trials(folder / "search_interrupted")
    assert ended[: len(begun)] == begun
    for got, known in zip(ended, wanted, strict=True):
        assert got.pop("reward") == pytest.approx(known.pop("reward"), abs=REWARD)
        assert {key: got[key] for key in known} == known
    figures = json.loads(done.stdout.splitlines()[-1])
    best = stored("searches.json")["finished"]["printed"]["best_reward"]
    assert figures["trials"] == len(wanted) and math.isclose(figures["best_reward"], best, abs_tol=REWARD)
    names = ("best_genotype.json", "search.json", "children.json")
    assert all(
        (folder / "search_interrupted" / n).read_text() == (FIXTURES / "search_finished" / n).read_text() for n in names
    )


def answers(signatures):
    """What a SavedModel says to the stored images, pixels and files, by the fixtures' names."""
    import tensorflow as tf

    images = arrays("served.npz")["images"]
    files = [(FIXTURES / file).read_bytes() for file in stored("served.json")["files"]]
    said = {
        "image": signatures["serving_default"](image=tf.constant(images)),
        "image_bytes": signatures["image_bytes"](image_bytes=tf.constant(files)),
    }
    return {f"{name}/{key}": value.numpy() for name, answer in said.items() for key, value in answer.items()}


def check_answers(said):
    """They are what the export said when it was written."""
    known = {name: value for name, value in arrays("served.npz").items() if name != "images"}
    assert set(said) == set(known)
    for name, value in known.items():
        if value.dtype.kind == "U":
            assert said[name].astype("U").tolist() == value.tolist()
        else:
            close(said[name], value)


def test_an_export_answers_as_before():
    import tensorflow as tf

    check_answers(answers(tf.saved_model.load(str(FIXTURES / "served/finetuned/1")).signatures))


def test_the_server_takes_an_export_of_before(copied):
    # No public name leads to what loads a version.
    from nasnet_keras.serving.servable import Servable

    folder, known = copied("served"), arrays("served.npz")
    servable = Servable(folder / "served/finetuned/1")
    rows = [{"image": image} for image in known["images"]]
    outputs = servable.runs["serving_default"](rows)
    close(np.stack([batch["probabilities"][index] for batch, index in outputs]), known["image/probabilities"])
    assert servable.version == 1 and set(servable.metadata) >= {"serving_default", "image_bytes"}


def test_a_fresh_export_gives_the_same_probabilities(tmp_path):
    import tensorflow as tf

    model = load_model(FIXTURES / "finetuned")
    version = export_saved_model(model, tmp_path / "finetuned", image_dtype="uint8")
    check_answers(answers(tf.saved_model.load(str(version)).signatures))
