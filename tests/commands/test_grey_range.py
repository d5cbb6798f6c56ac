"""`--grey-range`: 12-bit greys in 16-bit files from the folder to the served model."""

import json

import numpy as np
import pytest
from pixels import png, tiff

from nasnet_keras import load_model, read_image
from nasnet_keras.cli import main
from nasnet_keras.serving.servable import Servable
from nasnet_keras.weights.zoo import known_grey_range

SIZE = ["--repeats", "1", "--filters", "4", "--image-size", "8", "--batch-size", "4", "--epochs", "1"]


def greys(root, write):
    """Two classes that differ in the four bits below the high byte."""
    rng = np.random.default_rng(0)
    for name, least in (("dark", 0), ("light", 120)):
        (root / name).mkdir(parents=True)
        for index in range(10):
            (root / name / f"{index}.png").write_bytes(write(rng.integers(least, least + 100, (9, 11))))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Unsigned greys from 0 to 219."""
    return greys(tmp_path_factory.mktemp("greys"), lambda values: png(values.astype(np.uint16)[..., None], 0))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A model directory of a training with a range."""
    directory = tmp_path_factory.mktemp("model") / "net"
    words = ["train", "--genotype", "tiny", "--data", str(folder), *SIZE, "--directory", str(directory)]
    assert main([*words, "--grey-range", "0:255"]) == 0
    return directory


def call(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.long
def test_the_range_is_kept_and_used(trained, folder, tmp_path, capsys):
    model = load_model(trained)
    assert model.grey_range == known_grey_range(trained) == (0, 255)
    file = folder / "light" / "3.png"
    assert read_image(file).max() == 0
    pixels = read_image(file, (8, 8), (0, 255))
    code, out, err = call(capsys, "predict", "--model", trained, file, "--json")
    (answer,) = json.loads(out.splitlines()[-1])["predictions"]
    expected = model.predict(pixels[None] / np.float32(127.5) - 1, verbose=0)[0]
    found = {one["name"]: one["score"] for one in answer["classes"]}
    assert code == 0 and [found["dark"], found["light"]] == pytest.approx(list(expected), abs=1e-5)
    code, out, err = call(capsys, "evaluate", "--model", trained, "--data", folder, "--split", "train", "--json")
    assert code == 0 and "grey" not in err
    figures = json.loads(out.splitlines()[-1])
    assert main(["export", "--model", str(trained), "--output", str(tmp_path / "net")]) == 0
    servable = Servable(tmp_path / "net" / "1")
    assert servable.grey_range == (0, 255)
    ((outputs, index),) = servable.runs["image_bytes"]([{"image_bytes": file.read_bytes()}])
    np.testing.assert_allclose(outputs["probabilities"][index], expected, atol=1e-4)
    other = call(
        capsys,
        "evaluate",
        "--model",
        trained,
        "--data",
        folder,
        "--split",
        "train",
        "--json",
        "--grey-range",
        "0:65535",
    )
    assert json.loads(other[1].splitlines()[-1])["loss"] != figures["loss"]


@pytest.mark.long
def test_the_user_is_told_once(folder, tmp_path, capsys):
    words = ["train", "--genotype", "tiny", "--data", folder, *SIZE, "--directory", tmp_path / "net"]
    code, _, err = call(capsys, *words)
    assert code == 0 and err.count("use 1 of 256 greys: --grey-range 0:255") == 1
    assert load_model(tmp_path / "net").grey_range is None
    code, _, err = call(capsys, *words, "--grey-range", "0:255")
    assert code == 2 and "other grey range" in err  # it is another training


@pytest.mark.long
def test_greys_without_an_agreed_range(tmp_path, capsys):
    root = greys(tmp_path / "signed", lambda values: tiff((values - 100).astype(np.int16), signed=True))
    words = ["train", "--genotype", "tiny", "--data", root, *SIZE, "--directory", tmp_path / "net"]
    code, _, err = call(capsys, *words)
    assert code == 2 and "here from -100 to 119: say black and white, --grey-range LOW:HIGH" in err
    assert call(capsys, *words, "--grey-range=-100:119")[0] == 0
    code, _, err = call(capsys, "predict", "--model", tmp_path / "net", root / "dark" / "0.png")
    assert code == 0, err
    code, _, err = call(
        capsys, "finetune", "--model", tmp_path / "net", "--data", root, "--epochs", 1, "--directory", tmp_path / "b"
    )
    assert code == 0 and known_grey_range(tmp_path / "b") == (-100, 119)


@pytest.mark.parametrize("text", ["5", "5:", "5:1", "a:b", "1:2:3", "0:inf", "nan:1"])
def test_bad_ranges_are_one_line(text, folder, tmp_path, capsys):
    code, _, err = call(capsys, "train", "--data", folder, "--directory", tmp_path / "x", f"--grey-range={text}")
    assert code == 2 and "`grey_range` must be" in err and len(err.splitlines()) == 1
