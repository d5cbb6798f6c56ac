"""Fine-tuned networks of keras.applications, in every format and under heads of somebody's own."""

import logging
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications.nasnet import NASNet as PeerNASNet  # of any size; only Mobile and Large are public

from nasnet_keras import NASNet, NASNetMobile, load_model
from nasnet_keras.training.transfer import load_source
from nasnet_keras.weights.foreign import load_keras_applications_weights
from nasnet_keras.weights.loading import load

SIZE = {"repeats": 1, "filters": 4, "stem_filters": 4}
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


@pytest.fixture(scope="module")
def peer():
    network = PeerNASNet((32, 32, 3), 96, 1, 4, skip_reduction=False, include_top=False, weights=None)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, layer.gamma.shape) for _ in range(4)])
    return network


def sequential(peer):
    return keras.Sequential([keras.Input((32, 32, 3)), peer, keras.layers.Flatten(), dense()])


def on_its_output(peer):
    value = keras.layers.GlobalAveragePooling2D()(peer.output)
    return keras.Model(peer.input, dense()(keras.layers.BatchNormalization(name="own_norm")(value)))


def nested_twice(peer):
    image = keras.Input((32, 32, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    return keras.Model(image, sequential(peer)(scaled))


def dense():
    return keras.layers.Dense(3, "softmax", name="own_head")


def network(**options):
    arguments = {"input_shape": (32, 32, 3), "include_top": False, "pooling_compatibility": "keras", **SIZE, **options}
    return NASNet(**arguments)


def saved(model, path):
    (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    return path


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.mark.parametrize(
    ("build", "name"),
    [(sequential, "m.h5"), (on_its_output, "m.h5"), (nested_twice, "m.h5"), (on_its_output, "m.keras"),
     (nested_twice, "m.keras"), (sequential, "m.weights.h5")],
)  # fmt: skip
def test_the_cells_are_taken_and_the_head_is_named(build, name, model, peer, tmp_path, caplog):
    path = saved(build(peer), tmp_path / name)
    model.set_weights([np.zeros(weight.shape) for weight in model.weights])
    with caplog.at_level(logging.WARNING, "nasnet_keras"):
        load_keras_applications_weights(model, path)
    (record,) = [one for one in caplog.records if one.name.startswith("nasnet_keras")]
    left = "own_head, own_norm" if build is on_its_output else "own_head"
    assert record.getMessage() == f"{path}: its cells are taken, and what is not NASNet's is left: {left}"
    images = np.random.default_rng(1).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    expected = np.asarray(peer(images))
    assert np.isfinite(expected).all() and expected.std() > 0
    np.testing.assert_allclose(np.asarray(model(images)), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.long
def test_wherever_weights_are_named(peer, tmp_path):
    path = saved(sequential(peer), tmp_path / "m.keras")
    values = peer.get_layer("stem_conv1").get_weights()[0]
    options = {"input_shape": (32, 32, 3), **SIZE}
    model = NASNetMobile(weights=path, include_top=False, **options)
    np.testing.assert_array_equal(model.get_layer("stem").get_weights()[0], values)
    source, trained = load_source("NASNetMobile", path, **SIZE)
    np.testing.assert_array_equal(source.get_layer("stem").get_weights()[0], values)
    assert trained
    with pytest.raises(ValueError, match="it has another head, own_head: build the network with `include_top=False`"):
        NASNetMobile(weights=path, classes=3, **options)


def test_own_files_in_every_format(tmp_path):
    first, second = (NASNet("tiny", input_shape=(32, 32, 3), include_top=False, **SIZE) for _ in range(2))
    for name in ("m.h5", "m.keras", "m.weights.h5"):
        second.set_weights([np.zeros(weight.shape) for weight in second.weights])
        load(second, saved(first, tmp_path / name))
        for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def own(top=False):
    return NASNet("tiny", input_shape=(8, 8, 3), stem="cifar", repeats=1, filters=4, include_top=top, classes=5)


def in_sequential(base):
    pool = keras.layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), base, pool, dense()])


def in_two(base):
    return keras.Sequential([keras.Input((8, 8, 3)), in_sequential(base)])


def on_own_output(base):
    return keras.Model(base.input, dense()(keras.layers.GlobalAveragePooling2D()(base.output)))


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.parametrize("build", [in_sequential, on_own_output, in_two])
def test_own_cells_are_taken_out_of_a_model_around_them(build, name, tmp_path, caplog):
    base, model = own(), own()
    path = saved(build(base), tmp_path / name)
    model.set_weights([np.zeros(weight.shape) for weight in model.weights])
    load(model, path)
    for one, other in zip(base.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    if build is not on_own_output or name == "m.h5":
        assert f"{path}: its cells are taken, and what is not NASNet's is left: own_head" in caplog.messages
    with pytest.raises(ValueError, match="it has another head, own_head: build the network with `include_top=False`"):
        load(own(top=True), path)
    source, trained = load_source(own(), str(path))  # as `weights` of a fine-tuning
    assert trained
    np.testing.assert_array_equal(source.get_weights()[0], base.get_weights()[0])


def test_a_network_inside_is_tuned_and_its_weights_alone_say_the_way_out(tmp_path, caplog):
    base = own()
    whole = in_sequential(base)
    for model in (whole, str(saved(whole, tmp_path / "m.keras"))):
        caplog.clear()
        source, _ = load_source(model)
        np.testing.assert_array_equal(source.get_weights()[0], base.get_weights()[0])
        assert isinstance(source, NASNet) and "what is not NASNet's is left: own_head" in caplog.text
    with pytest.raises(ValueError, match="must be the whole model, saved as .keras or .h5: .* Received: "):
        load(own(), saved(whole, tmp_path / "m.weights.h5"))
    image = keras.Input((8, 8, 3))
    two = keras.Model(image, [own()(image), own().alike(name="other")(image)])
    with pytest.raises(ValueError, match="one NASNet inside. Received: 2"):
        load(own(), saved(two, tmp_path / "two.keras"))


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5"])
def test_a_classifier_of_one_s_own_is_left_or_taken_whole(name, tmp_path):
    first = own(top=True)
    path = saved(first, tmp_path / name)
    for model in (own(), own(top=True)):
        load(model, path)
        for one, other in zip(first.get_weights(), model.get_weights(), strict=False):
            np.testing.assert_array_equal(one, other)
    if name != "m.weights.h5":
        with pytest.raises(ValueError, match="it has no such logits: build the network with `include_top=False`"):
            load(own(top=True).alike(classes=7), path)


def behind_an_input(model):
    image = keras.Input((8, 8, 3))
    options = model.architecture.arguments() | {"input_shape": None, "input_tensor": keras.layers.Rescaling(2.0)(image)}
    return NASNet(**options)


def inside(model):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, model(keras.layers.Rescaling(2.0)(image)))


SIGMOID = {"classifier_activation": "sigmoid"}


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.parametrize("build", [lambda model: model, behind_an_input, inside])
def test_a_classifier_answers_as_the_model_that_it_is_of(build, name, tmp_path):
    first = own(top=True).alike(**SIGMOID)
    path = saved(build(first), tmp_path / name)
    says = f"`classifier_activation` must be 'sigmoid' or None with the classifier of {path}, .*`load_model` gives"
    other = own(top=True)
    before = other.get_weights()
    with pytest.raises(ValueError, match=f"{says}.* Received: 'softmax'"):
        load(other, path)
    for kept, value in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(value, kept)
    for model in (first.alike(), first.alike(classifier_activation=None), own()):
        load(model, path)
    logits = saved(first.alike(classifier_activation=None), tmp_path / f"logits_{name}")  # what they mean, it says not
    load(own(top=True), logits)
    with pytest.raises(ValueError, match="it has no such logits"):
        load(own(top=True).alike(classes=7), path)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_network_s_own_load_weights_refuses_another_answer(name, tmp_path):
    first, model = own(top=True).alike(**SIGMOID), own(top=True)
    path, before = saved(first, tmp_path / name), model.get_weights()
    for file in (path, str(path)):
        with pytest.raises(ValueError, match=f"must be 'sigmoid' or None with the classifier of {path}"):
            model.load_weights(file)
    for kept, value in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, kept)
    model.load_weights(path, skip_mismatch=True)
    others = first.alike(), first.alike(classifier_activation=None)
    for other in others:
        other.load_weights(path)
    for fitting in (model, *others):
        np.testing.assert_array_equal(fitting.get_weights()[0], first.get_weights()[0])


NAMED = {"class_names": tuple("abcde"), "thresholds": (0.1, 0.2, 0.3, 0.4, 0.5), "grey_range": (0, 1023), **SIGMOID}


def fill(model, path):
    model.load_weights(path)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.parametrize(
    ("build", "way"),
    [(lambda model: model, load), (lambda model: model, fill), (behind_an_input, load), (inside, load)],
)
def test_a_classifier_comes_with_the_names_of_its_classes(build, way, name, tmp_path):
    first = own(top=True).alike(**NAMED)
    path = saved(build(first), tmp_path / name)
    turned = own(top=True).alike(**SIGMOID, class_names=tuple("bacde"))
    before = turned.get_weights()
    says = f"`class_names` must be in the order of {path}, or left out. Received: 'b' in between"
    with pytest.raises(ValueError, match=says):
        way(turned, path)
    for kept, value in zip(before, turned.get_weights(), strict=True):
        np.testing.assert_array_equal(value, kept)
    plain = own(top=True).alike(**SIGMOID)
    way(plain, path)
    assert (plain.class_names, plain.thresholds) == (NAMED["class_names"], NAMED["thresholds"])
    assert plain.grey_range == NAMED["grey_range"]
    logits = own(top=True).alike(classifier_activation=None)
    way(logits, path)
    assert logits.class_names == NAMED["class_names"] and logits.thresholds is None
    other = own(top=True).alike(**SIGMOID, class_names=tuple("vwxyz"))  # another language, say
    way(other, path)
    assert other.class_names == tuple("vwxyz")
    if way is load:
        headless = own()
        load(headless, path)
        assert headless.class_names is None


def test_a_factory_takes_files_of_every_answer(tmp_path):
    """Only the weights of the index are of networks that end in softmax."""
    options = {"input_shape": (32, 32, 3), "classes": 5, **SIZE}
    first = NASNetMobile(weights=None, **SIGMOID, **options)
    for path in (saved(first, tmp_path / "m.weights.h5"), saved(first, tmp_path / "m.keras")):
        again = NASNetMobile(weights=path, **SIGMOID, **options)
        np.testing.assert_array_equal(again.get_weights()[-1], first.get_weights()[-1])
        assert again.get_layer("predictions").activation is keras.activations.sigmoid
    with pytest.raises(ValueError, match="`classifier_activation` must be 'sigmoid' or None"):
        NASNetMobile(weights=path, **options)


@pytest.mark.long
def test_a_classifier_of_keras_applications_answers_as_it_did(tmp_path):
    top = {"include_top": True, "classes": 5, "weights": None}
    whole = PeerNASNet((32, 32, 3), 96, 1, 4, skip_reduction=False, classifier_activation="sigmoid", **top)
    options = {"input_shape": (32, 32, 3), "classes": 5, **SIZE}
    path = saved(whole, tmp_path / "m.keras")
    NASNetMobile(weights=path, **SIGMOID, **options)
    with pytest.raises(ValueError, match="`classifier_activation` must be 'sigmoid' or None"):
        NASNetMobile(weights=path, **options)


def test_files_that_say_too_little(model, peer, tmp_path):
    path = saved(sequential(peer), tmp_path / "m.weights.h5")
    with h5py.File(path, "r+") as file:  # as an earlier Keras 3 wrote them
        file.visititems(lambda _, part: part.attrs.pop("name", None) and None)
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    for file, message in (
        (path, "an older Keras wrote it, without names"),
        (tmp_path / "empty.keras", "no item named"),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            load_keras_applications_weights(model, file)
        assert "\n" not in str(refused.value) and str(file) in str(refused.value)


@pytest.mark.parametrize(
    "load",
    [
        load_model,
        lambda path: network(weights=path),
        lambda path: network(weights=path, stem_filters=5),  # what fits of it
        lambda path: network().load_weights(path),
        lambda path: network().load_weights(path, skip_mismatch=True),
        lambda path: load_source(str(path)),
        lambda path: load_source("NASNetMobile", weights=str(path)),
        lambda path: load_keras_applications_weights(network(), path),
    ],
)
@pytest.mark.parametrize("where", ["numbers", "directory"])
def test_a_bit_of_a_saved_model_has_changed(tmp_path, load, where):
    path = saved(network(), tmp_path / "model.keras")
    with zipfile.ZipFile(path) as archive:
        part, end = archive.getinfo("model.weights.h5"), archive.start_dir
    content = bytearray(path.read_bytes())
    content[part.header_offset + part.file_size // 2 if where == "numbers" else end + 1] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.keras: (it is damaged|Bad magic number)"):
        load(path)
