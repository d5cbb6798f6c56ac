"""Going on in the middle of an epoch, to the last bit; hours, averages, accumulated gradients, optimisers."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import keras
import numpy as np
import pytest
from checks import array
from test_outputs import colours, data, network, small

from nasnet_keras.models.drop_path import DropPath, DropPathSchedule
from nasnet_keras.models.layers import Operation
from nasnet_keras.training import checkpoints, fitting, recipes
from nasnet_keras.training.compilation import compile_model, set_length
from nasnet_keras.training.identity import best_of, known_epochs, settled_head_epochs
from nasnet_keras.training.transfer import fine_tune

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
RECIPE = recipes.recipe("micro", batch_size=16)
NAMES = ("red", "green", "blue")
# Everything that has a state: dropped paths and units, shifts, momentum, averages, gradients that are summed up.
FULL = {"augmentation": "digits", "moving_average": 0.9, "gradient_accumulation": 2, "batch_size": 6}


class Killed(BaseException):
    """The end of a process, as far as one process can play it."""


class Kill(keras.callbacks.Callback):
    """Ends a training after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            self.end()

    def end(self):
        """At once."""
        raise Killed


class Weights(keras.callbacks.Callback):
    """The trained weights after each epoch."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append([array(one) for one in self.model.trainable_variables])


def fit(directory, make=small, recipe=RECIPE, callbacks=(), **options):
    model = make()
    history = fitting.fit(model, data(), recipe, **{"epochs": 3, **options}, directory=directory, callbacks=callbacks)
    return model, history


def dropping():
    """A little of everything that a NASNet has: batch norm, a schedule of dropped paths, dropped units."""
    keras.utils.set_random_seed(3)
    images = keras.Input((8, 8, 3))
    progress = DropPathSchedule(name="schedule")(images)
    paths = DropPath(0.4, name="drop")(Operation("conv_3x3", 4, strides=2, name="conv")(images), progress)
    features = keras.layers.Dropout(0.3)(keras.layers.Flatten()(paths))
    return keras.Model(images, keras.layers.Dense(3, "softmax", name="b")(features))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("optimizer", "kills"),
    [("sgd", 3), *(pytest.param(*case, marks=pytest.mark.long) for case in (("adamw", 3), ("rmsprop", 20)))],
)
def test_a_training_that_was_killed_within_epochs_is_the_undisturbed_one(optimizer, kills, tmp_path, rng):
    """At random steps, again and again: weights, optimiser, averages and figures are equal to the last bit."""
    recipe = recipes.recipe("micro", **FULL, optimizer=optimizer)
    epochs = max(2, kills // 3)
    whole, known = fit(None, dropping, recipe, epochs=epochs)
    for _ in range(kills):
        with pytest.raises(Killed):
            fit(tmp_path, dropping, recipe, [Kill(rng.integers(1, 5))], epochs=epochs, checkpoint_every=2)
    resumed, history = fit(tmp_path, dropping, recipe, epochs=epochs, checkpoint_every=2)
    assert history == known
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(array(one), array(other))
    for one, other in zip(whole.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_array_equal(array(one), array(other))


@pytest.mark.usefixtures("eager")
@pytest.mark.long
def test_what_is_kept_within_an_epoch_is_let_go_with_it(tmp_path):
    def files():
        return sorted(path.name for path in tmp_path.glob("*.h5"))

    with pytest.raises(Killed):
        fit(tmp_path, callbacks=[Kill(2)], checkpoint_every=2)  # three steps are an epoch
    assert files() == ["state-0-2.weights.h5"]
    state = json.loads((tmp_path / "history.json").read_text())
    assert state["epochs"] == [] and state["inside"]["step"] == 2
    with pytest.raises(Killed):
        fit(tmp_path, callbacks=[Kill(3)], checkpoint_every=2)  # one step of the first epoch, two of the second
    assert files() == ["state-1-2.weights.h5", "state-1.weights.h5"]
    # Only one epoch is wanted now: what the second had come to does not count.
    model, history = fit(tmp_path, epochs=1)
    epochs = Weights()
    fit(None, callbacks=[epochs])
    assert len(history) == 1
    for one, other in zip(epochs.weights[0], model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    fit(tmp_path)
    assert files() == ["state-3.weights.h5"]


@pytest.mark.usefixtures("eager")
def test_a_loss_that_is_no_number_goes_back_to_the_last_epoch(tmp_path):
    class Breaks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 5:
                self.model.trainable_variables[0].assign(np.full((192, 8), np.nan))

    with pytest.raises(FloatingPointError, match="epoch 2"):
        fit(tmp_path, callbacks=[Breaks()], checkpoint_every=1)
    state = json.loads((tmp_path / "history.json").read_text())
    assert len(state["epochs"]) == 1 and "inside" not in state and state["weights"] == "state-1.weights.h5"
    assert len(fit(tmp_path, recipe=recipes.recipe("micro", batch_size=16, learning_rate=0.01))[1]) == 3


def test_steps_are_kept_somewhere():
    with pytest.raises(ValueError, match="`checkpoint_every` needs a `directory`. Received: 2"):
        fit(None, checkpoint_every=2)
    with pytest.raises(ValueError, match="`checkpoint_every` must be None or an integer from 1. Received: 0"):
        fit(None, checkpoint_every=0)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a callback moves: ten seconds a step, a hundred for the first one."""
    times = [0.0]

    class Moves(keras.callbacks.Callback):
        """Keras calls it after the package's own: a step is over when the next one begins."""

        def on_train_batch_begin(self, batch, logs=None):
            times[0] += 100.0 if not times[0] else 10.0

    kept = checkpoints.Checkpoints.__init__
    monkeypatch.setattr(
        checkpoints.Checkpoints, "__init__", lambda *args, **form: kept(*args, **form, clock=lambda: times[0])
    )
    return times, Moves


@pytest.mark.usefixtures("eager")
def test_hours_fix_the_epochs_after_the_first_one(tmp_path, clock):
    times, moves = clock
    hours = (120 + 2 * 30 + 15) / 3600  # the first epoch takes 120 seconds, others 30: two more fit
    model, history = fit(tmp_path / "a", callbacks=[moves()], epochs=50, hours=hours)
    assert len(history) == 3
    state = json.loads((tmp_path / "a" / "history.json").read_text())
    assert state["settings"]["epochs"] == 3 and state["settings"]["seconds"] == [120.0, 30.0]
    assert float(array(model.optimizer.learning_rate)) == pytest.approx(0, abs=1e-9)  # the schedule is that of three
    times[0] = 0.0
    with pytest.raises(Killed):
        fit(tmp_path / "b", callbacks=[moves(), Kill(5)], epochs=50, hours=hours)
    times[0] = 1e6  # another machine, and slower; it was fixed once
    resumed, again = fit(tmp_path / "b", callbacks=[moves()], epochs=50, hours=hours)
    assert again == history
    for one, other in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert len(fit(tmp_path / "b", callbacks=[moves()], epochs=50, hours=hours + 60 / 3600)[1]) == 5


@pytest.mark.usefixtures("eager")
def test_hours_count_the_validation_once(tmp_path, clock):
    """Also where the first epoch was interrupted near its end, and a few steps stand for all."""
    times, moves = clock
    recipe = recipes.recipe("micro", batch_size=4)

    class Looks(moves):
        def on_test_end(self, logs=None):
            times[0] += 60.0

    # The first epoch takes 270 seconds, others 180: twelve steps, and the validation.
    options = {"recipe": recipe, "epochs": 50, "hours": (270 + 2 * 180 + 15) / 3600, "checkpoint_every": 1}
    assert len(fit(tmp_path / "a", callbacks=[Looks()], **options)[1]) == 3
    times[0] = 0.0
    with pytest.raises(Killed):
        fit(tmp_path / "b", callbacks=[Looks(), Kill(9)], **options)
    assert len(fit(tmp_path / "b", callbacks=[Looks()], **options)[1]) == 3
    settings = json.loads((tmp_path / "b" / "history.json").read_text())["settings"]
    assert settings["seconds"] == [270.0, 180.0]


@pytest.mark.usefixtures("eager")
@pytest.mark.long
def test_hours_that_are_given_later_count_from_then_on(tmp_path, clock):
    moves = clock[1]
    assert len(fit(tmp_path, callbacks=[moves()], epochs=2)[1]) == 2
    assert len(fit(tmp_path, callbacks=[moves()], epochs=50, hours=(30 + 60 + 15) / 3600)[1]) == 5


@pytest.mark.usefixtures("eager")
def test_hours_that_are_not_enough_leave_one_epoch(clock):
    assert len(fit(None, callbacks=[clock[1]()], epochs=50, hours=1 / 3600)[1]) == 1
    with pytest.raises(ValueError, match="`hours` must be None or a finite number above 0. Received: 0"):
        fit(None, hours=0)
    with pytest.raises(ValueError, match="`sizes` must be None with `hours`"):
        fit(None, hours=1, sizes=[8, 8])


@pytest.mark.usefixtures("eager")
def test_hours_leave_time_for_an_update_and_say_what_has_no_effect(tmp_path, clock, caplog):
    """Three steps are an epoch, and seven an update: of fifty epochs all would be well, of those that fit not."""
    recipe, moves = recipes.recipe("micro", batch_size=16, gradient_accumulation=7), clock[1]
    with pytest.raises(Killed):
        fit(tmp_path, recipe=recipe, callbacks=[moves(), Kill(4)], epochs=50, hours=1 / 3600)
    told = "the last 2 of 9 steps make no update: `gradient_accumulation` is 7"
    assert caplog.messages.count(told) == 1 and known_epochs(tmp_path, 50, 1 / 3600) == 3
    model, history = fit(tmp_path, recipe=recipe, callbacks=[moves()], epochs=50, hours=1 / 3600)
    assert len(history) == 3 and int(model.optimizer.iterations) > 0
    assert caplog.messages.count(told) == 2 and "of 150 steps" not in caplog.text


@pytest.mark.long
@pytest.mark.usefixtures("eager")
def test_hours_of_a_fine_tuning_are_divided_between_its_phases(tmp_path, clock):
    """A quarter is the head's, which is one epoch of a step; the cells have time for three."""
    times = clock[0]

    class Moves(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            times[0] += 100.0

    def tune(place, *further, hours=4 * 110 / 3600):
        arguments = {"recipe": RECIPE, "epochs": 50, "patience": None, "directory": place, "hours": hours}
        return fine_tune(network(), colours(16), colours(3, 1), NAMES, callbacks=[Moves(), *further], **arguments)

    def lengths(place):
        return [len(json.loads((place / phase / "history.json").read_text())["epochs"]) for phase in ("head", "cells")]

    whole = tune(tmp_path / "a")
    assert lengths(tmp_path / "a") == [1, 3]
    with pytest.raises(Killed):
        tune(tmp_path / "b", Kill(3))  # in the second epoch of the cells
    times[0] += 1e6
    resumed = tune(tmp_path / "b")
    assert lengths(tmp_path / "b") == [1, 3]
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    with pytest.raises(ValueError, match="`hours` must be None or a finite number above 0. Received: nan"):
        tune(None, hours=float("nan"))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("accumulation", [1, 2])
def test_averaged_weights_are_validated_and_the_result(accumulation):
    """Keras' average begins with the weights after the first update."""

    class Seen(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.weights, self.tested = [], []

        def on_train_batch_end(self, batch, logs=None):
            self.weights.append([array(one).astype("float64") for one in self.model.trainable_variables])

        def on_test_batch_end(self, batch, logs=None):
            self.tested.append(array(self.model.trainable_variables[0]))

    recipe = recipes.recipe("micro", batch_size=16, moving_average=0.8, gradient_accumulation=accumulation)
    seen = Seen()
    model, _ = fit(None, recipe=recipe, callbacks=[seen], epochs=2)
    assert len(seen.weights) == 6
    average, kept = seen.weights[accumulation - 1], 0.8 ** (1 / accumulation)
    for step in seen.weights[accumulation:]:
        average = [kept * old + (1 - kept) * new for old, new in zip(average, step, strict=True)]
    for one, other in zip(model.trainable_variables, average, strict=True):
        np.testing.assert_allclose(array(one), other, atol=1e-6)
    np.testing.assert_array_equal(seen.tested[-1], array(model.trainable_variables[0]))
    assert np.abs(seen.weights[-1][0] - average[0]).max() > 1e-4


@pytest.mark.usefixtures("eager")
def test_averages_do_not_change_the_training(tmp_path):
    """Not with several image sizes either, each of which is a `fit` of Keras."""

    def make():
        keras.utils.set_random_seed(3)
        pool = keras.layers.GlobalAveragePooling2D()
        return keras.Sequential([keras.Input((None, None, 3)), pool, keras.layers.Dense(3, "softmax", name="b")])

    plain, averaged = Weights(), Weights()
    fit(None, make, RECIPE, [plain], sizes=[4, 8])
    fit(None, make, recipes.recipe("micro", batch_size=16, moving_average=0.9), [averaged], sizes=[4, 8])
    for one, other in zip(plain.weights[-1], averaged.weights[-1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("eager")
def test_accumulated_gradients_are_those_of_a_larger_batch():
    """Where no batch norm looks at the batch."""
    results = []
    for batch, accumulation in ((16, 1), (8, 2)):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3, name="b")])
        recipe = recipes.recipe("micro", batch_size=batch, gradient_accumulation=accumulation, schedule="exponential")
        fitting.fit(model, data(), recipe, epochs=2)
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", recipes.OPTIMIZERS)
def test_keras_optimisers_by_name(name):
    """With rates of their own for each variable, too, and their state."""
    recipe = recipes.recipe("micro", optimizer=name, decoupled_decay=0.1)
    assert recipe.learning_rate == (0.05 if name in recipes.OWN_SETTINGS else 0.001)
    for rates in (None, [1.0, 0.5]):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax", name="predictions")])
        compile_model(model, recipe, 10, 1, rates=rates)
        before = model.get_weights()
        model.train_on_batch(np.ones((2, 4)), np.zeros(2))
        assert all((one != two).any() for one, two in zip(before, model.get_weights(), strict=True))
        kind = type(model.optimizer)
        assert kind.__name__ == recipes.OPTIMIZERS[name] + ("WithRates" if rates else "")
        again = keras.optimizers.deserialize(keras.optimizers.serialize(model.optimizer))
        assert type(again) is kind


@pytest.mark.parametrize("name", recipes.OPTIMIZERS)
def test_small_gradients_move_weights_a_little(name):
    """Trained weights are not lost at the first step, also where the rate begins with 0."""
    for warmup in (0.0, 1.0):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax", name="predictions")])
        compile_model(model, recipes.recipe("micro", optimizer=name, warmup_epochs=warmup), 5, 2)
        before = [np.ones((4, 3)), np.ones(3)]
        model.set_weights(before)
        for _ in range(10):
            model.optimizer.apply([keras.ops.full((4, 3), 1e-4), keras.ops.full((3,), 1e-4)])
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_allclose(other, one, atol=0.02)


def test_decay_leaves_biases_alone():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax", name="predictions")])
    model.set_weights([np.ones((4, 3)), np.ones(3)])
    compile_model(model, recipes.recipe("micro", optimizer="adamw", decoupled_decay=0.5, learning_rate=0.1), 1000, 1)
    model.optimizer.apply([keras.ops.zeros((4, 3)), keras.ops.zeros(3)])
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(kernel, 1 - 0.5 * 0.1, rtol=1e-5)
    np.testing.assert_array_equal(bias, 1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"optimizer": "adamW2"}, "`optimizer` must be one of sgd, rmsprop, adam, adamw"),
        ({"optimizer": "adam", "momentum": 0.5}, "`momentum` is for sgd and rmsprop. Received: 0.5, adam"),
        ({"optimizer": "lion", "epsilon": 0.5}, "`epsilon` is for sgd and rmsprop. Received: 0.5, lion"),
        ({"gradient_accumulation": 0}, "`gradient_accumulation` must be an integer from 1. Received: 0"),
        ({"nesterov": True, "optimizer": "adam"}, "`nesterov` is for sgd. Received: True, adam"),
        ({"decoupled_decay": 1.5}, "`decoupled_decay` must be None or a number from 0 to below 1. Received: 1.5"),
        ({"mean_square": 2}, "`mean_square` must be one of 0, 1. Received: 2"),
    ],
)
def test_what_a_recipe_refuses(fields, said):
    with pytest.raises(ValueError, match=said):
        recipes.recipe("micro", **fields)


@pytest.mark.parametrize("schedule", ["cosine", "exponential"])
def test_the_rate_rises_first_and_takes_another_length(schedule):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax", name="predictions")])
    recipe = recipes.Recipe(learning_rate=0.4, schedule=schedule, warmup_epochs=2)
    compile_model(model, recipe, 10, 12)

    def rates(steps):
        optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(model.optimizer))
        return [float(array(optimizer._learning_rate(step))) for step in steps]

    def known(step, epochs):
        if schedule == "exponential":
            return 0.4 * min(1, step / 20) * 0.97 ** (step // 24)
        past = (step - 20) / (10 * epochs - 20)
        return 0.4 * step / 20 if step < 20 else 0.2 * (1 + np.cos(np.pi * min(past, 1)))

    steps = [0, 5, 19, 20, 30, 60, 119]
    assert rates(steps) == pytest.approx([known(step, 12) for step in steps], rel=1e-5, abs=1e-7)
    set_length(model, recipe, 10, 6)
    assert rates(steps) == pytest.approx([known(step, 6) for step in steps], rel=1e-5, abs=1e-7)


@pytest.mark.usefixtures("eager")
@pytest.mark.long
def test_a_fine_tuning_goes_on_within_an_epoch_with_its_averages(tmp_path):
    def tune(directory, callbacks=(), **options):
        settings = {"batch_size": 16, "augmentation": "none", "moving_average": 0.9}
        arguments = {"recipe": recipes.recipe("scans", **settings), "epochs": 2, "patience": None, **options}
        return fine_tune(
            network(), colours(48), colours(12, 1), NAMES, directory=directory, callbacks=callbacks, **arguments
        )

    whole = tune(None)
    with pytest.raises(Killed):
        tune(tmp_path, [Kill(5)], checkpoint_every=1)  # the second step of the second phase
    resumed = tune(tmp_path, checkpoint_every=1)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_has_no_effect_in_a_short_training_is_told():
    lines = recipes.remarks(recipes.RECIPES["imagenet"], 10, 3, network().architecture)
    assert len(lines) == 2 and "rises over 5 epochs" in lines[0] and "`moving_average` of 0.9999" in lines[1]
    assert recipes.remarks(recipes.RECIPES["imagenet"], 40000, 312, network().architecture) == []
    averaged = recipes.recipe("micro", moving_average=0.999)
    assert recipes.remarks(averaged, 1000, 4) == []
    (line,) = recipes.remarks(replace(averaged, moving_average=0.99), 5, 10)
    assert line.startswith("a `moving_average` of 0.99 averages over some 100 steps, and the training has 50")
    (line,) = recipes.remarks(replace(averaged, gradient_accumulation=8), 1000, 4)  # an average of updates
    assert line.startswith("a `moving_average` of 0.999 averages over some 8,000 steps, and the training has 4,000")


def test_what_a_recipe_averages_or_limits_can_be_left_out():
    """None is no change of a recipe, so 0 says it; a training is known by the same as one that never had it."""
    bare = recipes.recipe("imagenet", moving_average=0, clip_norm=0)
    assert bare == replace(recipes.RECIPES["imagenet"], moving_average=None, clip_norm=None)
    assert bare.moving_average is None is bare.clip_norm and recipes.Recipe(moving_average=0.0) == recipes.Recipe()
    for wrong in (1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="`moving_average` must be from 0 to below 1"):
            recipes.recipe("imagenet", moving_average=wrong)


class Presses(keras.callbacks.Callback):
    """Presses Ctrl-C, some times at once, when Keras calls one of its methods for the nth time."""

    def __init__(self, method, number=1, times=1):
        super().__init__()
        self.left, self.times = number, times
        setattr(self, method, self._press)

    def _press(self, *_, **__):
        self.left -= 1
        for _ in range(self.times * (self.left == 0)):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("eager")
def test_ctrl_c_keeps_the_last_whole_step(tmp_path, capfd):
    """In the middle of a step, of a validation, where nothing would be lost, and twice; then all is undisturbed."""
    recipe = recipes.recipe("micro", **{**FULL, "batch_size": 12})  # four steps are an epoch
    whole, known = fit(None, dropping, recipe, epochs=2)
    presses = [
        (Presses("on_train_batch_begin", 2), (0, 2)),
        (Presses("on_test_begin"), (1, None)),
        (Presses("on_epoch_begin"), (1, None)),
        (Presses("on_train_batch_begin", 3, times=2), (1, None)),
        (Presses("on_train_batch_end", 2), (1, 3)),
    ]
    seen = []
    for press, kept in presses:
        watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, dropping, recipe, [press, watch], epochs=2)
        state = json.loads((tmp_path / "history.json").read_text())
        assert (len(state["epochs"]), state.get("inside", {}).get("step")) == kept
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert seen == [0]  # other callbacks see the epoch that is kept
    assert capfd.readouterr().err.count("Ctrl-C again ends it at once") == 4
    resumed, history = fit(tmp_path, dropping, recipe, epochs=2)
    assert history == known
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(array(one), array(other))
    for one, other in zip(whole.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_array_equal(array(one), array(other))


def test_ctrl_c_is_left_to_whoever_takes_it(tmp_path):
    def own(number, frame):
        raise AssertionError

    def place():
        with checkpoints.Checkpoints(tmp_path, 0).interruptible():
            return signal.getsignal(signal.SIGINT)

    assert place() not in (own, signal.default_int_handler)
    with ThreadPoolExecutor(1) as elsewhere:
        assert elsewhere.submit(place).result() is signal.default_int_handler
    with checkpoints.Checkpoints(None, 0).interruptible():
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, own)
    try:
        assert place() is own
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.usefixtures("eager")
@pytest.mark.long
def test_ctrl_c_in_the_first_epoch_of_the_cells_goes_on_there(tmp_path):
    """Its phase has begun then: the first one is over, however many epochs there are now."""

    def tune(directory, epochs, callbacks=()):
        arguments = {"recipe": RECIPE, "epochs": epochs, "head_epochs": None, "patience": None, "callbacks": callbacks}
        return fine_tune(network(), colours(48), colours(12, 1), NAMES, directory=directory, **arguments)

    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, 2, [Presses("on_train_batch_begin", 5)])  # three steps are the head's epoch
    state = json.loads((tmp_path / "cells" / "history.json").read_text())
    assert (state["epochs"], state["inside"]["epoch"], state["inside"]["step"]) == ([], 2, 2)
    assert settled_head_epochs(tmp_path, 8) == 1
    resumed, whole = tune(tmp_path, 2), tune(None, 2)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


class Stop(Kill):
    """Ends a training after some steps, as a user's callback may."""

    def end(self):
        """After the step."""
        self.model.stop_training = True


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("steps", [1, 5])
def test_a_callback_that_stops_within_an_epoch_leaves_a_part_of_it(steps, tmp_path):
    """Three steps are an epoch; a part of one is no epoch, and its figures are those of its images."""
    options = {"epochs": 3, "patience": 5}
    whole, known = fit(None, **options)
    stopped, history = fit(tmp_path, callbacks=[Stop(steps)], **options)
    assert history == known[: steps // 3]
    if history:  # what is left is the best epoch, not a part of one
        best, _ = fit(None, callbacks=[Stop(3 * best_of(history, 5))], **options)
        for one, other in zip(best.weights, stopped.weights, strict=True):
            np.testing.assert_array_equal(array(one), array(other))
    kept = json.loads((tmp_path / "history.json").read_text())
    assert kept["inside"]["epoch"] == steps // 3 + 1 and kept["inside"]["step"] == steps % 3
    resumed, history = fit(tmp_path, **options)
    assert history == known
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(array(one), array(other))
    assert fit(None, callbacks=[Stop(3)], **options)[1] == known[:1]  # a whole one
    assert fit(None, callbacks=[Stop(1)], **options)[1] == []
