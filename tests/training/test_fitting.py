"""Recipes, resumption, seeds and evaluation."""

import dataclasses
import json
import math
from dataclasses import fields, replace

import keras
import numpy as np
import pytest

from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.loading import Data, Split
from nasnet_keras.models.network import NASNet
from nasnet_keras.training import compilation, recipes
from nasnet_keras.training import fitting as training


@pytest.fixture(scope="module")
def data():
    """Three classes of flat colours with noise: learnable in seconds."""
    rng = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count, dtype="int32") % 3
        images = rng.integers(0, 60, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 150
        return Split(images.astype("uint8"), labels)

    return Data("colours", split(48), split(12), split(12), ("red", "green", "blue"), (8, 8, 3))


def network(data, **options):
    keras.utils.set_random_seed(3)
    arguments = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}
    return NASNet("tiny", **{**arguments, "class_names": data.class_names, **options})


RECIPE = recipes.recipe("micro", batch_size=16)


def test_labels_of_other_names_are_judged_by_name(data):
    """A split that calls its classes as the model does, in another order."""
    model = network(data)
    expected = training.evaluate(model, data.test)
    names, turned = ("blue", "red", "green"), np.array([1, 2, 0], "int32")
    other = Split(data.test.images, turned[data.test.labels], class_names=names)
    assert training.evaluate(model, other) == expected
    several = Split(data.test.images, np.eye(3, dtype=bool)[data.test.labels], class_names=data.class_names)
    moved = Split(data.test.images, np.eye(3, dtype=bool)[turned[data.test.labels]], class_names=names)
    chosen = [list(training.chosen_thresholds(model, one)) for one in (several, moved)]
    assert chosen[0] == chosen[1] and len(set(chosen[0])) == 3


@pytest.mark.jax
@pytest.mark.long  # `test_fixtures` and `test_within_epochs` have shorter ones
@pytest.mark.parametrize("sizes", [None, [4, 6, 8]])
def test_a_resumed_training_is_the_uninterrupted_one(data, tmp_path, sizes):
    options = {"drop_path": 0.3, "dropout": 0.2, "input_shape": (None, None, 3)}
    whole = network(data, **options)
    training.fit(whole, data, RECIPE, epochs=4, seed=5, sizes=sizes)

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:  # with sizes, in the middle of the last
                raise KeyboardInterrupt

    halted = network(data, **options)
    with pytest.raises(KeyboardInterrupt):
        training.fit(halted, data, RECIPE, epochs=4, seed=5, sizes=sizes, directory=tmp_path, callbacks=[Interrupt()])
    keras.utils.set_random_seed(77)
    resumed = network(data, **options)
    history = training.fit(resumed, data, RECIPE, epochs=4, seed=5, sizes=sizes, directory=tmp_path)
    assert [line["epoch"] for line in history] == [1, 2, 3, 4]
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), atol=1e-6)
    # Finished: nothing is trained again.
    assert training.fit(resumed, data, RECIPE, epochs=4, seed=5, sizes=sizes, directory=tmp_path) == history
    with pytest.raises(ValueError, match="image sizes"):
        training.fit(resumed, data, RECIPE, epochs=4, seed=5, sizes=[8], directory=tmp_path)


@pytest.mark.parametrize(
    ("first", "sizes", "seen"),
    [
        pytest.param(0, None, [8] * 5, marks=pytest.mark.long),
        pytest.param(0, [4, 6], [4, 4, 6, 6, 6], marks=pytest.mark.long),
        (2, [4, 6, 8], [4, 6, 8]),
    ],
)
def test_every_epoch_sees_images_of_its_size(data, monkeypatch, first, sizes, seen):
    model = network(data, input_shape=(None, None, 3))
    assert shapes_seen(model, data, monkeypatch, epochs=5, first=first, sizes=sizes) == [(size, size) for size in seen]


def shapes_seen(model, data, monkeypatch, **options):
    """`(height, width)` of the images of each epoch of a training."""
    made, shapes, real = [], [], training.training_batches
    monkeypatch.setattr(
        training, "training_batches", lambda *args, **form: made.append(real(*args, **form)) or made[-1]
    )
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: shapes.append(made[-1][0][0].shape[1:3]))
    training.fit(model, data, RECIPE, seed=5, callbacks=[watch], **options)
    return shapes


@pytest.mark.long
def test_smaller_images_keep_their_proportions(data, monkeypatch):
    splits = {name: replace_images(getattr(data, name)) for name in ("train", "validation", "test")}
    wide = dataclasses.replace(data, **splits, image_shape=(8, 12, 3))
    model = network(wide, input_shape=(None, None, 3))
    assert shapes_seen(model, wide, monkeypatch, epochs=2, sizes=[4, 8]) == [(4, 6), (8, 12)]


def replace_images(split):
    return Split(np.concatenate([split.images, split.images[:, :, :4]], axis=2), split.labels)


@pytest.mark.parametrize("sizes", [[], [0], [4.0], [2, 3, 4], "44"])
def test_bad_sizes(data, sizes):
    with pytest.raises(ValueError, match="`sizes`"):
        training.fit(network(data), data, RECIPE, epochs=2, sizes=sizes)


def test_state_of_another_network_is_refused(data, tmp_path):
    training.fit(network(data), data, RECIPE, epochs=1, directory=tmp_path)
    with pytest.raises(ValueError, match="`directory`.*another training"):
        training.fit(network(data, filters=6), data, RECIPE, epochs=2, directory=tmp_path)


def test_a_broken_history_is_one_line(data, tmp_path):
    (tmp_path / "history.json").write_text("{")
    with pytest.raises(ValueError, match="`directory`"):
        training.fit(network(data), data, RECIPE, epochs=1, directory=tmp_path)


def test_training_learns_and_the_auxiliary_head_takes_part(data, tmp_path):
    wide = Data(
        "wide",
        *(upsampled(getattr(data, name)) for name in ("train", "validation", "test")),
        data.class_names,
        (16, 16, 3),
    )
    model = network(wide, input_shape=(16, 16, 3), auxiliary_head=True)
    before = [np.array(value) for value in model.get_layer("auxiliary").get_weights()]
    training.fit(model, wide, recipes.recipe("micro", batch_size=8), epochs=4)
    after = model.get_layer("auxiliary").get_weights()
    assert any(np.abs(one - other).max() > 0 for one, other in zip(before, after, strict=True))
    assert training.evaluate(model, wide.test)["accuracy"] > 0.6
    training.save_model(model, tmp_path)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert "auxiliary" not in {layer.name for layer in loaded.layers}
    assert loaded.class_names == wide.class_names
    assert training.evaluate(loaded, wide.test) == pytest.approx(training.evaluate(model, wide.test), abs=1e-5)


def upsampled(split):
    return Split(split.images.repeat(2, axis=1).repeat(2, axis=2), split.labels)


def test_evaluate_agrees_with_counting(data):
    model = network(data)
    images = data.test.images / np.float32(127.5) - 1
    probabilities = keras.ops.convert_to_numpy(model(images))
    figures = training.evaluate(model, data.test, batch_size=5)
    assert figures["images"] == 12
    assert figures["accuracy"] == np.mean(probabilities.argmax(-1) == data.test.labels)
    chosen = np.maximum(probabilities[np.arange(12), data.test.labels], keras.config.epsilon())
    assert figures["loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)


@pytest.mark.long
def test_a_network_that_scales_images_itself_gets_them_unscaled(data):
    figures = []
    for inside in (False, True):
        model = network(data, include_preprocessing=inside)
        training.fit(model, data, recipes.recipe("micro", batch_size=8), epochs=2, seed=1)
        figures.append(training.evaluate(model, data.test))
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)


@pytest.mark.jax
def test_label_smoothing_by_hand():
    loss = compilation.SmoothedCrossentropy(0.1)
    value = loss(np.array([1]), np.array([[0.2, 0.5, 0.3]], dtype="float32"))
    target = np.array([0.1 / 3, 0.9 + 0.1 / 3, 0.1 / 3])
    assert float(value) == pytest.approx(-(target * np.log([0.2, 0.5, 0.3])).sum(), rel=1e-5)


def test_schedules():
    cosine = compilation._schedule(recipes.recipe("cifar"), 10, 4)
    assert float(cosine(0)) == pytest.approx(0.025)
    assert float(cosine(20)) == pytest.approx(0.0125)
    assert float(cosine(40)) == pytest.approx(0, abs=1e-9)
    warm = compilation._schedule(replace(recipes.recipe("cifar"), warmup_epochs=1), 10, 4)
    assert float(warm(5)) == pytest.approx(0.0125)
    steps = compilation._schedule(recipes.recipe("imagenet", warmup_epochs=0.0), 10, 4)
    assert float(steps(23)) == pytest.approx(0.04)
    assert float(steps(25)) == pytest.approx(0.04 * 0.97)


def test_classes_are_matched_by_name(data):
    model = network(data, class_names=("green", "blue", "red"))
    split = training.match_classes(model, data, data.test)
    assert [model.class_names[label] for label in split.labels] == [data.class_names[k] for k in data.test.labels]
    with pytest.raises(ValueError, match="`data` must have the model's 3 classes.*violet"):
        training.match_classes(network(data, class_names=("green", "blue", "violet")), data, data.test)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_a_training(value):
    with pytest.raises(FloatingPointError, match="epoch 1"):
        training.check_loss(value, 0)


def test_a_diverging_training_stops(data):
    with pytest.raises(FloatingPointError, match="the loss is"):
        training.fit(network(data), data, replace(RECIPE, learning_rate=1e30, clip_norm=None), epochs=3)


def test_unknown_recipe():
    with pytest.raises(ValueError, match="`recipe` must be one of"):
        recipes.recipe("best")


NUMBERS = [field.name for field in fields(recipes.Recipe) if isinstance(field.default, int | float | None)]


@pytest.mark.parametrize("name", [name for name in NUMBERS if name != "nesterov"])
@pytest.mark.parametrize("value", [-0.4, math.nan, math.inf, "much"])
def test_a_recipe_has_no_number_that_means_nothing(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {value!r}"):
        recipes.Recipe(**{"optimizer": "rmsprop", name: value})


def test_losses_and_schedules_refuse_numbers_that_mean_nothing():
    assert recipes.Recipe(auxiliary_weight=0, warmup_epochs=0).auxiliary_weight == 0
    for value in (-0.1, 1, math.nan):
        with pytest.raises(ValueError, match="`smoothing` must be"):
            compilation.SmoothedCrossentropy(value)
    for value in (0, -1, math.nan):
        with pytest.raises(ValueError, match="`steps` must be"):
            compilation.WarmedUp(lambda step: 0.1, value)


@pytest.mark.long
def test_history_is_json_and_one_state_is_kept(data, tmp_path):
    training.fit(network(data), data, RECIPE, epochs=3, directory=tmp_path)
    state = json.loads((tmp_path / "history.json").read_text())
    assert len(state["epochs"]) == 3 and "val_accuracy" in state["epochs"][0]
    assert [path.name for path in tmp_path.glob("*.h5")] == [state["weights"]]


def test_fewer_large_images_are_judged_together():
    shapes = ((8, 8, 3), (128, 128, 3), (129, 128, 3), (224, 224, 3), (331, 331, 3), (2000, 3000, 3))
    assert [training.images_at_a_time(shape) for shape in shapes] == [256, 256, 128, 64, 32, 16]
    assert training.images_at_a_time((32, 32, 3), 100) == 100


def test_a_drive_that_is_gone_is_one_line(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(16)]
    split = Split(ImageFiles(tuple(paths), (8, 8)), np.arange(16) % 2)
    data = Data("gone", split, split.select([]), split.select([]), ("a", "b"), (8, 8, 3))
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, name="b")])
    with pytest.raises(OSError, match="none of the 16 images of a batch can be read"):
        training.fit(model, data, RECIPE, epochs=1, validate=False)


def test_validation_images_that_are_gone_are_no_loss_of_0(tmp_path):
    gone = Split(ImageFiles(tuple(str(tmp_path / f"{number}.png") for number in range(3)), (8, 8)), np.arange(3) % 2)
    train = Split(np.zeros((16, 8, 8, 3), "uint8"), np.arange(16) % 2)
    data = Data("gone", train, gone, train.select([]), ("a", "b"), (8, 8, 3))
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, name="b")])
    with pytest.raises(OSError, match="none of the 3 images for validation can be read, such as .*0.png: No such file"):
        training.fit(model, data, RECIPE, epochs=2, directory=tmp_path / "net", patience=1)
    assert not (tmp_path / "net" / "history.json").exists()
