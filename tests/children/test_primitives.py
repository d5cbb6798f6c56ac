"""Each primitive of a child, forward and backward, against numbers worked out by NumPy in float64."""

import numpy as np
import pytest
import references

from nasnet_keras.children import primitives
from nasnet_keras.children.graph_assembly import Assembly
from nasnet_keras.program.program import Primitive

# Images smaller than the window, channels that fill vector registers or do not.
SIZES = [(2, 7, 6, 3), (2, 4, 4, 16), (1, 2, 2, 4), (2, 1, 3, 2), (3, 9, 8, 8)]


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def computed(kind, x, *weights, **settings):
    """What a primitive gives, and the gradients of the image and of the weights, for `draw` of the result's shape."""
    graph, primitive = Assembly(), Primitive(kind, tuple(settings.items()))
    edges = [graph.placeholder(one.shape) for one in (x, *weights)]
    (result, _), pull = graph.differentiable(primitives.forward, edges, primitive, True)
    gradient = graph.placeholder(result.shape)
    run = graph.compile([*edges, gradient], [result, *pull(gradient)])
    return run(x, *weights, draw(*result.shape))


def assert_close(received, expected):
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, np.reshape(other, one.shape), rtol=0, atol=1e-5 * max(1, np.abs(other).max()))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", [(3, 3), (1, 5), (5, 5)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("kind", ["avg_pool", "max_pool"])
def test_pools(kind, strides, window, size):
    x = draw(*size).round(1)  # some maxima are equal
    reference = {"avg_pool": references.average_pool, "max_pool": references.max_pool}[kind]
    received = computed(kind, x, size=window, strides=strides, padding="SAME")
    assert_close(received, reference(x, window, strides, "SAME", draw))


def test_pools_without_padding():
    x, settings = draw(2, 8, 7, 3), {"size": (5, 5), "strides": (3, 3), "padding": "VALID"}
    for kind, reference in (("avg_pool", references.average_pool), ("max_pool", references.max_pool)):
        assert_close(computed(kind, x, **settings), reference(x, *settings.values(), draw))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (7, 7)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_depthwise(strides, kernel, size):
    x, weights = draw(*size), draw(*kernel, size[-1], 1)
    assert_close(
        computed("depthwise", x, weights, kernel=kernel, strides=strides),
        references.depthwise(x, weights, strides, draw),
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "kernel, strides, padding",
    [((3, 3), (1, 1), "SAME"), ((3, 3), (2, 2), "SAME"), ((1, 7), (1, 2), "SAME"), ((1, 1), (2, 2), "SAME"),
     ((1, 1), (1, 1), "SAME"), ((1, 2), (1, 1), "VALID")],
)  # fmt: skip
def test_convolutions(kernel, strides, padding, size):
    x, weights = draw(*size), draw(*kernel, size[-1], 5)
    given = weights[0, 0] if kernel == (1, 1) else weights
    settings = {"kernel": kernel, "strides": strides, "padding": padding, "dilation": 1}
    assert_close(computed("conv", x, given, **settings), references.conv(x, weights, strides, padding, draw))


@pytest.mark.parametrize("size", SIZES)
def test_dilated_convolutions(size):
    x, weights = draw(*size), draw(3, 3, size[-1], 5)
    spread = np.zeros((5, 5, *weights.shape[2:]))
    spread[::2, ::2] = weights
    result, to_x, to_spread = references.conv(x, spread, (1, 1), "SAME", draw)
    settings = {"kernel": (3, 3), "strides": (1, 1), "padding": "SAME", "dilation": 2}
    assert_close(computed("dilated_conv", x, weights, **settings), (result, to_x, to_spread[::2, ::2]))


@pytest.mark.parametrize("kind, whole", [("norm", None), ("group_norm", True), ("group_norm", False)])
def test_norms(kind, whole):
    x, scale, offset = 1 + 2 * draw(4, 5, 6, 3), 1 + draw(3), draw(3)
    axes = {None: (0, 1, 2), True: (1, 2, 3), False: (1, 2)}[whole]
    expected = references.norm(x, scale, offset, 1e-3, axes, draw)
    assert_close(computed(kind, x, scale, offset, epsilon=1e-3, whole=whole), expected)
