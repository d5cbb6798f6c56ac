"""Whoever drives KerasTuner oneself with a `NASNetTuner`: its folder, its arguments, its end."""

import json
import os
import threading
import time

import pytest
from free_children import Data, Free
from keras_tuner.engine import base_tuner

from nasnet_keras.files import take_lock
from nasnet_keras.search import tuner as tuner_module
from nasnet_keras.search.distributed.processes import Machine
from nasnet_keras.search.distributed.roles import Role
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.running import Here
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import Controller, ControllerSettings
from nasnet_keras.search.tuner import NASNetTuner

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
