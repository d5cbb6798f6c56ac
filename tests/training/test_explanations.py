"""Heat maps: where a model looked, checked against gradients that are known and against what a model was taught."""

import io
import json

import keras
import numpy as np
import pytest
from checks import computes_bfloat16
from PIL import Image

from nasnet_keras import NASNet, explain
from nasnet_keras.cli import main
from nasnet_keras.models.maps import layer_with_maps
from nasnet_keras.pictures.heat_maps import GAP, enlarged, heat_map_png
from nasnet_keras.training.explanations import Explanation

SIDE, CLASSES = 16, 3


def by_colour(*ends, dtype=None):
    """A model whose maps are the image's three colours at a quarter of its size, and whose classes are the colours."""
    pool = keras.layers.AveragePooling2D(4, name="maps", dtype=dtype)
    dense = keras.layers.Dense(CLASSES, *ends, name="dense", dtype="float32")
    model = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), keras.layers.Rescaling(1 / 255), pool,
         keras.layers.GlobalAveragePooling2D(dtype="float32"), dense]
    )  # fmt: skip
    dense.set_weights([np.array([[40.0, -9, 0], [-9, 40, 0], [0, 0, 40]]), np.zeros(3)])
    return model


def spots():
    """Red on the upper left, green on the lower right, and a little blue everywhere."""
    image = np.zeros((SIDE, SIDE, 3), "uint8")
    image[:8, :8, 0], image[8:, 8:, 1], image[..., 2] = 255, 255, 5
    return image


@pytest.mark.jax
@pytest.mark.parametrize("ends", [(), ("softmax",), ("sigmoid",)])
@pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        "mixed_float16",
        pytest.param("mixed_bfloat16", marks=pytest.mark.skipif(not computes_bfloat16(), reason="no bfloat16 here")),
    ],
)
def test_the_map_of_a_model_that_can_be_worked_out(ends, dtype):
    """Its gradient is the dense layer's kernel, also where a softmax would be flat."""
    model = by_colour(*ends, dtype=dtype)
    kernel = np.array([[40.0, -9, 0], [-9, 40, 0], [0, 0, 40]])
    maps = spots().reshape(4, 4, 4, 4, 3).mean((1, 3)) / 255
    for index in range(CLASSES):
        found = explain(model, spots(), np.int64(index))  # as `argmax` gives it
        heat = np.maximum(maps @ kernel[:, index], 0)
        expected = enlarged(heat / heat.max(), (SIDE, SIDE))
        np.testing.assert_allclose(found.heat, expected / expected.max(), atol=1e-2 if dtype != "float32" else 1e-5)
        assert found.index == index and type(found.index) is int and found.name == str(index)
    assert explain(model, spots()).score == pytest.approx(float(np.max(probabilities(model))), abs=1e-3)


def probabilities(model):
    outputs = np.asarray(model(spots()[None].astype("float32")), "float64")[0]
    ends = getattr(model.layers[-1].activation, "__name__", "")
    return np.exp(outputs) / np.exp(outputs).sum() if ends == "linear" else outputs


def test_the_model_is_left_as_it_was():
    model = by_colour("softmax")
    before = probabilities(model)
    explain(model, spots())
    assert "call" not in vars(model.layers[1]) and model.layers[-1].activation is keras.activations.softmax
    np.testing.assert_array_equal(probabilities(model), before)
    with pytest.raises(ValueError, match="`index`"):
        explain(model, spots(), 9)
    assert not any("call" in vars(layer) for layer in model.layers)


def test_every_head(tmp_path):
    size = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (24, 24, 3)}
    whole = NASNet("tiny", **size, classes=3, class_names=("a", "b", "c"), auxiliary_head=True)
    bare = NASNet(
        "tiny", **size, include_top=False, pooling="avg", dtype="mixed_bfloat16" if computes_bfloat16() else "float32"
    )
    own = keras.Sequential([bare, keras.layers.Dense(1, "sigmoid")])
    softmax = keras.Model(bare.input, keras.layers.Softmax()(keras.layers.Dense(3)(bare.output)))
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype("uint8")
    for model in (whole, own, softmax):
        found = explain(model, image)
        assert isinstance(found, Explanation) and found.heat.shape == (24, 24) and found.heat.min() >= 0
        assert found.heat.max() == pytest.approx(1) or not found.heat.any()
        assert not any("call" in vars(layer) for layer in (*model.layers, *bare.layers))
    assert explain(whole, image).name in "abc" and explain(whole, image, layer="cell_0").heat.shape == (24, 24)
    # One unit: what speaks for the one class speaks against the other.
    assert explain(own, image, 0).score == pytest.approx(1 - explain(own, image, 1).score, abs=1e-6)


def test_maps_that_a_second_head_alone_reads_do_not_count():
    """They stand last, and the answer does not follow from them: the map would be empty."""
    model = by_colour("softmax")
    place = model.get_layer("maps").output
    second = keras.layers.GlobalAveragePooling2D()(keras.layers.Concatenate(name="z_states")([place, place]))
    outputs = {"predictions": model.outputs[0], "auxiliary": keras.layers.Dense(CLASSES, "softmax")(second)}
    two = keras.Model(model.inputs, outputs)
    image = keras.Input((SIDE, SIDE, 3))
    inside = keras.Model(image, two(image))
    for whole in (two, inside):
        assert layer_with_maps(whole).name == "maps"
        np.testing.assert_allclose(explain(whole, spots()).heat, explain(model, spots()).heat, atol=1e-6)
    assert layer_with_maps(two, "z_states").name == "z_states"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "nowhere"}, "`layer` must be one of the model's with maps .* Received: 'nowhere'"),
        ({"layer": "dense"}, "`layer` must be one with maps"),
        ({"image": np.zeros((SIDE, SIDE, 3))}, "`image` must be a path, bytes, or uint8"),
        ({"index": -1}, "`index` must be None or an integer from 0 to 2"),
        ({"model": keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])}, "`model` must take images"),
    ],
)
def test_mistakes_are_one_line(change, message):
    with pytest.raises(ValueError, match=message) as refused:
        explain(**{"model": by_colour(), "image": spots(), **change})
    assert "\n" not in str(refused.value)


def test_the_picture():
    image, heat = np.full((8, 8, 3), 200, "uint8"), np.zeros((8, 8), "float32")
    heat[:4] = 1
    picture = np.asarray(Image.open(io.BytesIO(heat_map_png(image, heat))))
    assert picture.shape == (8, 16 + GAP, 3)
    np.testing.assert_array_equal(picture[:, :8], image)
    np.testing.assert_array_equal(picture[4:, 8 + GAP :], image[4:])  # cold places are the grey photograph
    assert (picture[:4, 8 + GAP :, 0] > picture[:4, 8 + GAP :, 2]).all()
    found = explain(by_colour(), spots())
    assert Image.open(io.BytesIO(found.png())).size == (2 * 224 + GAP, 224) and found._repr_png_() == found.png()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of red, green and blue images, one of which lies in the wrong class; and a model that tells colours."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for index, name in enumerate(("a_red", "b_green", "c_blue")):
        (root / "data" / name).mkdir(parents=True)
        for number in range(8):
            image = rng.integers(0, 60, (SIDE, SIDE, 3))
            image[..., (index + (number == 7 and index == 0)) % 3] += 180
            Image.fromarray(image.astype("uint8")).save(root / "data" / name / f"{number}.png")
    by_colour("softmax").save(root / "model.keras")
    return root


def test_predict_explains(photographs, tmp_path, capsys):
    names = [str(photographs / "data" / part / "0.png") for part in ("a_red", "b_green")]
    words = ["predict", "--model", str(photographs / "model.keras"), *names, "--explain", str(tmp_path / "heat")]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]
    assert [row["heat_map"] for row in rows] == [str(tmp_path / "heat" / f"{n:03d}-0.png") for n in (1, 2)]
    for row, name in zip(rows, names, strict=True):
        picture = np.asarray(Image.open(row["heat_map"]))
        expected = explain(keras.saving.load_model(photographs / "model.keras"), name).png()
        np.testing.assert_array_equal(picture, np.asarray(Image.open(io.BytesIO(expected))))
    (tmp_path / "file").write_text("")
    assert main([*words[:-1], str(tmp_path / "file")]) == 2
    assert "`explain`" in capsys.readouterr().err


def test_evaluate_shows_the_worst(photographs, tmp_path, capsys):
    words = ["evaluate", "--model", str(photographs / "model.keras"), "--data", str(photographs / "data")]
    words += ["--split", "all", "--output", str(tmp_path / "a.svg"), "--worst", str(tmp_path / "worst"), "--json"]
    assert main(words) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    (row,) = figures["worst"]
    assert row["image"] == str(photographs / "data" / "a_red" / "7.png")
    assert (row["class"], row["taken_for"]) == ("a_red", "b_green")
    page = (tmp_path / "worst" / "worst.html").read_text("utf-8")
    assert page.count("<img") == 1 and "a_red, taken for b_green" in page
    assert figures["accuracy"] == pytest.approx(23 / 24)


def test_hidden_activations_stay_what_they_are():
    """The last softmax or sigmoid counts only where the answer is its result."""
    model = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), keras.layers.Rescaling(1 / 255), keras.layers.AveragePooling2D(4, name="maps"),
         keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, "sigmoid"), keras.layers.Dense(3)]
    )  # fmt: skip
    first, last = np.diag([40.0, 4.0, 4.0]), np.array([[1.0, 0, 0], [3.0, 0, 0], [0, 0, 1]])
    model.layers[-2].set_weights([first, np.zeros(3)])
    model.layers[-1].set_weights([last, np.zeros(3)])
    maps = spots().reshape(4, 4, 4, 4, 3).mean((1, 3)) / 255
    hidden = 1 / (1 + np.exp(-maps.mean((0, 1)) @ first))
    heat = np.maximum(maps @ (first @ (hidden * (1 - hidden) * last[:, 0])), 0)
    expected = enlarged(heat / heat.max(), (SIDE, SIDE))
    np.testing.assert_allclose(explain(model, spots(), 0).heat, expected / expected.max(), atol=1e-5)
