"""A network that is a part of another model, at any depth, trains as it does alone."""

import keras
import numpy as np
import pytest

from nasnet_keras.data.loading import Data, Split
from nasnet_keras.models.drop_path import DropPathSchedule
from nasnet_keras.models.nesting import layers_within, seed_generators
from nasnet_keras.models.network import NASNet
from nasnet_keras.training import compilation, recipes
from nasnet_keras.training import fitting as training

RECIPE = recipes.recipe("micro", batch_size=4)


def base(**options):
    arguments = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "include_top": False}
    return NASNet("tiny", **{**arguments, "pooling": "avg", "drop_path": 0.4, **options})


def in_sequential(network):
    return keras.Sequential([network, keras.layers.Dense(3, "softmax", name="head")], name="whole")


def in_functional(network):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.Dense(3, "softmax", name="head")(network(image)))


def in_two(network):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.Dropout(0.1)(in_sequential(network)(image)))


class Own(keras.Model):
    """A model of a class of one's own, which holds the network as an attribute."""

    def __init__(self, network):
        super().__init__()
        self.network, self.head = network, keras.layers.Dense(3, "softmax", name="head")
        self(np.zeros((1, 8, 8, 3), "float32"))

    def call(self, inputs, training=None):
        return self.head(self.network(inputs, training=training))


WAYS = (in_sequential, in_functional, in_two, Own)


def images(count=8):
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype="int32") % 3
    return Split(rng.integers(0, 256, (count, 8, 8, 3)).astype("uint8"), labels)


@pytest.mark.parametrize("wrap", WAYS)
def test_the_schedule_of_drop_path_is_set(wrap):
    network = base()
    model = wrap(network)
    callback = training.ScheduledDropPath(70)
    callback.set_model(model)
    callback.on_train_begin()
    counter = network.get_layer("drop_path")
    assert float(keras.ops.convert_to_numpy(counter.total_steps)) == 70
    assert [layer for layer in layers_within(model) if isinstance(layer, DropPathSchedule)] == [counter]


def test_drop_path_under_a_name_of_its_own_has_a_schedule_and_none_is_no_mistake():
    first, second = base(name="first"), base(name="second")
    image = keras.Input((8, 8, 3))
    callback = training.ScheduledDropPath(5)
    callback.set_model(keras.Model(image, keras.layers.Concatenate()([first(image), second(image)])))
    callback.on_train_begin()
    assert [float(network.get_layer("drop_path").total_steps) for network in (first, second)] == [5, 5]
    callback.set_model(base(drop_path=0.0))
    callback.on_train_begin()


@pytest.mark.parametrize("wrap", WAYS)
def test_the_generators_of_dropped_paths_are_those_of_the_network(wrap):
    network = base()
    alone = seed_generators(network)
    inside = seed_generators(wrap(network))
    assert alone and [one for one in inside if any(one is other for other in alone)] == alone


@pytest.mark.parametrize("wrap", WAYS)
def test_preprocessing_inside_is_found(wrap):
    assert not training.scales_itself(wrap(base()))
    network = base(include_preprocessing=True)
    assert training.scales_itself(wrap(network)) and training.scales_itself(network)
    seen, split = [], images()
    model = wrap(network)
    model.predict = lambda batches, **_: seen.append(batches[0][0]) or np.full((len(split), 3), 1 / 3)
    training.answers_to(model, split, 8)
    np.testing.assert_array_equal(seen[0], split.images)


def test_preprocessing_on_a_foreign_graph_is_found():
    image = keras.Input((8, 8, 3))
    halved = keras.layers.Rescaling(1.0, name="same")(image)
    assert training.scales_itself(base(input_tensor=halved, input_shape=None, include_preprocessing=True))
    raised = keras.layers.Rescaling(255.0, name="raised")(image)  # that takes images in [0, 1]
    with pytest.raises(ValueError, match="`model` must take images in 0 to 255 or in"):
        training.scales_itself(base(input_tensor=raised, input_shape=None, include_preprocessing=True))


def test_what_code_of_ones_own_answers_is_not_guessed():
    with pytest.raises(ValueError, match="`model` must end in softmax.*code of its own"):
        compilation.compile_model(Own(base()), RECIPE, 2, 1)


@pytest.mark.parametrize("wrap", WAYS[:-1])
def test_half_precision_inside_has_its_loss_scaled(wrap):
    model = wrap(base(dtype="mixed_float16"))
    compilation.compile_model(model, RECIPE, 2, 1)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.long
def test_a_resumed_training_of_a_nested_network_is_the_uninterrupted_one(tmp_path):
    data = Data("colours", images(), images(4), images(4), ("a", "b", "c"), (8, 8, 3))

    def made():
        keras.utils.set_random_seed(3)
        return in_sequential(base())

    whole, part, resumed = made(), made(), made()
    training.fit(whole, data, RECIPE, epochs=2, seed=5, directory=tmp_path / "whole", validate=False)

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.fit(part, data, RECIPE, epochs=2, seed=5, directory=tmp_path / "part", validate=False,
                     callbacks=[Interrupt()])  # fmt: skip
    training.fit(resumed, data, RECIPE, epochs=2, seed=5, directory=tmp_path / "part", validate=False)
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), atol=1e-6)
    counter = resumed.layers[0].get_layer("drop_path")
    assert (float(counter.step), float(counter.total_steps)) == (4, 4)
