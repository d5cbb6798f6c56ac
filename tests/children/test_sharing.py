"""Weights in common: which ones children share, and a search with them that survives anything."""

from dataclasses import replace

import numpy as np
import pytest
from described import described

from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.children.shared_weights import SharedWeights, keys
from nasnet_keras.children.tensorflow_child import Child
from nasnet_keras.data.arrays import data_of_arrays
from nasnet_keras.data.loading import load_data
from nasnet_keras.genotype import Block, CellGenotype, Genotype, load_genotype
from nasnet_keras.search.distributed.roles import Role
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.tuner import NASNetOracle, NASNetTuner, search

NETWORK = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 10}
SPACE = SearchSpace(blocks=2, operations=("identity", "conv_1x1", "conv_3x3", "sep_conv_3x3"), combinations=("add",))
CHILD = ChildSettings(repeats=(1, 1), filters=4, evaluation="shared", shared_steps=2)


def cell(*operations, inputs=(1, 0), concat=(2, 3)):
    blocks = (Block(inputs, operations[:2]), Block((1, 1), operations[2:]))
    return CellGenotype(blocks, concat)


def child(*operations, seed=0, **wiring):
    one = cell(*operations, **wiring)
    return Child(described(Genotype(one, one), **NETWORK), seed=seed)


def named(one):
    return {weight.name: value for weight, value in zip(one.program.weights, one.get_weights(), strict=True)}


FOUR = ("conv_3x3", "conv_1x1", "sep_conv_3x3", "conv_1x1")


def test_the_same_genotype_gets_everything_that_is_trained():
    first, second, shared = child(*FOUR, seed=1), child(*FOUR, seed=2), SharedWeights()
    shared.take(first)
    shared.give(second)
    for weight, one, other in zip(first.program.weights, first.get_weights(), second.get_weights(), strict=True):
        if weight.trainable:
            np.testing.assert_array_equal(one, other)


def test_arrays_that_a_framework_keeps_to_itself_are_left_alone(monkeypatch):
    """As JAX's, which NumPy sees and cannot write."""
    first, second, shared = child(*FOUR, seed=1), child(*FOUR, seed=2), SharedWeights()
    shared.take(first)
    own = second.get_weights()
    before = [value.copy() for value in own]
    for value in own:
        value.flags.writeable = False
    with monkeypatch.context() as patch:
        patch.setattr(second, "get_weights", lambda: own)
        shared.give(second)
    assert all(map(np.array_equal, own, before))
    np.testing.assert_array_equal(named(second)["logits/kernel"], named(first)["logits/kernel"])


def test_an_operation_is_shared_between_the_same_states_only():
    first, shared = child(*FOUR, seed=1), SharedWeights()
    shared.take(first)
    place = "cell_0/block_0/left/conv/kernel"
    for other, same in (
        (child("conv_3x3", "identity", "conv_3x3", "conv_3x3", seed=2), True),
        (child("dil_conv_3x3", *FOUR[1:], seed=2), False),  # a kernel of the same shape
        (child(*FOUR, inputs=(0, 1), seed=2), False),
    ):
        before = named(other)[place]
        shared.give(other)
        assert np.array_equal(named(other)[place], named(first)[place]) == same
        assert np.array_equal(named(other)[place], before) != same


def test_readers_of_a_cell_share_their_rows_state_by_state():
    first, shared = child(*FOUR, seed=1), SharedWeights()  # joins the states 2 and 3
    other = child(*FOUR, concat=(3, 0), seed=2)
    before = named(other)
    shared.take(first)
    shared.give(other)
    places = {"reduction_cell_0/current/conv/kernel": 2, "cell_1/previous/reduce/path_2/kernel": 2, "logits/kernel": 0}
    assert places.keys() <= named(other).keys()
    for place, axis in places.items():
        rows = [np.split(array[place], 2, axis) for array in (named(first), named(other), before)]
        np.testing.assert_array_equal(rows[1][0], rows[0][1])  # state 3
        np.testing.assert_array_equal(rows[1][1], rows[2][1])  # state 0, which the first one does not join


def test_keys_are_one_for_each_piece():
    for genotype in ("nasnet_a", "tiny", "pnasnet_5"):
        one = Child(described(genotype, **NETWORK))
        found = [key for _, _, parts in keys(one) for key, _ in parts]
        assert len(found) == len(set(found))
        assert [number for number, *_ in keys(one)] == [n for n, w in enumerate(one.program.weights) if w.trainable]


def test_files_keep_the_weights(tmp_path):
    shared = SharedWeights()
    shared.take(child(*FOUR))
    (tmp_path / "w.npz").write_bytes(shared.to_bytes(trials=3))
    again, about = SharedWeights.from_file(tmp_path / "w.npz")
    assert about == {"trials": 3} and again.tables.keys() == shared.tables.keys()
    for key, table in shared.tables.items():
        np.testing.assert_array_equal(again.tables[key], table)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", limit=200)


def run(digits, directory, **further):
    settings = ControllerSettings(batch_size=2)
    return search(digits, 5, directory, "rl", 3, space=SPACE, child=CHILD, settings=settings, **further)


def rewards(result):
    return [(trial["genotype"], trial["reward"]) for trial in result.trials]


def test_a_search_with_shared_weights_goes_on_as_if_nothing_had_been(digits, tmp_path):
    whole = run(digits, tmp_path / "whole")
    assert all(reward is not None for _, reward in rewards(whole))
    assert len(list((tmp_path / "whole" / "shared").iterdir())) == 2

    def interrupt(trials):
        if len(trials) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(digits, tmp_path / "s", on_trial=interrupt)
    # As after a kill between the end of the training and its line in the log.
    log = tmp_path / "s" / "trials.jsonl"
    log.write_text("".join(f"{line}\n" for line in log.read_text().splitlines()[:2]))
    assert rewards(run(digits, tmp_path / "s")) == rewards(whole)


def test_a_failed_trial_leaves_the_weights_alone(digits, tmp_path, monkeypatch):
    calls = []

    def train_step(self, images, labels):
        calls.append(1)
        return np.float32("nan")

    shared = NASNetTuner(NASNetOracle(3, space=SPACE, seed=0), CHILD, directory=tmp_path, project_name="s").shared
    shared.evaluate(load_genotype("tiny"), digits, 1, 0)
    before = sorted(path.name for path in shared.directory.iterdir())
    monkeypatch.setattr(Child, "train_step", train_step)
    with pytest.raises(FloatingPointError, match="loss is nan"):
        shared.evaluate(load_genotype("tiny"), digits, 1, 1)
    assert calls and sorted(path.name for path in shared.directory.iterdir()) == before


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: b"{}", lambda content: content[:-99]])
def test_a_damaged_file_is_set_aside_and_the_one_before_it_goes_on(damage, tmp_path, caplog):
    tuner = NASNetTuner(NASNetOracle(3, space=SPACE, seed=0), CHILD, directory=tmp_path, project_name="s")
    evaluation, folder = tuner.shared, tuner.shared.directory
    evaluation._save(SharedWeights({"a": np.ones(2)}), 0, 1, 500)
    evaluation._save(SharedWeights({"a": np.zeros(2000)}), 1, 2, 500)
    hurt = folder / "trial-00001.npz"
    hurt.write_bytes(damage(hurt.read_bytes()))
    shared, *about = evaluation._load(2)
    assert about == [1, 500] and shared.tables["a"].tolist() == [1, 1]
    assert (folder / "trial-00001.npz.damaged").exists() and "trial-00001.npz cannot be read" in caplog.text
    evaluation._save(shared, 2, 2, 500)
    assert evaluation._load(3)[1] == 2
    for path in folder.glob("*.npz"):
        path.write_bytes(b"")
    assert evaluation._load(3)[0].tables == {}


def test_training_goes_on_from_trial_to_trial(digits, tmp_path):
    tuner = NASNetTuner(
        NASNetOracle(3, space=SPACE, seed=0),
        replace(CHILD, shared_steps=12),
        directory=tmp_path,
        project_name="s",
    )
    found = [tuner.shared.evaluate(load_genotype("tiny"), digits, 1, number)["reward"] for number in range(6)]
    assert found[-1] > found[0] + 0.2


def test_large_images_are_judged_in_batches_that_stay_the_same_size(tmp_path, monkeypatch):
    """Also where an earlier version began, which took 500 of them whatever their size: each has its own statistics."""
    images, labels, sizes = np.zeros((320, 92, 92, 3), np.uint8), np.arange(320) % 2, []
    data = data_of_arrays(images, labels, validation_split=300 / 320)

    def logits(self, images, batch_statistics=False):
        assert batch_statistics
        sizes.append(len(images))
        return np.zeros((len(images), 2))

    monkeypatch.setattr(Child, "logits", logits)
    child = replace(CHILD, shared_steps=1, batch_size=2)
    shared = NASNetTuner(NASNetOracle(3, space=SPACE, seed=0), child, directory=tmp_path, project_name="s").shared
    for trial in range(2):
        shared.evaluate(load_genotype("tiny"), data, 1, trial)
    assert sizes == 2 * [256, 44]
    for path in shared.directory.iterdir():
        weights, about = SharedWeights.from_file(path)
        path.write_bytes(weights.to_bytes(trials=np.int64(about["trials"])))
    for trial in (2, 3):
        shared.evaluate(load_genotype("tiny"), data, 1, trial)
    assert sizes[4:] == [300, 300]


def test_what_cannot_share_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`evaluation` must be one of .*Received"):
        ChildSettings(evaluation="borrowed")
    with pytest.raises(ValueError, match="`shared_steps` must be .*Received"):
        ChildSettings(shared_steps=0)
    with pytest.raises(ValueError, match="`evaluation='shared'` .*Received"):
        ChildSettings(evaluation="shared", recipe="imagenet")
    with pytest.raises(ValueError, match="`evaluation` must be .*Received"):
        NASNetTuner(NASNetOracle(3, seed=0), CHILD, directory=tmp_path, role=Role("chief", port=0))
