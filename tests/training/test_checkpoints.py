"""The state of a training: which epoch is the best, when it is over, and what is kept."""

import json

import keras
import numpy as np
import pytest

from nasnet_keras.training import checkpoints
from nasnet_keras.training.checkpoints import Checkpoints


def model():
    built = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")], name="net")
    built.compile("sgd", "mse")
    built.optimizer.build(built.trainable_variables)
    return built


ACCURACIES = [(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.6, 0.5), (0.7, 0.8), (0.7, 0.85), (0.9, 0.1)]


def run(directory, patience, until=7, fresh=None):
    """Go through epochs of known figures until the state stops it; the n-th epoch leaves weights of n."""
    trained = fresh or model()
    state = Checkpoints(directory, 0, patience=patience)
    state.set_model(trained)
    state.restore(trained)
    trained.stop_training = state.has_ended()
    for epoch in range(len(state.history), until):
        if trained.stop_training:
            break
        state.on_epoch_begin(epoch)
        for weight in trained.weights:
            weight.assign(np.full(weight.shape, epoch + 1.0))
        accuracy, loss = ACCURACIES[epoch]
        others = {"accuracy": 1.0, "val_user_accuracy": -float(epoch)}  # which come first
        state.on_epoch_end(epoch, {**others, "val_accuracy": accuracy, "val_loss": loss})
    return state, trained


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_best_epoch_counts_and_a_worse_while_ends_it(on_disk, tmp_path):
    directory = tmp_path / "net" if on_disk else None
    state, trained = run(directory, patience=3)
    # Epoch 3 has epoch 2's accuracy and a lower loss; 5 only equals it, so after 6 it is over.
    assert len(state.history) == 6 and state.best() == 3 and state.has_ended()
    state.finish(trained)
    assert set(np.concatenate([value.ravel() for value in trained.get_weights()])) == {3.0}
    state, trained = run(None, patience=None)
    assert len(state.history) == 7 and state.best() == 7 and not state.has_ended()


def test_what_was_decided_before_a_kill_is_decided_after_it(tmp_path):
    whole, _ = run(None, patience=3)
    for until in range(1, 8):
        state, trained = run(tmp_path, patience=3, until=until)
        names = {path.name for path in tmp_path.glob("*.h5")}
        last = len(state.history)
        assert names == {f"state-{last}.weights.h5", f"state-{state.best()}.weights.h5"}
    assert state.history == whole.history and state.has_ended()
    state.finish(trained)
    assert trained.get_weights()[1][0] == 3.0


def test_a_half_written_epoch_is_no_epoch(tmp_path):
    run(tmp_path, patience=3, until=2)
    (tmp_path / "state-3.weights.h5").write_bytes(b"half of i")
    state, trained = run(tmp_path, patience=3, until=2)
    assert len(state.history) == 2 and trained.get_weights()[1][0] == 2.0
    state, _ = run(tmp_path, patience=3)
    assert len(state.history) == 6


def test_what_a_kill_left_of_a_file_is_removed(tmp_path):
    run(tmp_path, patience=3, until=1)
    (tmp_path / ".state-2.weights.h5.ab12cd").write_bytes(b"half of i")
    run(tmp_path, patience=3, until=2)
    assert not list(tmp_path.glob(".state-*"))


def test_a_best_epoch_whose_weights_were_lost_is_refused(tmp_path):
    run(tmp_path, patience=5, until=4)
    (tmp_path / "state-3.weights.h5").unlink()
    with pytest.raises(ValueError, match="it kept no weights of epoch 3, its best"):
        run(tmp_path, patience=5)


def test_with_patience_from_now_on_the_best_counts_from_the_epoch_that_was_kept(tmp_path):
    run(tmp_path, patience=None, until=4)
    state, _ = run(tmp_path, patience=2)
    # Epoch 3 was better than 4, and nobody kept it. From 4 on: 0.6, 0.7, 0.7 with a greater loss, 0.9.
    assert len(state.history) == 7 and state.best() == 7
    kept = json.loads((tmp_path / "history.json").read_text())
    change = {"what": "best", "after": 4, "from": 3, "to": 4}
    assert change in kept["changes"] and kept["best from"] == 4
    again, _ = run(tmp_path, patience=2)
    assert again.history == state.history and again.best() == 7


def test_averaged_weights_are_the_result_also_after_the_end(tmp_path):
    def averaging():
        built = model()
        built.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), "mse")
        built.optimizer.build(built.trainable_variables)
        return built

    results = []
    for _ in range(2):  # the second time nothing is left to do
        state, trained = run(tmp_path, patience=None, until=2, fresh=averaging())
        state.finish(trained)
        results.append(trained.get_weights())
    assert not np.allclose(results[0][0], 2.0)
    np.testing.assert_array_equal(results[0][0], results[1][0])


def test_within_an_epoch_the_same_layers_drop_something(tmp_path):
    """A phase of the head alone may get another `drop_path`, but not while an epoch with the old one is under way."""
    inside = {"epoch": 1, "step": 1, "generators": [[1, 2]], "figures": [], "seconds": 0.0, "weights": "a.weights.h5"}
    state = {"network": checkpoints._shape_of(model()), "identity": {}, "epochs": [], "inside": inside}
    (tmp_path / "history.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="it is within an epoch, and other layers of it drop paths or units"):
        Checkpoints(tmp_path, 0).restore(model())
