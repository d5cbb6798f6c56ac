"""Commands with models of every make, sizes that are no squares, paths with a ~, and what is not there."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from checks import red_and_blue
from keras import layers
from PIL import Image

from nasnet_keras import load_data, load_genotype, load_model
from nasnet_keras.cli import main
from nasnet_keras.models.network import NASNet

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of two colours, 8 by 12 pixels."""
    root = tmp_path_factory.mktemp("photos")
    red_and_blue(root, lambda index: (8, 12))
    return root


def told_by_blue_and_red(path, *ends, scale=1.0):
    """A Keras model of its user's own that scales its images itself and knows blue, then red, by their colours."""
    dense = layers.Dense(2, name="dense")
    model = keras.Sequential(
        [keras.Input((8, 12, 3)), layers.Rescaling(1 / 255), layers.GlobalAveragePooling2D(), dense, *ends]
    )
    dense.set_weights([scale * np.array([[-9.0, 9.0], [0.0, 0.0], [9.0, -9.0]]), np.zeros(2)])
    model.save(path)
    return path


def call(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_plain_model_is_measured_by_what_it_answers(folder, tmp_path, capsys):
    """Scaled twice it would see hardly any colour, and its logits are no probabilities."""
    seen = load_data(folder).train
    red, _, blue = seen.images.reshape(len(seen), -1, 3).mean(1).T / 255
    logits = np.stack([1.8 * (blue - red), 1.8 * (red - blue)], 1)
    expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(seen)), seen.labels])
    figures = []
    for ends in ([], [layers.Softmax()]):
        file = told_by_blue_and_red(tmp_path / "own.keras", *ends, scale=0.2)
        words = ["--data", folder, "--split", "train", "--json", "--output", tmp_path / "a.svg"]
        code, out, err = call(capsys, "evaluate", "--model", file, *words)
        assert code == 0 and "they are taken to be, in this order, blue, red" in err and len(err.splitlines()) == 1
        figures.append(json.loads(out.splitlines()[-1]))
    for found in figures:
        assert found["accuracy"] == 1.0 and found["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_plain_model_names_what_it_sees_by_numbers(folder, tmp_path, capsys):
    file = told_by_blue_and_red(tmp_path / "own.keras", scale=0.1)
    code, out, _ = call(capsys, "predict", "--model", file, folder / "red" / "0.png", "--json")
    (answer,) = json.loads(out.splitlines()[-1])["predictions"]
    red, _, blue = np.asarray(Image.open(folder / "red" / "0.png")).reshape(-1, 3).mean(0) / 255
    share = 1 / (1 + np.exp(-1.8 * (red - blue)))
    assert code == 0 and [one["name"] for one in answer["classes"]] == ["1", "0"]
    assert [one["score"] for one in answer["classes"]] == pytest.approx([share, 1 - share], rel=1e-4)
    size = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3)}
    wrapped = NASNet("tiny", **size, classes=2, class_names=("a", "b"))
    keras.Sequential([keras.Input((8, 8, 3)), wrapped]).save(tmp_path / "wrapped.keras")
    code, out, _ = call(capsys, "predict", "--model", tmp_path / "wrapped.keras", folder / "red" / "0.png", "--json")
    names = {one["name"] for one in json.loads(out.splitlines()[-1])["predictions"][0]["classes"]}
    assert code == 0 and names == {"a", "b"}


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (layers.Dense(2, activation="relu", name="end"), "must end in softmax, in sigmoid, or in a linear layer"),
        (layers.Dense(3, name="end"), "must have the model's 3 classes. Received: 2"),
    ],
)
def test_what_a_model_does_not_tell_is_one_line(end, says, folder, tmp_path, capsys):
    file = told_by_blue_and_red(tmp_path / "own.keras", end)
    code, out, err = call(capsys, "evaluate", "--model", file, "--data", folder, "--output", tmp_path / "a.svg")
    assert code == 2 and out == "" and says in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.parametrize(
    ("ends", "received"),
    [
        (lambda *ends: dict(zip(("colour", "shape"), ends, strict=True)), "with the outputs colour, shape"),
        (lambda *ends: list(ends), "with 2 outputs without names"),
        (lambda *ends: list(ends[:1]), None),
        (lambda *ends: dict(zip(("auxiliary", "predictions"), ends, strict=True)), None),
    ],
)
def test_one_of_several_outputs_counts_or_it_is_one_line(ends, received, folder, tmp_path, capsys):
    image = keras.Input((8, 12, 3))
    flat = layers.Flatten()(image)
    outputs = ends(*(layers.Dense(2, activation="softmax", name=name)(flat) for name in ("one", "other")))
    keras.Model(image, outputs).save(tmp_path / "m.keras")
    for words in (
        ["predict", folder / "red" / "0.png"],
        ["evaluate", "--data", folder, "--output", tmp_path / "a.svg"],
        ["export", "--output", tmp_path / "served"],
        ["export", "--output", tmp_path / "small", "--format", "openvino"],
    ):
        if words[0] == "export" and not received:
            continue  # see tests/export/test_own_heads.py
        if "openvino" in words and not find_spec("openvino"):
            continue
        code, out, err = call(capsys, *words, "--model", tmp_path / "m.keras")
        assert code == (2 if received else 0) and (not received or (out, err.count("\n")) == ("", 1)), err
        assert not received or ("`model` must end in softmax" in err and received in err)


@pytest.mark.long
def test_sizes_that_are_no_squares_everywhere(folder, tmp_path, capsys, eager):
    size = ["--repeats", 1, "--filters", 4, "--batch-size", 8, "--epochs", 1, "--data", folder]
    code, _, err = call(
        capsys, "train", "--genotype", "tiny", *size, "--image-size", "4x6", "--directory", tmp_path / "n"
    )
    assert (code, err) == (0, "") and load_model(tmp_path / "n").input_shape == (None, 4, 6, 3)
    for words, code in ((["--image-size", "4x6"], 0), ([], 0), (["--image-size", "6x4"], 2), (["--image-size", 4], 2)):
        found, _, err = call(capsys, "evaluate", "--model", tmp_path / "n", "--data", folder, *words)
        assert found == code and (not code or "`image_size` must be left out, as the model's is (4, 6)" in err)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "PLAIN"], "`model` must be a NASNet on an input of its own"),
        (
            ["--model", "NASNetCIFAR", "--filters", "32"],
            "`filters` must be 16 with the weights 'cifar10'; with none it",
        ),
        (["--model", "NASNetCIFAR", "--weights", "None"], "must be None (`none` in fine-tuning), a file, or one of"),
        (["--model", "NASNetCIFAR", "--data", "tfds:cifar10"], "in Python prepares it there; TFDS_DATA_DIR names"),
    ],
)
def test_refusals_name_options_that_there_are(words, says, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "PLAIN" in words:
        words = ["--model", told_by_blue_and_red(tmp_path / "plain.keras")]
    data = [] if "--data" in words else ["--data", folder]
    code, out, err = call(capsys, "finetune", *words, *data, "--epochs", 1, "--directory", "mine")
    assert code == 2 and out == "" and says in err.splitlines()[-1]


@pytest.mark.parametrize("text", ["", "x", "4x", "4x6x8", "4.5", "-4", "four", "0", "0x4", "4x99999"])
@pytest.mark.parametrize("command", ["train", "search"])
def test_bad_sizes_are_one_line(text, command, tmp_path, capsys):
    try:
        code = main([command, f"--image-size={text}", "--directory", str(tmp_path / "t")])
    except SystemExit as ending:
        code = ending.code
    err = capsys.readouterr().err
    assert code == 2 and len(err.splitlines()) == 1 and "image" in err and "size" in err


@pytest.mark.long
def test_a_tilde_is_expanded_wherever_a_path_is_given(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").symlink_to(folder)
    load_genotype("tiny").save("~/mine.json")
    told_by_blue_and_red(tmp_path / "own.keras")
    assert load_genotype("~/mine.json") == load_genotype(tmp_path / "mine.json")
    assert load_data("~/photos", image_size=4).class_names == ("blue", "red")
    assert load_model("~/own.keras").output_shape == (None, 2)
    code, _, _ = call(capsys, "predict", "--model=~/own.keras", "~/photos/red/0.png")
    assert code == 0
    words = ["--repeats", 1, "--filters", 4, "--image-size", 4, "--batch-size", 8, "--epochs", 1]
    code, _, _ = call(
        capsys, "train", "--genotype=~/mine.json", "--data=~/photos", *words, "--directory=~/net", "--limit", 8
    )
    assert code == 0 and (tmp_path / "net" / "model.keras").exists() and not os.path.exists("~")
    code, _, _ = call(capsys, "evaluate", "--model=~/net", "--data=~/photos", "--output=~/new/a.svg")
    assert code == 0 and (tmp_path / "new" / "a.svg").exists()
    code, _, _ = call(capsys, "export", "--model=~/net", "--output=~/served/net")
    assert code == 0 and (tmp_path / "served" / "net" / "1").is_dir()


def test_figures_come_where_the_picture_cannot_be_written(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told_by_blue_and_red(tmp_path / "own.keras")
    (tmp_path / "own-confusion.svg").mkdir()
    code, out, err = call(capsys, "evaluate", "--model", "own.keras", "--data", folder, "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["accuracy"] == 1.0
    assert json.loads(out.splitlines()[-1])["output"] is None
    assert "the picture own-confusion.svg cannot be written: " in err.splitlines()[-1] and len(err.splitlines()) == 2


@pytest.mark.parametrize("backend", ["torch", "nonsense", "jax"])
def test_a_backend_that_is_not_there_is_one_line(backend, folder, tmp_path):
    """Whether it is installed here or not: its import fails."""
    told_by_blue_and_red(tmp_path / "own.keras")
    code = (
        f"import sys; sys.modules[{backend!r}] = None; from nasnet_keras.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["predict", "--model", tmp_path / "own.keras", folder / "red" / "0.png"]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment)
    assert ran.returncode == 2 and ran.stdout == ""
    assert ran.stderr == (
        "nasnet-keras: `KERAS_BACKEND` must be tensorflow or jax, and be installed. "
        f"Received: {backend!r}, which cannot be imported\n"
    )


@pytest.mark.long
def test_going_on_is_said_in_one_line(folder, tmp_path, capsys, eager):
    size = ["--repeats", 1, "--filters", 4, "--image-size", 4, "--batch-size", 8, "--data", folder]
    words = ["train", "--genotype", "tiny", *size, "--directory", tmp_path / "n", "--epochs"]
    for epochs, lines in ((1, 0), (2, 1), (2, 0)):
        code, _, err = call(capsys, *words, epochs)
        assert code == 0 and len(err.splitlines()) == lines
        if lines:
            assert f"goes on in {tmp_path / 'n'}: 2 epochs instead of 1, after 1 here" in err
    words = ["finetune", "--model", tmp_path / "n", "--data", folder, "--batch-size", 8, "--directory", tmp_path / "m"]
    for epochs, said in ((2, []), (3, ["3 epochs instead of 2"])):
        code, _, err = call(capsys, *words, "--patience", 0, "--epochs", epochs)
        assert code == 0 and len(err.splitlines()) == len(said) and all(text in err for text in said)
    phases = [json.loads((tmp_path / "m" / name / "history.json").read_text())["epochs"] for name in ("head", "cells")]
    assert [[line["epoch"] for line in phase] for phase in phases] == [[1], [2, 3]]


def test_a_directory_in_use_is_refused_before_a_framework_is_loaded(folder, tmp_path, capsys):
    from nasnet_keras.files import alone_in

    for words in (["train"], ["finetune", "--genotype", "tiny"]):
        with alone_in("directory", tmp_path):
            code, out, err = call(capsys, *words, "--data", folder, "--directory", tmp_path)
        assert (code, out) == (2, "") and err.startswith(f"nasnet-keras: `directory` {tmp_path} is in use")
        assert len(err.splitlines()) == 1


def test_a_model_that_nothing_is_known_of_sees_a_folder_by_todays_rule(folder, tmp_path, capsys):
    """Beside it lies no word of a training, so no earlier version can have divided anything."""
    (tmp_path / "own").mkdir()
    told_by_blue_and_red(tmp_path / "own" / "model.keras", layers.Softmax(), scale=0.2)
    shutil.copytree(folder, tmp_path / "photos")
    (tmp_path / "photos" / "red" / "inner").mkdir()
    shutil.move(tmp_path / "photos" / "red" / "0.png", tmp_path / "photos" / "red" / "inner" / "0.png")
    words = ["--data", tmp_path / "photos", "--split", "all", "--json"]
    code, out, _ = call(capsys, "evaluate", "--model", tmp_path / "own", *words)
    images = sum(1 for _ in folder.rglob("*.png"))
    assert code == 0 and json.loads(out.splitlines()[-1])["images"] == images
