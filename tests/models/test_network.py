"""Whole networks: sizes to the last weight, wiring, heads, arguments, and files."""

import inspect
import json
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from checks import array, check, check_gradients, randomize
from random_genotypes import random_genotype

from nasnet_keras.genotype import Block, CellGenotype, Genotype, list_genotypes, load_genotype
from nasnet_keras.models import answers, applications
from nasnet_keras.models.counting import multiply_adds
from nasnet_keras.models.network import NASNet
from nasnet_keras.program.architecture import Architecture
from nasnet_keras.program.program import Weight
from nasnet_keras.training.identity import network_identity
from nasnet_keras.weights.zoo import known_classes, known_grey_range

# Logits, since the softmax of a network that was not trained is 0 or 1, without gradient.
TINY = {
    "genotype": "tiny",
    "repeats": 1,
    "filters": 4,
    "stem": "cifar",
    "input_shape": (8, 8, 3),
    "classes": 3,
    "classifier_activation": None,
}
IMAGENET = {**TINY, "stem": "imagenet", "input_shape": (64, 64, 3)}


def tiny(**kwargs):
    return NASNet(**{**TINY, **kwargs})


def images(rng, height=8, width=8, count=4):
    return rng.uniform(-1, 1, (count, height, width, 3)).astype("float32")


def trainable(layer):
    return sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights)


# --- the sizes of the published networks ---

CIFAR = {"stem": "cifar", "classes": 10}
LARGE = {"repeats": 6, "filters": 168, "stem_filters": 96, "input_shape": (331, 331, 3), "skip_reduction": True}
PAPER = {"stem_filters": 96, "input_shape": (299, 299, 3)}
PNAS = {"genotype": "pnasnet_5", "skip_reduction": True}
PNAS_LARGE = {**PNAS, "repeats": (4, 3, 3), "filters": 216, "stem_filters": 96, "input_shape": (331, 331, 3)}
# trainable, all weights, multiply-adds, and those of the auxiliary head that are trained
ROWS = {
    "mobile": ({"repeats": 4, "filters": 44}, 5_289_978, 5_326_716, 563_638_816, 2_411_240),
    "large": (LARGE, 88_753_150, 88_949_818, 23_783_414_658, 4_567_784),
    "6@768": ({**CIFAR, "repeats": 6, "filters": 32}, 3_346_538, 3_383_786, 544_333_312, 1_631_498),
    "4@768": ({**CIFAR, "repeats": 4, "filters": 32}, 2_320_618, 2_347_114, 388_259_328, None),
    "2@768": ({**CIFAR, "repeats": 2, "filters": 32}, 1_294_698, 1_310_442, 232_185_344, None),
    "6@2304": ({**CIFAR, "repeats": 6, "filters": 96}, 28_213_546, 28_325_290, 4_501_903_872, None),
    "7@2304": ({**CIFAR, "repeats": 7, "filters": 96}, 32_590_954, 32_718_826, 5_151_250_944, None),
    "7@1920": ({**PAPER, "repeats": 7, "filters": 80}, 24_613_292, 24_720_484, 5_373_739_132, None),
    "5@1536": ({**PAPER, "repeats": 5, "filters": 64}, 12_263_416, 12_327_704, 2_686_417_584, None),
    "pnasnet large": (PNAS_LARGE, 86_057_668, 86_234_656, 24_937_395_792, None),
    "pnasnet mobile": ({**PNAS, "repeats": (3, 2, 2), "filters": 54}, 5_064_487, 5_098_151, 587_293_200, None),
}
# endpoint: (side, channels)
SHAPES = {
    "mobile": {"stem_cell_1": (28, 88), "cell_0": (28, 264), "cell_3": (28, 264), "reduction_cell_0": (14, 352),
               "cell_7": (14, 528), "reduction_cell_1": (7, 704), "cell_11": (7, 1056)},
    "6@768": {"stem": (32, 96), "cell_0": (32, 192), "cell_5": (32, 192), "reduction_cell_0": (16, 256),
              "cell_11": (16, 384), "reduction_cell_1": (8, 512), "cell_17": (8, 768)},
    "large": {"stem_cell_1": (42, 336), "cell_5": (42, 1008), "reduction_cell_0": (21, 1344), "cell_11": (21, 2016),
              "reduction_cell_1": (11, 2688), "cell_17": (11, 4032)},
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_published_network_has_its_size(row, monkeypatch):
    # Counting needs no random numbers, and zeros are much faster.
    monkeypatch.setattr(Weight, "initial_value", lambda self, generator: np.zeros(self.shape, "float32"))
    arguments, weights, all_weights, operations, auxiliary = ROWS[row]
    model = NASNet(**arguments, auxiliary_head=auxiliary is not None)
    head = model.get_layer("auxiliary") if auxiliary else None
    if head:
        assert trainable(head) == auxiliary
        weights, all_weights = weights + auxiliary, all_weights + head.count_params()
        operations += head.multiply_adds(head.input.shape)
    assert (trainable(model), model.count_params(), multiply_adds(model)) == (weights, all_weights, operations)
    for name, (side, channels) in SHAPES.get(row, {}).items():
        assert model.get_layer(name).output.shape == (None, side, side, channels), name


def test_multiply_adds_needs_a_known_size():
    with pytest.raises(ValueError, match="`model` must have a known image size"):
        multiply_adds(tiny(input_shape=(None, None, 3)))


def test_multiply_adds_of_layers_around_others():
    layers, net = keras.layers, tiny()
    for inner, shape in ((net, (5, 8, 8, 3)), (layers.TimeDistributed(net), (1, 5, 8, 8, 3))):
        around = keras.Sequential([keras.Input(shape), layers.TimeDistributed(inner)])
        assert multiply_adds(around) == 5 * multiply_adds(net) > 0
    plain = [layers.TimeDistributed(layers.Conv2D(7, 3)), layers.TimeDistributed(layers.Dense(2))]
    assert multiply_adds(keras.Sequential([keras.Input((5, 8, 8, 3)), *plain])) == 5 * 36 * (27 * 7 + 7 * 2)
    normed = layers.SpectralNormalization(layers.Conv2D(7, 3))
    assert multiply_adds(keras.Sequential([keras.Input((8, 8, 3)), normed])) == 36 * 27 * 7
    many = keras.Input((5, 6))
    for layer, output in ((layers.LSTM(4), "lstm"), (layers.MultiHeadAttention(2, 3), "multi_head_attention")):
        model = keras.Model(many, layer(many, many) if output != "lstm" else layer(many))
        with pytest.raises(ValueError, match=f"`model` must be of layers that .*Received: one with {output}"):
            multiply_adds(model)
    with pytest.raises(ValueError, match="`model` must be a functional Keras model"):
        multiply_adds(keras.Sequential([layers.Dense(2)]))


# --- every genotype ---


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.jax] if n == "tiny" else []) for n in list_genotypes()]
)
def test_stored_genotype_passes_every_check(name, tmp_path, rng):
    make = lambda dtype: tiny(genotype=name, repeats=(1, 1), dtype=dtype)  # noqa: E731
    check(make, images(rng), path=tmp_path / "model.keras", mixed_dtype="float32")


@pytest.mark.parametrize("name", ["nasnet_a", pytest.param("pnasnet_5", marks=pytest.mark.long)])
def test_every_weight_has_a_gradient_with_the_imagenet_stem(name, rng):
    model = NASNet(
        **{**IMAGENET, "genotype": name, "repeats": (1, 1), "filters": 16, "input_shape": (40, 32, 3)},
        skip_reduction=True,
    )
    randomize(model)
    check_gradients(model, images(rng, 40, 32))


def cell(*blocks, concat):
    return CellGenotype(tuple(Block(*block) for block in blocks), concat)


OLDER = cell(((0, 0), ("conv_3x3", "identity")), ((2, 0), ("sep_conv_3x3", "avg_pool_3x3")), concat=(3,))
NEWER = cell(((1, 1), ("conv_3x3", "identity")), ((2, 1), ("sep_conv_3x3", "max_pool_3x3")), concat=(3, 2))
PASSING_OLDER = cell(((0, 1), ("conv_3x3", "identity")), concat=(0,))
PASSING_NEWER = cell(((0, 1), ("conv_3x3", "identity")), concat=(1,))
UNUSUAL = {
    "both cells read the older state": (OLDER, OLDER),
    "both cells read the newer state": (NEWER, NEWER),
    "older in normal, newer in reduction": (OLDER, NEWER),
    "newer in normal, older in reduction": (NEWER, OLDER),
    "normal passes the older state on": (PASSING_OLDER, NEWER),
    "reduction passes the older state on": (NEWER, PASSING_OLDER),
    "normal passes the newer state on": (PASSING_NEWER, OLDER),
    "both pass the newer state on": (PASSING_NEWER, PASSING_NEWER),
}


@pytest.mark.parametrize(
    "cells",
    [pytest.param(UNUSUAL[name], id=name, marks=[pytest.mark.long] if "both" in name else []) for name in UNUSUAL],
)
def test_every_weight_of_an_unusual_wiring_has_a_gradient(cells, rng):
    model = tiny(genotype=Genotype(*cells), repeats=(2, 1))
    randomize(model)
    check_gradients(model, images(rng))
    if set(cells) <= {OLDER, NEWER}:
        # A single filter, as the first cell would have, can be dead by chance.
        further = {"genotype": Genotype(*cells), "repeats": (1, 1), "filters": 16, "input_shape": (32, 40, 3)}
        model = NASNet(**{**IMAGENET, **further})
        randomize(model)
        check_gradients(model, images(rng, 32, 40))


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(n, marks=pytest.mark.long) for n in range(5, 25))])
def test_every_weight_of_a_random_genotype_has_a_gradient(seed):
    rng = np.random.default_rng(seed)
    # Instance norm takes out what the betas before it add: those have no gradient by mathematics.
    combinations = ("add", "concat", "add_layer_norm")
    genotype = random_genotype(lambda low, high: int(rng.integers(low, high + 1)), 2, 3, combinations=combinations)
    model = tiny(genotype=genotype, repeats=(1, 1), filters=3, skip_reduction=bool(seed % 2))
    randomize(model, seed)
    check_gradients(model, images(rng))


def test_a_cell_that_nothing_reads_is_not_built():
    model = tiny(genotype=Genotype(OLDER, OLDER), repeats=(3,))
    names = [layer.name for layer in model.layers]
    assert "cell_2" in names and "cell_0" in names and "cell_1" not in names


def test_cells_with_more_than_two_inputs_hand_on_their_states(rng):
    blocks = [Block((0, 2), ("conv_1x1", "identity")), Block((1, 3), ("identity", "conv_3x3"))]
    wide = CellGenotype(tuple(blocks), (4, 3, 2), inputs=3)
    model = tiny(genotype=Genotype(wide, wide), repeats=(1, 1), auxiliary_head=True, input_shape=(10, 10, 3))
    randomize(model)
    check_gradients(model, images(rng, 10, 10))
    first, second = model.get_layer("cell_0"), model.get_layer("reduction_cell_0")
    assert [tensor.shape for tensor in first.output] == [(None, 10, 10, 4)] * 3
    assert all(given is taken for given, taken in zip(first.output, second.input, strict=True))
    assert model.get_layer("activation").input.shape == (None, 5, 5, 3 * 8)
    pyramid = tiny(genotype=Genotype(wide, wide), repeats=(1, 1), feature_pyramid=True)
    assert {name: tensor.shape for name, tensor in pyramid.output.items()} == {
        "P0": (None, 8, 8, 12), "P1": (None, 4, 4, 24)}  # fmt: skip


# --- wiring ---


def test_first_cell_takes_the_stem_twice_and_unadjusted():
    model = tiny()
    first = model.get_layer("cell_0")
    assert first.input[0] is first.input[1] is model.get_layer("stem").output
    assert first.adjust == ("raw", "project")


def test_imagenet_stem_is_a_convolution_and_two_reduction_cells():
    model = NASNet(**IMAGENET)
    stem, first, second = (model.get_layer(name) for name in ("stem", "stem_cell_0", "stem_cell_1"))
    assert stem.kind == "stem_imagenet" and stem.filters == 32
    assert (first.filters, second.filters) == (1, 2) and first.strides == second.strides == 2
    assert first.genotype == second.genotype == load_genotype("tiny").reduction
    assert (first.adjust, second.adjust) == (("raw", "project"), ("reduce", "project"))
    assert second.input[0] is stem.output and second.input[1] is first.output
    assert model.get_layer("cell_0").input[0] is first.output
    shapes = [model.get_layer(n).output.shape[1:3] for n in ("stem", "stem_cell_0", "stem_cell_1", "cell_2")]
    assert shapes == [(31, 31), (16, 16), (8, 8), (2, 2)]


@pytest.mark.parametrize("skip", [False, True])
def test_cell_after_a_reduction(skip):
    """Without skipping its h_{i-1} is the reduction's own input, with skipping the reduction's h_{i-1}."""
    model = tiny(repeats=2, skip_reduction=skip)
    reduction, after = model.get_layer("reduction_cell_0"), model.get_layer("cell_2")
    before = model.get_layer("cell_0" if skip else "cell_1")
    assert reduction.input[0] is model.get_layer("cell_0").output
    assert reduction.input[1] is model.get_layer("cell_1").output
    assert after.input[0] is before.output and after.input[1] is reduction.output
    assert (after.adjust, model.get_layer("cell_3").adjust) == (("reduce", "project"), ("match", "project"))
    assert model.get_layer("cell_3").input[0] is reduction.output


def test_filters_double_and_stacks_may_differ():
    model = tiny(repeats=(2, 1, 3, 1), filters=3)
    cells = [layer for layer in model.layers if "cell" in layer.name]
    assert [layer.name for layer in cells] == [
        "cell_0", "cell_1", "reduction_cell_0", "cell_2", "reduction_cell_1", "cell_3", "cell_4", "cell_5",
        "reduction_cell_2", "cell_6"]  # fmt: skip
    assert [layer.filters for layer in cells] == [3, 3, 6, 6, 12, 12, 12, 12, 24, 24]
    assert [layer.strides for layer in cells] == [1, 1, 2, 1, 2, 1, 1, 1, 2, 1]
    assert model.get_layer("stem").filters == 9 and tiny(stem_filters=5).get_layer("stem").filters == 5


def test_penultimate_filters_and_notation():
    by_notation = NASNet.from_notation("1@48", "tiny", stem="cifar", input_shape=(8, 8, 3))
    by_filters = NASNet("tiny", repeats=1, penultimate_filters=48, stem="cifar", input_shape=(8, 8, 3))
    for model in (by_notation, by_filters):
        assert model.get_layer("cell_2").output.shape == (None, 2, 2, 48)
        assert model.get_layer("cell_0").filters == 6
    for notation in ("6", "6@", "@768", "a@b", "6@-8", 6):
        with pytest.raises(ValueError, match="`notation` must be N@P"):
            NASNet.from_notation(notation)
    with pytest.raises(ValueError, match="`penultimate_filters` must be a multiple of 8.*Received: 50"):
        NASNet.from_notation("1@50", "tiny")


# --- images of any size ---


@pytest.mark.parametrize("genotype, skip", [("nasnet_a", True), ("tiny", False)])
def test_unknown_size_is_the_same_network(genotype, skip, rng):
    arguments = {**IMAGENET, "genotype": genotype, "skip_reduction": skip, "repeats": (1, 1)}
    flexible = NASNet(**{**arguments, "input_shape": (None, None, 3)})
    fixed = NASNet(**{**arguments, "input_shape": (65, 97, 3)})
    randomize(flexible)
    assert [(w.path, w.shape) for w in flexible.weights] == [(w.path, w.shape) for w in fixed.weights]
    fixed.set_weights(flexible.get_weights())
    x = images(rng, 65, 97, 2)
    np.testing.assert_allclose(array(flexible(x)), array(fixed(x)), rtol=1e-4, atol=1e-5)
    for side in (32, 33):
        assert np.isfinite(array(flexible(images(rng, side, side, 1)))).all()


# --- heads ---


def test_top_pooling_and_features(rng):
    x = images(rng)
    features = tiny(include_top=False)
    wanted = array(features(x))
    assert wanted.shape == (4, 2, 2, 32) and (wanted >= 0).all() and "predictions" not in features.output_names
    for pooling, result in (("avg", wanted.mean((1, 2))), ("max", wanted.max((1, 2)))):
        model = tiny(include_top=False, pooling=pooling)
        model.set_weights(features.get_weights())
        np.testing.assert_allclose(array(model(x)), result, rtol=1e-5)


def test_classifier(rng):
    x = images(rng)
    model, logits = tiny(dropout=0.5, classifier_activation="softmax"), tiny()
    logits.set_weights(model.get_weights())
    np.testing.assert_allclose(array(model(x)), array(keras.ops.softmax(logits(x))), rtol=1e-5)
    np.testing.assert_allclose(array(model(x)).sum(1), 1, rtol=1e-5)
    assert model.get_layer("dropout").rate == 0.5
    assert np.abs(array(model(x, training=True)) - array(model(x, training=True))).max() > 0
    order = [layer.name for layer in model.layers][-5:]
    assert order == ["activation", "global_pool", "dropout", "logits", "predictions"]


def test_auxiliary_head_passes_every_check(tmp_path, rng):
    make = lambda dtype: tiny(repeats=(1, 1), auxiliary_head=True, input_shape=(10, 13, 3), dtype=dtype)  # noqa: E731
    model = check(make, images(rng, 10, 13), path=tmp_path / "model.keras", mixed_dtype="float32")
    shapes = {name: output.shape for name, output in model(images(rng, 10, 13)).items()}
    assert shapes == {"auxiliary": (4, 3), "predictions": (4, 3)}
    # A 5x5 pool with stride 3 leaves 2x3, and the second convolution spans them.
    kernels = {
        w.path.removeprefix("auxiliary/"): tuple(w.shape)
        for w in model.get_layer("auxiliary").weights
        if "kernel" in w.path
    }
    assert kernels == {"project/kernel": (1, 1, 8, 128), "conv/kernel": (2, 3, 128, 768), "logits/kernel": (768, 3)}


def test_auxiliary_head_stands_before_the_last_reduction():
    model = tiny(repeats=(1, 2, 1), auxiliary_head=True, input_shape=(20, 20, 3), classifier_activation="softmax")
    head = model.get_layer("auxiliary")
    assert head.input is model.get_layer("cell_2").output is model.get_layer("reduction_cell_1").input[1]
    assert head.activation == "softmax"


@pytest.mark.parametrize("size", [(None, None), (8, 8), (20, 8)])
def test_auxiliary_head_needs_room(size):
    with pytest.raises(ValueError, match="`auxiliary_head=True` needs an `input_shape` of known size"):
        tiny(auxiliary_head=True, input_shape=(*size, 3))


def test_feature_pyramid(rng):
    model = NASNet(**{**IMAGENET, "repeats": 2}, feature_pyramid=True)
    layers = {"P1": "stem", "P2": "stem_cell_0", "P3": "cell_1", "P4": "cell_3", "P5": "cell_5"}
    assert list(model.output) == list(layers)
    for level, name in layers.items():
        assert model.output[level] is model.get_layer(name).output
    results = model(images(rng, 64, 64, 1))
    assert {level: result.shape[1] for level, result in results.items()} == {
        "P1": 31,
        "P2": 16,
        "P3": 8,
        "P4": 4,
        "P5": 2,
    }
    assert list(tiny(feature_pyramid=True).output) == ["P0", "P1", "P2"]


def test_preprocessing_inside(rng):
    inside, outside = tiny(include_preprocessing=True), tiny()
    outside.set_weights(inside.get_weights())
    x = rng.integers(0, 256, (4, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(array(inside(x)), array(outside(x / 127.5 - 1)), rtol=1e-4)


# --- the input ---


def test_default_sizes_and_gray_images():
    assert tiny(input_shape=None).input.shape == (None, 32, 32, 3)
    assert NASNet(**{**IMAGENET, "input_shape": None}).input.shape == (None, 224, 224, 3)
    assert tiny(input_shape=(8, 12, 1)).input.shape == (None, 8, 12, 1)


def test_input_tensor(tmp_path, rng):
    x, path = images(rng), tmp_path / "model.keras"
    image = keras.Input((8, 8, 3), name="photograph")
    model = tiny(input_tensor=image)
    assert model.input is image
    model.save(path)
    np.testing.assert_allclose(array(keras.saving.load_model(path)(x)), array(model(x)), rtol=1e-5)


def test_layers_before_the_input_tensor(tmp_path, rng):
    x, path = images(rng), tmp_path / "model.keras"
    image = keras.Input((8, 8, 3), name="photograph")
    model = tiny(input_tensor=keras.layers.Conv2D(3, 3, padding="same", name="before")(image))
    assert model.input is image
    plain = tiny()
    plain.set_weights(model.get_weights()[len(model.get_layer("before").weights) :])
    np.testing.assert_allclose(array(model(x)), array(plain(model.get_layer("before")(x))), rtol=1e-5)
    model.save(path)
    np.testing.assert_allclose(array(keras.saving.load_model(path)(x)), array(model(x)), rtol=1e-5)


# --- numbers ---


def test_what_keras_and_numpy_give_can_be_kept_as_json():
    model = tiny(
        classifier_activation=keras.activations.sigmoid, batch_norm_momentum=np.float32(0.5), dropout=np.float32(0.5)
    )
    assert model.architecture.classifier_activation == "sigmoid"
    assert json.dumps(network_identity(model)) == json.dumps(
        network_identity(tiny(classifier_activation="sigmoid", batch_norm_momentum=0.5, dropout=0.5))
    )
    model.thresholds = np.array([0.25, 0.5, 0.75], "float32")
    assert answers.thresholds(model).tolist() == [0.25, 0.5, 0.75] and json.dumps(model.get_config())
    model.thresholds = answers.thresholds(model)
    assert model.thresholds == (0.25, 0.5, 0.75)

    def own(x):
        return x

    assert tiny(classifier_activation=own).get_layer("predictions").activation is own


def test_mixed_precision_keeps_the_heads_in_float32(rng):
    model = tiny(repeats=(1, 1), auxiliary_head=True, input_shape=(14, 14, 3), dtype="mixed_float16")
    assert model.get_layer("cell_0").output.dtype == "float16"
    assert model.get_layer("global_pool").output.dtype == model.get_layer("logits").output.dtype == "float32"
    for training in (False, True):
        for output in model(images(rng, 14, 14), training=training).values():
            assert keras.backend.standardize_dtype(output.dtype) == "float32" and np.isfinite(array(output)).all()
    again = NASNet.from_config(model.get_config())
    assert again.get_layer("cell_0").compute_dtype == "float16" and again.get_layer("logits").compute_dtype == "float32"


def test_weight_decay_is_half_of_the_sum_of_squares():
    model = tiny(weight_decay=0.02, auxiliary_head=True, input_shape=(20, 20, 3))
    squares = [(array(weight) ** 2).sum() for weight in model.weights if weight.name.endswith("kernel")]
    assert len(model.losses) == len(squares)
    np.testing.assert_allclose(float(sum(model.losses)), 0.02 / 2 * sum(squares), rtol=1e-5)
    assert not tiny().losses


@pytest.mark.parametrize("stem, momentum, epsilon", [("cifar", 0.9, 1e-5), ("imagenet", 0.9997, 1e-3)])
def test_batch_norm_is_the_data_sets(stem, momentum, epsilon):
    def norms(**kwargs):
        model = tiny(stem=stem, repeats=(1,), input_shape=(32, 32, 3), **kwargs)
        steps = [step.primitive for layer in model.layers if hasattr(layer, "program") for step in layer.program.steps]
        return {(what.momentum, what.epsilon) for what in steps if what.kind == "norm"}

    assert norms() == {(momentum, epsilon)}
    assert norms(batch_norm_momentum=0.5, batch_norm_epsilon=0.25) == {(0.5, 0.25)}


def test_options_reach_every_cell(rng):
    x = images(rng) * 100
    model = tiny(bounded_activations=True, stem_filters=4)
    randomize(model)
    endpoints = keras.Model(model.input, [layer.output for layer in model.layers if "cell_" in layer.name])
    assert all(np.abs(array(output)).max() <= 6 for output in endpoints(x))
    compatible, right = tiny(pooling_compatibility="keras"), tiny()
    right.set_weights(compatible.get_weights())
    assert np.abs(array(compatible(x)) - array(right(x))).max() > 1e-3


# --- arguments ---

BAD = {
    "repeats": [0, -1, 1.5, True, (), (1, 0), "2", None],
    "filters": [0, 2.5, True, "4"],
    "stem": ["svhn", None],
    "stem_filters": [0, 1.5],
    "penultimate_filters": [0],
    "input_shape": [(8, 8), (0, 8, 3), (8, 8, 0), (8.0, 8, 3), 8, (8, 8, None)],
    "classes": [0, 2.0, True, None],
    "pooling": ["mean"],
    "dropout": [1, -0.1, "half"],
    "drop_path": [1, -0.1],
    "batch_norm_momentum": [1, -0.1],
    "batch_norm_epsilon": [0],
    "weight_decay": [-1],
    "pooling_compatibility": ["torch"],
    "class_names": [("cat", "dog")],
    "genotype": ["nasnet_z", 3],
    "classifier_activation": ["sofmax", 3, ("softmax",)],
}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in BAD.items() for value in values])
def test_bad_argument(name, value):
    extra = {"filters": None} if name == "penultimate_filters" else {}
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: ") as raised:
        tiny(**{**extra, name: value})
    assert type(raised.value) is ValueError


def test_arguments_that_exclude_each_other():
    with pytest.raises(ValueError, match="either `filters` or `penultimate_filters`"):
        tiny(penultimate_filters=48)
    with pytest.raises(ValueError, match="either `filters` or `penultimate_filters`"):
        tiny(filters=None)
    with pytest.raises(ValueError, match="`input_shape` must be .* from 32"):
        NASNet(**{**IMAGENET, "input_shape": (31, 64, 3)})
    with pytest.raises(ValueError, match="`filters` must be an integer from 4 with the imagenet stem"):
        NASNet(**{**IMAGENET, "filters": 3})
    for other in ({"include_top": False}, {"feature_pyramid": True}, {"repeats": (1,)}):
        with pytest.raises(ValueError, match="`auxiliary_head` must be False without"):
            tiny(auxiliary_head=True, input_shape=(20, 20, 3), **other)


# --- files ---

FRESH = """
import sys
import nasnet_keras
import keras
import numpy as np
folder = sys.argv[1]
x = np.load(folder + "/images.npy")
model = keras.saving.load_model(folder + "/model.keras")
other = type(model).from_config(model.get_config())
assert np.abs(keras.ops.convert_to_numpy(other(x)) - np.load(folder + "/scores.npy")).max() > 1e-3
other.load_weights(folder + "/model.weights.h5")
for loaded in (model, other):
    assert type(loaded) is nasnet_keras.NASNet and loaded.genotype.name == "tiny" and loaded.name == "mine"
    assert loaded.class_names == ("ant", "bee", "cat"), loaded.class_names
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loaded(x)), np.load(folder + "/scores.npy"), rtol=1e-5)
print("same")
"""


@pytest.mark.long
def test_files_in_a_fresh_process(tmp_path, rng):
    model = tiny(name="mine", drop_path=0.3, class_names=["ant", "bee", "cat"], weight_decay=1e-4)
    randomize(model)
    x = images(rng)
    np.save(tmp_path / "images.npy", x)
    np.save(tmp_path / "scores.npy", array(model(x)))
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", FRESH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.stdout == "same\n", done.stderr[-2000:]


def test_all_names_are_told_apart():
    """Endpoints, and every weight below the layer it belongs to."""
    model = NASNet(**IMAGENET)
    assert [layer.name for layer in model.layers] == [
        "image", "stem", "stem_cell_0", "stem_cell_1", "cell_0", "reduction_cell_0", "cell_1", "reduction_cell_1",
        "cell_2", "activation", "global_pool", "logits", "predictions"]  # fmt: skip
    for layer in model.layers:
        assert all(weight.path.startswith(f"{layer.name}/") for weight in layer.weights)


def test_the_value_has_the_defaults_of_the_network():
    described, built = (inspect.signature(one).parameters for one in (Architecture, NASNet))
    assert set(built) - set(described) == {"input_tensor", "weights", "dtype", "name"}
    for name in set(described) - {"genotype"}:
        assert described[name].default == built[name].default, name


def test_a_network_is_made_from_an_architecture_alone():
    with pytest.raises(ValueError, match="`architecture` must be an Architecture. Received: {}"):
        NASNet.of({})


NAMED = [
    (lambda: tiny(input_shape=(3, 32, 32)), r"`input_shape` must be .*as \(32, 32, 3\) is. Received: \(3, 32, 32\)"),
    (lambda: tiny(input_shape=[1, 8, 8]), r"`input_shape` must be .*as \(8, 8, 1\) is. Received: \(1, 8, 8\)"),
    (lambda: NASNet("nasnet_a", 4), "`NASNet` takes keywords beside `genotype`, such as `repeats`"),
    (lambda: NASNet((224, 224, 3), 1056, 4), "`NASNet` takes keywords beside `genotype`, such as `repeats`"),
    (lambda: tiny(filters=None, penultimate_filters=50), "`penultimate_filters` must be a multiple of 8"),
    (
        lambda: NASNet(**{**IMAGENET, "filters": None, "penultimate_filters": 24}),
        "`penultimate_filters` must be at least",
    ),
    (lambda: tiny(filters=4, penultimate_filters=48), "`filters` or `penultimate_filters`.*Received: both, 4 and 48"),
    (lambda: tiny(filters=None), "`filters` or `penultimate_filters`.*Received: none of them"),
    (lambda: NASNet.from_notation("0@48", "tiny"), "`notation` '0@48' is wrong: its N, as `repeats` must be"),
    (lambda: NASNet.from_notation("1@50", "tiny"), "`notation` '1@50' is wrong: its P, as `penultimate_filters`"),
    (
        lambda: applications.NASNetCIFAR(penultimate_filters=384),
        "`penultimate_filters` must be left out with `weights=",
    ),
    (lambda: applications.NASNetCIFAR(weights=None, filters=8, penultimate_filters=384), "Received: both, 8 and 384"),
    (lambda: applications.decode_predictions(np.zeros((1, 5))), "`preds` must have ImageNet's 1000 classes without"),
]


@pytest.mark.parametrize(("make", "says"), NAMED, ids=[says for _, says in NAMED])
def test_errors_name_what_the_user_gave(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_shapes_with_the_channels_last_are_taken_however_few_pixels_there_are():
    for shape in ((1, 40, 12), (4, 4, 4), (4, None, 3), (None, None, 8)):
        assert tiny(input_shape=shape).input_shape == (None, *shape)


def test_the_first_activation_on_a_network_has_a_name_of_its_own():
    keras.backend.clear_session()
    base = tiny(include_top=False, classes=1000)
    relu = keras.layers.Activation("relu")(base.output)
    whole = tiny(dropout=0.5)
    dropped = keras.layers.Dropout(0.5)(whole.output)
    for model, name in ((keras.Model(base.input, relu), "activation"), (keras.Model(whole.input, dropped), "dropout")):
        names = [layer.name for layer in model.layers]
        assert names.count(name) == 1 and names[-1].startswith(f"{name}_")


def test_names_of_classes_go_with_their_number():
    architecture = tiny(class_names=("a", "b", "c")).architecture
    assert architecture.changed(classes=3).class_names == ("a", "b", "c")
    assert architecture.changed(classes=5).class_names is None
    assert architecture.changed(classes=2, class_names=("d", "e")).class_names == ("d", "e")


def test_an_activation_that_was_changed_is_kept_in_files(tmp_path):
    """What is saved answers as the network did when it was saved."""
    model = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=3)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    for activation, name in ((None, "linear"), (keras.activations.sigmoid, "sigmoid")):
        model.get_layer("predictions").activation = activation
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert loaded.architecture.classifier_activation == name
        np.testing.assert_allclose(loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6)
    model.get_layer("predictions").activation = lambda logits: logits
    with pytest.raises(ValueError, match="`predictions.activation` must be one of Keras' own"):
        model.save(tmp_path / "model.keras")


@pytest.mark.parametrize("layer", ["activation", "logits"])
def test_layers_that_were_changed_are_kept_in_files(layer, tmp_path, rng):
    model = tiny(classes=3, class_names=("a", "b", "c"), grey_range=(0, 4095))
    if layer == "activation":
        model.get_layer("activation").max_value = 0.5
    else:
        model.get_layer("logits").activation = keras.activations.relu
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.save(tmp_path / "model.keras")  # again
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = images(rng)
    np.testing.assert_allclose(array(loaded(x)), array(model(x)), rtol=1e-5)
    assert abs(array(loaded(x)) - array(tiny(classes=3)(x))).max() > 1e-3
    assert (loaded.class_names, loaded.grey_range) == (("a", "b", "c"), (0, 4095))
    assert known_classes(tmp_path / "model.keras") == ["a", "b", "c"]
    assert known_grey_range(tmp_path / "model.keras") == (0, 4095)


@pytest.mark.parametrize("heads", [("predictions",), ("auxiliary",), ("predictions", "auxiliary")])
def test_each_head_keeps_its_activation(heads, tmp_path, rng, eager):
    model = tiny(input_shape=(32, 32, 3), auxiliary_head=True, classifier_activation="softmax")
    for head in heads:
        model.get_layer(head).activation = None
    x = images(rng, 32, 32)
    for one in (NASNet.from_config(model.get_config()), keras.models.clone_model(model)):
        one.set_weights(model.get_weights())
        assert isinstance(one, NASNet) and one.stands_alone
        for head, value in model(x).items():
            np.testing.assert_allclose(array(one(x)[head]), array(value), rtol=1e-4, atol=1e-6)
            assert (abs(array(value).sum(-1) - 1).max() < 1e-4) == (head not in heads)
        assert one.get_config() == model.get_config()


def test_a_clone_of_a_quantised_network_is_one():
    model = tiny()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an input has nothing to quantise
        model.quantize("int8")
    clone = keras.models.clone_model(model)
    assert clone.stands_alone and "quantized" in model.get_config() and "layers" not in model.get_config()
    model.get_layer("activation").max_value = 0.5
    assert "layers" in model.get_config()


def test_a_single_name_of_a_single_unit_is_let_go():
    """Files of earlier versions may have one, which nothing could use."""
    config = tiny(classes=1, class_names=("cat", "dog")).get_config()
    assert NASNet.from_config({**config, "class_names": ["dog"]}).class_names is None
    assert NASNet.from_config(config).class_names == ("cat", "dog")


def test_names_stay_with_a_network_on_another_graph(tmp_path):
    image = keras.Input((8, 8, 3))
    names = {"class_names": ("cat", "dog"), "classifier_activation": "sigmoid", "thresholds": (0.3, 0.6), "classes": 2}
    model = tiny(input_tensor=keras.layers.RandomFlip()(image), **names)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert answers.class_names(loaded) == ("cat", "dog")
    assert answers.thresholds(loaded).tolist() == pytest.approx([0.3, 0.6])

    def other(layer):
        return keras.layers.Dense(5, name="logits") if layer.name == "logits" else layer.from_config(layer.get_config())

    assert keras.models.clone_model(tiny(**names), clone_function=other).class_names is None


def test_integers_of_numpy_are_integers():
    """As `labels.max() + 1` is one; what is kept is a plain int, which JSON can hold."""
    two, eight = np.int64(2), np.uint8(8)
    model = NASNet("tiny", repeats=(two, 1), filters=eight, stem="cifar", input_shape=(eight, eight, 3), classes=two)
    plain = NASNet("tiny", repeats=(2, 1), filters=8, stem="cifar", input_shape=(8, 8, 3), classes=2)
    assert model.architecture == plain.architecture
    assert json.dumps(model.get_config()) == json.dumps(plain.get_config())
    for wrong in (True, np.True_, 2.0, np.float64(2), "2"):
        with pytest.raises(ValueError, match="`classes` must be an integer above 0"):
            NASNet("tiny", repeats=1, filters=8, stem="cifar", classes=wrong)
