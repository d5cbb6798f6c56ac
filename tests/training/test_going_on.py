"""Going on with a training: what may change, what it means, who may write, and a disk that is full."""

import errno
import json
import logging
import threading
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image
from test_outputs import NAMES, colours, data, network, small

from nasnet_keras.data.arrays import data_of_parts
from nasnet_keras.data.loading import load_data
from nasnet_keras.files import alone_in
from nasnet_keras.training import checkpoints, compilation, fitting, recipes
from nasnet_keras.training.identity import (
    PHASES,
    check_place,
    check_resumption,
    content_identity,
    network_identity,
    settled_head_epochs,
    told,
    training_identity,
)
from nasnet_keras.training.transfer import fine_tune
from nasnet_keras.weights.zoo import paths_of

pytestmark = [
    pytest.mark.usefixtures("eager"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`"),
]
PAIR = np.zeros((4, 8, 8, 3), "uint8"), [0, 1, 0, 1]
RECIPE = recipes.recipe("micro", batch_size=16)
PLAIN = recipes.recipe("scans", batch_size=16, augmentation="none")


class Trained(keras.callbacks.Callback):
    """Which epochs were really trained."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch + 1)


class Breaks(keras.callbacks.Callback):
    """Spoils the weights before an epoch, as a learning rate that is too high does."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch + 1 == self.epoch:
            for weight in self.model.trainable_variables:
                weight.assign(np.full(weight.shape, np.inf))


def history(directory):
    return json.loads((directory / "history.json").read_text())


def train(directory, epochs, recipe=RECIPE, callbacks=(), **options):
    seen = Trained()
    model = small()
    fitting.fit(model, data(), recipe, epochs=epochs, directory=directory, callbacks=[seen, *callbacks], **options)
    return model, seen.epochs


def test_more_epochs_go_on_and_it_is_said_what_that_means(tmp_path, caplog):
    assert train(tmp_path, 2)[1] == [1, 2]
    identity = training_identity(data(), RECIPE, 0)
    assert check_resumption(tmp_path, identity, 2) == []
    change = {"what": "epochs", "after": 2, "from": 2, "to": 4}
    assert check_resumption(tmp_path, identity, 4) == [change]
    (line,) = told(tmp_path, [change])
    assert line.startswith(f"goes on in {tmp_path}: 4 epochs instead of 2") and "\n" not in line
    with caplog.at_level(logging.WARNING, "nasnet_keras"):
        model, trained = train(tmp_path, 4)
    assert trained == [3, 4] and line in caplog.messages
    # The schedule is now that of four epochs: cosine, half-way down after two of them.
    rate = model.optimizer.learning_rate
    assert int(model.optimizer.iterations) == 12 and float(np.asarray(rate)) == pytest.approx(0, abs=1e-9)
    assert history(tmp_path)["changes"] == [change] and history(tmp_path)["settings"]["epochs"] == 4
    assert train(tmp_path, 4)[1] == [] == train(tmp_path, 3)[1]
    assert history(tmp_path)["changes"] == [change]  # nothing has been trained since


LENGTHS = [  # epochs and patience before and now, and what is said of it
    ((6, None), (6, None), None),
    ((6, None), (3, None), "4 epochs are done of the 6 for which the learning rate was planned, and 3 are wanted"),
    ((6, None), (4, None), "4 epochs are done of the 6 for which the learning rate was planned, and 4 are wanted"),
    ((6, None), (5, None), "5 epochs instead of 6, after 4 here"),
    ((4, None), (3, None), "4 epochs are done, and 3 are wanted (by `epochs` or `hours`): none is trained"),
    ((6, 9), (6, 3), "it ends after 4 epochs, 3 of them without a better one, by a patience of 3 instead of 9"),
    ((6, 9), (8, 2), "it ends after 4 epochs, 3 of them without a better one, by a patience of 2 instead of 9"),
    ((6, 9), (6, 8), "a patience of 8 instead of 9 after 4 epochs"),
    ((6, None), (6, 2), "a patience of 2 instead of None after 4 epochs"),  # whose best weights were not kept
    ((6, 3), (6, 3), None),
    ((6, 3), (8, 3), "it ended after 4 epochs, 3 of them without a better one"),
    ((6, 3), (2, 3), "4 epochs are done, and 2 are wanted"),
    ((6, 3), (6, 2), "it ends after 4 epochs"),
]


@pytest.mark.parametrize(("before", "now", "says"), LENGTHS)
def test_a_length_at_which_a_training_is_over_is_told(before, now, says, tmp_path):
    """Of four epochs, the first of them the best one."""
    epochs = [{"epoch": number, "val_accuracy": 1 / number} for number in range(1, 5)]
    state = {"epochs": epochs, "settings": dict(zip(("epochs", "patience"), before, strict=True))}
    (tmp_path / "history.json").write_text(json.dumps(state))
    lines = told(tmp_path, check_resumption(tmp_path, {}, *now))
    if says is None:
        assert lines == []
    else:
        assert lines[0].startswith(f"goes on in {tmp_path}: {says}")
    assert any("has not come down" in line for line in lines) == ("done of the 6" in (says or ""))


def test_a_lower_rate_goes_on_after_a_loss_that_is_no_number(tmp_path):
    with pytest.raises(FloatingPointError, match="epoch 3"):
        train(tmp_path, 4, callbacks=[Breaks(3)])
    state = history(tmp_path)
    assert len(state["epochs"]) == 2 and state["failure"].endswith("epoch 3: a lower learning rate may help")
    higher = replace(RECIPE, learning_rate=0.5)
    with pytest.raises(ValueError, match=r"`learning_rate` must be at most 0.05, because the loss is .*Received: 0.5"):
        train(tmp_path, 4, higher)
    model, trained = train(tmp_path, 4, replace(RECIPE, learning_rate=0.01))
    assert trained == [3, 4] and all(np.isfinite(value).all() for value in model.get_weights())
    state = history(tmp_path)
    (change,) = state["changes"]
    assert (change["what"], change["from"], change["to"], change["after"]) == ("learning_rate", 0.05, 0.01, 2)
    assert "failure" not in state and state["identity"]["`learning_rate`"] == 0.01
    with pytest.raises(ValueError, match="other `learning_rate`"):  # nothing went wrong with this one
        train(tmp_path, 5, replace(RECIPE, learning_rate=0.001))


def test_a_failure_in_the_first_epoch_leaves_the_directory_to_whoever_comes(tmp_path):
    with pytest.raises(FloatingPointError, match="epoch 1"):
        train(tmp_path, 2, callbacks=[Breaks(1)])
    assert train(tmp_path, 2, replace(RECIPE, learning_rate=0.5), seed=9)[1] == [1, 2]


def test_an_epoch_that_ends_in_infinities_is_not_kept(tmp_path):
    """The last step of an epoch may be the one that breaks it: no loss has shown it then."""

    class BreaksAtTheEnd(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2 and self.params["epochs"] and int(self.model.optimizer.iterations) == 6:
                self.model.trainable_variables[0].assign(np.full(self.model.trainable_variables[0].shape, np.nan))

    with pytest.raises(FloatingPointError, match="is not finite after epoch 2"):
        train(tmp_path, 3, callbacks=[BreaksAtTheEnd()], validate=False)
    assert len(history(tmp_path)["epochs"]) == 1 and "failure" in history(tmp_path)
    assert train(tmp_path, 3, replace(RECIPE, learning_rate=0.01), validate=False)[1] == [2, 3]


@pytest.mark.parametrize("options", [{"seed": 1}, {"class_weights": [1, 2, 3]}], ids=["seed", "class_weights"])
def test_what_makes_a_training_must_be_the_same(options, tmp_path):
    train(tmp_path, 1)
    with pytest.raises(ValueError, match="`directory`.*other"):
        train(tmp_path, 2, **options)
    assert len(history(tmp_path)["epochs"]) == 1


def test_a_network_of_the_same_weights_may_be_another(tmp_path):
    fitting.fit(network(repeats=(1,)), data(), RECIPE, epochs=1, directory=tmp_path)
    with pytest.raises(ValueError, match="`directory`.*other `dropout`"):
        fitting.fit(network(repeats=(1,), dropout=0.5), data(), RECIPE, epochs=2, directory=tmp_path)


def tune(directory, model=None, **options):
    seen = Trained()
    arguments = {
        "recipe": recipes.recipe("scans", batch_size=16, augmentation="none"),
        "epochs": 4,
        "head_epochs": None,
    }
    arguments |= {"patience": None, "callbacks": [seen], "directory": directory, **options}
    return fine_tune(model or network(), colours(48), colours(12, 1), NAMES, **arguments), seen.epochs


@pytest.mark.long
def test_more_epochs_of_a_fine_tuning_go_to_its_last_phase(tmp_path):
    assert tune(tmp_path, epochs=4)[1] == [1, 2, 3, 4]  # one with the cells frozen
    head = (tmp_path / "head" / "history.json").read_bytes()
    tuned, trained = tune(tmp_path, epochs=8)
    assert trained == [5, 6, 7, 8] and (tmp_path / "head" / "history.json").read_bytes() == head
    epochs = [line["epoch"] for line in history(tmp_path / "cells")["epochs"]]
    assert epochs == [2, 3, 4, 5, 6, 7, 8]
    assert fitting.evaluate(tuned, colours(30, 5)) == fitting.evaluate(
        keras.saving.load_model(tmp_path / "model.keras"), colours(30, 5)
    )
    with pytest.raises(ValueError, match="`head_epochs` must be 1 .*where that phase is over. Received: 3"):
        tune(tmp_path, epochs=8, head_epochs=3)
    with pytest.raises(ValueError, match="`epochs` must be at least 8 .*where so many are done. Received: 1"):
        tune(tmp_path, epochs=1)
    assert tune(tmp_path, epochs=8)[1] == []


@pytest.mark.long
def test_a_head_that_was_trained_alone_stays_when_the_cells_follow(tmp_path):
    assert tune(tmp_path, epochs=3, unfreeze="head")[1] == [1, 2, 3]
    assert settled_head_epochs(tmp_path, 5) == 3
    assert tune(tmp_path, epochs=5)[1] == [4, 5]


@pytest.mark.long
def test_another_patience_goes_on_where_the_old_one_had_ended(tmp_path):
    constant = replace(PLAIN, learning_rate=1e-12)
    options = {"recipe": constant, "head_epochs": 0, "batch_norm": "frozen"}
    assert tune(tmp_path, epochs=9, patience=2, **options)[1] == [1, 2, 3]
    identity = training_identity(data(), replace(constant, learning_rate=3e-13), 0)
    (ended,) = check_resumption(tmp_path / "cells", identity, 12, 2)
    assert ended["what"] == "ended" and "need a greater `patience`" in told(tmp_path, [ended])[0]
    assert tune(tmp_path, epochs=9, patience=4, **options)[1] == [4, 5]
    assert history(tmp_path / "cells")["changes"] == [{"what": "patience", "after": 3, "from": 2, "to": 4}]


@pytest.mark.long
def test_a_lower_rate_after_a_failure_in_the_second_phase_leaves_the_first_as_it_is(tmp_path):
    with pytest.raises(FloatingPointError):
        tune(tmp_path, callbacks=[Breaks(2)])
    head = (tmp_path / "head" / "history.json").read_bytes()
    seen = Trained()
    tune(
        tmp_path,
        recipe=recipes.recipe("scans", batch_size=16, augmentation="none", learning_rate=0.01),
        callbacks=[seen],
    )
    assert seen.epochs == [2, 3, 4] and (tmp_path / "head" / "history.json").read_bytes() == head


@pytest.mark.parametrize("start", [lambda *args, **form: train(args[0], 2, **form), tune], ids=["fit", "fine_tune"])
def test_a_second_training_in_a_directory_is_refused(start, tmp_path):
    said = []

    def another():
        try:
            start(tmp_path)
        except ValueError as error:
            said.append(str(error))

    class Second(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            thread = threading.Thread(target=another)
            thread.start()
            thread.join()

    start(tmp_path, callbacks=[Second()])
    assert set(said) == {f"`directory` {tmp_path} is in use: another training writes there. End it first"}
    start(tmp_path)  # it is over


@pytest.mark.parametrize("start", ["fit", "fine_tune"])
def test_a_training_that_is_refused_leaves_no_record(start, tmp_path):
    """The first one there has not kept a state yet, so that nothing but its lock says that it is there."""
    found = load_data(str(folder_of(tmp_path / "photos")), image_size=(8, 8))
    with alone_in("directory", tmp_path), pytest.raises(ValueError, match="is in use"):
        if start == "fit":
            fitting.fit(network(), found, RECIPE, epochs=1, directory=tmp_path)
        else:
            fine_tune(network(), found.train, found.validation, found.class_names, recipe=RECIPE, directory=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


@pytest.mark.parametrize("fault", ["weights", "history"])
def test_a_full_disk_keeps_the_last_state(fault, tmp_path, monkeypatch):
    place, calls = {"weights": checkpoints.files, "history": checkpoints}[fault], []
    write = place.write_atomically

    def full(path, content):
        calls.append(path.name)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    with monkeypatch.context() as patches:
        patches.setattr(place, "write_atomically", full)
        with pytest.raises(OSError, match="No space left on device, so the state of epoch 1 is kept; run again"):
            train(tmp_path, 3)
    assert calls[1] == {"weights": "state-2.weights.h5", "history": "history.json"}[fault]
    assert history(tmp_path)["weights"] == "state-1.weights.h5" and (tmp_path / "state-1.weights.h5").exists()
    whole, _ = train(None, 3)
    resumed, trained = train(tmp_path, 3)
    assert trained == [2, 3]
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_model_that_finds_no_room_leaves_the_one_before(tmp_path, monkeypatch):
    fitting.save_model(network(), tmp_path)
    before = (tmp_path / "model.keras").read_bytes()

    def save(self, path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", save)
    with pytest.raises(OSError, match="No space left on device"):
        fitting.save_model(network(), tmp_path)
    assert (tmp_path / "model.keras").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_the_scale_of_a_loss_in_float16_goes_on(tmp_path):
    """Keras makes the variables of its `LossScaleOptimizer` anew whenever it is built, and then reads none of them."""

    class Scale(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            found.append(float(self.model.optimizer.dynamic_scale))

        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.dynamic_scale.assign(1024.0)

    found = []
    for epochs in (1, 2):
        model = network(repeats=(1,), dtype="mixed_float16")
        fitting.fit(model, data(), RECIPE, epochs=epochs, directory=tmp_path, callbacks=[Scale()], validate=False)
    assert len(history(tmp_path)["epochs"]) == 2 and found == [2.0**15, 1024.0]


def test_another_type_of_computation_is_another_training(tmp_path):
    fitting.fit(network(repeats=(1,)), data(), RECIPE, epochs=1, directory=tmp_path)
    with pytest.raises(ValueError, match="`directory`.*other `dtype`"):
        fitting.fit(network(repeats=(1,), dtype="mixed_float16"), data(), RECIPE, epochs=2, directory=tmp_path)


def test_updates_that_never_come_are_refused_and_a_rest_is_told(tmp_path, caplog):
    steps = len(fitting.training_batches(data(), RECIPE, 0))
    with pytest.raises(ValueError, match=f"`gradient_accumulation` must be at most {steps}, the steps"):
        train(None, 1, replace(RECIPE, gradient_accumulation=steps + 1))
    train(None, 1, replace(RECIPE, gradient_accumulation=2))
    told = f"the last 1 of {steps} steps make no update: `gradient_accumulation` is 2" in caplog.text
    assert told == bool(steps % 2)


def test_nothing_to_watch_is_refused_by_its_name_and_without_a_list_of_files():
    images = data()
    none = replace(images, validation=images.train.select([]))
    with pytest.raises(ValueError, match="`validate` must be False where the data have no validation images") as caught:
        fitting.fit(small(), none, RECIPE, epochs=1)
    assert len(str(caught.value)) < 200 and "Record" not in repr(images.train)
    tuned = fine_tune(network(), colours(48), colours(12, 1).select([]), NAMES, recipe=PLAIN, epochs=1)
    assert tuned.class_names == NAMES


def test_the_mean_square_is_for_rmsprop():
    with pytest.raises(ValueError, match="`mean_square` is for rmsprop. Received: 1, sgd"):
        recipes.Recipe(mean_square=1)
    assert recipes.recipe("imagenet", optimizer="adamw", momentum=0.9, epsilon=1.0).mean_square == 0


def begun(folder):
    """A folder of a training."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.json").write_text("{}")
    return folder


def test_a_directory_is_of_one_kind_of_training(tmp_path, monkeypatch):
    """A `train` would put its model over a fine-tuning's, and the reverse."""
    monkeypatch.setattr(fitting, "_fit", lambda *_: pytest.fail("it is trained"))
    trained, tuned = begun(tmp_path / "trained"), begun(tmp_path / "tuned/cells").parent
    for start in (lambda: tune(trained), lambda: check_place(str(trained), ["all"])):
        with pytest.raises(ValueError, match="`directory` .*trained holds a training that is no fine-tuning. Choose"):
            start()
    for start in (lambda: train(tuned, 1), lambda: check_place(tuned)):
        with pytest.raises(ValueError, match="`directory` .*tuned holds a fine-tuning: this training is none. Choose"):
            start()
    with pytest.raises(ValueError, match="holds another fine-tuning: its phase cells is none of this one's"):
        tune(tuned, epochs=2, unfreeze="head")
    assert not [*tmp_path.rglob("data.json")]
    check_place(trained), check_place(tuned, ["head", "cells"]), check_place(tmp_path / "new"), check_place(None)


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.keras", "mine"), ("result.json", "{}"), ("search.json", "{}"), ("data.json", '{"rows": []}')],
)
def test_what_no_training_has_left_in_a_directory_stays(name, content, tmp_path, monkeypatch):
    """A network of a search's, a model or data of one's own: whatever would be written under its name."""
    monkeypatch.setattr(fitting, "_fit", lambda *_: pytest.fail("it is trained"))
    (tmp_path / name).write_text(content)
    rule = f"`directory` .* holds {name}, which no training there has written. Choose another directory, or move"
    unread = range(3)  # what is no data at all
    for start in (lambda: train(tmp_path, 1), lambda: fine_tune(network(), unread, None, NAMES, directory=tmp_path)):
        with pytest.raises(ValueError, match=rule):
            start()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content
    for phases in ([], ["head", "cells"], ["all"]):  # in which it is the training's own
        place = begun(tmp_path / "-".join(["own", *phases]) / (phases or ["."])[0]) / ("." if not phases else "..")
        (place / name).write_text(content)
        check_place(place, phases)
    # A phase leaves no model in its own folder, but a record of the data.
    below = tmp_path / "project" / "cells"
    below.mkdir(parents=True)
    (below / name).write_text(content)
    if name == "data.json":
        with pytest.raises(ValueError, match=rule):
            check_place(below.parent, PHASES)
    else:
        check_place(below.parent, PHASES)
        monkeypatch.undo()
        assert train(below, 1)[1] == [1]


def test_a_fine_tuning_does_not_end_in_the_directory_that_it_starts_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitting.save_model(network(), "net")
    (tmp_path / "link").symlink_to("net")
    (tmp_path / "weights").mkdir()
    network().save_weights("weights/own.weights.h5")
    kept = (tmp_path / "net/model.keras").read_bytes()
    (tmp_path / "loop").symlink_to("loop")
    check_place("other", ["all"], ["loop"])  # which others refuse
    for directory in ("net", "./net/", "link", tmp_path / "net"):
        for source in ("net", "net/model.keras", tmp_path / "link"):
            for given in ({"model": source}, {"model": network(), "weights": source}):
                model = given.pop("model")
                with pytest.raises(ValueError, match="`directory` must be another one than the model's"):
                    fine_tune(model, colours(48), None, NAMES, directory=directory, **given)
    assert (tmp_path / "net/model.keras").read_bytes() == kept
    assert paths_of("NASNetCIFAR", "cifar10") == [] == paths_of(network(), "none")
    check_place("weights", ["all"], paths_of(network(), "weights/own.weights.h5"))  # which nothing overwrites


def test_a_fine_tuning_goes_on_from_the_weights_that_it_began_with(tmp_path):
    """Another model of the same architecture would have no say any more, and the card would name it."""
    other = network()
    other.set_weights([value + 0.1 for value in other.get_weights()])
    options = {"epochs": 1, "unfreeze": "head"}
    tune(tmp_path / "mine", **options)
    fitting.save_model(network(), tmp_path / "net")
    for same in (None, tmp_path / "net"):  # wherever they lie
        assert tune(tmp_path / "mine", same, **options)[1] == []
    with pytest.raises(ValueError, match="`directory`.*it has other weights to start from"):
        tune(tmp_path / "mine", other, **options)
    state = history(tmp_path / "mine/head")
    del state["identity"]["weights to start from"]  # as an earlier version wrote it
    (tmp_path / "mine/head/history.json").write_text(json.dumps(state))
    assert tune(tmp_path / "mine", other, **options)[1] == []


def test_what_a_head_has_been_trained_is_named_by_the_option_that_was_given(tmp_path):
    begun(tmp_path / "head").joinpath("history.json").write_text(json.dumps({"epochs": [{"epoch": 1}] * 3}))
    with pytest.raises(ValueError, match="`epochs` must be above 3 in .*the head has had so many. Received: 2"):
        settled_head_epochs(tmp_path, 2)
    for given in (0, 2):
        with pytest.raises(ValueError, match=f"`head_epochs` must be at least 3 in .*so many. Received: {given}"):
            settled_head_epochs(tmp_path, 9, given)
    assert [settled_head_epochs(tmp_path, 9, given) for given in (None, 3, 5)] == [3, 3, 5]
    assert settled_head_epochs(tmp_path, 2, hours=1) == 3 and settled_head_epochs(tmp_path, 2, unfreeze="head") is None


def test_batch_norms_do_not_begin_to_follow_the_batch_in_the_midst_of_a_training(tmp_path):
    model = network()
    for layer in model.layers:
        layer.frozen_statistics = True
    frozen, free = network_identity(model), network_identity(network())
    for before, after in ((frozen, free), (free, frozen)):
        (tmp_path / "history.json").write_text(json.dumps({"identity": before, "epochs": [{"epoch": 1}]}))
        assert check_resumption(tmp_path, before) == []
        with pytest.raises(ValueError, match="`directory`.*it has other batch norms that keep their statistics"):
            check_resumption(tmp_path, after)
    del before["batch norms that keep their statistics"]  # as an earlier version wrote it
    (tmp_path / "history.json").write_text(json.dumps({"identity": before, "epochs": [{"epoch": 1}]}))
    assert check_resumption(tmp_path, frozen) == []


def test_files_that_nothing_else_knows_are_known_by_their_names_and_labels(tmp_path):
    """Pairs of Python's: of equal number and classes others are others; a moved folder is the same."""

    def known(folder, names="abcd", labels=(0, 1, 0, 1)):
        (tmp_path / folder).mkdir(exist_ok=True)
        paths = [tmp_path / folder / f"{name}.png" for name in names]
        for path in paths:
            Image.new("RGB", (8, 8)).save(path)
        pairs = list(zip(map(str, paths), labels, strict=True))
        found = load_data(pairs, validation=0, test=0), load_data(pairs, validation=0, test=0, memory_limit=0)
        one, other = map(content_identity, found)  # in memory, and as files
        assert one == other
        return one["images"]

    assert known("here") == known("there")
    assert len({known("here"), known("here", "abce"), known("here", labels=(1, 1, 0, 1))}) == 3


def test_other_files_of_the_same_names_are_other_images(tmp_path):
    """As they are in a folder; what an earlier version knew by its names alone goes on."""

    def known(folder, part, colour):
        (tmp_path / folder).mkdir()
        for name in "abcd":
            Image.new("RGB", (8, 8), colour).save(tmp_path / folder / f"{name}.bmp")  # of the same size
        pair = [str(tmp_path / folder / f"{name}.bmp") for name in "abcd"], [0, 1, 0, 1]
        return whole_identity(data_of_parts(*((pair, None) if part == "train" else (PAIR, pair)), 2))

    before = ", as kept before"
    for part, what, said in (("train", "images", "images"), ("validation", "validation images", "validation images")):
        raw, masked = known(f"{part} raw", part, "red"), known(f"{part} masked", part, "blue")
        assert raw[f"{what}{before}"] == masked[f"{what}{before}"]
        place = state_of(tmp_path / part, raw)
        assert check_resumption(place, raw) == []
        with pytest.raises(ValueError, match=f"it has other {said}"):
            check_resumption(place, masked)
        old = {key: value for key, value in raw.items() if not key.endswith(before)} | {what: raw[f"{what}{before}"]}
        assert check_resumption(state_of(tmp_path / f"{part} before", old), raw) == []


def test_a_training_of_numbers_goes_on_where_data_now_bring_names(tmp_path):
    """Earlier versions did not see what some data call their classes."""
    place, names = state_of(tmp_path / "a", {"classes": ["0", "1", "2"]}), ["ant", "bee", "cat"]
    assert check_resumption(place, {"classes": names}) == []
    other = state_of(tmp_path / "b", {"classes": ["0", "1", "3"]})
    for folder, classes in ((place, names[:2]), (place, [*names, "dog"]), (other, names)):
        with pytest.raises(ValueError, match="it has other classes"):
            check_resumption(folder, {"classes": classes})


def folder_of(root, count=6, names="ab"):
    """A folder of two classes of little images, each of its own colour."""
    for label in names:
        (root / label).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (20 * number, ord(label), 0)).save(root / label / f"{number}.png")
    return root


def state_of(place, identity):
    place.mkdir()
    (place / "history.json").write_text(json.dumps({"identity": identity, "epochs": [{"epoch": 1}]}))
    return place


def whole_identity(found, validate=True):
    return training_identity(found, PLAIN, 0) | content_identity(found, validate)


@pytest.mark.parametrize("memory_limit", [0, 1 << 30], ids=["files", "memory"])
def test_a_training_goes_on_over_its_own_images_alone(memory_limit, tmp_path):
    """What a data set is known by does not say which of its images are for training, and by which labels."""
    photos = folder_of(tmp_path / "photos")

    def loaded(seed=1, limit=6):
        options = {"validation": 0, "test": 0, "memory_limit": memory_limit}
        return load_data(photos, limit=limit, seed=seed, **options)

    found = loaded()
    place = state_of(tmp_path / "net", whole_identity(found))
    assert check_resumption(place, whole_identity(loaded())) == []
    others = {
        "seed": loaded(2),
        "subset": replace(found, train=loaded(limit=12).train.take(6, 2)),
        "labels": replace(found, train=replace(found.train, labels=1 - found.train.labels)),
        "order": replace(found, train=found.train.select(np.arange(6)[::-1])),
    }
    for other in others.values():
        with pytest.raises(ValueError, match="it has other training images .by `limit`, `seed`"):
            check_resumption(place, whole_identity(other))
    with pytest.raises(ValueError, match=r"other number of training images .6, here 5; by `limit`"):
        check_resumption(place, whole_identity(replace(found, train=found.train.select(np.arange(5)))))
    (photos.parent / "photos").rename(tmp_path / "elsewhere")
    photos = tmp_path / "elsewhere"
    assert check_resumption(place, whole_identity(loaded())) == []
    earlier = {key: value for key, value in whole_identity(found).items() if "training images" not in key}
    assert check_resumption(state_of(tmp_path / "old", earlier), whole_identity(others["seed"])) == []


def test_a_file_that_can_be_read_again_is_another_training_image_which_is_told(tmp_path):
    photos = folder_of(tmp_path / "photos")
    (broken := photos / "a" / "3.png").chmod(0)
    sound = broken.stat()
    content, found = None, load_data(photos, validation=0, test=0)
    if not found.train.broken:  # to root every file is readable
        content = (photos / "a" / "3.png").read_bytes()
        broken.write_bytes(bytes(sound.st_size))
        found = load_data(photos, validation=0, test=0)
    place = state_of(tmp_path / "net", whole_identity(found))
    assert check_resumption(place, whole_identity(found)) == [] and found.train.broken == 1
    broken.chmod(0o600)
    if content is not None:
        broken.write_bytes(content)
    again = load_data(photos, validation=0, test=0)
    assert again.digest == found.digest and len(again.train) == 12
    changes = check_resumption(place, whole_identity(again))
    assert [change["what"] for change in changes] == ["files"]
    assert "other files cannot be read than before (0, then 1): it goes on" in told(place, changes)[0]
    other = replace(found, train=replace(found.train.select(np.arange(11)[::-1]), broken=1))  # another one is broken
    assert [change["what"] for change in check_resumption(place, whole_identity(other))] == ["files"]
    others = replace(again, train=again.train.select(range(11)))  # not by a file that cannot be read
    with pytest.raises(ValueError, match="other number of training images"):
        check_resumption(place, whole_identity(others))


def test_balanced_classes_go_on_with_other_factors_where_files_are_broken(tmp_path):
    """What was asked is the same; the factors that follow are those of the files that can be read."""

    def known(found):
        factors = compilation.factors_of("balanced", found)
        return whole_identity(found) | network_identity(small(), factors, balanced=True)

    whole = data()
    fewer = replace(whole, train=replace(whole.train.select(np.arange(1, len(whole.train))), broken=1))
    options = {"epochs": 1, "class_weights": "balanced"}
    fitting.fit(small(), whole, PLAIN, directory=tmp_path, **options)
    identity = history(tmp_path)["identity"]
    assert identity["`class_weights`"] == "balanced"
    identity["`class_weights`"] = identity.pop("`class_weights`, as kept before")
    for place in (tmp_path, state_of(tmp_path / "old", identity)):  # as an earlier version left it
        assert check_resumption(place, known(whole)) == []
        assert [change["what"] for change in check_resumption(place, known(fewer))] == ["files"]
    fitting.fit(model := small(), fewer, PLAIN, directory=tmp_path, **{**options, "epochs": 2})
    assert model.loss.class_weights == compilation.factors_of("balanced", fewer) != [1, 1, 1]
    with pytest.raises(ValueError, match="it has other `class_weights`"):
        fitting.fit(small(), fewer, PLAIN, directory=tmp_path, **{**options, "class_weights": [1, 2, 3]})
    given = state_of(tmp_path / "given", whole_identity(whole) | network_identity(small(), [1, 2, 3]))
    with pytest.raises(ValueError, match="it has other `class_weights`"):  # whatever became of files
        check_resumption(given, known(fewer))


def test_a_training_is_watched_by_the_images_that_watched_it_before(tmp_path):
    def watched(seed):
        return replace(data(), validation=colours(12, seed))

    place = state_of(tmp_path / "net", whole_identity(watched(1)))
    assert check_resumption(place, whole_identity(watched(1))) == []
    assert check_resumption(place, whole_identity(watched(2), validate=False)) == []
    with pytest.raises(ValueError, match="it has other validation images"):
        check_resumption(place, whole_identity(watched(2)))
    fitting.fit(small(), watched(1), PLAIN, epochs=1, directory=tmp_path / "real")
    fitting.fit(small(), watched(1), PLAIN, epochs=2, validate=False, directory=tmp_path / "real")
    with pytest.raises(ValueError, match="it has other validation images"):  # also after an epoch without any
        fitting.fit(small(), watched(2), PLAIN, epochs=3, directory=tmp_path / "real")


def test_a_refusal_names_the_options_that_decide(tmp_path):
    place = state_of(tmp_path / "net", training_identity(data(), PLAIN, 0))
    with pytest.raises(
        ValueError, match=r"`learning_rate` .0.05, here 0.01; by `learning_rate` and `rate_factor`.\. Ch"
    ):
        check_resumption(place, training_identity(data(), replace(PLAIN, learning_rate=0.01), 0))


def test_what_is_for_cells_that_learn_does_not_count_where_they_stand_still(tmp_path):
    def standing(**options):
        model = network(**options)
        for layer in model.layers:
            layer.trainable = layer.name == "logits"
        return model

    model = standing()
    known = network_identity(model)
    others = [(standing(batch_norm_momentum=0.5), None), (standing(drop_path=0.3), None), (model, [1.0, 1.0])]
    frozen = standing()
    for layer in frozen.layers:
        layer.frozen_statistics = layer.name != "logits"
    for other, rates in [*others, (frozen, None)]:
        assert network_identity(other, rates=rates) == known
    assert network_identity(network(batch_norm_momentum=0.5)) != network_identity(network())
    free = network()
    rates = [0.5] * len(free.trainable_variables)
    assert network_identity(free, rates=rates)["layers that learn"] != network_identity(free)["layers that learn"]
    # An earlier version told rates of 1 from none.
    earlier = network_identity(model) | {"layers that learn": known["layers that learn, as kept before"]}
    del earlier["layers that learn, as kept before"]
    place = state_of(tmp_path / "net", earlier)
    assert check_resumption(place, known) == []
    with pytest.raises(ValueError, match="other layers that learn .by `unfreeze` and `layer_decay`"):
        check_resumption(place, network_identity(free))
