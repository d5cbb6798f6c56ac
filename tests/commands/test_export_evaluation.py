"""What `export --evaluate` measures a model on, what it refuses, and what is left where one of several files fails."""

import json
import shutil
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from nasnet_keras import read_image
from nasnet_keras.cli import main, parser
from nasnet_keras.commands import export as command
from nasnet_keras.commands import train
from nasnet_keras.data.loading import load_data, open_data
from nasnet_keras.data.records import mark, write_record
from nasnet_keras.export import comparison, targets
from nasnet_keras.export.comparison import Comparison, LossError
from nasnet_keras.export.saved_model import Served, export_saved_model
from nasnet_keras.export.targets import _described, _texts, export_target
from nasnet_keras.models.network import NASNet

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos"
SIZE = {"repeats": 1, "filters": 2, "stem": "cifar", "input_shape": (8, 8, 3)}


def own(units, path=None):
    """A model that names no classes."""
    ends = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(units, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 3)), *ends])
    if path:
        model.save(path)
    return model


def call(capsys, *words):
    capsys.readouterr()
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def check(*words):
    return command.check(parser().parse_args(["export", *map(str, words)]))


# --- which images ---


@pytest.mark.parametrize("change", ["added", "removed", "both"])
def test_a_folder_that_has_changed_since_is_measured_on_what_was_held_out(change, tmp_path, capsys):
    photos, net = tmp_path / "photos", tmp_path / "net"
    shutil.copytree(PHOTOS, photos)
    data = open_data(str(photos))
    write_record(net, data)
    NASNet("tiny", **SIZE, classes=2, class_names=("blue", "red")).save(net / "model.keras")
    words = ["--model", net, "--output", tmp_path / "new", "--evaluate", photos]
    before = check(*words)["labelled"]
    assert len(before.test) == len(data.test) and capsys.readouterr().err == ""
    if change != "added":
        Path(data.train.images.sources[0]).unlink()
    if change != "removed":
        shutil.copy(PHOTOS / "red" / "00.png", photos / "red" / "later.png")
    tested = check(*words)["labelled"].test.images.sources
    names = {str(Path(path).relative_to(photos)) for path in tested}
    assert not {name for name in names if mark(name) in data.record.trained}
    assert set(data.record.sides["test"]) <= names and not names & set(data.record.sides["validation"])
    err = capsys.readouterr().err
    assert f"is not as it was when {net} was trained: {len(names)} of " in err and err.count("\n") == 1


def test_of_a_folder_with_other_images_all_are_measured(tmp_path, capsys):
    net, other = tmp_path / "net", tmp_path / "other"
    write_record(net, open_data(str(PHOTOS)))
    NASNet("tiny", **SIZE, classes=2, class_names=("blue", "red")).save(net / "model.keras")
    for path in PHOTOS.glob("*/*.png"):
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other / path.parent.name / f"other-{path.name}")
    found = check("--model", net, "--output", tmp_path / "new", "--evaluate", other)["labelled"]
    assert len(found.test) == 24 and capsys.readouterr().err == ""


def test_a_model_without_a_record_may_have_seen_them_which_is_said(tmp_path, capsys):
    NASNet("tiny", **SIZE, classes=2, class_names=("blue", "red")).save(tmp_path / "model.keras")
    check("--model", tmp_path, "--output", tmp_path / "new", "--evaluate", PHOTOS)
    err = capsys.readouterr().err
    assert "images that are tested here may have been trained on there" in err and err.count("\n") == 1


# --- classes ---


def test_a_model_that_names_no_classes_is_judged_as_evaluate_does(tmp_path, capsys):
    own(3, tmp_path / "three.keras")
    words = ["--model", tmp_path / "three.keras", "--output", tmp_path / "new", "--evaluate", PHOTOS]
    code, out, err = call(capsys, "export", *words, "--max-drop", 1)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "`evaluate` must have the model's 3 classes. Received: 2" in err and not (tmp_path / "new").exists()
    data = load_data(str(PHOTOS), image_size=8, validation=0)
    command._compared(own(2), data, (8, 8), None, called="two.keras")
    assert "two.keras does not name its classes: they are taken to be, in this order, blue, red" in (
        capsys.readouterr().err
    )
    grey = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    with pytest.raises(ValueError, match="`model` must take images of 3 channels"):
        command._compared(grey, data, (8, 8), None)


# --- tables ---


def test_columns_are_those_of_whichever_data_are_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "check_installed", lambda *_: None)
    NASNet("tiny", **SIZE, classes=2, class_names=("blue", "red")).save(tmp_path / "net.keras")
    rows = [f"{path},{path.parent.name}" for path in sorted(PHOTOS.glob("*/*.png"))]
    (tmp_path / "a.csv").write_text("\n".join(["file,what,label", *(f"{row},x" for row in rows)]))
    common = ["--model", tmp_path / "net.keras", "--output", tmp_path / "new"]
    columns = ["--label-column", "what", "--outside"]
    litert = ["--format", "litert", "--calibration"]
    for evaluated, typical in ((tmp_path / "a.csv", PHOTOS), (PHOTOS, tmp_path / "a.csv")):
        found = check(*common, *litert, typical, "--evaluate", evaluated, *columns)
        assert found["labelled"].class_names == ("blue", "red") and len(found["labelled"].test) == 24
        assert len(found["calibration"].train) == 24
    count = len(list((PHOTOS / "red").iterdir()))
    for folder in (PHOTOS / "red", shutil.copytree(PHOTOS / "red", tmp_path / "one" / "red").parent):
        assert len(check(*common, *litert, folder)["calibration"].train) == count
    shutil.copytree(PHOTOS / "blue", tmp_path / "loose" / ".thumbnails")
    for path in (PHOTOS / "red").iterdir():
        shutil.copy(path, tmp_path / "loose")
    assert len(check(*common, *litert, tmp_path / "loose")["calibration"].train) == count
    (tmp_path / "empty").mkdir()
    code, _, err = call(capsys, "export", *common, *litert, tmp_path / "empty")
    assert code == 2 and "`calibration` must be a folder with images below it" in err
    for words in ([], ["--evaluate", PHOTOS], [*litert, PHOTOS, "--evaluate", PHOTOS]):
        code, _, err = call(capsys, "export", *common, *words, *columns)
        assert code == 2 and err.count("\n") == 1
        assert "`label_column` means nothing without a table for `evaluate` or `calibration`" in err


def test_calibration_needs_no_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "check_installed", lambda *_: None)
    NASNet("tiny", **SIZE, classes=2, class_names=("blue", "red")).save(tmp_path / "net.keras")
    paths = sorted(map(str, PHOTOS.glob("*/*.png")))
    words = ["--model", tmp_path / "net.keras", "--output", tmp_path / "new", "--format", "litert", "--outside"]
    parts = ["train"] * 20 + ["test"] * 4
    for number, lines in enumerate((
        ["image", *paths],
        ["image,split", *map(",".join, zip(paths, parts, strict=True))],
        ["image,label", *(f"{path},one" for path in paths)],
        ["image,label", *(f"{path},{label}" for path in paths for label in "ab")],
    )):  # fmt: skip
        (tmp_path / f"{number}.csv").write_text("\n".join(lines))
        found = check(*words, "--calibration", tmp_path / f"{number}.csv")["calibration"]
        assert sorted(found.train.images.sources) == (paths[:20] if number == 1 else paths)
    with pytest.raises(ValueError, match="`label_column` must be one of image"):
        check(*words, "--calibration", tmp_path / "0.csv", "--label-column", "what")
    # The same option is for the labels of the other table.
    (tmp_path / "test.csv").write_text(
        "\n".join(["image,species", *(f"{path},{Path(path).parent.name}" for path in paths)])
    )
    both = ["--evaluate", tmp_path / "test.csv", "--label-column", "species"]
    assert len(check(*words, "--calibration", tmp_path / "0.csv", *both)["calibration"].train) == len(paths)
    (tmp_path / "none.csv").write_text("what\n1\n")
    with pytest.raises(ValueError, match="`file_column` must be given"):
        check(*words, "--calibration", tmp_path / "none.csv")


def test_calibration_of_one_channel(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "check_installed", lambda *_: None)
    grey = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    keras.Sequential(grey).save(tmp_path / "grey.keras")
    seen = []

    def write(options, model, folder, settings, images):
        seen.append(images)
        raise RuntimeError("enough")

    monkeypatch.setattr(command, "_write", write)
    words = ["--model", tmp_path / "grey.keras", "--output", tmp_path / "new", "--format", "litert"]
    assert call(capsys, "export", *words, "--calibration", PHOTOS)[2].endswith("enough\n")
    path = check(*words, "--calibration", PHOTOS)["calibration"].train.images.sources[0]
    assert seen[0].shape == (24, 8, 8, 1) and seen[0].dtype == np.uint8
    np.testing.assert_array_equal(seen[0][0], read_image(path, 8, channels=1))


# --- losses and times ---


def test_of_several_labels_the_figure_has_its_own_name(tmp_path, capsys):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["file,label", *(f"{file},{file.parent.name}|photo" for file in PHOTOS.glob("*/*.png"))]))
    data = load_data(str(path), image_size=8, validation=0, separator="|", outside=True)
    ends = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="sigmoid")]
    model = keras.Sequential([keras.Input((8, 8, 3)), *ends])
    model.class_names = data.class_names
    found = command._compared(model, data, (8, 8), None)
    found.add("a file", lambda pixels: np.tile(np.float32([0.2, 0.3, 0.4]), (len(pixels), 1)))
    own, other = found.rows
    assert other["mean_average_precision"] < own["mean_average_precision"] and "accuracy" not in own
    assert found.notes == [] or "points of mean average precision" in found.notes[0]
    command._print(found)
    command._draw(found, tmp_path)
    assert "accuracy" not in capsys.readouterr().out.lower()
    assert "Mean average precision on" in (tmp_path / "evaluation.svg").read_text()
    strict = command._compared(model, data, (8, 8), 0.0)
    with pytest.raises(LossError, match="points of .*% mean average precision, so"):
        strict.add("a file", lambda pixels: np.tile(np.float32([0.2, 0.3, 0.4]), (len(pixels), 1)))


def evaluation(accuracies, most, batch=1):
    """An evaluation of a model of the first accuracy, and of files of the others."""
    left = iter(accuracies)
    images = np.zeros((3, 2, 2, 3), "uint8")
    found = Comparison(images, np.arange(3), lambda _: next(left), "accuracy", "accuracy", most, batch)
    found.begin(None, lambda: None)
    return found


def run(pixels):
    return np.zeros((len(pixels), 2), "float32")


def test_a_loss_that_is_just_allowed_is_allowed():
    pairs = [(one / 100, (one - 1) / 100) for one in range(1, 101)]
    assert any(100 * (before - after) > 1 for before, after in pairs)  # as floating point has it
    for pair in pairs:
        evaluation(pair, 1.0).add("a file", run)
        (told := evaluation(pair, None)).add("a file", run)
        assert told.notes == []
    with pytest.raises(LossError, match="loses 1.01 points"):
        evaluation((0.97, 0.9599), 1.0).add("a file", run)


def test_the_time_of_one_image_is_a_batch_s_share(monkeypatch, capsys):
    seconds, sizes = count(), []
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: float(next(seconds)))
    model, data = own(2), load_data(str(PHOTOS), image_size=8, validation=0)
    monkeypatch.setattr(model, "predict_on_batch", lambda images: sizes.append(len(images)))
    found = command._compared(model, data, (8, 8), None, 4)
    found.add("a file", lambda pixels: sizes.append(len(pixels)) or run(pixels))
    assert [row["milliseconds"] for row in found.rows] == [250, 250]
    assert sizes.count(4) >= 2 * comparison.RUNS and set(sizes) <= {4, len(data.test) % comparison.BATCH}
    capsys.readouterr()
    command._print(found)
    assert "one image of 4" in capsys.readouterr().out


# --- several files ---


@pytest.fixture
def several(tmp_path, monkeypatch):
    """The command for three precisions, `fate` saying how the writing of each ends."""
    own(2, tmp_path / "own.keras")
    monkeypatch.setattr(command, "check_installed", lambda *_: None)
    fate = {}

    def write(options, model, folder, settings, images):
        settings["accept"](run)
        if settings["precision"] in fate:
            raise fate[settings["precision"]]
        (Path(folder)).mkdir(parents=True)
        (Path(folder) / "model.tflite").write_bytes(b"x" * 10)
        return Path(folder)

    monkeypatch.setattr(command, "_write", write)
    words = ["--model", tmp_path / "own.keras", "--output", tmp_path / "small", "--format", "litert", "--json"]
    words = ["export", *words, "--precision", "float32", "float16", "dynamic", "--evaluate", PHOTOS]
    return SimpleNamespace(words=words, fate=fate, folder=tmp_path / "small")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("it is too far from the network"), "it is too far from the network"),
        (Exception("no such operation\n in this runtime"), "no such operation in this runtime"),
        (OSError(28, "No space left on device", "model.tflite"), "No space left on device: model.tflite"),
    ],
)
def test_one_that_fails_leaves_the_others_and_what_was_measured(error, says, several, capsys):
    several.fate["float16"] = error
    code, out, err = call(capsys, *several.words)
    rows = json.loads(out.splitlines()[-1])["evaluation"]["files"]
    names = ["litert float32", "litert float16, not written", "litert dynamic"]
    assert code == 2 and [row["name"] for row in rows] == ["the model", *names] and "points lost" in out
    assert f"litert float16: {says}" in err.splitlines()[-1]
    written = sorted(path.name for path in several.folder.iterdir())
    assert written == ["dynamic", "evaluation.svg", "float32"]
    several.fate.clear()
    code, out, err = call(capsys, *several.words)
    assert code == 0 and (several.folder / "float16").is_dir()
    assert f"{several.folder}/float32 is there already" in err and f"{several.folder}/dynamic is there" in err
    assert len(json.loads(out.splitlines()[-1])["evaluation"]["files"]) == 2
    code, out, err = call(capsys, *several.words)
    assert (code, out) == (2, "") and "`output` must lack the folder of a precision" in err


def test_ctrl_c_leaves_what_was_measured(several, capsys):
    several.fate["dynamic"] = KeyboardInterrupt()
    code, out, err = call(capsys, *several.words)
    assert code == 130 and "litert float16" in out and (several.folder / "float16").is_dir()
    assert len(json.loads(out.splitlines()[-1])["evaluation"]["files"]) == 4
    assert err.splitlines()[-1] == f"nasnet-keras: {command.INTERRUPTED}" and "again" not in err


# --- other backends, and what files say of themselves ---


def test_every_format_needs_tensorflow_which_is_said_before_anything_is_loaded(tmp_path, monkeypatch, capsys):
    own(2, tmp_path / "own.keras")
    monkeypatch.setattr(command, "check_installed", lambda *_: None)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr("nasnet_keras.models.applications.load_model", None)
    for target in ("saved_model", "onnx", "litert", "openvino"):
        says = f"`KERAS_BACKEND` must be tensorflow.* for the format {target}. Received: 'jax'"
        with pytest.raises(ValueError, match=says):
            export_saved_model(None, tmp_path) if target == "saved_model" else export_target(None, tmp_path, target)
        words = ["--model", tmp_path / "own.keras", "--output", tmp_path / "new", "--format", target]
        code, out, err = call(capsys, "export", *words)
        assert (code, out) == (2, "") and err.count("\n") == 1 and f"for the format {target}. Received: 'jax'" in err


def test_what_a_file_says_of_itself_is_so():
    model = NASNet(
        "tiny", **SIZE, classes=2, classifier_activation="sigmoid", thresholds=(0.25, 0.75), grey_range=(0, 4095)
    )
    served = Served(model, None, 1, "float32")
    found = json.loads(json.dumps(_described(served, "nhwc", "int8")))
    assert found["thresholds"] == [0.25, 0.75] and _texts(served)["thresholds.txt"] == "0.25\n0.75\n"
    told = found["preprocessing"]
    assert (told["type"], told["values"], told["grey_range"]) == ("int8", [-128, 127], [0, 4095])
    assert told["inside"] == "image / 127.5 - 1"
    scaling = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), *own(2).layers])
    served = Served(scaling, None, 1, "float32")
    found = json.loads(json.dumps(_described(served, "nhwc", "uint8")))
    assert found["preprocessing"]["inside"] == "the model's own" and "thresholds" not in found
    assert found["preprocessing"]["values"] == [0, 255] and found["preprocessing"]["grey_range"] is None
    assert set(_texts(served)) == {"classes.txt"}


def test_a_line_of_classes_txt_is_a_class():
    served = Served(NASNet("tiny", **SIZE, classes=2, class_names=("a\nb", "c\u2028d")), None, 1, "float32")
    assert _texts(served)["classes.txt"] == "a\\nb\nc\\u2028d\n"


class ConverterError(Exception):
    """What a runtime raises."""


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            ConverterError("no such op\n<a page of it>" + "x" * 999),
            RuntimeError,
            "^litert cannot convert 'own' in float32: no such op$",
        ),
        (KeyError(), RuntimeError, "^litert cannot convert 'own' in float32: KeyError$"),
        (ConverterError("x" * 999), RuntimeError, "float32: x{300}$"),
        (ValueError("`io` is wrong"), ValueError, "^`io` is wrong$"),
        (OSError(28, "full"), OSError, "No space left"),
        (MemoryError(), MemoryError, "^$"),
    ],
)
def test_a_converter_that_fails_is_named(error, kind, says, tmp_path, monkeypatch):
    def write(*_, **__):
        raise error

    monkeypatch.setattr(targets, "check_installed", lambda *_: None)
    monkeypatch.setitem(targets.WRITERS, "litert", write)
    model = own(2)
    model.name = "own"
    with pytest.raises(kind, match=says):
        export_target(model, tmp_path / "new", "litert")
    assert list(tmp_path.iterdir()) == []


def test_a_network_for_int8_can_be_trained(tmp_path):
    for words, bounded in (([], False), (["--bounded-activations"], True)):
        words = ["train", "--genotype", "tiny", "--data", str(PHOTOS), *words, "--directory", str(tmp_path / "net")]
        assert train.check(parser().parse_args(words))["architecture"].bounded_activations is bounded
