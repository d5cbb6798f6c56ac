"""What TensorBoard reads is what the search's logs say."""

import json
import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.results.tensorboard import Summaries
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import ControllerSettings


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """A search of twelve trials and two updates, followed while it ran."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    settings = ControllerSettings(hidden_units=8, embedding_size=6, batch_size=5)
    oracle = NASNetOracle(12, space=SearchSpace(blocks=1), seed=0, settings=settings)
    oracle._set_project_dir(str(tmp_path), ".")
    oracle.on_finished = Summaries(tmp_path).update
    for number in range(12):
        trial = oracle.create_trial("w")
        oracle.update_trial(trial.trial_id, {"reward": float("nan") if number == 4 else number / 16, "seconds": 2.0})
        oracle.end_trial(trial)
    return tmp_path


def scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_scalars_follow_the_search(searched):
    found = scalars(searched / "tensorboard/search")
    assert found["trials/reward"] == [(step, (step - 1) / 16) for step in range(1, 13) if step != 5]
    assert found["trials/best_reward"][4] == (5, 3 / 16)
    updates = [json.loads(line) for line in (searched / "controller/updates.jsonl").read_text().splitlines()]
    assert len(updates) == 2
    for name in ("reward", "baseline", "entropy", "kl", "staleness", "weight", "effective_sample_size"):
        assert found[f"policy/{name}"] == [(one["version"], pytest.approx(one[name])) for one in updates]
    assert len(found["trials/staleness"]) == 12


def test_trials_are_hparams(searched):
    folders = sorted(path.name for path in (searched / "tensorboard/trials").iterdir())
    assert folders == [f"{number:05d}" for number in range(12)]
    events = EventAccumulator(str(searched / "tensorboard/trials/00003"))
    events.Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    chosen = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    line = json.loads((searched / "trials.jsonl").read_text().splitlines()[3])
    block = line["genotype"]["normal"]["blocks"][0]
    assert chosen["normal_0_operations"].string_value == " ".join(block["operations"])
    assert chosen["normal_0_combine"].string_value == block["combine"]
    assert scalars(searched / "tensorboard/trials/00003")["reward"] == [(0, 3 / 16)]


def test_a_second_run_writes_the_same_anew(searched):
    before = scalars(searched / "tensorboard/search")
    trials = [json.loads(line) for line in (searched / "trials.jsonl").read_text().splitlines()]
    with (searched / "controller/updates.jsonl").open("a") as log:
        log.write('{"version": 3')  # being written just now
    (searched / "tensorboard/mine").mkdir()
    stale = searched / "tensorboard/trials/00099"
    stale.mkdir()
    Summaries(searched).update(trials)
    assert scalars(searched / "tensorboard/search") == before
    assert (searched / "tensorboard/mine").is_dir() and not stale.exists()


def test_updates_before_the_first_trial_are_there_as_well(tmp_path, rng, monkeypatch):
    """As those that come from what another search has learnt."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    space, settings = SearchSpace(blocks=1), ControllerSettings(hidden_units=8, embedding_size=6, batch_size=5)
    imports = [{"decisions": space.random(rng), "reward": number / 16} for number in range(10)]
    oracle = NASNetOracle(5, space=space, seed=0, settings=settings, imports=imports)
    oracle._set_project_dir(str(tmp_path), ".")
    summaries = Summaries(tmp_path)
    summaries.update(oracle.finished_trials())  # none yet
    oracle.on_finished = summaries.update
    while (trial := oracle.create_trial("w")).status == "RUNNING":
        oracle.update_trial(trial.trial_id, {"reward": 0.5})
        oracle.end_trial(trial)
    found = scalars(tmp_path / "tensorboard/search")
    assert [version for version, _ in found["policy/reward"]] == [1, 2, 3] and len(found["trials/reward"]) == 5
