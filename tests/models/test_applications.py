"""The factories' keras.applications manners, preprocessing and decoding, the zoo's table, the weight index."""

import hashlib
import inspect
import json
import tarfile
import urllib.request
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from described import described
from PIL import Image

import nasnet_keras
from nasnet_keras.data.splits import Split
from nasnet_keras.models import applications
from nasnet_keras.models.applications import FACTORIES, decode_predictions, preprocess_input
from nasnet_keras.training import fitting as training
from nasnet_keras.training.identity import directory_of, is_from_training, is_used, known_names, known_seed
from nasnet_keras.training.transfer import load_source
from nasnet_keras.weights import index as weight_index
from nasnet_keras.weights import loading as weights
from nasnet_keras.weights import zoo

SMALL = {"weights": None, "repeats": 1, "filters": 4, "input_shape": (32, 32, 3), "classes": 5}


@pytest.mark.parametrize("name", sorted(FACTORIES))
def test_arguments_are_those_of_keras_applications(name):
    factory = FACTORIES[name]
    model = factory(**SMALL, name="mine")
    assert model.name == "mine" and model.output_shape == (None, 5)
    body = factory(**SMALL, include_top=False)
    assert len(body.output_shape) == 4
    assert len(factory(**SMALL, include_top=False, pooling="max").output_shape) == 2
    anywhere = factory(**{**SMALL, "input_shape": (None, None, 3)}, include_top=False)
    assert anywhere.input_shape == (None, None, None, 3)
    image = keras.Input((32, 32, 3))
    assert factory(**{**SMALL, "input_shape": None}, input_tensor=image).input is image
    logits = factory(**SMALL, classifier_activation=None)
    assert logits.get_layer("predictions").activation is keras.activations.linear


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"pooling": "bad", "include_top": False}, "pooling"),
        ({"classes": 0}, "classes"),
        ({"input_shape": (16, 16, 3)}, "input_shape"),
        ({"input_shape": (32, 32)}, "input_shape"),
        ({"weights": "imagnet"}, "weights"),
        ({"weights": "no/such.h5"}, "weights"),
        ({"weights": "imagenet", "classes": 7}, "classes"),
        ({"weights": "imagenet", "classes": 1000, "classifier_activation": "relu"}, "classifier_activation"),
        ({"repeats": 0}, "repeats"),
    ],
)
def test_nonsense_is_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=f"`{named}`"):
        nasnet_keras.NASNetMobile(**{**SMALL, **arguments})


def test_without_a_network_one_line_says_where_the_file_goes(monkeypatch, tmp_path):
    def refused(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refused)
    monkeypatch.setattr(weights, "keras_home", lambda: str(tmp_path))
    with pytest.raises(ValueError, match="no network") as error:
        nasnet_keras.NASNetMobile()
    assert str(tmp_path / "models" / "NASNet-mobile.h5") in str(error.value) and "\n" not in str(error.value)


def test_weights_round_trip_through_a_file(tmp_path):
    model = nasnet_keras.NASNetCIFAR(**SMALL)
    path = tmp_path / "mine.weights.h5"
    model.save_weights(path)
    again = nasnet_keras.NASNetCIFAR(**{**SMALL, "weights": str(path)})
    for one, other in zip(model.weights, again.weights, strict=True):
        assert np.array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
    with pytest.raises(ValueError, match="does not fit"):
        nasnet_keras.NASNetCIFAR(**{**SMALL, "weights": str(path), "filters": 6})


def test_an_entry_loads_by_name(tmp_path, monkeypatch):
    model = nasnet_keras.NASNetCIFAR(**SMALL)
    model.save_weights(tmp_path / "five.weights.h5")
    entry = {
        **json.loads((weight_index.folder() / "index.json").read_text())["weights"][0],
        "name": "five",
        "weights": "five",
        "model": "NASNetCIFAR",
        "options": {"repeats": 1, "filters": 4},
        "layout": "keras",
        "outputs": 5,
        "file": "five.weights.h5",
        "url": None,
        "hash": "sha256:" + hashlib.sha256((tmp_path / "five.weights.h5").read_bytes()).hexdigest(),
    }
    (tmp_path / "index.json").write_text(json.dumps({"format": weight_index.FORMAT, "weights": [entry]}))
    monkeypatch.setattr(weight_index, "folder", lambda: tmp_path)
    again = nasnet_keras.NASNetCIFAR(weights="five", classes=5, input_shape=(32, 32, 3))
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(*(keras.ops.convert_to_numpy(net(image)) for net in (model, again)), atol=1e-6)
    (tmp_path / "five.weights.h5").write_bytes(b"broken")
    with pytest.raises(ValueError, match="sha256"):
        nasnet_keras.NASNetCIFAR(weights="five", classes=5, input_shape=(32, 32, 3))


@pytest.mark.long
def test_the_trained_network_comes_with_the_package_and_recognises_photographs(shared_data):
    model, labels, images = nasnet_keras.NASNetCIFAR(), [], []
    assert model.class_names[3] == "cat" and model.count_params() < 1_000_000
    with tarfile.open(shared_data / "cifar10-jpeg.tar.xz", "r|xz") as archive:
        for member in archive:
            part, *place = member.name.split("/")
            if part == "test" and member.isfile() and place[1] < "0050":
                labels.append(model.class_names.index(place[0]))
                images.append(np.asarray(Image.open(archive.extractfile(member))))
    figures = training.evaluate(model, Split(np.stack(images), np.array(labels)))
    promised = weight_index.find("cifar10", "NASNetCIFAR").metric["value"]
    assert figures["images"] == 500 and abs(figures["accuracy"] - promised) < 0.05
    with pytest.raises(ValueError, match="`repeats` must be 2 with the weights 'cifar10'.* Received: 4"):
        nasnet_keras.NASNetCIFAR(repeats=4)
    body = nasnet_keras.NASNetCIFAR(include_top=False)  # the same file, without the classifier
    image = preprocess_input(images[0][None])
    features = keras.Model(model.input, model.get_layer("activation").output)
    np.testing.assert_allclose(*(keras.ops.convert_to_numpy(net(image)) for net in (body, features)), atol=1e-5)


def test_preprocessing_leaves_its_argument_alone():
    for dtype in ("uint8", "float32", "float64", "int64"):
        images = np.array([[0, 127.5, 255]]).astype(dtype)
        kept = images.copy()
        result = preprocess_input(images)
        assert np.array_equal(images, kept) and images.dtype == kept.dtype
        np.testing.assert_allclose(result, images / 127.5 - 1, atol=1e-6)
        assert result.dtype == (dtype if dtype.startswith("float") else "float32")
    tensor = preprocess_input(keras.ops.convert_to_tensor([0.0, 255.0]))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(tensor), [-1, 1])


def test_decoding_needs_no_network_and_takes_names():
    scores = np.zeros((2, 1000))
    scores[0, 1], scores[0, 0], scores[1, 999] = 0.7, 0.3, 1.0
    rows = decode_predictions(scores, top=2)
    assert rows[0] == [("n01443537", "goldfish", 0.7), ("n01440764", "tench", 0.3)]
    assert rows[1][0] == ("n15075141", "toilet tissue", 1.0)
    assert decode_predictions([[0.1, 0.9]], class_names=["cat", "dog"]) == [[(1, "dog", 0.9), (0, "cat", 0.1)]]
    with pytest.raises(ValueError, match="`class_names` must be a list of names"):
        decode_predictions([[0.1, 0.9]], class_names={"cat", "dog"})
    for wrong in ({"preds": np.zeros(3)}, {"preds": np.zeros((1, 3))}, {"preds": np.zeros((1, 1000)), "top": 0}):
        with pytest.raises(ValueError, match="`"):
            decode_predictions(**wrong)
    names = zoo.IMAGENET_CLASSES.read_text().splitlines()
    assert len(names) == 1000 and names == sorted(names)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64", "bool", "float16"])
def test_scores_of_any_type_are_decoded(dtype):
    """A quantised export answers with integers: the lowest of int8 has no counterpart, and the others none below 0."""
    lowest = np.iinfo(dtype).min if "int" in dtype else 0
    scores = np.array([[0, 1, lowest], [1, 0, lowest]], dtype)
    rows = decode_predictions(scores, top=3, class_names=list("abc"))
    assert [[name for _, name, _ in row] for row in rows] == [list("bac"), list("abc")]
    assert rows[0][0] == (1, "b", 1.0)


@pytest.fixture
def namesake(tmp_path, monkeypatch):
    """A trained model's folder that is called as a factory is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "NASNetCIFAR").mkdir()
    named = {**SMALL, "class_names": tuple("abcde"), "grey_range": (0, 4095)}
    nasnet_keras.NASNetCIFAR(**named).save(tmp_path / "NASNetCIFAR" / "model.keras")
    return Path("NASNetCIFAR")


def test_a_path_is_never_a_name_of_the_zoo(namesake):
    for path in (namesake, "./NASNetCIFAR"):
        assert list(zoo.known_classes(path)) == list("abcde") and zoo.known_grey_range(path) == (0, 4095)
        assert zoo.paths_of(path) == [path]
        with pytest.raises(ValueError, match="`repeats` means nothing for a network that exists already"):
            zoo.starting_weights(path, changes={"repeats": 3})
    assert nasnet_keras.load_model(namesake).class_names == load_source(namesake)[0].class_names == tuple("abcde")
    assert load_source("NASNetCIFAR", "./NASNetCIFAR", repeats=1, filters=4)[0].architecture.repeats == (1,) * 3
    zoo.check_trained(Path("PNASNetMobile"))
    assert zoo.imagenet_names(Path("NASNetMobile"), ["tench"]) is None
    with pytest.raises(ValueError, match="`model` must be a directory .* Received: 'NASNetMobile', a path"):
        nasnet_keras.load_model(Path("NASNetMobile"))
    with pytest.raises(ValueError, match="`weights` must be None, an existing file, or one of"):
        weights.load(nasnet_keras.NASNetCIFAR(**SMALL), Path("nasnet_cifar_cifar10"))


def test_a_name_of_the_zoo_is_told_from_a_folder_that_is_called_so(namesake, monkeypatch, caplog):
    monkeypatch.setitem(FACTORIES, "NASNetCIFAR", lambda **_: nasnet_keras.NASNet(**SMALL))
    told = "NASNetCIFAR is taken for the zoo's network; the model in the folder of that name is ./NASNetCIFAR"
    for load in (nasnet_keras.load_model, load_source):
        caplog.clear()
        load("NASNetCIFAR")
        assert caplog.messages == [told]
    assert directory_of("NASNetCIFAR") is None and is_used(directory_of(namesake))
    assert not is_used(None) and not is_from_training(None)
    assert known_seed(None) is None and known_names(None) is None
    namesake.rename("PNASNetMobile")
    with pytest.raises(
        ValueError, match="Received: 'PNASNetMobile'; the model in the folder of that name is ./PNASNet"
    ):
        nasnet_keras.load_model("PNASNetMobile")
    caplog.clear()
    nasnet_keras.load_model("NASNetCIFAR")
    assert not caplog.messages


def test_pretrained_classifiers_end_in_either_way_of_saying_it(monkeypatch):
    monkeypatch.setattr(applications, "NASNet", lambda _, **arguments: arguments["classifier_activation"])
    monkeypatch.setattr(weights, "load", lambda *_: None)
    for activation in (keras.activations.softmax, "linear", keras.activations.linear, "softmax", None):
        assert nasnet_keras.NASNetCIFAR(classifier_activation=activation) is activation
    with pytest.raises(ValueError, match="`classifier_activation` must be None or 'softmax' with pretrained"):
        nasnet_keras.NASNetCIFAR(classifier_activation=keras.activations.sigmoid)
    with pytest.raises(ValueError, match="`classifier_activation` must be None for logits, the name of one of"):
        nasnet_keras.NASNetCIFAR(classifier_activation="nothing")


@pytest.mark.parametrize("name", [name for name, weights in zoo.DEFAULT_WEIGHTS.items() if weights is None])
def test_a_network_without_weights_answers_nothing(name, monkeypatch):
    monkeypatch.setitem(FACTORIES, name, lambda: pytest.fail("it was built"))
    with pytest.raises(ValueError, match=f"`model` must be a trained one, .* Received: '{name}'"):
        nasnet_keras.load_model(name)


def test_the_table_counts_what_the_factories_build(monkeypatch):
    """The program has the network's weights and multiply-adds (test_tensorflow_child.py) and takes milliseconds."""
    kept = {"repeats", "filters", "stem", "stem_filters", "skip_reduction", "input_shape", "classes"}
    monkeypatch.setattr(applications, "NASNet", lambda genotype, **arguments: {"genotype": genotype, **arguments})
    for row in zoo.list_models():
        name, arguments = row["model"].split("(", 1)
        built = FACTORIES[name](**{**eval(f"dict({arguments}"), "weights": None})
        network = {"stem": "imagenet", **{key: value for key, value in built.items() if key in kept}}
        program = described(built["genotype"], **network).program()
        trainable = sum(weight.size for weight in program.weights if weight.trainable)
        counts = (trainable, program.multiply_adds((row["image"], row["image"])))
        assert counts == (row["parameters"], row["multiply_adds"]), row["model"]
        assert built["input_shape"] == (row["image"], row["image"], 3)


def test_the_table_prints():
    table = zoo.list_models()
    assert "NASNetMobile()" in str(table) and "5,289,978" in str(table)
    assert table._repr_html_().count("<tr>") == len(table) + 1
    known = {row["model"]: row["weights"] for row in table}
    assert known["NASNetLarge()"] == ("imagenet",) and known["NASNetCIFAR(repeats=2, filters=16)"] == ("cifar10",)
    assert known["NASNetCIFAR(weights=None)"] == ()


def test_the_zoo_knows_the_default_weights():
    for name, factory in applications.FACTORIES.items():
        assert zoo.DEFAULT_WEIGHTS[name] == inspect.signature(factory).parameters["weights"].default


def test_the_classes_of_a_model_are_known_before_it_is_loaded(tmp_path):
    model = nasnet_keras.NASNetCIFAR(**SMALL, class_names=tuple("abcde"))
    model.save(tmp_path / "model.keras")
    assert list(zoo.known_classes(tmp_path)) == list("abcde") == list(zoo.known_classes(tmp_path / "model.keras"))
    assert zoo.known_classes("NASNetCIFAR")[3] == "cat" and zoo.known_classes("PNASNetMobile") is None
    nasnet_keras.NASNetCIFAR(**SMALL).save(tmp_path / "nameless.keras")
    assert zoo.known_classes(tmp_path / "nameless.keras") is None
    for content, known in (('{"config": 3}', None), ('{"config": {"class_names": [1, null]}}', None), ("[]", "error"),
                           (99999 * "[", "error"), ("{", "error")):  # fmt: skip
        with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
            for name in ("config.json", "metadata.json", "model.weights.h5"):
                archive.writestr(name, content)
        if known == "error":
            with pytest.raises(ValueError, match="cannot load .*odd.keras: its config.json must hold a JSON object"):
                zoo.known_classes(tmp_path / "odd.keras")
        else:
            assert zoo.known_classes(tmp_path / "odd.keras") is known
