"""Weight files of keras.applications and timm: every tensor in its place, equal outputs, clear refusals."""

import json
import re
import shutil
import sys

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications.nasnet import NASNet as PeerNASNet  # of any size; only Mobile and Large are public
from keras.src.legacy.saving import legacy_h5_format

from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.models.network import NASNet
from nasnet_keras.weights import foreign
from nasnet_keras.weights.foreign import load_keras_applications_weights, load_timm_weights
from nasnet_keras.weights.loading import load as load_any_weights
from nasnet_keras.weights.slim import load_slim_weights, slim_variables

CLASSES = 7
TOLERANCE = 1e-5


def randomised(model, rng):
    """The model with statistics that no batch norm has by chance, and a bias in the classifier."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.5, 1.5, shape))
            layer.beta.assign(rng.normal(0, 0.2, shape))
            layer.moving_mean.assign(rng.normal(0, 0.2, shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, shape))
        elif isinstance(layer, keras.layers.Dense):
            layer.bias.assign(rng.normal(0, 0.2, layer.bias.shape))
    return model


def peer_network(rng, size=(64, 64), repeats=1, filters=8, stem=8, skip=False, top=True):
    network = PeerNASNet(
        input_shape=(*size, 3),
        penultimate_filters=24 * filters,
        num_blocks=repeats,
        stem_block_filters=stem,
        skip_reduction=skip,
        include_top=top,
        weights=None,
        classes=CLASSES,
        classifier_activation=None,
    )
    return randomised(network, rng)


def network(size=(64, 64), repeats=1, filters=8, stem=8, skip=False, top=True, pooling="keras", **options):
    options = {"classes": CLASSES, "classifier_activation": None, "skip_reduction": skip, **options}
    return NASNet(
        repeats=repeats,
        filters=filters,
        stem_filters=stem,
        input_shape=(*size, 3),
        include_top=top,
        pooling_compatibility=pooling,
        **options,
    )


def saved(model, path, group=None):
    """The model's weights in the format of the released files; in a whole model's file they lie in a group."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file.create_group(group) if group else file, model)
    return path


def difference(ours, theirs, rng):
    """Largest difference relative to the largest magnitude, after checking that the comparison means something."""
    images = rng.uniform(-1, 1, (2, *theirs.input_shape[1:])).astype("float32")
    got, expected = np.asarray(ours(images)), np.asarray(theirs(images))
    assert got.shape == expected.shape
    assert np.isfinite(expected).all() and expected.std() > 1e-3 * np.abs(expected).max() > 0
    assert not np.allclose(expected[0], expected[1], rtol=1e-3)
    return np.abs(got - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="module")
def peer():
    return peer_network(np.random.default_rng(1))


@pytest.fixture(scope="module")
def peer_file(peer, tmp_path_factory):
    return saved(peer, tmp_path_factory.mktemp("weights") / "peer.h5")


@pytest.fixture(scope="module")
def small():
    return network()


@pytest.fixture
def file(peer_file, tmp_path):
    """A copy of the file that a test may spoil."""
    return shutil.copy(peer_file, tmp_path / "peer.h5")


def test_outputs_equal_those_of_keras_applications(peer, peer_file, small, rng):
    load_keras_applications_weights(small, peer_file)
    assert difference(small, peer, rng) < TOLERANCE
    features = keras.Model(peer.input, peer.layers[-3].output)
    assert difference(keras.Model(small.input, small.get_layer("activation").output), features, rng) < TOLERANCE


@pytest.mark.long
def test_other_numbers_wiring_and_size_without_top(rng, tmp_path):
    options = {"repeats": 2, "filters": 8, "stem": 12, "skip": True, "size": (65, 97), "top": False}
    peer = peer_network(rng, **options)
    ours = network(**options)
    load_keras_applications_weights(ours, saved(peer, tmp_path / "no_top.h5", group="model_weights"))
    assert difference(ours, peer, rng) < TOLERANCE


def test_file_with_top_fills_a_network_without_of_any_size(peer, peer_file, rng):
    theirs = keras.Model(peer.input, peer.layers[-3].output)
    ours = network(size=(None, None), top=False, pooling=None)
    load_keras_applications_weights(ours, peer_file)
    # Equal weights, but the borders are pooled rightly.
    assert difference(ours, theirs, rng) > 1e-3
    np.testing.assert_array_equal(sorted(map(np.sum, ours.get_weights())), sorted(map(np.sum, theirs.get_weights())))


@pytest.mark.long
def test_mobile(rng, tmp_path):
    peer = randomised(keras.applications.NASNetMobile(weights=None), rng)
    path = saved(peer, tmp_path / "mobile.h5")
    with h5py.File(path) as file:
        assert sum(len(group.attrs["weight_names"]) > 0 for group in file.values()) == 389  # as the released file has
    options = {"size": (224, 224), "repeats": 4, "filters": 44, "stem": 32, "classes": 1000}
    ours = network(**options, classifier_activation="softmax")
    load_keras_applications_weights(ours, path)
    assert difference(ours, peer, rng) < TOLERANCE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"repeats": 2}, r"reduction_conv_1_reduce_1/kernel: no such weight .* and \d+ more$", marks=pytest.mark.long
        ),
        ({"classes": CLASSES - 1}, r"final_layer/FC/weights: shape \(192, 7\), not \(192, 6\)"),
        ({"repeats": (1, 2, 1)}, r"`model` must have .* three stacks of one length.*Received: 4 normal"),
        ({"auxiliary_head": True, "size": (80, 80)}, "aux/aux_logits/proj/weights: not in the file"),
    ],
)
def test_network_that_does_not_fit(peer_file, change, message):
    with pytest.raises(ValueError, match=message):
        load_keras_applications_weights(network(**change), peer_file)


def test_model_of_another_kind(peer, peer_file):
    for load in (load_keras_applications_weights, load_timm_weights):
        with pytest.raises(ValueError, match="`model` must be a NASNet"):
            load(peer, peer_file)


def set_layers(file, change):
    names = [name if isinstance(name, str) else name.decode() for name in file.attrs["layer_names"]]
    file.attrs["layer_names"] = np.array(change(names), dtype="S")


def remove_layer(file):
    set_layers(file, lambda names: [name for name in names if name != "normal_bn_1_2"])


def remove_classifier(file):
    set_layers(file, lambda names: [name for name in names if name != "predictions"])


def add_layer(file):
    set_layers(file, lambda names: [*names, "extra"])
    file.create_group("extra").attrs["weight_names"] = [b"w"]
    file["extra"]["w"] = np.zeros(3)


def remove_tensor(file):
    del file["stem_bn1/stem_bn1/gamma"]


def link_elsewhere(file):
    del file["stem_bn1/stem_bn1/gamma"]
    file["stem_bn1/stem_bn1/gamma"] = h5py.ExternalLink("/etc/hostname", "/")


def link_inside(file):
    del file["stem_bn1/stem_bn1/gamma"]
    file["stem_bn1/stem_bn1/gamma"] = h5py.SoftLink("/stem_bn1/stem_bn1/beta")


def store_outside(file):
    del file["stem_bn1/stem_bn1/gamma"]
    file["stem_bn1/stem_bn1"].create_dataset("gamma", (8,), "f4", external=[("other.bin", 0, 32)])


def store_text(file):
    del file["stem_bn1/stem_bn1/gamma"]
    file["stem_bn1/stem_bn1/gamma"] = [b"x"] * 8


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_layer, "cell_1/beginning_bn/gamma: not in the file"),
        (remove_classifier, r"no classifier: build the network with `include_top=False`"),
        (add_layer, "extra/kernel: no such weight in the network"),
        (remove_tensor, "stem_bn1/gamma: not in the file"),
        (link_elsewhere, "stem_bn1/gamma: not in the file"),
        (link_inside, "stem_bn1/gamma: not in the file"),
        (store_outside, "must hold numbers in the file itself"),
        (store_text, "must hold numbers in the file itself"),
    ],
)
def test_spoilt_file_leaves_the_network_alone(file, small, spoil, message):
    with h5py.File(file, "r+") as stored:
        spoil(stored)
    before = [weight.copy() for weight in small.get_weights()]
    with pytest.raises(ValueError, match=message):
        load_keras_applications_weights(small, file)
    for one, other in zip(before, small.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layer_names_in_pieces(file, peer, small, rng):
    """Keras splits an attribute above 64 KiB, as Large has it."""
    with h5py.File(file, "r+") as stored:
        names = stored.attrs["layer_names"]
        del stored.attrs["layer_names"]
        for index, part in enumerate(np.array_split(names, 3)):
            stored.attrs[f"layer_names{index}"] = part
    load_keras_applications_weights(small, file)
    assert difference(small, peer, rng) < TOLERANCE


def test_files_of_other_formats(small, peer_file, tmp_path):
    keras_3, text, short = tmp_path / "own.weights.h5", tmp_path / "text.h5", tmp_path / "short.h5"
    small.save_weights(keras_3)
    text.write_text("not HDF5\n")
    content = peer_file.read_bytes()
    for path, message in (
        (keras_3, "not a file of keras.applications, but of this package's own networks"),
        (text, "file signature not found"),
        (tmp_path / "absent.h5", "No such file"),
        (tmp_path, "file read failed"),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            load_keras_applications_weights(small, path)
        assert "\n" not in str(refused.value) and str(path) in str(refused.value)
    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        short.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"short\.h5: "):
            load_keras_applications_weights(small, short)


# timm's names and shapes, written down from its modules; N and F are free here, in timm N is 6 and F 168 (NASNet).


def batch_norm(name, channels):
    weights = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{weight}": (channels,) for weight in weights}, f"{name}.num_batches_tracked": ()}


def convolution(name, channels, filters):
    return {f"{name}.conv.weight": (filters, channels, 1, 1), **batch_norm(f"{name}.bn", filters)}


def separable(name, channels, filters, kernel):
    shapes = {}
    for turn, entering in ((1, channels), (2, filters)):
        shapes[f"{name}.separable_{turn}.depthwise_conv2d.weight"] = (entering, 1, kernel, kernel)
        shapes[f"{name}.separable_{turn}.pointwise_conv2d.weight"] = (filters, entering, 1, 1)
        shapes.update(batch_norm(f"{name}.bn_sep_{turn}", filters))
    return shapes


def reduced(name, channels, filters):
    paths = {f"{name}.path_{path}.conv.weight": (filters // 2, channels, 1, 1) for path in (1, 2)}
    return {**paths, **batch_norm(f"{name}.final_path_bn", filters)}


NASNET_KERNELS = {
    "normal": {"0_left": 5, "0_right": 3, "1_left": 5, "1_right": 3, "4_left": 3},
    "reduction": {"0_left": 5, "0_right": 7, "1_right": 7, "2_right": 5, "4_left": 3},
}
PNASNET_KERNELS = {"0_left": 5, "1_left": 7, "2_left": 5, "2_right": 3, "3_left": 3, "4_left": 3}


def timm_nasnet(repeats=6, filters=168, stem=96, classes=1000):
    """{name: shape} of `nasnetalarge`, wired as Large."""
    shapes = {"conv0.conv.weight": (stem, 3, 3, 3), **batch_norm("conv0.bn", stem)}
    layout = [("cell_stem_0", "reduction", filters // 4), ("cell_stem_1", "reduction", filters // 2)]
    for stack in range(3):
        layout += [(f"reduction_cell_{stack - 1}", "reduction", filters * 2**stack)] if stack else []
        numbers = range(stack * repeats, (stack + 1) * repeats)
        layout += [(f"cell_{number}", "normal", filters * 2**stack) for number in numbers]
    previous = current = (stem, 0)  # channels, and how often halved
    level = 0
    for name, kind, width in layout:
        shapes.update(convolution(f"{name}.conv_1x1", current[0], width))
        if name != "cell_stem_0":
            if previous[1] < current[1]:
                shapes.update(reduced(name, previous[0], width))
            elif previous[0] != width:
                shapes.update(convolution(f"{name}.conv_prev_1x1", previous[0], width))
        for place, kernel in NASNET_KERNELS[kind].items():
            raw = name == "cell_stem_0" and place.endswith("right")
            shapes.update(separable(f"{name}.comb_iter_{place}", stem if raw else width, width, kernel))
        level += kind == "reduction"
        if not name.startswith("reduction"):
            previous = current
        current = (width * (4 if kind == "reduction" else 6), level)
    return {**shapes, "last_linear.weight": (classes, 24 * filters), "last_linear.bias": (classes,)}


def timm_pnasnet(repeats=(4, 3, 3), filters=216, stem=96, classes=1000):
    """{name: shape} of `pnasnet5large`."""
    shapes = {"conv_0.conv.weight": (stem, 3, 3, 3), **batch_norm("conv_0.bn", stem)}
    layout = [("cell_stem_0", True, filters // 4), ("cell_stem_1", True, filters // 2)]
    for stack, count in enumerate(repeats):
        for index in range(count + bool(stack)):
            layout.append((f"cell_{len(layout) - 2}", bool(stack) and index == 0, filters * 2**stack))
    previous = current = (stem, 0)
    for name, strided, width in layout:
        shapes.update(convolution(f"{name}.conv_1x1", current[0], width))
        raw = name == "cell_stem_0"
        if raw:
            shapes.update(convolution(f"{name}.comb_iter_0_right", stem, width))
        elif previous[1] < current[1]:
            shapes.update(reduced(f"{name}.conv_prev_1x1", previous[0], width))
        else:
            shapes.update(convolution(f"{name}.conv_prev_1x1", previous[0], width))
        for place, kernel in PNASNET_KERNELS.items():
            channels = stem if raw and place in ("0_left", "4_left") else width
            shapes.update(separable(f"{name}.comb_iter_{place}", channels, width, kernel))
        if strided:
            shapes.update(convolution(f"{name}.comb_iter_4_right", width, width))
        previous, current = current, (width * 5, current[1] + strided)
    return {**shapes, "last_linear.weight": (classes, 20 * filters), "last_linear.bias": (classes,)}


def state_dict(shapes, rng):
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


class Tensor:
    """What a framework's tensor on a device, with a gradient, lets one do."""

    def __init__(self, value):
        self.value = value

    def detach(self):
        return self

    float = cpu = detach

    def __array__(self, dtype=None, copy=None):
        return self.value


def large(**change):
    return network(**{"skip": True, "pooling": None, "filters": 8, "stem": 6, **change})


@pytest.fixture(scope="module")
def model():
    return large()


@pytest.fixture
def timm(rng):
    return state_dict(timm_nasnet(repeats=1, filters=8, stem=6, classes=CLASSES), rng)


def test_timm_tensors_arrive_where_they_belong(model, timm):
    load_timm_weights(model, {name: Tensor(value) for name, value in timm.items()})
    weights = {name: np.asarray(variable) for name, variable in slim_variables(model).items()}
    assert len(weights) == sum("num_batches" not in name for name in timm)
    for ours, theirs, axes in (
        ("conv0/weights", "conv0.conv.weight", (2, 3, 1, 0)),
        ("conv0_bn/gamma", "conv0.bn.weight", None),
        ("conv0_bn/beta", "conv0.bn.bias", None),
        ("conv0_bn/moving_mean", "conv0.bn.running_mean", None),
        ("conv0_bn/moving_variance", "conv0.bn.running_var", None),
        ("cell_stem_0/1x1/weights", "cell_stem_0.conv_1x1.conv.weight", (2, 3, 1, 0)),
        ("cell_stem_1/path1_conv/weights", "cell_stem_1.path_1.conv.weight", (2, 3, 1, 0)),
        ("cell_0/path2_conv/weights", "cell_0.path_2.conv.weight", (2, 3, 1, 0)),
        ("cell_0/final_path_bn/gamma", "cell_0.final_path_bn.weight", None),
        ("cell_0/beginning_bn/beta", "cell_0.conv_1x1.bn.bias", None),
        ("reduction_cell_1/prev_1x1/weights", "reduction_cell_1.conv_prev_1x1.conv.weight", (2, 3, 1, 0)),
        ("reduction_cell_1/prev_bn/beta", "reduction_cell_1.conv_prev_1x1.bn.bias", None),
        (
            "reduction_cell_1/comb_iter_1/right/separable_7x7_2/depthwise_weights",
            "reduction_cell_1.comb_iter_1_right.separable_2.depthwise_conv2d.weight",
            (2, 3, 0, 1),
        ),
        (
            "cell_2/comb_iter_4/left/separable_3x3_1/pointwise_weights",
            "cell_2.comb_iter_4_left.separable_1.pointwise_conv2d.weight",
            (2, 3, 1, 0),
        ),
        (
            "cell_1/comb_iter_1/right/bn_sep_3x3_2/moving_mean",
            "cell_1.comb_iter_1_right.bn_sep_2.running_mean",
            None,
        ),
        ("final_layer/FC/weights", "last_linear.weight", (1, 0)),
        ("final_layer/FC/biases", "last_linear.bias", None),
    ):
        np.testing.assert_array_equal(weights[ours], timm[theirs].transpose(axes), err_msg=ours)


def test_timm_pnasnet(rng):
    stored = state_dict(timm_pnasnet(repeats=(2, 1, 1), filters=8, stem=6, classes=CLASSES), rng)
    model = network(genotype="pnasnet_5", repeats=(2, 1, 1), filters=8, stem=6, pooling=None)
    load_timm_weights(model, stored)
    weights = {name: np.asarray(variable) for name, variable in slim_variables(model).items()}
    for ours, theirs in (
        ("cell_2/path1_conv/weights", None),
        ("cell_2/comb_iter_4/right/1x1/weights", "cell_2.comb_iter_4_right.conv.weight"),
        ("cell_3/path1_conv/weights", "cell_3.conv_prev_1x1.path_1.conv.weight"),
        ("cell_stem_0/comb_iter_0/right/1x1/weights", "cell_stem_0.comb_iter_0_right.conv.weight"),
    ):
        if theirs is None:
            assert ours not in weights
        else:
            np.testing.assert_array_equal(weights[ours], stored[theirs].transpose(2, 3, 1, 0))


OTHER_WIRINGS = {"skip_reduction": False, "batch_norm_epsilon": 1e-5, "bounded_activations": True}
OTHER_WIRINGS |= {"genotype": "in its inputs alone"}


def with_other_inputs(genotype):
    """As a genotype, but that one block of the Normal cell reads its states the other way round."""
    data = load_genotype(genotype).to_dict()
    block = next(one for one in data["normal"]["blocks"] if sorted(one["inputs"]) == [0, 1])
    block["inputs"].reverse()
    return Genotype.from_dict(data)


@pytest.mark.parametrize("name", OTHER_WIRINGS)
def test_timm_weights_are_for_their_own_wiring(name, tmp_path):
    """Names and shapes are the same, where there are two Normal cells a stack."""
    change = {name: with_other_inputs("nasnet_a") if name == "genotype" else OTHER_WIRINGS[name]}
    shapes = timm_nasnet(repeats=2, filters=8, stem=6, classes=CLASSES)
    stored = {key: np.zeros(shape or (1,), "float32") for key, shape in shapes.items()}
    model = large(repeats=2, size=(32, 32), **change)
    path = write_safetensors(tmp_path / "timm.safetensors", stored)
    for load in (lambda: load_timm_weights(model, stored), lambda: load_any_weights(model, path)):
        with pytest.raises(
            ValueError, match=f"`weights` do not fit the network: `{name}` must be that which they were"
        ):
            load()


def test_timm_weights_are_for_their_own_stem_and_pnasnet_does_not_skip():
    cifar = NASNet("nasnet_a", repeats=1, filters=2, stem="cifar", input_shape=(8, 8, 3))
    with pytest.raises(ValueError, match="`stem` must be that which they were trained with, imagenet. Received: cifar"):
        load_timm_weights(cifar, {})
    pnasnet = network(genotype="pnasnet_5", repeats=1, filters=8, stem=6, size=(32, 32), skip=True)
    with pytest.raises(ValueError, match="`skip_reduction` must be that which they were trained with, False"):
        load_timm_weights(pnasnet, {})


@pytest.mark.parametrize("change", [{"batch_norm_epsilon": 1e-5}, {"bounded_activations": True}])
def test_files_of_keras_applications_are_for_their_own_wiring(peer_file, change):
    (name,) = change
    with pytest.raises(ValueError, match=f"peer.h5: `weights` do not fit the network: `{name}` must be that which"):
        load_keras_applications_weights(network(**change), peer_file)


def test_released_sizes_of_keras_applications_tell_how_they_are_wired(peer_file, small, monkeypatch):
    size = {"repeats": 1, "filters": 8, "stem_filters": 8}
    for name, skips, wrong in (("NASNetMobile", False, network(skip=True)), ("NASNetLarge", True, small)):
        before = wrong.get_weights()
        with monkeypatch.context() as patch:
            patch.setitem(foreign.RELEASED, name, {**foreign.RELEASED[name], **size})
            rule = f"`skip_reduction` must be that which they were trained with, {skips}. Received: {not skips}"
            with pytest.raises(ValueError, match=f"peer.h5: `weights` do not fit the network: {rule}"):
                load_keras_applications_weights(wrong, peer_file)
            if wrong is not small:
                load_keras_applications_weights(small, peer_file)
        for one, other in zip(before, wrong.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    load_keras_applications_weights(small, peer_file)  # of another size it may be either


def test_timm_head_may_be_absent_in_the_network_not_in_the_file(model, timm):
    without = {name: value for name, value in timm.items() if "last_linear" not in name}
    body = large(top=False)
    load_timm_weights(body, timm)
    load_timm_weights(body, without)
    with pytest.raises(ValueError, match="no classifier"):
        load_timm_weights(model, without)


def test_timm_names_that_do_not_fit(model, timm):
    before = model.get_weights()
    bias = timm.pop("cell_1.conv_1x1.bn.bias")
    with pytest.raises(ValueError, match=r"^the weights do not fit the network: cell_1/beginning_bn/beta: not in"):
        load_timm_weights(model, timm)
    with pytest.raises(ValueError, match=r"cell_9\.conv_1x1\.bn\.bias: no such weight"):
        load_timm_weights(model, {**timm, "cell_1.conv_1x1.bn.bias": bias, "cell_9.conv_1x1.bn.bias": bias})
    few = {name: value for name, value in timm.items() if not name.startswith("cell_")}
    with pytest.raises(ValueError) as refused:
        load_timm_weights(model, few)
    assert str(refused.value).count("not in the file") == 10 and re.search(r"… and \d+ more$", str(refused.value))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_1001_classes_have_a_background(timm, rng):
    biases = []
    thousand = large(classes=1000)
    for classes in (1001, 1000):
        timm["last_linear.weight"] = rng.normal(size=(classes, 192)).astype("float32")
        timm["last_linear.bias"] = np.arange(classes, dtype="float32")
        load_timm_weights(thousand, timm)
        biases.append(np.asarray(thousand.get_layer("logits").bias))
    np.testing.assert_array_equal(biases[0], np.arange(1, 1001))
    np.testing.assert_array_equal(biases[1], np.arange(1000))
    with pytest.raises(ValueError, match=r"final_layer/FC/biases: shape \(1000,\), not \(999,\)"):
        load_timm_weights(large(classes=999), timm)


def write_safetensors(path, tensors, kind="F32", spoil=lambda header: None):
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, value in tensors.items():
        part = (value.view("<u4") >> 16).astype("<u2").tobytes() if kind == "BF16" else value.tobytes()
        header[name] = {"dtype": kind, "shape": value.shape, "data_offsets": [len(content), len(content) + len(part)]}
        content += part
    spoil(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


@pytest.mark.parametrize("kind", ["F32", "BF16", "npz"])
def test_timm_files(model, timm, tmp_path, kind):
    timm = {f"module.{name}": np.atleast_1d(value) for name, value in timm.items()}
    if kind == "npz":
        path = tmp_path / "timm.npz"
        np.savez(path, **timm)
    else:
        path = write_safetensors(tmp_path / "timm.safetensors", timm, kind)
    load_timm_weights(model, path)
    got = np.asarray(model.get_layer("logits").kernel)
    expected = timm["module.last_linear.weight"].T
    np.testing.assert_allclose(got, expected, rtol=2**-7 if kind == "BF16" else 0)
    assert kind != "BF16" or not np.array_equal(got, expected)


def test_timm_files_that_cannot_be_read(model, timm, tmp_path, monkeypatch):
    path = tmp_path / "timm.safetensors"

    def spoilt(**change):
        return lambda header: header["conv0.conv.weight"].update(change)

    for spoil, message in (
        (spoilt(data_offsets=[0, 8]), "'conv0.conv.weight': not in the file"),
        (spoilt(data_offsets=[-648, 0]), "has no shape and place"),
        (spoilt(data_offsets=[2**60, 2**60 + 648]), "'conv0.conv.weight': not in the file"),
        (spoilt(dtype="F8"), "dtype must be one of"),
        (spoilt(shape=[6, 27]), r"conv0/weights: shape \(27, 6\), not \(3, 3, 3, 6\)"),
        (lambda header: header.update(extra=1), "'extra' has no shape and place"),
        (spoilt(shape=[-27, -6]), "has no shape and place"),
        (lambda header: header["conv0.conv.weight"].pop("data_offsets"), "has no shape and place"),
        (spoilt(dtype=["F32"]), "dtype must be one of"),
    ):
        write_safetensors(path, timm, spoil=spoil)
        with pytest.raises(ValueError, match=message) as refused:
            load_timm_weights(model, path)
        assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    content = write_safetensors(path, timm).read_bytes()
    path.write_bytes((20_000).to_bytes(8, "little") + b"[" * 20_000)
    with pytest.raises(ValueError, match="its header is no JSON object"):
        load_timm_weights(model, path)
    for length in (0, 5, 1000, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"timm\.safetensors: "):
            load_timm_weights(model, path)

    # Without PyTorch one line says what else to do.
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"\.pth needs PyTorch; without it, save .* \.safetensors"):
        load_timm_weights(model, tmp_path / "timm.pth")
    with pytest.raises(ValueError, match=r"must be a mapping, or a \.safetensors"):
        load_timm_weights(model, tmp_path / "timm.txt")


def test_archives(model, tmp_path):
    """`.npz` files of both kinds of names; nothing in them is run."""
    path = tmp_path / "slim.npz"
    stored = {name: np.asarray(variable) + 1 for name, variable in slim_variables(model).items()}
    np.savez(path, **stored)
    load_slim_weights(model, path)
    np.testing.assert_array_equal(np.asarray(slim_variables(model)["conv0/weights"]), stored["conv0/weights"])

    np.savez(path, **{**stored, "conv0/weights": np.array([{}], dtype=object)})
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"\x93NUMPY nothing")
    for load in (load_slim_weights, load_timm_weights):
        for broken in (path, bad):
            with pytest.raises(ValueError, match=r"not a \.npz file of plain arrays, or damaged"):
                load(model, broken)
        with pytest.raises(ValueError, match="No such file"):
            load(model, tmp_path / "absent.npz")
