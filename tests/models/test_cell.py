"""Blocks and cells: the wiring, the adjustments, and what is never computed."""

import numpy as np
import pytest
from checks import array, check
from random_genotypes import random_cell
from test_operations import pool

from nasnet_keras.genotype import COMBINATIONS, Block, CellGenotype, load_genotype
from nasnet_keras.models.layers import Cell
from nasnet_keras.program.cell import ADJUSTMENTS

F = 4


def cell_of(*blocks, concat, inputs=2):
    """A `CellGenotype` from (inputs, operations) pairs."""
    return CellGenotype(tuple(Block(reads, operations) for reads, operations in blocks), concat, inputs)


def places(layer):
    """The outermost places inside a cell that have weights."""
    return {weight.path.split("/")[1] for weight in layer.weights}


@pytest.fixture
def states(rng):
    """Two input states of F channels."""
    return [rng.normal(0, 1, (2, 7, 6, F)).astype("float32") for _ in "01"]


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_block_passes_every_check(combine, states):
    genotype = CellGenotype((Block((0, 1), ("conv_1x1", "sep_conv_3x3"), combine),), (2,))
    # A shift of a whole channel is just what instance norm takes out.
    gradientless = ("batch_norm/beta", "batch_norm_2/beta") if combine == "add_instance_norm" else ()
    make = lambda dtype: Cell(genotype, F, 2, ("raw", "raw"), name="cell_0", dtype=dtype)  # noqa: E731
    check(make, states, gradientless=gradientless)


@pytest.mark.parametrize("strides", [1, 2])
def test_cell_passes_every_check(strides, states):
    genotype = load_genotype("tiny").normal
    layer = check(lambda dtype: Cell(genotype, F, strides, name="cell_3", dtype=dtype), states)
    assert places(layer) == {"current", "block_0", "block_1"}


@pytest.mark.jax
def test_cell_with_every_adjustment_and_output_passes_every_check(rng):
    """The first state is a size larger and the output joins an input, strided, in an order of its own."""
    genotype = cell_of(((0, 1), ("identity", "max_pool_3x3")), concat=(2, 0))
    inputs = [rng.normal(0, 1, (2, 9, 8, 3)).astype("float32"), rng.normal(0, 1, (2, 5, 4, 6)).astype("float32")]
    layer = check(lambda dtype: Cell(genotype, F, 2, ("reduce", "project"), name="cell_0", dtype=dtype), inputs)
    assert layer.compute_output_shape([x.shape for x in inputs]) == (2, 3, 2, 2 * F)
    assert places(layer) == {"previous", "current", "block_0", "output_0"}


# --- wiring: operations without weights have a result that can be written down ---


def test_blocks_read_and_join_what_the_genotype_says(states):
    old, new = (x.astype("float64") for x in states)
    genotype = cell_of(
        ((1, 0), ("avg_pool_3x3", "identity")),
        ((0, 2), ("max_pool_5x5", "identity")),
        ((3, 3), ("max_pool_3x3", "max_pool_7x7")),
        concat=(4, 1, 3),
    )
    b0 = pool("avg", new, 3, 1) + old
    b1 = pool("max", old, 5, 1) + b0
    b2 = pool("max", b1, 3, 1) + pool("max", b1, 7, 1)
    result = array(Cell(genotype, F, adjust=("raw", "raw"))(states))
    np.testing.assert_allclose(result, np.concatenate([b2, new, b1], -1), rtol=1e-4, atol=1e-5)


def test_only_what_reads_an_input_is_strided(states):
    old, new = (x.astype("float64") for x in states)
    genotype = cell_of(
        ((1, 0), ("avg_pool_3x3", "max_pool_3x3")),
        ((2, 1), ("avg_pool_3x3", "max_pool_5x5")),
        ((2, 3), ("identity", "max_pool_3x3")),
        concat=(4, 3),
    )
    b0 = pool("avg", new, 3, 2) + pool("max", old, 3, 2)
    b1 = pool("avg", b0, 3, 1) + pool("max", new, 5, 2)
    b2 = b0 + pool("max", b1, 3, 1)
    result = array(Cell(genotype, F, 2, adjust=("raw", "raw"))(states))
    assert result.shape == (2, 4, 3, 2 * F)
    np.testing.assert_allclose(result, np.concatenate([b2, b1], -1), rtol=1e-4, atol=1e-5)


def test_a_cell_of_four_states_passes_on_four(rng):
    states = [rng.normal(0, 1, (2, 4, 4, F)).astype("float32") for _ in range(4)]
    genotype = cell_of(((3, 0), ("identity", "max_pool_3x3")), concat=(4, 2, 0, 1), inputs=4)
    layer = Cell(genotype, F, adjust=("raw",) * 4)
    result = [array(state) for state in layer(states)]
    wanted = [states[3] + pool("max", states[0], 3, 1), states[2], states[0], states[1]]
    assert layer.reads == (0, 1, 2, 3) and layer.compute_output_shape([x.shape for x in states]) == [(2, 4, 4, F)] * 4
    for state, right in zip(result, wanted, strict=True):
        np.testing.assert_allclose(state, right, rtol=1e-5)


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
@pytest.mark.parametrize("channels", [F, 3])
def test_adjustments(adjust, channels, rng):
    old = rng.normal(0, 1, (2, 8 if adjust == "reduce" else 4, 8 if adjust == "reduce" else 4, channels))
    layer = Cell(cell_of(((1, 0), ("identity", "conv_1x1")), concat=(2,)), F, adjust=(adjust, "project"), name="cell_1")
    result = layer([old.astype("float32"), rng.normal(0, 1, (2, 4, 4, F)).astype("float32")])
    assert result.shape == (2, 4, 4, F)
    wanted = {"raw": 0, "match": 0 if channels == F else 5, "project": 5, "reduce": 6}
    counts = [sum(f"/{place}/" in weight.path for weight in layer.weights) for place in ("previous", "current")]
    assert counts == [wanted[adjust], 5]


def test_a_raw_state_is_brought_to_size_where_it_is_used(rng):
    """The first cell's h_{i-1} is the stem as it is: each reader matches its channels by itself."""
    genotype = load_genotype("nasnet_a").normal
    stem = rng.normal(0, 1, (2, 6, 6, 3 * F)).astype("float32")
    layer = Cell(genotype, F, adjust=("raw", "project"), name="cell_0")
    assert layer([stem, stem]).shape == (2, 6, 6, 6 * F)
    shapes = {weight.path: tuple(weight.shape) for weight in layer.weights}
    assert "previous" not in places(layer) and shapes["cell_0/current/conv/kernel"] == (1, 1, 3 * F, F)
    assert shapes["cell_0/block_1/left/separable_1/depthwise_kernel"] == (5, 5, 3 * F, 1)
    for place in ("block_2/right", "block_3/left", "block_3/right", "output_0"):  # identity, two pools, the output
        assert shapes[f"cell_0/{place}/conv/kernel"] == (1, 1, 3 * F, F)
    chains = {}
    for step in layer.program.steps:
        chains.setdefault(step.name.rpartition("/")[0] or step.name, []).append(step.primitive.kind)
    assert chains["block_3/left"] == ["avg_pool", "conv", "norm"]
    assert chains["output_0"] == ["conv", "norm"]


# --- what nothing reads ---


def test_dead_states_have_no_weights(states):
    genotype = cell_of(
        ((1, 1), ("conv_3x3", "identity")),
        ((0, 2), ("sep_conv_7x7", "conv_1x1")),  # nothing reads it, and nothing else reads state 0
        ((2, 2), ("conv_1x1", "identity")),
        concat=(4,),
    )
    layer = Cell(genotype, F, name="cell_0", adjust=("project", "project"))
    assert layer.reads == (1,)
    assert layer(states[1:]).shape == (2, 7, 6, F)
    assert places(layer) == {"current", "block_0", "block_2"}


def test_a_cell_may_pass_an_input_through(states):
    layer = Cell(cell_of(((1, 1), ("conv_3x3", "identity")), concat=(0,)), F)
    np.testing.assert_array_equal(array(layer(states[:1])), states[0])
    assert layer.reads == (0,) and not layer.weights


@pytest.mark.parametrize("seed", range(4))
def test_random_cell_passes_every_check(seed, states):
    rng = np.random.default_rng(seed)
    genotype = random_cell(lambda low, high: int(rng.integers(low, high + 1)), max_blocks=4)
    inputs = [states[state] for state in genotype.live_states() if state < 2]
    instance_norm = any(block.combine == "add_instance_norm" for block in genotype.blocks)
    gradientless = ("batch_norm/beta", "batch_norm_2/beta") if instance_norm else ()
    make = lambda dtype: Cell(genotype, F, 1 + seed % 2, name="cell_0", dtype=dtype)  # noqa: E731
    check(make, inputs, gradientless=gradientless)


def test_bad_arguments():
    genotype = load_genotype("tiny").normal
    for adjust in (("match",), ("match", "shrink")):
        with pytest.raises(ValueError, match="`adjust` must have 2 names from raw, .*Received: "):
            Cell(genotype, F, adjust=adjust)
    with pytest.raises(ValueError, match="`filters`"):
        Cell(genotype, 0)([np.zeros((1, 4, 4, 1), "float32")] * 2)
