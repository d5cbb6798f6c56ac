"""Whoever drives KerasTuner oneself with a `NASNetTuner`: its folder, its arguments, its end."""

import json
import os
import threading
import time
import types
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import tensorflow as tf
from free_children import Data, Free, as_another_process
from keras_tuner import Objective
from keras_tuner.engine import base_tuner

from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.data.arrays import data_of_arrays
from nasnet_keras.files import take_lock
from nasnet_keras.search import tuner as tuner_module
from nasnet_keras.search.distributed.processes import Machine
from nasnet_keras.search.distributed.roles import Role
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.running import Here
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import Controller, ControllerSettings
from nasnet_keras.search.tuner import NASNetTuner, search

SPACE = SearchSpace(blocks=1)


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def make(directory, trials=3, **options):
    oracle = NASNetOracle(trials, space=SPACE, strategy="random", seed=0)
    return NASNetTuner(oracle, Free(), directory=str(directory), project_name="p", **options)


def numbers(folder):
    return [json.loads(line)["number"] for line in (folder / "trials.jsonl").read_text().splitlines()]


def test_results_can_be_looked_at_later(tmp_path, capsys):
    make(tmp_path).search(Data)
    tuner = make(tmp_path)
    tuner.reload()
    tuner.save()
    tuner.results_summary(1)
    best = max(trial["reward"] for trial in tuner.oracle.finished_trials())
    assert f"Score: {best}" in capsys.readouterr().out
    base_tuner.BaseTuner(tuner.oracle, directory=str(tmp_path), project_name="p").save()
    assert (tmp_path / "p" / "tuner0.json").exists()  # KerasTuner's own, which reads it as soon as it is made
    assert make(tmp_path, 5).remaining_trials == 2


def test_a_search_that_another_process_runs_is_not_overwritten(tmp_path):
    older = make(tmp_path)
    older.search(Data)
    older.own_oracle.close()
    handle = take_lock(tmp_path / "p" / "controller" / "lock")
    with pytest.raises(ValueError, match="`directory` .* is in use: another process searches there"):
        make(tmp_path, overwrite=True)
    assert numbers(tmp_path / "p") == [0, 1, 2]
    os.close(handle)
    make(tmp_path, 2, overwrite=True).search(Data)
    assert numbers(tmp_path / "p") == [0, 1]


def test_a_search_of_this_process_is_told_that_it_was_overwritten(tmp_path):
    older = make(tmp_path, 9)
    trial = older.oracle.create_trial("w")
    make(tmp_path, 2, overwrite=True).search(Data)
    with pytest.raises(ValueError, match="was taken over by a later search in this process"):
        older.oracle.end_trial(trial)
    assert numbers(tmp_path / "p") == [0, 1]


def test_a_trial_that_somebody_else_holds_is_left(tmp_path, caplog):
    tuner = make(tmp_path)
    held = tuner.oracle.create_trial("me")
    thread = threading.Thread(target=tuner.search, args=(Data,), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and numbers(tmp_path / "p") == [1, 2]
    assert f"left to whoever has them: the trials {held.trial_id}" in caplog.text


def test_a_place_without_work_rests():
    here, start = Here("here", None), time.monotonic()
    assert here.events(0.05, None) == [] and time.monotonic() - start >= 0.05


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    make("~/tuned").search(Data)
    assert numbers(home / "tuned" / "p") == [0, 1, 2]
    make("~/tuned", 1, overwrite=True).search(Data)
    assert numbers(home / "tuned" / "p") == [0]
    controller = Controller(SPACE, ControllerSettings(hidden_units=4, embedding_size=4))
    controller.propose()
    controller.save("~/c.npz")
    again = Controller(SPACE, controller.settings)
    again.restore("~/c.npz")
    assert again.pending == controller.pending and not list(elsewhere.iterdir())


def test_variables_that_are_left_from_another_search_make_no_client(tmp_path, monkeypatch):
    for name, value in Role("worker-1").to_environment().items():
        monkeypatch.setenv(name, value)
    tuner = make(tmp_path, engine=Machine(1, tmp_path / "logs"))
    assert tuner.role is None and tuner.oracle is tuner.own_oracle


def test_arguments_are_used_or_refused(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(tuner_module, "data_of_arrays", lambda *words: given.append(words[:2]) or Data)
    tuner = make(tmp_path)
    tuner.search(x="x", y="y")
    assert given == [("x", "y")] and numbers(tmp_path / "p") == [0, 1, 2]
    for wrong in ({"validation_freq": 2}, {"epoch": 3}, {"epochs": 3}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be left out: .*ChildSettings.* Received: "):
            tuner.search(Data, **wrong)
    for words, received in (({}, "neither"), ({"data": Data, "x": Data}, "both")):
        with pytest.raises(ValueError, match=f"`data` must be .*Received: {received}"):
            tuner.search(**words)


IMAGES, LABELS = np.zeros((12, 8, 8, 1), np.uint8), np.arange(12) % 2


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(ChildSettings, "evaluate", lambda self, genotype, data, seed: {"reward": seed / 2**32})


def own(directory, trials=2, child=None, **options):
    oracle = NASNetOracle(trials, space=SPACE, strategy="random", seed=0, **options)
    return NASNetTuner(oracle, child or ChildSettings(), directory=str(directory), project_name="p")


def test_a_tuner_goes_on_with_the_same_children_and_data_alone(tmp_path, no_training):
    own(tmp_path).search(IMAGES, LABELS, validation_data=(IMAGES, LABELS))
    kept = (tmp_path / "p" / "trials.jsonl").read_text()
    others = [
        (ChildSettings(epochs=9), IMAGES, IMAGES, "`epochs`: 1. Received: 9"),
        (None, IMAGES + 1, IMAGES, "`images`"),
        (None, IMAGES, IMAGES + 1, "`validation`"),
    ]
    for child, images, held, says in others:
        with pytest.raises(ValueError, match=f"children have another {says}"):
            own(tmp_path, 5, child).search(images, LABELS, validation_data=(held, LABELS))
    assert (tmp_path / "p" / "trials.jsonl").read_text() == kept
    own(tmp_path, 5).search(IMAGES, LABELS, validation_data=(IMAGES, LABELS))
    assert numbers(tmp_path / "p") == [0, 1, 2, 3, 4]


def test_a_tuner_takes_a_data_set_as_kerastuner_s_do(tmp_path, no_training):
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(4)
    own(tmp_path / "a").search(data, validation_data=data)
    own(tmp_path / "a", 3).search(IMAGES, LABELS, validation_data=data)  # the same images
    own(tmp_path / "b").search((IMAGES, LABELS), validation_split=0.25)
    assert numbers(tmp_path / "a" / "p") == [0, 1, 2] and numbers(tmp_path / "b" / "p") == [0, 1]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("digits", "`data` must be a Data .*; `load_data` makes one of a name.* Received: 'digits'"),
        (tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)), "`validation_data` must be"),
        (list(IMAGES), "`validation_data` must be"),
        (None, "`data` must be"),
    ],
    ids=["name", "tf.data", "list", "none"],
)
def test_what_is_no_data_is_refused_before_anything_is_written(data, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        own(tmp_path).search(data)
    assert not (tmp_path / "p" / "search.json").exists()


def test_children_that_cannot_be_built_or_judged_are_refused_at_once(tmp_path):
    data = data_of_arrays(IMAGES, LABELS, (IMAGES, LABELS))
    for child, given, says in (
        (ChildSettings(stem="imagenet"), data, "`input_shape` must be .* sizes from 32"),
        (None, replace(data, validation=data.test), "`data` must have images for validation.* Received: none"),
    ):
        with pytest.raises(ValueError, match=says):
            own(tmp_path, child=child).search(given)
        with pytest.raises(ValueError, match=says):
            search(given, 3, tmp_path / "s", space=SPACE, child=child)
        assert not (tmp_path / "p" / "search.json").exists() and not (tmp_path / "s" / "search.json").exists()


def test_a_search_without_any_reward_says_why(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise ValueError("it is too dear")

    monkeypatch.setattr(ChildSettings, "evaluate", fail)
    data = data_of_arrays(IMAGES, LABELS, (IMAGES, LABELS))
    own(tmp_path).search(data)
    says = "no child has got a reward: 2 of 2 failed with ValueError: it is too dear"
    assert caplog.messages.count(says) == 1
    caplog.clear()
    assert search(data, 2, tmp_path / "s", "random", space=SPACE).best is None
    assert caplog.messages.count(says) == 1


MANY = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)


class Shuffled:
    """(image, label) pairs in an order that nobody has set, as data sets that shuffle in each pass give them."""

    def __init__(self, order):
        self.order = np.random.default_rng(order).permutation(len(MANY))

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        return MANY[self.order[index]], self.order[index] % 2


def test_a_data_set_that_shuffles_is_the_same_one(tmp_path, no_training):
    """Whatever is held out of it, and so for distributed workers."""
    held = (MANY[:4], np.arange(4) % 2)
    told = []
    for order in (1, 2):
        for name, words in (("given", {"validation_data": held}), ("held", {"validation_split": 0.25})):
            tuner = own(tmp_path / name, 2 + order)
            tuner.begin = lambda data, tuner=tuner, told=told: told.append(data) or NASNetTuner.begin(tuner, data)
            tuner.search(Shuffled(order), **words)
        assert len(search(Shuffled(order), 2 + order, tmp_path / "search", "random", space=SPACE).trials) == 2 + order
    for one, other in zip(told[:2], told[2:], strict=True):
        np.testing.assert_array_equal(one.train.images, other.train.images)
        assert tuner.description(one) == tuner.description(other)
    assert tuner.description(told[0])["data"]["validation"] != tuner.description(told[1])["data"]["validation"]
    for folder in (tmp_path / "given" / "p", tmp_path / "held" / "p", tmp_path / "search"):
        assert numbers(folder) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="another `images`.* or the same images, held out alike: .*`shuffle=False`"):
        own(tmp_path / "given").search(MANY + 1, np.arange(24) % 2, validation_data=held)


def test_a_search_of_an_earlier_version_goes_on_with_images_divided_by_their_order(tmp_path, no_training):
    own(tmp_path).search(Shuffled(1), validation_split=0.25)
    (tmp_path / "p" / "children.json").unlink()
    expected = data_of_arrays(Shuffled(1), None, None, 0.25)
    for trials in (3, 4):
        tuner, told = own(tmp_path, trials), []
        tuner.begin = lambda data, tuner=tuner, told=told: told.append(data) or NASNetTuner.begin(tuner, data)
        tuner.search(Shuffled(1), validation_split=0.25)
        np.testing.assert_array_equal(told[0].train.images, expected.train.images)


def test_a_seed_that_was_drawn_divides_nothing(tmp_path, no_training):
    oracle = NASNetOracle(2, space=SPACE, strategy="random")
    for _ in range(2):
        for _ in range(2):
            tuner = NASNetTuner(oracle, directory=str(tmp_path), project_name="p")
            tuner.search(MANY, np.arange(24) % 2, validation_split=0.25)
        oracle = NASNetOracle(2, space=SPACE, strategy="random")
    assert oracle.seed is None and numbers(tmp_path / "p") == [0, 1]


class Wrapped(NASNetTuner):
    """A tuner that counts its trials."""

    def run_trial(self, trial, data):
        self.seen = data
        return super().run_trial(trial, data)


def test_a_tuner_that_wraps_its_trials_goes_on_with_the_same_children_and_data_alone(tmp_path, no_training):
    def begin(images, child=None, **options):
        oracle = NASNetOracle(2, space=SPACE, strategy="random", seed=0)
        tuner = Wrapped(oracle, child or ChildSettings(), directory=str(tmp_path), project_name="p")
        tuner.search(images, np.arange(24) % 2, **options)
        return tuner

    assert len(begin(MANY, validation_split=0.25).seen.validation) == 6
    held = MANY[:4], np.arange(4) % 2
    for images, child, options, says in (
        (MANY, ChildSettings(epochs=2), {"validation_split": 0.25}, "`epochs`"),
        (MANY + 1, None, {"validation_split": 0.25}, "`images`"),
        (MANY, None, {"validation_data": held}, "`train_images`"),
    ):
        with pytest.raises(ValueError, match=f"children have another {says}"):
            begin(images, child, **options)


def test_a_share_of_a_data_set_is_held_out_for_children_of_one_s_own(tmp_path):
    tuner, told = make(tmp_path, 1), []
    tuner.begin = told.append
    tuner.search(tf.data.Dataset.from_tensor_slices((MANY, np.arange(24) % 2)), validation_split=0.25)
    assert len(told[0].validation) == 6


class Judged:
    """A child that says which images judge it."""

    def __init__(self):
        self._judges = []

    def evaluate(self, genotype, data, seed):
        """A reward, which is none of theirs."""
        self._judges.append(data.validation.content())
        return {"reward": 0.5}


def test_all_children_of_one_s_own_are_judged_by_the_same_images(tmp_path):
    """A search that goes on, or was only looked at, holds out what it held out before, however a data set shuffles."""
    child = Judged()
    for trials, seed in ((1, 0), (2, 1), (3, 2)):
        tuner = make(tmp_path, trials)
        tuner.child = child
        tuner.oracle.finished_trials()  # begins the log
        tuner.search(Shuffled(np.random.default_rng(seed).permutation(24)), validation_split=0.25)
    assert len(child._judges) == 3 and len(set(child._judges)) == 1
    tuner = make(tmp_path, 4)
    tuner.child = child
    with pytest.raises(ValueError, match="children have another `images`"):
        tuner.search(255 - MANY, np.arange(24) % 2, validation_split=0.25)


@dataclass(frozen=True)
class Locked(Free):
    """A child that cannot be copied."""

    lock: object = field(default_factory=threading.Lock)
    parts: dict = field(default_factory=lambda: {("a", 1): threading.Lock(), "size": np.int64(3)})
    inside: ChildSettings = field(default_factory=ChildSettings)


def test_a_child_that_cannot_be_copied_is_known_by_what_it_holds(tmp_path):
    data = data_of_arrays(MANY, np.arange(24) % 2, None, 0.25)
    tuner = make(tmp_path, 1)
    tuner.child = Locked()
    tuner.search(data)
    kept = json.loads((tmp_path / "p" / "children.json").read_text())
    assert kept["lock"] == "lock" and kept["parts"] == {"size": 3} and kept["inside"]["filters"] == 8
    assert tuner.description(data)["child"]["inside"]["repeats"] == 1


class OwnTrials(NASNetTuner):
    """A tuner that trains in a way of its own, on data of its own."""

    def run_trial(self, trial, data):
        return {"reward": data["rewards"][int(trial.trial_id)]}


def with_own_trials(folder, trials=2, **options):
    oracle = NASNetOracle(trials, space=SPACE, strategy="random", seed=0)
    return OwnTrials(oracle, directory=str(folder), project_name="p", **options)


def test_what_trials_of_one_s_own_would_not_ask_is_refused_or_told(tmp_path, caplog):
    with pytest.raises(ValueError, match="`engine` must be left out of OwnTrials, whose own `run_trial`"):
        with_own_trials(tmp_path, engine=Machine(1, None))
    assert not (tmp_path / "p").exists()
    make(tmp_path, engine=Machine(1, None))
    with pytest.raises(ValueError, match="`cost` must be"):
        with_own_trials(tmp_path, cost=3)
    # One that calls the tuner's asks for the cost; what another one does is known at its end.
    with_own_trials(tmp_path, cost=lambda architecture: 1.0).search({"rewards": [0.1, 0.2]})
    assert "`cost` was asked of no child: no trial has cost" in caplog.text


def test_a_listener_of_the_oracle_stays_and_a_second_one_is_refused(tmp_path):
    oracle, told = NASNetOracle(2, space=SPACE, strategy="random", seed=0), []
    oracle.on_finished = lambda trials: told.append(len(trials))
    place = {"directory": str(tmp_path), "project_name": "p"}
    with pytest.raises(ValueError, match="`on_trial` must be left out where the oracle has an `on_finished`"):
        NASNetTuner(oracle, Free(), on_trial=print, **place)
    NASNetTuner(oracle, Free(), **place).search(Data)
    assert told == [1, 2]
    again, seen = NASNetOracle(4, space=SPACE, strategy="random", seed=0), []
    for listener in (lambda trials: seen.append("first"), lambda trials: seen.append("second"), None):
        tuner = NASNetTuner(again, Free(), on_trial=listener, **place)  # a tuner's own is replaced
        again.max_trials += 1
        tuner.search(Data)
    assert "first" in seen and "second" in seen and again.on_finished is None


def test_a_tuner_with_data_of_its_own_is_chief_and_worker(tmp_path):
    data, ready = {"rewards": [0.25, 0.5]}, threading.Event()
    ports = []

    def run():
        chief = with_own_trials(tmp_path, role=Role("chief", port=0))
        chief.search(data, on_ready=lambda port: (ports.append(port), ready.set()), every=0.02)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    with_own_trials(tmp_path / "w", role=Role("w", port=ports[0])).search(data)
    thread.join(30)
    rewards = [json.loads(line)["reward"] for line in (tmp_path / "p/trials.jsonl").read_text().splitlines()]
    assert rewards == [0.25, 0.5]


def test_data_of_one_s_own_are_described_by_what_they_have(tmp_path):
    tuner = with_own_trials(tmp_path)
    assert tuner.description(Data)["data"] == {"classes": 2, "image_shape": [8, 8, 1], "train_images": 10}
    odd = types.SimpleNamespace(train=print, class_names=None, image_shape=3, digest=b"")
    assert [tuner.description(one)["data"] for one in ({}, [1], odd, None)] == [None] * 4


class Elsewhere:
    """An engine with two workers; `dies` is raised where this process would look at them, and else they answer."""

    def __init__(self, dies=None, metrics=None):
        self.dies, self.trials, self.metrics = dies, {}, metrics or {"reward": 0.5}

    def place(self, children, data):
        return nullcontext(self)

    def resize(self, wanted):
        """Nothing."""

    def free(self):
        return next((name for name in "ab" if name not in self.trials), None)

    def begin(self, worker, trial):
        self.trials[worker] = trial

    def is_busy(self):
        return bool(self.trials)

    def events(self, seconds, report):
        if self.dies:
            raise self.dies
        ended, self.trials = self.trials, {}
        done = {"status": "COMPLETED", "message": None, "metrics": self.metrics}
        return [(worker, trial, done) for worker, trial in ended.items()]

    def state(self):
        """None."""


@pytest.mark.parametrize("elsewhere", [True, False])
def test_the_death_of_this_process_counts_against_the_child_that_it_ran_itself_alone(elsewhere, tmp_path, monkeypatch):
    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(NASNetOracle, "give_back", lambda self: None)  # whoever is killed gives nothing back
        patch.setattr(Free, "evaluate", die)
        for _ in range(7):
            as_another_process()
            with suppress(KeyboardInterrupt):
                make(tmp_path, 2, engine=Elsewhere(KeyboardInterrupt()) if elsewhere else None).search(Data)
    as_another_process()
    make(tmp_path, 2, engine=Elsewhere() if elsewhere else None).search(Data)
    trials = [json.loads(line) for line in (tmp_path / "p" / "trials.jsonl").read_text().splitlines()]
    lost = {line["trial_id"]: line["reason"] for line in trials if line["reward"] is None}
    assert len(trials) == 2 and list(lost) == ([] if elsewhere else ["00000"])
    assert all(reason.startswith("given out 5 times") for reason in lost.values())


@pytest.mark.parametrize("elsewhere", [True, False])
def test_of_several_objectives_the_sum_is_what_kerastuner_says(elsewhere, tmp_path):
    objective = [Objective("reward", "max"), Objective("seconds", "min")]
    oracle = NASNetOracle(2, space=SPACE, strategy="random", seed=0, objective=objective)
    engine = Elsewhere(metrics={"reward": 0.5, "seconds": 2.0}) if elsewhere else None
    NASNetTuner(oracle, Free(), engine=engine, directory=str(tmp_path), project_name="p").search(Data)
    for line in oracle.finished_trials():
        assert line["status"] == "COMPLETED"
        assert line["reward"] == pytest.approx(line["seconds"] - line["metrics"]["reward"])
