"""Drop path and its schedule."""

import keras
import numpy as np
import pytest
from checks import array

from nasnet_keras.genotype import Block, CellGenotype, Genotype
from nasnet_keras.models.drop_path import DropPath, DropPathSchedule, ScheduledDropPath
from nasnet_keras.models.heads import AuxiliaryHead
from nasnet_keras.models.layers import Cell
from nasnet_keras.models.network import NASNet

ONES = np.ones((2000, 1, 1, 1), "float32")


# --- drop path ---


@pytest.mark.jax
def test_drop_path_drops_whole_images_and_keeps_the_mean():
    x = np.repeat(np.repeat(ONES, 2, 1), 3, 3)
    result = array(DropPath(0.4, seed=1)(x, training=True))
    dropped = (result == 0).all((1, 2, 3))
    kept = np.isclose(result, 1 / 0.6).all((1, 2, 3))
    assert (dropped | kept).all()
    # Four standard deviations of 2000 draws.
    assert abs(dropped.mean() - 0.4) < 4 * np.sqrt(0.4 * 0.6 / 2000)
    assert abs(result.mean() - 1) < 4 * np.sqrt(0.4 / 0.6 / 2000)


@pytest.mark.parametrize("rate, training", [(0.0, True), (0.5, False), (0.5, None)])
def test_drop_path_is_nothing_without_rate_or_training(rate, training, rng):
    x = rng.normal(size=(8, 2, 2, 3)).astype("float32")
    np.testing.assert_array_equal(array(DropPath(rate)(x, training=training)), x)


def test_progress_scales_the_rate():
    for progress, rate in ((0.0, 0.0), (0.25, 0.1), (1.0, 0.4)):
        result = array(DropPath(0.4, seed=2)(ONES, np.float32(progress), training=True))
        assert abs((result == 0).mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / 2000)
        np.testing.assert_allclose(result[result > 0], 1 / (1 - rate), rtol=1e-6)


def test_draws_come_from_the_seed_and_differ_from_step_to_step():
    layer, same, other = DropPath(0.5, seed=3), DropPath(0.5, seed=3), DropPath(0.5, seed=4)
    first, second = (array(layer(ONES, training=True)) for _ in "12")
    assert (first == array(same(ONES, training=True))).all()
    assert (first != second).any() and (first != array(other(ONES, training=True))).any()


def test_drop_path_under_mixed_precision_draws_in_float32():
    result = DropPath(0.3, seed=1, dtype="mixed_bfloat16")(keras.ops.cast(ONES, "bfloat16"), training=True)
    assert keras.backend.standardize_dtype(result.dtype) == "bfloat16"
    assert abs((array(keras.ops.cast(result, "float32")) == 0).mean() - 0.3) < 4 * np.sqrt(0.21 / 2000)


@pytest.mark.parametrize("rate", [1, -0.1, float("nan")])
def test_bad_rate(rate):
    with pytest.raises(ValueError, match=r"`rate` must be in \[0, 1\)\. Received: "):
        DropPath(rate)


def test_drop_path_config():
    layer = DropPath(0.3, seed=7, name="left_drop_path")
    assert DropPath.from_config(layer.get_config()).get_config() == layer.get_config()
    assert layer.compute_output_shape((None, 4, 4, 2)) == (None, 4, 4, 2)


# --- the schedule ---


@pytest.mark.jax
def test_schedule_counts_training_steps():
    schedule = DropPathSchedule()
    assert float(schedule(ONES, training=True)) == 1  # no schedule: the full rate at once, and nothing is counted
    assert float(array(schedule.step)) == 0
    schedule.total_steps.assign(4)
    progress = []
    for _ in range(6):
        assert float(schedule(ONES, training=False)) == min(1, len(progress) / 4)
        progress.append(float(schedule(ONES, training=True)))
    assert progress == [0, 0.25, 0.5, 0.75, 1, 1] and float(array(schedule.step)) == 6


def small(drop_path=0.4, **kwargs):
    """One cell of 4 filters, with one convolution."""
    cell = CellGenotype((Block((1, 0), ("conv_3x3", "identity")),), (2,))
    kwargs = {"input_shape": (4, 4, 3), "classes": 3, **kwargs}
    return NASNet(Genotype(cell, cell), repeats=(1,), filters=4, stem="cifar", drop_path=drop_path, **kwargs)


def counters(model):
    schedule = model.get_layer("drop_path")
    return float(array(schedule.step)), float(array(schedule.total_steps))


@pytest.mark.jax
def test_training_drives_the_schedule_and_files_keep_it(tmp_path, rng):
    model = small()
    model.get_layer("drop_path").total_steps.assign(100)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = rng.normal(size=(12, 4, 4, 3)).astype("float32"), rng.integers(0, 3, 12)
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)
    assert counters(model) == (3, 100)
    model.predict(x, verbose=0)
    model.evaluate(x, y, verbose=0)
    assert counters(model) == (3, 100)

    model.save(tmp_path / "model.keras")
    assert counters(keras.saving.load_model(tmp_path / "model.keras")) == (3, 100)
    model.save_weights(tmp_path / "model.weights.h5")
    other = small()
    other.load_weights(tmp_path / "model.weights.h5")
    assert counters(other) == (3, 100)

    # Weights go from a network with drop path to one without, and back.
    plain = small(0.0)
    plain.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(array(plain(x)), array(model(x)), rtol=1e-5)
    plain.save_weights(tmp_path / "plain.weights.h5")
    other.load_weights(tmp_path / "plain.weights.h5")
    assert counters(other) == (3, 100)


def test_counters_are_no_weights():
    dropping, plain = small(), small(0.0)
    assert dropping.count_params() == plain.count_params()
    assert [w.path for w in dropping.weights] == [w.path for w in plain.weights]
    plain.set_weights(dropping.get_weights())


def test_drop_path_is_active_only_while_training(rng):
    model, plain = small(0.9), small(0.0)
    plain.set_weights(model.get_weights())
    x = rng.normal(size=(8, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(array(model(x)), array(plain(x)))
    assert np.abs(array(model(x, training=True)) - array(plain(x, training=True))).max() > 1e-3


NETWORKS = {
    "cifar": (0.6, 20, {"repeats": 6, "stem": "cifar"}),
    "mobile": (0.9, 16, {"repeats": 4}),
    "large": (0.7, 22, {"repeats": 6, "skip_reduction": True}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_rates_grow_with_depth_over_all_cells(name):
    keep_final, total, arguments = NETWORKS[name]
    cell = CellGenotype((Block((1, 0), ("conv_1x1", "identity")),), (2,))
    model = NASNet(Genotype(cell, cell), filters=4, drop_path=1 - keep_final, input_shape=(32, 32, 3), **arguments)
    cells = [layer for layer in model.layers if "cell" in layer.name]
    assert len(cells) == total
    for index, layer in enumerate(cells):
        keep = 1 - (index + 1) / total * (1 - keep_final)
        # Only the convolution is dropped, never the identity.
        (drop,) = [step for step in layer.program.steps if step.primitive.kind == "drop_path"]
        assert drop.name == "block_0/left/" and drop.primitive.rate == pytest.approx(1 - keep)


def test_a_schedule_may_begin_where_a_training_stands():
    """Where weights were taken back to an earlier epoch, or did not learn for a while, the network has counted less."""
    genotype = Genotype(*[CellGenotype((Block((0, 1), ("identity", "conv_1x1")),), (2,))] * 2)
    model = NASNet(genotype, repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=2, drop_path=0.4)
    model.compile("sgd", "sparse_categorical_crossentropy")
    (counter,) = (layer for layer in model.layers if isinstance(layer, DropPathSchedule))
    images, labels = np.zeros((4, 8, 8, 3), "float32"), np.arange(4) % 2
    for given, counted in ((None, 1), (6, 7), (None, 8), (2, 3)):
        schedule = ScheduledDropPath(10) if given is None else ScheduledDropPath.going_on(10, given)
        model.fit(images, labels, batch_size=4, verbose=0, callbacks=[schedule])
        assert float(counter.step) == counted and float(counter.total_steps) == 10


def test_steps_before_the_first_schedule_do_not_count(rng):
    """As while a head learns on frozen cells; a file of an earlier version has counted them."""
    x, y = rng.normal(size=(12, 4, 4, 3)).astype("float32"), rng.integers(0, 3, 12)
    model, fit = small(), {"batch_size": 4, "verbose": 0}
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, **fit)
    assert counters(model) == (0, 0)
    model.get_layer("drop_path").step.assign(500)
    for counted in (3, 6):
        model.fit(x, y, callbacks=[ScheduledDropPath(500)], **fit)
        assert counters(model) == (counted, 500)
    model.fit(x, y, **fit)
    assert counters(model) == (9, 500)


@pytest.mark.parametrize("steps", [0, -5, float("nan"), float("inf"), "20", None, True])
def test_a_schedule_that_never_ends_is_refused(steps):
    with pytest.raises(ValueError, match="`total_steps` must be a finite number above 0. Received: "):
        ScheduledDropPath(steps)


def test_steps_may_be_one_of_numpys_and_lie_behind():
    assert ScheduledDropPath(np.int64(7)).total_steps == 7 and ScheduledDropPath(2.5).total_steps == 2.5
    assert ScheduledDropPath.going_on(7, 0).step == 0
    for step in (-1, float("nan"), None):
        with pytest.raises(ValueError, match="`step` must be an integer from 0"):
            ScheduledDropPath.going_on(7, step)


@pytest.mark.parametrize("rate", [-0.1, 1, float("nan"), "0.5", None])
def test_layers_refuse_numbers_that_mean_nothing(rate):
    cell = CellGenotype((Block((1, 0), ("conv_3x3", "identity")),), (2,))
    with pytest.raises(ValueError, match="`drop_path` must be a number from 0 to below 1"):
        Cell(cell, 4, drop_path=rate)
    with pytest.raises(ValueError, match=r"`rate` must be in \[0, 1\)"):
        DropPath(rate)
    for count in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="`classes` must be an integer from 1"):
            AuxiliaryHead(count)
        with pytest.raises(ValueError, match="`filters` must be an integer from 1"):
            Cell(cell, count)
