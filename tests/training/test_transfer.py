"""Fine-tuning: what stays frozen, what batch norms do, how fast layers learn, and going on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from checks import computes_bfloat16
from PIL import Image

from nasnet_keras import NASNet, load_genotype, load_model
from nasnet_keras.data.arrays import data_of_parts, in_one_order
from nasnet_keras.data.loading import Split, load_data, open_data
from nasnet_keras.data.records import read_record
from nasnet_keras.models.applications import preprocess_input
from nasnet_keras.models.functions import FUNCTIONS
from nasnet_keras.training import checkpoints, compilation, recipes, transfer
from nasnet_keras.training import fitting as training
from nasnet_keras.training.transfer import HEADS, fine_tune, load_source

NAMES = ("red", "green", "blue")
RECIPE = recipes.recipe("scans", batch_size=16, augmentation="none")


def colours(count, seed=0):
    """Images of three colours with noise: learnable in seconds."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype="int32") % 3
    images = rng.integers(0, 60, (count, 8, 8, 3))
    images[np.arange(count), :, :, labels] += 150
    return Split(images.astype("uint8"), labels)


TRAIN, VALIDATION = colours(48), colours(12, 1)


def source(**options):
    """A network of ten classes that has 'learnt' something: random statistics of its batch norms."""
    keras.utils.set_random_seed(1)
    arguments = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 10}
    model = NASNet("tiny", **{**arguments, "batch_norm_momentum": 0.9997, **options})
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if weight.name == "moving_variance":
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name == "moving_mean":
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


def tune(model=None, train=TRAIN, validation=VALIDATION, classes=NAMES, **options):
    arguments = {"recipe": RECIPE, "epochs": 2, "seed": 4}
    return fine_tune(model or source(), train, validation, classes, **{**arguments, **options})


def values(model, names=None):
    """{path: array} of the weights of some layers, by default of all but the heads."""
    chosen = [layer for layer in model.layers if (layer.name in names if names else layer.name not in HEADS)]
    return {weight.path: keras.ops.convert_to_numpy(weight) for layer in chosen for weight in layer.weights}


def moved(before, after):
    """Paths of the weights that are not bit for bit the same."""
    assert before.keys() == after.keys()
    return {path for path in before if before[path].tobytes() != after[path].tobytes()}


def epochs_of(phase):
    return json.loads((phase / "history.json").read_text())["epochs"]


@pytest.mark.jax
def test_phase_one_leaves_every_bit_of_the_cells(tmp_path):
    model = source()
    slow = replace(RECIPE, learning_rate=0.01)
    tuned = tune(model, unfreeze="head", directory=tmp_path, drop_path=0.3, epochs=6, recipe=slow)
    assert moved(values(model), values(tuned)) == set()
    assert tuned.class_names == NAMES and tuned.output_shape == (None, 3)
    history = epochs_of(tmp_path / "head")
    assert history[0]["loss"] < 1.2  # of a head that starts from zeros: log(3)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]  # the head learnt
    assert all(layer.trainable for layer in tuned.layers)


@pytest.mark.long
def test_phase_two_begins_at_the_chosen_cell():
    model = source()
    tuned = tune(model, unfreeze="cell_1", head_epochs=0, epochs=1)
    below, above = ("stem", "cell_0", "reduction_cell_0"), ("cell_1",)
    assert moved(values(model, below), values(tuned, below)) == set()
    assert moved(values(model, above), values(tuned, above)) == set(values(model, above))


@pytest.mark.long
def test_batch_norms_keep_their_statistics_or_follow_the_batch():
    model = source()
    frozen = tune(model, head_epochs=0, epochs=1, batch_norm="frozen")
    changed = moved(values(model), values(frozen))
    assert changed == {path for path in values(model) if "moving_" not in path}
    assert frozen.get_config()["batch_norm_momentum"] == 0.9997
    assert not any(getattr(layer, "frozen_statistics", False) for layer in frozen.layers)


@pytest.mark.long
def test_a_momentum_moves_statistics_by_its_share_of_the_batch():
    model, one_batch, momentum = source(), TRAIN.select(np.arange(16)), 0.7
    tuned = tune(model, one_batch, None, head_epochs=0, epochs=1, batch_norm=momentum)
    stem, after = model.get_layer("stem"), tuned.get_layer("stem").named_weights()
    kernel, old = (stem.named_weights()[name].numpy() for name in ("conv/kernel", "batch_norm/moving_mean"))
    convolved = keras.ops.conv(preprocess_input(one_batch.images), kernel, 1, "same")
    expected = momentum * old + (1 - momentum) * np.mean(convolved, (0, 1, 2))
    np.testing.assert_allclose(after["batch_norm/moving_mean"].numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.jax
@pytest.mark.long
def test_layer_decay_slows_each_cell_by_its_depth():
    one_batch = TRAIN.select(np.arange(16))
    model = source()
    options = {"head_epochs": 0, "epochs": 1, "recipe": replace(RECIPE, momentum=0.0), "batch_norm": "frozen"}
    plain, decayed = (tune(model, one_batch, None, layer_decay=decay, **options) for decay in (1.0, 0.5))
    before = values(model)
    for depth, name in enumerate(("cell_1", "reduction_cell_0", "cell_0", "stem"), 1):
        steps = [
            np.concatenate([(after[path] - before[path]).ravel() for path in after if path.endswith("kernel")])
            for after in (values(plain, (name,)), values(decayed, (name,)))
        ]
        np.testing.assert_allclose(steps[1], steps[0] * 0.5**depth, atol=2e-3 * np.abs(steps[0]).max())


def test_the_second_phase_learns_at_the_lower_rate(monkeypatch):
    seen = []

    def fit(model, data, recipe, *, epochs, first, **options):
        seen.append((recipe.learning_rate, first, epochs, [layer.name for layer in model.layers if layer.trainable]))

    monkeypatch.setattr(training, "fit", fit)
    tune(epochs=8, rate_factor=0.2, unfreeze="cell_1")
    (rate, first, last, learning), (lower, second, end, more) = seen
    assert (rate, first, last) == (RECIPE.learning_rate, 0, 2)
    assert (lower, second, end) == (pytest.approx(0.2 * RECIPE.learning_rate), 2, 8)
    assert "logits" in learning and "cell_1" not in learning and "cell_1" in more and "cell_0" not in more
    seen.clear()
    tune(weights="none", epochs=3)  # from scratch: everything at once, at the full rate
    assert [row[:3] for row in seen] == [(RECIPE.learning_rate, 0, 3)] and "stem" in seen[0][3]


class Killed(BaseException):
    """Ends a run wherever it is, as a kill does: no handler of ours catches it."""


def dies(target, name, time, after=False):
    """A function that makes the n-th call of another one kill the run, before or after it did its work."""

    def patch(patches):
        original, calls = getattr(target, name), []

        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) == time and after:
                original(*args, **kwargs)
            if len(calls) == time:
                raise Killed
            return original(*args, **kwargs)

        patches.setattr(target, name, call)

    return patch


# One after another in the life of one fine-tuning of two and two epochs, three batches each.
MOMENTS = [
    dies(keras.callbacks.Callback, "on_train_batch_end", 2),  # in the middle of the first epoch
    dies(checkpoints, "write_atomically", 2),  # in phase one: weights written, history not
    dies(transfer, "_freeze", 2),  # between the phases
    dies(checkpoints, "write_atomically", 1, after=True),  # in phase two: history written, nothing tidied up
    dies(keras.callbacks.Callback, "on_train_batch_end", 2),  # in the middle of the last epoch
    dies(training, "save_model", 1),  # before the model is written
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The options of a fine-tuning, and the weights of one that nothing interrupted."""
    options = {"epochs": 4, "head_epochs": 2, "patience": 3, "drop_path": 0.2, "dropout": 0.2}
    return options, values(tune(**options, directory=tmp_path_factory.mktemp("whole")))


def same(tuned, expected):
    for path, value in values(tuned).items():
        np.testing.assert_allclose(value, expected[path], atol=2e-6, err_msg=path)


@pytest.mark.long
def test_a_run_that_dies_again_and_again_is_the_uninterrupted_one(whole, tmp_path):
    options, expected = whole
    done = []
    for index, moment in enumerate(MOMENTS):
        keras.utils.set_random_seed(index)
        with pytest.MonkeyPatch.context() as patches, pytest.raises(Killed):
            moment(patches)
            tune(**options, directory=tmp_path, callbacks=[keras.callbacks.Callback()])
        histories = sorted(tmp_path.glob("*/history.json"), reverse=True)
        done.append(sum(len(epochs_of(history.parent)) for history in histories))
        assert not (tmp_path / "model.keras").exists()
    assert done == [0, 1, 2, 3, 3, 4]
    tuned = tune(**options, directory=tmp_path)
    same(tuned, expected)
    images = preprocess_input(VALIDATION.images)
    np.testing.assert_allclose(
        training.predict(load_model(tmp_path), images), training.predict(tuned, images), atol=1e-5
    )


SCRIPT = """
import sys
sys.path[:0] = {tests!r}
from test_transfer import tune
tune(directory={directory!r}, **{options!r})
"""


@pytest.mark.long
def test_a_killed_process_goes_on(whole, tmp_path):
    options, expected = whole
    here = os.path.dirname(__file__)
    script = SCRIPT.format(tests=[here, os.path.dirname(here)], directory=str(tmp_path), options=options)
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (tmp_path / "head" / "history.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    same(tune(**options, directory=tmp_path), expected)


@pytest.mark.long
def test_another_data_set_does_not_go_on_from_this_one(tmp_path):
    tune(epochs=1, directory=tmp_path)
    with pytest.raises(ValueError, match="`directory`.*other number of training images"):
        tune(train=colours(60), epochs=1, directory=tmp_path)
    with pytest.raises(ValueError, match="`directory`.*other seed"):
        tune(epochs=1, directory=tmp_path, seed=5)


@pytest.mark.long
def test_tensorboard_gets_both_phases(tmp_path):
    tune(directory=tmp_path, head_epochs=1, tensorboard=True)
    for phase in ("head", "cells"):
        for split in ("train", "validation"):
            (file,) = (tmp_path / "tensorboard" / phase / split).iterdir()
            assert b"epoch_accuracy" in file.read_bytes()
    # Epochs are counted through both phases.
    assert [[line["epoch"] for line in epochs_of(tmp_path / phase)] for phase in ("head", "cells")] == [[1], [2]]


@pytest.mark.parametrize("dtype", [pytest.param("mixed_bfloat16", marks=pytest.mark.long), "mixed_float16"])
def test_mixed_precision(dtype):
    if dtype == "mixed_bfloat16" and not computes_bfloat16():
        pytest.skip("no bfloat16 here")
    tuned = tune(dtype=dtype, epochs=6, head_epochs=0, recipe=replace(RECIPE, learning_rate=0.3))
    assert tuned.get_layer("cell_0").compute_dtype == dtype.removeprefix("mixed_")
    assert {weight.dtype for weight in tuned.weights} == {"float32"}
    assert isinstance(tuned.optimizer, keras.optimizers.LossScaleOptimizer) == (dtype == "mixed_float16")
    assert tuned.get_layer("logits").compute_dtype == "float32"
    assert training.evaluate(tuned, VALIDATION)["accuracy"] > 0.5


def test_balanced_classes_count_the_same():
    few = TRAIN.select(np.flatnonzero((TRAIN.labels != 2) | (np.arange(48) < 12)))
    data = data_of_parts(few, None, NAMES)
    weights = compilation.factors_of("balanced", data)
    counts = np.bincount(few.labels)
    np.testing.assert_allclose(np.array(weights) * counts, len(few) / 3)
    loss = compilation.SmoothedCrossentropy(0.1, class_weights=[1.0, 2.0, 0.0])
    plain = compilation.SmoothedCrossentropy(0.1, reduction=None)
    labels, scores = np.array([1, 2, 0]), np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]], "float32")
    one, two, three = np.array(plain(labels, scores))
    assert float(loss(labels, scores)) == pytest.approx((2 * one + 0 * two + three) / 3, rel=1e-5)
    assert compilation.SmoothedCrossentropy(**loss.get_config()).class_weights == [1.0, 2.0, 0.0]
    with pytest.raises(ValueError, match="class 'blue' has no training images"):
        compilation.factors_of("balanced", data_of_parts(few.select(np.flatnonzero(few.labels < 2)), None, NAMES))


def test_factors_of_classes_go_by_number_or_name():
    data = data_of_parts(TRAIN, None, NAMES)
    for given in ([1, 5, 2.5], (1, 5, 2.5), np.array([1, 5, 2.5]), {0: 1, 1: 5, 2: 2.5}, {2: 2.5, 0: 1, np.int64(1): 5},
                  {"blue": 2.5, "red": 1, "green": 5}, {0: 1, 1: 5, 2: 2.5}.values(), iter([1, 5, 2.5])):  # fmt: skip
        assert compilation.factors_of(given, data) == [1.0, 5.0, 2.5]
    wrong = ({0: 1, 1: 5}, {0: 1, 1: 5, 3: 2}, {"red": 1, "green": 5, "grey": 2}, {0: 1, "red": 5, 1: 2})
    wrong += ({1, 5, 2}, [], 3)
    wrong += ([1, 5, -1], [1, 5, np.nan], {0: 1, 1: 5, 2: np.inf}, "150", [[1, 5, 2]], [1, 5, "2"])
    for given in wrong:
        with pytest.raises(ValueError, match="`class_weights` must be None, 'balanced', or 3 numbers .* Received: "):
            compilation.factors_of(given, data)


@pytest.mark.long
def test_weights_come_from_files_of_every_kind(tmp_path):
    model = source(class_names=tuple("abcdefghij"))
    model.save_weights(tmp_path / "a.weights.h5")
    training.save_model(model, tmp_path / "net")
    fresh = source()
    fresh.set_weights([np.zeros_like(value) for value in fresh.get_weights()])
    for file in (tmp_path / "a.weights.h5", tmp_path / "net", tmp_path / "net" / "model.keras"):
        filled, trained = load_source(fresh, str(file))
        assert trained and moved(values(model), values(filled)) == set()
    own, trained = load_source(str(tmp_path / "net"))
    assert trained and moved(values(model), values(own)) == set()
    scratch, trained = load_source(model, "none")
    assert not trained and "stem/conv/kernel" in moved(values(model), values(scratch))
    with pytest.raises(ValueError, match="`weights` do not fit the network: stem"):
        load_source(source(filters=6), str(tmp_path / "net"))
    with pytest.raises(ValueError, match="does not fit the network"):
        load_source(source(filters=6), str(tmp_path / "a.weights.h5"))


def test_a_factory_of_another_size_takes_a_file(tmp_path):
    from nasnet_keras import NASNetCIFAR

    size = {"genotype": "tiny", "repeats": 1, "filters": 4}
    NASNetCIFAR(weights=None, **size).save_weights(tmp_path / "c.weights.h5")
    model, trained = load_source("NASNetCIFAR", str(tmp_path / "c.weights.h5"), **size)
    assert trained and model.input_shape == (None, 32, 32, 3)
    with pytest.raises(ValueError, match="there are none of PNASNetMobile in the index"):
        load_source("PNASNetMobile")


BAD = [
    ({"epochs": 0}, "`epochs`"),
    ({"head_epochs": 3}, "`head_epochs` must be an integer from 0 to 2"),
    ({"unfreeze": "cell_9"}, "`unfreeze` must be all, head, or one of stem, cell_0, reduction_cell_0, cell_1"),
    ({"rate_factor": 0}, "`rate_factor`"),
    ({"layer_decay": 1.5}, "`layer_decay`"),
    ({"batch_norm": "never"}, "`batch_norm`"),
    ({"batch_norm": 1.5}, "`batch_norm`"),
    ({"batch_norm_momentum": 0.99}, "`batch_norm_momentum` must be left out: `batch_norm` says it. Received: 0.99"),
    ({"patience": 0}, "`patience`"),
    ({"recipe": "best"}, "`recipe`"),
    ({"class_weights": "fair"}, "`class_weights`"),
    ({"class_weights": [1, 2]}, "`class_weights`"),
    ({"class_weights": {0: 1.0, 1: 5.0}}, "`class_weights`"),
    ({"weights": "imagenet"}, "`weights` must be auto, none or a file"),
    ({"weights": None}, "`weights` must be auto, none, a name or a file"),
    ({"weights": "none", "batch_norm": "frozen"}, "need trained weights"),
    ({"weights": "none", "rate_factor": 0.1}, "need trained weights"),
    ({"epochs": 1, "unfreeze": "cell_1"}, "`unfreeze` is for epochs in which the cells learn"),
    ({"head_epochs": 2, "rate_factor": 0.1}, "`rate_factor` is for epochs in which the cells learn"),
    ({"unfreeze": "head", "rate_factor": 0.1}, "`rate_factor` is for epochs in which the cells learn"),
    (
        {
            "recipe": replace(RECIPE, gradient_accumulation=5),
            "epochs": 3,
            "head_epochs": 2,
        },  # enough for the first phase
        "`gradient_accumulation` must be at most 3, the steps of this training",
    ),
    ({"tensorboard": True}, "`tensorboard` needs a `directory`"),
    ({"repeats": 2}, "`repeats` means nothing"),
    ({"colour": 2}, "`colour` is no argument of NASNet"),
    ({"train": (TRAIN.images, TRAIN.labels + 1)}, "`train` must have labels from 0 to 2"),
    ({"train": TRAIN.images}, "`train` must be a Split, or a pair"),
    ({"classes": set(NAMES)}, "`classes` must be a list of names, one for each class. Received: {'"),
    ({"classes": dict(enumerate(NAMES))}, "`classes` must be a list of names, one for each class. Received: {0: '"),
    ({"classes": "sea"}, "`classes` must be a list of names, one for each class. Received: 'sea'"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(message) for _, message in BAD])
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tune(**options)


@pytest.mark.parametrize("classes", [range(3), np.unique(TRAIN.labels), 3])
def test_numbers_as_names_are_texts(classes):
    data = data_of_parts(TRAIN, VALIDATION, classes)
    assert data.class_names == ("0", "1", "2") and set(map(type, data.class_names)) == {str}


def test_weights_of_another_wiring_are_refused_though_their_shapes_fit(tmp_path):
    """Pools, inputs and identities have no weights; nor does it tell which cells are left out."""
    other = load_genotype("tiny")
    block = replace(other.normal.blocks[0], inputs=other.normal.blocks[0].inputs[::-1])
    other = replace(other, normal=replace(other.normal, blocks=(block, *other.normal.blocks[1:])))
    network = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}
    training.save_model(source(), tmp_path / "net")
    for change in (
        {"genotype": other},
        {"repeats": (1,)},
        {"skip_reduction": True},
        {"batch_norm_epsilon": 1e-3},
        {"bounded_activations": True},
        {"pooling_compatibility": "keras"},
    ):
        given, (name,) = {"genotype": "tiny", **network, **change}, change
        message = f"`weights` do not fit the network: `{name}` must be that which they were trained with, .* Received: "
        for file in (tmp_path / "net", tmp_path / "net/model.keras"):
            with pytest.raises(ValueError, match=message):
                load_source(NASNet(**given), str(file))
        with pytest.raises(ValueError, match=message):
            NASNet(**given, weights=tmp_path / "net/model.keras")
        if name in ("bounded_activations", "pooling_compatibility"):
            tune(**change)  # which learns within the bounds, and to pool so
        elif name not in ("repeats", "skip_reduction"):
            with pytest.raises(ValueError, match=message):
                tune(**change)
    same = replace(load_genotype("tiny"), name="mine")  # a name is no wiring; nor are the head, drop path and size
    further = {"classes": 7, "dropout": 0.5, "drop_path": 0.2, "batch_norm_momentum": 0.5, "input_shape": (16, 16, 1)}
    load_source(NASNet(same, **{**network, **further}), str(tmp_path / "net"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epochs": 1}, ["the cells do not learn: all 1 epochs are the head's"]),
        ({"head_epochs": 2}, ["the cells do not learn: all 2 epochs are the head's"]),
        ({"unfreeze": "head"}, []),
        (
            {"unfreeze": "head", "drop_path": 0.3},
            ["`drop_path` 0.3 is not used: cells that do not learn drop no paths"],
        ),
        # They may be for the cells that learn in the same directory later.
        ({"unfreeze": "head", "layer_decay": 0.8}, ["`layer_decay` 0.8 is not used: it is for cells that learn"]),
        ({"unfreeze": "head", "batch_norm": 0.5}, ["`batch_norm` 0.5 is not used: it is for cells that learn"]),
        ({"unfreeze": "head", "remat": True}, ["`remat` True is not used: it is for cells that learn"]),
        ({"drop_path": 0.3}, []),
        ({"remat": True}, []),
        ({"head_epochs": 0, "epochs": 1}, []),
        ({"weights": "none", "epochs": 1}, []),
    ],
)
def test_phases_that_do_not_take_place_are_told(options, says, monkeypatch, caplog):
    learnt(monkeypatch)
    tune(**options)
    assert [record.getMessage() for record in caplog.records if record.name == transfer.__name__] == says


def test_a_momentum_beside_frozen_statistics_and_thresholds_are_those_given(monkeypatch):
    learnt(monkeypatch)
    frozen = tune(batch_norm="frozen", batch_norm_momentum=0.5)
    assert frozen.architecture.batch_norm_momentum == 0.5
    marks = [Split(one.images, np.eye(3, dtype=bool)[one.labels]) for one in (TRAIN, VALIDATION)]
    assert tune(None, *marks, thresholds=(0.1, 0.2, 0.3)).thresholds == (0.1, 0.2, 0.3)
    assert tune(None, *marks).thresholds != (0.1, 0.2, 0.3)


def test_the_number_of_classes_may_be_one_of_numpys():
    assert data_of_parts(TRAIN, None, TRAIN.labels.max() + 1).class_names == ("0", "1", "2")
    for wrong in (3.0, np.float32(3), True, None):
        with pytest.raises(ValueError, match="`classes` must be a name for each label, or their number"):
            data_of_parts(TRAIN, None, wrong)
    assert json.dumps([RECIPE.batch_size, replace(RECIPE, batch_size=np.int64(16)).batch_size]) == "[16, 16]"


def test_two_thousand_classes():
    many = Split(TRAIN.images, TRAIN.labels * 999 + 1)
    tuned = fine_tune(source(), many, None, 2000, recipe=RECIPE, epochs=1, unfreeze="head")
    assert tuned.output_shape == (None, 2000) and tuned.class_names[1999] == "1999"


def test_what_is_no_nasnet_is_refused():
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="`model_or_name` must be a NASNet"):
        tune(other)
    with pytest.raises(ValueError, match="`classes` must be at least two"):
        fine_tune(source(), TRAIN.select([0, 3]), None, 1)


def test_every_primitive_is_a_fixed_function_in_a_frozen_layer(rng):
    """Frozen and called in training, a cell gives what it gives at inference: no batch, no chance."""
    assert {"norm", "drop_path"} <= set(FUNCTIONS)
    model = source(drop_path=0.5)
    model.trainable = False
    images = rng.normal(size=(4, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(model(images, training=True), model(images, training=False))


def compiled(recipe=RECIPE, **options):
    """A network that `fine_tune(layer_decay=0.5)` compiles, without its training."""
    model = source(**options)
    compilation.compile_model(model, recipe, 3, 1, rates=transfer._rates(model, 0.5))
    model.run_eagerly = True
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"recipe": replace(RECIPE, optimizer="rmsprop")}, marks=pytest.mark.long),
        pytest.param({"dtype": "mixed_float16"}, marks=pytest.mark.long),
    ],
)
def test_a_model_compiled_with_rates_is_saved_and_learns_on_at_these_rates(tmp_path, options):
    model = compiled(**options)
    images, labels = preprocess_input(TRAIN.images[:16].astype("float32")), TRAIN.labels[:16]
    model.train_on_batch(images, labels)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    again.run_eagerly = True
    if "dtype" in options:
        assert isinstance(again.optimizer, keras.optimizers.LossScaleOptimizer)
    found = [getattr(one.optimizer, "inner_optimizer", one.optimizer).get_config() for one in (model, again)]
    assert found[0] == found[1] and found[1]["rates"]["cell_1/block_0/left/conv/kernel"] == 0.5
    for one in (model, again):
        one.train_on_batch(images, labels)
    assert moved(*({w.path: keras.ops.convert_to_numpy(w) for w in one.weights} for one in (model, again))) == set()


@pytest.mark.long
def test_a_model_with_rates_is_loaded_in_a_new_process_after_a_plain_import(tmp_path):
    compiled().save(tmp_path / "model.keras")
    code = "import nasnet_keras, sys, importlib.util as asked; asked.find_spec('keras'); import keras"
    code += "; print(keras.models.load_model(sys.argv[1]).optimizer.rates)"
    ran = subprocess.run([sys.executable, "-c", code, tmp_path / "model.keras"], capture_output=True, text=True)
    assert "'stem/conv/kernel': 0.0625" in ran.stdout, ran.stderr[-2000:]


@pytest.mark.parametrize("kind", [compilation.SGDWithRates, compilation.RMSpropWithRates])
def test_rates_follow_their_variables_to_another_order(kind):
    def weights():
        return [keras.Variable(np.ones(2), name=name) for name in "abc"]

    rates = {"a": 1.0, "c": 0.25}
    for order in ([0, 1, 2], [2, 0], [2, 1, 0]):
        variables = weights()
        optimizer = kind(0.5, rates=rates)
        optimizer = kind.from_config(json.loads(json.dumps(optimizer.get_config())))
        optimizer.build([variables[index] for index in order])
        optimizer.apply([keras.ops.ones(2) for _ in order])
        steps = {v.path: 1 - float(keras.ops.convert_to_numpy(v)[0]) for v in (variables[index] for index in order)}
        whole = steps["a"]
        expected = {"a": 1.0, "b": 1.0, "c": 0.25}
        assert steps == pytest.approx({path: whole * expected[path] for path in steps}, rel=1e-5) and whole > 0.1


def test_one_path_has_one_rate():
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="d")])
    twice = [*network.trainable_variables, network.trainable_variables[0]]
    with pytest.raises(
        ValueError, match="`rates` must be the same for variables of the same path, .*Received: 1.0 and"
    ):
        compilation._by_path(twice, [1, 1, 0.5])


@pytest.mark.parametrize("rule", ["hashed", "seeded"])
def test_a_directory_keeps_how_a_folder_was_divided(rule, tmp_path, monkeypatch):
    """Also where Python calls `fine_tune`: what `evaluate` tests there was not trained on."""
    fixtures = Path(__file__).parents[1] / "fixtures"
    photos = fixtures / "photos"
    data = load_data(photos, split_rule=rule)
    monkeypatch.setattr(training, "fit", lambda *_, **__: None)
    source = fixtures / "zoo.keras"
    fine_tune(source, data.train, data.validation, data.class_names, epochs=2, directory=tmp_path / "mine")
    record = read_record(tmp_path / "mine")
    if rule == "seeded":
        assert record is None
    else:
        assert record.digest == data.digest
        tested = {
            str(Path(path).relative_to(fixtures / "photos"))
            for path in open_data(fixtures / "photos").test.images.sources
        }
        assert set(record.sides["test"]) == tested


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_decay_goes_by_each_weights_own_rate(kind):
    variables = [keras.Variable(np.ones((2, 2)), name=name) for name in "ab"]
    optimizer = compilation.WITH_RATES[kind](0.5, weight_decay=0.1, rates={"b": 0.25})
    optimizer.build(variables)
    optimizer.apply([keras.ops.zeros((2, 2))] * 2)
    optimizer.weight_decay = 7.0  # as another device's turn may have left it
    optimizer.apply([keras.ops.zeros((2, 2))] * 2)
    left = [float(keras.ops.convert_to_numpy(variable)[0, 0]) for variable in variables]
    expected = [(1 - 0.5 * 0.1) ** 2, (1 - 0.5 * 0.1 * 0.25) ** 2]
    assert left == pytest.approx(expected, rel=1e-5) and optimizer.weight_decay == 0.1


def test_frozen_cells_compute_in_the_type_that_was_asked_for(rng):
    model = source(dtype="mixed_float16")
    model.trainable = False
    cell = model.get_layer("cell_0")
    image = keras.ops.convert_to_tensor(rng.normal(size=(2, 8, 8, 3)).astype("float16"))
    stem = model.get_layer("stem")(image, training=True)
    assert {keras.backend.standardize_dtype(one.dtype) for one in cell([stem, stem], training=True)} == {"float16"}


def stored(folder, count=12, size=8, low=0):
    """Paths of 16-bit greys whose 12 bits say the class, and labels."""
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        values = np.full((size, size), low + 3000 * (number % 2), np.uint16)
        Image.fromarray(values).save(path)
    return [str(path) for path in paths], [number % 2 for number in range(count)]


def learnt(monkeypatch):
    """The data that trainings would learn from."""
    seen = []
    monkeypatch.setattr(training, "fit", lambda model, data, *_, **__: seen.append(data))
    return seen


@pytest.mark.parametrize("way", ["decoded", "paths"])
def test_greys_are_served_as_they_were_read(way, tmp_path, monkeypatch):
    seen, pair = learnt(monkeypatch), stored(tmp_path)
    if way == "decoded":
        pair = load_data(list(zip(*pair, strict=True)), grey_range=(0, 4095), image_size=8, validation=0, test=0).train
        model = fine_tune(source(), pair, None, ["a", "b"], epochs=1, recipe=RECIPE)
        with pytest.raises(ValueError, match="`grey_range` must be that by which `train` was read"):
            fine_tune(source(), pair, None, ["a", "b"], epochs=1, recipe=RECIPE, grey_range=(0, 255))
    else:
        model = fine_tune(source(), pair, None, ["a", "b"], epochs=1, recipe=RECIPE, grey_range=(0, 4095))
    assert model.grey_range == seen[0].grey_range == (0, 4095)
    images, _ = seen[0].train.in_memory()
    assert images.max() == round(3000 * 255 / 4095)


def test_files_that_cannot_be_read_are_told_or_refused(tmp_path, monkeypatch, caplog):
    seen, (paths, labels) = learnt(monkeypatch), stored(tmp_path)
    Path(paths[3]).write_bytes(b"no image")
    Path(paths[4]).unlink()
    fine_tune(source(), (paths, labels), None, ["a", "b"], epochs=1, recipe=RECIPE)
    assert len(seen[0].train) == 10 and "2 broken files" in caplog.text
    with pytest.raises(ValueError, match="`train` must have images that can be read"):
        fine_tune(source(), ([path + "x" for path in paths], labels), None, ["a", "b"], epochs=1, recipe=RECIPE)


def test_validation_has_the_size_of_training(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    seen, pairs = learnt(monkeypatch), [stored(tmp_path), stored(tmp_path / "other", size=9)]
    fine_tune(source(), *pairs, ["a", "b"], epochs=1, recipe=RECIPE)
    assert seen[0].validation.images.shape == (12, 8, 8, 3)
    with pytest.raises(ValueError, match=r"`validation` must have images of the shape of `train`'s, \(8, 8, 3\)"):
        tune(validation=(np.zeros((2, 9, 9, 3), "uint8"), [0, 1]))


def test_other_arrays_do_not_go_on_in_the_same_directory(tmp_path):
    tune(epochs=1, unfreeze="head", directory=tmp_path)
    tune(epochs=2, unfreeze="head", directory=tmp_path)
    with pytest.raises(ValueError, match="it has other images"):
        tune(train=colours(48, 9), epochs=3, unfreeze="head", directory=tmp_path)


class Shuffled:
    """A data set that gives its images in another order each time, as `image_dataset_from_directory` does."""

    def __init__(self, split, seed):
        images, labels = split if isinstance(split, tuple) else (split.images, split.labels)
        self.pairs = list(zip(images, labels, strict=True))
        self.order = np.random.default_rng(seed).permutation(len(self.pairs))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, place):
        return self.pairs[self.order[place]]


def test_a_data_set_that_shuffles_goes_on(tmp_path, monkeypatch):
    def run(seed, directory, **options):
        sets = {"train": Shuffled(TRAIN, seed), "validation": Shuffled(VALIDATION, seed + 1)}
        return tune(**sets, unfreeze="head", directory=directory, **options).get_weights()

    for one, other in zip(run(0, None), run(1, tmp_path / "mine"), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    run(2, tmp_path / "mine", epochs=3)
    for seed in range(2):  # of which only one part shuffles
        options = {"validation": Shuffled(VALIDATION, seed), "directory": tmp_path / "half", "epochs": 1 + seed}
        tune(unfreeze="head", **options)
    with monkeypatch.context() as patches:  # as an earlier version began
        patches.setattr(transfer, "in_one_order", lambda data, *_: data)
        run(3, tmp_path / "older", epochs=1)
    run(3, tmp_path / "older")
    with pytest.raises(ValueError, match="it has other validation images"):
        run(4, tmp_path / "older", epochs=3)


def test_a_data_set_that_shuffles_may_have_broken_files(tmp_path):
    paths = []
    for number, (image, _) in enumerate(zip(TRAIN.images, TRAIN.labels, strict=True)):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    Path(paths[5]).write_bytes(b"broken")
    sets = Shuffled((paths, TRAIN.labels), 0)
    data = data_of_parts(sets, None, NAMES)
    ordered = in_one_order(data, {"train": sets})
    assert data.train.broken == ordered.train.broken == 1 and len(ordered.train) == len(TRAIN) - 1
    assert data.train.content() == ordered.train.content() and data.train.digest() != ordered.train.digest()


class Named(list):
    """(image, label) pairs with names of classes, as Keras' `image_dataset_from_directory` gives them."""

    class_names = ("cat", "dog")


def test_a_number_of_classes_is_a_count_and_the_data_name_them():
    pairs = list(zip(colours(6).images, [0, 1] * 3, strict=True))
    words = [(image, ("dog", "cat")[label]) for image, label in pairs]
    for train, validation in ((Named(pairs), Named(pairs)), (words, words[:2]), (Named(pairs), None)):
        assert data_of_parts(train, validation, 2).class_names == ("cat", "dog")
    assert data_of_parts(words, None, 2).train.labels.tolist() == [1, 0] * 3
    assert data_of_parts(pairs, None, 3).class_names == ("0", "1", "2")
    assert data_of_parts(Named(pairs), None, ["dog", "cat"]).train.labels.tolist() == [1, 0] * 3
    with pytest.raises(ValueError, match="`train` must have 3 classes, or `classes` a name .*Received: 2, cat, dog"):
        data_of_parts(Named(pairs), None, 3)


def test_validation_images_may_happen_to_have_one_label_each():
    images, marks = colours(4).images, np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1]])
    data = data_of_parts((images, marks), (images[2:], marks[2:]), 3)
    assert data.several and data.validation.labels.dtype == bool
    with pytest.raises(ValueError, match="or both several: rows of none or several 1s"):
        data_of_parts((images[2:], marks[2:]), (images, marks), 3)
