"""The thirteen operations and the four combinations, against NumPy written from the paper's description."""

from math import ceil

import numpy as np
import pytest
from checks import array, check, randomize

from nasnet_keras.genotype import COMBINATIONS, OPERATIONS
from nasnet_keras.models.layers import Combination, Operation
from nasnet_keras.program.operations import CHAINS

EPSILON = 1e-3
F = 4
POOLS = [kind for kind in OPERATIONS if "pool" in kind]


# --- the reference: SAME windows, and what is done with them ---


def windows(x, size, strides=(1, 1), fill=0.0):
    """[batch, height', width', kernel height, kernel width, channels] of an image padded as SAME does."""
    height, width = size
    counts = [ceil(n / s) for n, s in zip(x.shape[1:3], strides, strict=True)]
    totals = [
        max((count - 1) * s + k - n, 0) for count, s, k, n in zip(counts, strides, size, x.shape[1:3], strict=True)
    ]
    x = np.pad(x, [(0, 0), *((t // 2, t - t // 2) for t in totals), (0, 0)], constant_values=fill)
    rows = [
        np.stack([x[:, i * strides[0] : i * strides[0] + height, j * strides[1] : j * strides[1] + width]
                  for j in range(counts[1])], 1)
        for i in range(counts[0])
    ]  # fmt: skip
    return np.stack(rows, 1)


def conv(x, kernel, strides=(1, 1)):
    return np.einsum("bhwijc,ijcf->bhwf", windows(x, kernel.shape[:2], strides), kernel)


def dilated(x, kernel):
    """Stride 1 and rate 2: the kernel with zeros between its taps."""
    spread = np.zeros((5, 5, *kernel.shape[2:]))
    spread[::2, ::2] = kernel
    return conv(x, spread)


def separable(x, depthwise, pointwise, strides=(1, 1)):
    spread = np.einsum("bhwijc,ijc->bhwc", windows(x, depthwise.shape[:2], strides), depthwise[..., 0])
    return spread @ pointwise[0, 0]


def pool(kind, x, size, strides):
    if kind == "max":
        return windows(x, (size, size), (strides, strides), -np.inf).max((3, 4))
    return np.nanmean(windows(x, (size, size), (strides, strides), np.nan), (3, 4))


def relu(x):
    return np.maximum(x, 0)


def norm(x, gamma, beta, mean, variance):
    return (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta


def expected(kind, x, weights, strides):
    """The operation's result from its weights in the order in which they are used."""
    s, (name, _, size) = (strides, strides), kind.partition("_")
    if kind == "identity":
        if not weights:
            return x
        return norm(conv(relu(x), weights[0], s), *weights[1:])
    if name in ("avg", "max"):
        x = pool(name, x, int(size[-1]), strides)
        return norm(conv(x, weights[0]), *weights[1:]) if weights else x
    if name == "sep":
        x = norm(separable(relu(x), *weights[:2], s), *weights[2:6])
        return norm(separable(relu(x), *weights[6:8]), *weights[8:])
    if name == "dil":
        return norm(dilated(relu(x), weights[0])[:, ::strides, ::strides], *weights[1:])
    if size.count("x") == 2:
        assert weights[0].shape[:2] == (1, int(size[2])) and weights[5].shape[:2] == (int(size[2]), 1)
        x = norm(conv(relu(x), weights[0], (1, strides)), *weights[1:5])
        return norm(conv(relu(x), weights[5], (strides, 1)), *weights[6:])
    assert weights[0].shape[:2] == (int(size[0]),) * 2
    return norm(conv(relu(x), weights[0], s), *weights[1:])


def built(layer, inputs):
    """A layer called once, with random batch norms, its weights, and its result in float64."""
    layer(inputs)
    randomize(layer)
    weights = [array(weight).astype("float64") for weight in layer.named_weights().values()]
    return layer, weights, array(layer(inputs)).astype("float64")


def close(result, wanted):
    assert result.shape == wanted.shape
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


# --- the operations ---

SIZES = [(7, 5, 3), (6, 8, F), (1, 2, 3)]


@pytest.mark.parametrize(
    "kind, strides, size",
    [
        pytest.param(kind, strides, size, marks=[pytest.mark.jax] if (strides, size[0]) == (2, 7) else [])
        for kind in OPERATIONS
        for strides in (1, 2)
        for size in SIZES
    ],
)
def test_operation_gives_the_numbers_of_the_description(kind, strides, size, rng):
    # Mostly negative, so that a pool or a ReLU in the wrong place is seen.
    x = rng.normal(-0.5, 1, (2, *size)).astype("float32")
    _, weights, result = built(Operation(kind, F, strides), x)
    assert result.shape == (2, ceil(size[0] / strides), ceil(size[1] / strides), F)
    close(result, expected(kind, x.astype("float64"), weights, strides))


@pytest.mark.parametrize(
    "kind, strides, channels",
    [
        pytest.param(kind, strides, channels, marks=[pytest.mark.jax] if strides == 2 else [])
        for kind in OPERATIONS
        for strides, channels in ((1, F), (2, 3))
    ],
)
def test_operation_passes_every_check(kind, strides, channels, rng):
    x = rng.normal(0, 1, (2, 5, 6, channels)).astype("float32")
    check(lambda dtype: Operation(kind, F, strides, name="left", dtype=dtype), x)


def test_weights_only_where_the_shape_changes():
    for kind in ("identity", *POOLS):
        for channels, strides, count in ((F, 1, 0), (3, 1, 5), (F, 2, 5 if kind == "identity" else 0), (3, 2, 5)):
            layer = Operation(kind, F, strides)
            layer.build((None, 8, 8, channels))
            assert len(layer.weights) == count, (kind, channels, strides)


def test_names_say_what_and_where():
    layer = Operation("sep_conv_3x3", F, name="left")
    layer.build((None, 8, 8, 3))
    leaves = {
        "separable": ["depthwise_kernel", "pointwise_kernel"],
        "batch_norm": ["gamma", "beta", "moving_mean", "moving_variance"],
    }
    names = [f"left/{part}_{time}/{leaf}" for part in leaves for leaf in leaves[part] for time in (1, 2)]
    assert sorted(weight.path for weight in layer.weights) == sorted(names)


def test_average_leaves_padding_out_of_its_count():
    ones = np.ones((1, 5, 5, 1), "float32")
    for strides in (1, 2):
        assert (array(Operation("avg_pool_3x3", 1, strides)(ones)) == 1).all()


@pytest.mark.parametrize("kind", [kind for kind in POOLS if kind.startswith("max")])
def test_maximum_of_negative_values_stays_negative(kind):
    x = -np.arange(1, 50, dtype="float32").reshape(1, 7, 7, 1)
    for strides in (1, 2):
        result = array(Operation(kind, 1, strides)(x))
        assert (result < 0).all() and result[0, -1, -1, 0] < result[0, 0, 0, 0] == -1


def test_compatibility_with_keras_counts_zeros_in_strided_pools():
    options = {"pooling_compatibility": "keras"}
    ones = np.ones((1, 5, 7, 1), "float32")
    average = array(Operation("avg_pool_3x3", 1, 2, options=options)(ones))[0, ..., 0]
    np.testing.assert_allclose(average[[0, 0, 1], [0, 1, 1]], [4 / 9, 6 / 9, 1], rtol=1e-6)
    maximum = array(Operation("max_pool_3x3", 1, 2, options=options)(-ones))[0, ..., 0]
    assert maximum.tolist() == [[0, 0, 0, 0], [0, -1, -1, 0], [0, 0, 0, 0]]
    assert (array(Operation("avg_pool_3x3", 1, 1, options=options)(ones)) == 1).all()


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("size", [(6, 8), (7, 5), (8, 7)])
def test_compatibility_with_keras_has_the_same_windows(kind, size, rng):
    x = rng.normal(0, 1, (2, *size, F)).astype("float32")
    length = int(kind[-1])
    seen = windows(x, (length, length), (2, 2))
    result = array(Operation(kind, F, 2, options={"pooling_compatibility": "keras"})(x))
    close(result, seen.mean((3, 4)) if kind.startswith("avg") else seen.max((3, 4)))


def test_compatibility_with_keras_needs_a_known_size():
    layer = Operation("avg_pool_3x3", F, 2, options={"pooling_compatibility": "keras"})
    with pytest.raises(ValueError, match="`pooling_compatibility='keras'` needs an `input_shape`"):
        layer.build((None, None, None, F))


@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.parametrize("strides, channels", [(1, F), (2, 3)])
def test_bounded_activations_stay_within_6(kind, strides, channels, rng):
    x = rng.normal(0, 100, (2, 6, 5, channels)).astype("float32")
    options = {"bounded_activations": True}
    free, bounded = Operation(kind, F, strides), Operation(kind, F, strides, options=options)
    free(x)
    result = array(bounded(x))
    assert np.abs(result).max() <= 6
    assert np.abs(array(free(x))).max() > 6
    small = x / 1e4
    for layer in (free, bounded):
        layer(small)
    bounded.set_weights(free.get_weights())
    if kind in ("identity", *POOLS):  # here ReLU6 comes in front, also where the plain operation has no ReLU
        small = np.abs(small)
    np.testing.assert_allclose(array(bounded(small)), array(free(small)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "value", [{"kind": "conv_9x9"}, {"filters": 0}, {"filters": 4.0}, {"filters": True}, {"strides": 3}]
)
def test_bad_arguments_of_an_operation(value):
    with pytest.raises(ValueError, match=f"`{next(iter(value))}` must be .*Received: "):
        Operation(**{"kind": "identity", "filters": F, **value})


def test_every_choice_of_a_genotype_has_a_recipe():
    assert set(OPERATIONS) <= set(CHAINS)


# --- factorized reduction ---


@pytest.mark.parametrize("filters", [1, 4, 5])
@pytest.mark.parametrize("size", [(6, 8), (7, 5), (6, 5)])
def test_factorized_reduction_sees_all_pixels(filters, size, rng):
    x = rng.normal(0, 1, (2, *size, 3)).astype("float32")
    layer, weights, result = built(Operation("output_reduction", filters, 2), x)
    down_right = np.zeros_like(x)
    down_right[:, :-1, :-1] = x[:, 1:, 1:]
    kernels = {name: array(kernel)[0, 0] for name, kernel in layer.named_weights().items() if name.endswith("kernel")}
    assert kernels["reduce/path_2/kernel"].shape == (3, filters - filters // 2)
    parts = [x[:, ::2, ::2] @ kernels["reduce/path_1/kernel"]] if filters > 1 else []
    joined = np.concatenate([*parts, down_right[:, ::2, ::2] @ kernels["reduce/path_2/kernel"]], -1)
    close(result, norm(joined, *weights[-4:]))


@pytest.mark.parametrize("kind", ["factorized_reduction", "output_reduction", "output_projection", "stem_cifar"])
def test_what_joins_cells_passes_every_check(kind, rng):
    x = rng.normal(0, 1, (2, 5, 6, 3)).astype("float32")
    strides = 2 if kind.endswith("reduction") else 1
    check(lambda dtype: Operation(kind, 5, strides, name="previous", dtype=dtype), x)


def test_adjusting_activates_and_leaving_a_cell_does_not():
    x = -np.ones((1, 4, 4, 3), "float32")
    assert (array(Operation("factorized_reduction", F, 2)(x)) == 0).all()
    for kind, strides in (("output_reduction", 2), ("output_projection", 1), ("stem_cifar", 1)):
        assert (array(Operation(kind, F, strides)(x)) != 0).any()


def test_stem_of_imagenet_is_not_padded():
    for size, result in ((224, 111), (331, 165), (33, 16), (32, 15)):
        assert Operation("stem_imagenet", F, 2).compute_output_shape((None, size, size, 3)) == (None, result, result, F)


# --- the combinations ---


@pytest.mark.jax
@pytest.mark.parametrize("kind", COMBINATIONS)
def test_combination_gives_the_numbers_of_the_description(kind, rng):
    left, right = (rng.normal(-0.5, 1, (2, 4, 5, F)).astype("float32") for _ in "ab")
    _, weights, result = built(Combination(kind, name="combine"), [left, right])
    total = (left + right).astype("float64")
    if kind == "concat":
        wanted = expected("conv_1x1", np.concatenate([left, right], -1).astype("float64"), weights, 1)
    elif kind == "add":
        wanted = total
    else:
        axes = {"add_layer_norm": (1, 2, 3), "add_instance_norm": (1, 2)}[kind]
        wanted = norm(total, *weights, total.mean(axes, keepdims=True), total.var(axes, keepdims=True))
    close(result, wanted)


@pytest.mark.parametrize("kind", COMBINATIONS)
def test_combination_passes_every_check(kind, rng):
    inputs = [rng.normal(0, 1, (2, 4, 5, F)).astype("float32") for _ in "ab"]
    check(lambda dtype: Combination(kind, name="combine", dtype=dtype), inputs)


def test_bounded_addition():
    fives = np.full((1, 2, 2, F), 5, "float32")
    bounded = Combination("add", options={"bounded_activations": True})
    assert (array(bounded([fives, fives])) == 6).all() and (array(bounded([-fives, fives * 0])) == 0).all()
    assert (array(Combination("add")([fives, fives])) == 10).all()


def test_unknown_combination():
    with pytest.raises(ValueError, match="`kind` must be one of add, .*Received: 'multiply'"):
        Combination("multiply")


# --- what all operations share ---


def test_kernels_start_with_the_variance_of_their_fan_out():
    layer = Operation("conv_3x3", 256)
    layer.build((None, 8, 8, 16))
    kernel = array(layer.named_weights()["conv/kernel"])
    assert abs(kernel.std() / np.sqrt(2 / (9 * 256)) - 1) < 0.03
    # Truncated at two standard deviations of the normal distribution that is cut.
    assert np.abs(kernel).max() <= 2 * np.sqrt(2 / (9 * 256)) / 0.8796 * 1.001


def test_options_reach_the_parts():
    options = {"batch_norm_momentum": 0.5, "batch_norm_epsilon": 0.25, "weight_decay": 0.1}
    layer = Operation("sep_conv_3x3", F, options=options)
    layer.build((None, 4, 4, F))
    norms = [step.primitive for step in layer.program.steps if step.primitive.kind == "norm"]
    assert [(norm.momentum, norm.epsilon) for norm in norms] == [(0.5, 0.25)] * 2
    squares = sum((array(w) ** 2).sum() for w in layer.weights if w.name.endswith("kernel"))
    np.testing.assert_allclose(float(sum(layer.losses)), 0.05 * squares, rtol=1e-5)


@pytest.mark.parametrize(
    "name, value",
    [("batch_norm_momentum", 1), ("batch_norm_epsilon", 0), ("weight_decay", -1), ("pooling_compatibility", "torch")],
)
def test_bad_options(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: "):
        Operation("conv_3x3", F, options={name: value}).build((None, 4, 4, F))
