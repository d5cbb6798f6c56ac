"""The oracle: KerasTuner's verbs, what is on the disk, and resumption after anything."""

import errno
import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras_tuner
import pytest
from keras_tuner.engine import base_tuner
from keras_tuner.engine.trial import Trial

from nasnet_keras.genotype import Genotype
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.strategies.evolution import EvolutionSettings, RegularizedEvolution
from nasnet_keras.search.strategies.predictor import PredictorSettings
from nasnet_keras.search.trials import log
from nasnet_keras.search.trials.logs import SearchLogs

SPACE = SearchSpace(blocks=2)
SETTINGS = {
    "rl": ControllerSettings(hidden_units=8, embedding_size=6, batch_size=7, learning_rate=0.01),
    "random": None,
    "evolution": EvolutionSettings(population=10, sample=4),
    "local": None,
    "predictor": PredictorSettings(beginning=10, candidates=30),
}
KEYS = ["trial_id", "genotype", "reward", "seconds", "status", "parameters", "multiply_adds"]


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    """A test's process may be killed, but the machine stays on: waiting for the disk would be most of the time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def make(folder, strategy="evolution", max_trials=120, seed=0, **kwargs):
    kwargs = {"space": SPACE, "settings": SETTINGS[strategy], **kwargs} if isinstance(strategy, str) else kwargs
    oracle = NASNetOracle(max_trials, strategy=strategy, seed=seed, **kwargs)
    oracle._set_project_dir(str(folder), ".")
    return oracle


def outcome(trial, space=SPACE):
    """A child's metrics, from its genotype alone; one in seven has no finite reward."""
    value = int(space.decode_values(trial.hyperparameters.values).digest, 16)
    reward = float("nan") if value % 7 == 0 else (value >> 8) / 2**56
    return {
        "reward": reward,
        "seconds": time.perf_counter(),
        "parameters": value % 10**6,
        "multiply_adds": value % 10**9,
    }


def run(oracle, trial, metrics=None, status="COMPLETED", message=None):
    oracle.update_trial(trial.trial_id, metrics or outcome(trial))
    trial.status, trial.message = status, message
    oracle.end_trial(trial)


def finish(oracle):
    while (trial := oracle.create_trial("tuner0")).status != "STOPPED":
        run(oracle, trial)


def lines(folder, without=()):
    text = (Path(folder) / "trials.jsonl").read_text()
    return [{k: v for k, v in json.loads(line).items() if k not in without} for line in text.splitlines()]


class Tuner(base_tuner.BaseTuner):
    """As a user's: the reward comes from `run_trial`."""

    def run_trial(self, trial, *args, **kwargs):
        return {"reward": outcome(trial)["reward"]}


def test_a_trial_goes_through_kerastuner_s_verbs(tmp_path):
    oracle = make(tmp_path)
    trial = oracle.create_trial("tuner0")
    assert isinstance(oracle, keras_tuner.Oracle) and isinstance(trial, Trial)
    assert (trial.status, trial.trial_id) == ("RUNNING", "00000")
    genotype = SPACE.decode_values(trial.hyperparameters.values)
    assert oracle.create_trial("tuner0") is trial
    second = oracle.create_trial("tuner1")
    assert second.trial_id == "00001"
    oracle.update_trial(trial.trial_id, {"reward": 0.25, "seconds": 3, "parameters": 10.0, "multiply_adds": 7})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    assert oracle.get_trial("00000").score == 0.25
    assert set(oracle.ongoing_trials) == {"tuner1"}
    assert oracle.remaining_trials() == 118
    (line,) = lines(tmp_path)
    assert list(line)[:7] == KEYS
    assert Genotype.from_dict(line["genotype"]) == genotype
    assert [line[key] for key in KEYS[2:]] == [0.25, 3.0, "COMPLETED", 10, 7]
    assert type(line["parameters"]) is int
    assert (line["number"], line["policy_version"], line["reason"]) == (0, 0, None)
    assert oracle.finished_trials() == [line]


def test_costs_are_null_where_nobody_reports_them_and_other_metrics_are_kept(tmp_path):
    oracle = make(tmp_path)
    run(oracle, oracle.create_trial("a"), {"reward": 0.5, "accuracy": 0.75, "lag": float("inf")})
    (line,) = lines(tmp_path)
    assert [line[key] for key in ("seconds", "parameters", "multiply_adds")] == [None, None, None]
    assert line["metrics"] == {"accuracy": 0.75}
    trial = make(tmp_path).get_trial("00000")
    assert trial.metrics.get_best_value("accuracy") == 0.75
    assert trial.metrics.get_direction("accuracy") == "max"
    assert trial.metrics.get_best_value("reward") == trial.score == 0.5


def test_a_user_s_tuner_searches_resumes_and_summarises(tmp_path, capsys):
    def tuner(max_trials, **kwargs):
        oracle = NASNetOracle(max_trials, space=SPACE, strategy="random", seed=0)
        return Tuner(oracle, directory=str(tmp_path), project_name="p", **kwargs)

    tuner(8).search()
    assert len(lines(tmp_path / "p")) == 8
    assert capsys.readouterr().out == ""
    (tmp_path / "p" / "tuner0.json").unlink()  # as if the first search had died before it was written
    again = tuner(12)
    assert again.remaining_trials == 4
    again.search()
    assert len(lines(tmp_path / "p")) == 12
    again.reload()
    capsys.readouterr()
    again.results_summary(3)
    best = max(line["reward"] or 0 for line in lines(tmp_path / "p"))
    assert f"Score: {best}" in capsys.readouterr().out
    (hyperparameters,) = again.get_best_hyperparameters()
    assert SPACE.decode_values(hyperparameters.values).digest
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [
        "controller", "search.json", "trials.jsonl", "tuner0.json",
    ]  # fmt: skip
    fresh = tuner(3, overwrite=True)
    assert fresh.remaining_trials == 3
    fresh.search(verbose=1)
    assert len(lines(tmp_path / "p")) == 3
    assert "Running Trial #1" in capsys.readouterr().out


@pytest.mark.parametrize("strategy", sorted(SETTINGS))
def test_resumption_is_exact_at_random_instants(tmp_path, strategy):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    finish(make(straight, strategy))
    assert len(lines(straight)) == 120
    chance = random.Random(strategy)
    logs = [broken / "trials.jsonl", broken / "controller/proposals.jsonl"]
    state = broken / "controller/state.npz"
    oracle, done = make(broken, strategy), False
    seen = {"cut": 0, "unsaved": 0, "between": 0}
    while not done:
        trial = oracle.create_trial("tuner0")
        done = trial.status == "STOPPED"
        if chance.random() < 0.1:
            seen["between"] += 1
            oracle = make(broken, strategy)
            again = oracle.create_trial("tuner0")
            assert (again.trial_id, again.hyperparameters.values) == (trial.trial_id, trial.hyperparameters.values)
            trial = again
        if not done:
            run(oracle, trial)
        if chance.random() < 0.2:
            log = chance.choice(logs)
            if chance.random() < 0.6:
                seen["cut"] += 1
                content = log.read_bytes()
                last = len(content.splitlines(keepends=True)[-1])
                log.write_bytes(content[: len(content) - chance.randint(1, last)])
                done = False
            if chance.random() < 0.3:
                seen["unsaved"] += 1
                state.unlink(missing_ok=True)
            elif chance.random() < 0.2 and state.exists():
                state.write_bytes(state.read_bytes()[:-100])
            oracle = make(broken, strategy)
    assert min(seen.values()) > 1
    assert lines(broken, without=["seconds"]) == lines(straight, without=["seconds"])
    assert any(line["status"] == "FAILED" for line in lines(straight))
    if strategy == "rl":
        assert lines(straight)[-1]["policy_version"] > 5


# Where other interpreters find the package, this module, and what it imports.
MODULES = os.pathsep.join(str(Path(__file__).parents[number]) for number in (2, 1, 0))
KILLED = """
import os, signal, sys, threading, time
from test_oracle import finish, make
folder, kills = sys.argv[1], int(sys.argv[2])
for attempt in range(200):
    child = os.fork()
    if child == 0:
        finish(make(folder, "rl", max_trials=60, max_attempts=None))
        os._exit(7)
    if attempt < kills:
        time.sleep(0.03 + 0.011 * (attempt % 17))
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
    if code == 7:
        break
"""


@pytest.mark.long
def test_a_process_killed_again_and_again_finishes_the_identical_search(tmp_path):
    finish(make(tmp_path / "straight", "rl", max_trials=60))
    # One interpreter that has imported everything forks the processes that are killed.
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path / "killed"), "12"],
        capture_output=True, text=True, timeout=240, cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": MODULES},
    )  # fmt: skip
    codes = process.stdout.split()
    assert codes[-1] == "7", process.stderr
    assert codes.count(str(-signal.SIGKILL)) >= 2
    assert set(codes) == {"7", "-9"}
    assert lines(tmp_path / "killed", without=["seconds"]) == lines(tmp_path / "straight", without=["seconds"])


def test_started_trials_are_given_out_again_in_order_with_their_log_probabilities(tmp_path):
    oracle = make(tmp_path, "rl")
    before = [oracle.create_trial(f"worker{n}") for n in range(4)]
    run(oracle, before[1])
    oracle = make(tmp_path, "rl")
    after = [oracle.create_trial(f"other{n}") for n in range(4)]
    assert [trial.trial_id for trial in after] == ["00000", "00002", "00003", "00004"]
    for one, other in zip([before[0], before[2], before[3]], after, strict=False):
        assert one.hyperparameters.values == other.hyperparameters.values
    log = (tmp_path / "controller/proposals.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in log] == [0, 1, 2, 3, 4]
    assert all(len(json.loads(line)["log_probability"]) == 20 for line in log)


def test_any_order_of_answers_and_a_restart_in_between(tmp_path):
    def play(folder, restart):
        oracle, waiting, chance = make(folder, "rl", max_trials=60), [], random.Random(3)
        for step in range(400):
            if step == restart:
                ids = [trial.trial_id for trial in waiting]
                oracle = make(folder, "rl", max_trials=60)
                again = {trial.trial_id: trial for trial in (oracle.create_trial(f"t{n}") for n in range(len(ids)))}
                waiting = [again[trial_id] for trial_id in ids]
            if len(waiting) < 5 and (trial := oracle.create_trial(f"s{step}")).status == "RUNNING":
                waiting.append(trial)
            elif waiting:
                run(oracle, waiting.pop(chance.randrange(len(waiting))))
        return lines(folder, without=["seconds", "worker"])

    straight = play(tmp_path / "straight", None)
    assert len(straight) == 60
    assert [line["number"] for line in straight] != sorted(line["number"] for line in straight)
    assert play(tmp_path / "restarted", 55) == straight


def test_a_snapshot_that_saw_a_lost_line_is_not_believed(tmp_path):
    oracle = make(tmp_path)
    for number in range(19):
        run(oracle, oracle.create_trial("w"), {"reward": number / 100})
    one, other = oracle.create_trial("w"), oracle.create_trial("x")
    run(oracle, one, {"reward": 0.5})  # the twentieth: a snapshot
    log, state = tmp_path / "trials.jsonl", tmp_path / "controller/state.npz"
    log.write_bytes(log.read_bytes()[:-9])
    stale = state.read_bytes()
    oracle = make(tmp_path)
    assert oracle.create_trial("w").trial_id == one.trial_id
    run(oracle, other, {"reward": 0.6})
    state.write_bytes(stale)  # as if the process had been killed before the next snapshot
    oracle = make(tmp_path)
    run(oracle, oracle.create_trial("w"), {"reward": 0.7})
    assert [line["reward"] for line in lines(tmp_path)][-2:] == [0.6, 0.7]
    assert [reward for _, reward in oracle.strategy._population][-3:] == [0.18, 0.6, 0.7]


def test_the_end_of_a_search_and_its_extension(tmp_path):
    oracle = make(tmp_path, max_trials=2)
    for _ in range(2):
        run(oracle, oracle.create_trial("w"))
    last = oracle.create_trial("w")
    assert last.status == "STOPPED" and oracle.tuner_ids == set()
    assert oracle.remaining_trials() == 0
    longer = make(tmp_path, max_trials=1000)
    assert longer.create_trial("w").trial_id == "00002"
    endless = make(tmp_path, max_trials=None)
    assert endless.remaining_trials() is None
    assert endless.create_trial("w").status == "RUNNING"


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_number_fails_its_trial(tmp_path, reward):
    oracle = make(tmp_path)
    run(oracle, oracle.create_trial("w"), {"reward": reward, "parameters": 12})
    (line,) = lines(tmp_path)
    assert (line["status"], line["reward"], line["parameters"]) == ("FAILED", None, 12)
    assert line["reason"] == f"`reward` must be a finite number. Received: {reward}"
    assert oracle.strategy.failures == 1
    trial = oracle.get_trial("00000")
    assert (trial.status, trial.score, trial.message) == ("FAILED", None, line["reason"])


def test_the_reason_of_a_failure_is_one_line_of_its_traceback(tmp_path):
    class Failing(Tuner):
        def run_trial(self, trial):
            try:
                raise KeyError("first")
            except KeyError:
                raise MemoryError("no room\n  for 3 GB\n\n[Op:Conv2D]") from None

    oracle = NASNetOracle(3, space=SPACE, strategy="random", seed=0)
    Failing(oracle, directory=str(tmp_path), project_name=".").search()
    assert [(line["status"], line["reason"]) for line in lines(tmp_path)] == [("FAILED", "MemoryError: no room")] * 3
    oracle = make(tmp_path / "b")
    for message in ("Oversized model", None, "\n \n"):
        trial = oracle.create_trial("w")
        trial.status, trial.message = "FAILED", message
        oracle.end_trial(trial)
    assert [line["reason"] for line in lines(tmp_path / "b")] == ["Oversized model", *["no reason was given"] * 2]


def test_a_trial_without_a_reward_has_failed_and_one_without_a_status_has_not(tmp_path):
    oracle = make(tmp_path)
    trial = oracle.create_trial("w")
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    trial = oracle.create_trial("w")
    oracle.update_trial(trial.trial_id, {"reward": 0.5})
    oracle.end_trial(trial)
    assert [(line["status"], line["reason"]) for line in lines(tmp_path)] == [
        ("FAILED", "no `reward` was reported"),
        ("COMPLETED", None),
    ]


def test_failures_in_a_row_end_the_search_only_on_request_and_after_saving(tmp_path):
    def fail(oracle):
        trial = oracle.create_trial("w")
        trial.status, trial.message = "INVALID", "boom"
        oracle.end_trial(trial)

    oracle = make(tmp_path)
    for _ in range(10):
        fail(oracle)
    oracle = make(tmp_path, max_consecutive_failed_trials=4)
    fail(oracle)
    with pytest.raises(RuntimeError, match="12 trials in a row have failed, the last one because: boom"):
        fail(oracle)
    assert len(lines(tmp_path)) == 12
    fail(oracle)
    oracle = make(tmp_path, max_consecutive_failed_trials=4)
    run(oracle, oracle.create_trial("w"), {"reward": 1.0})
    for _ in range(3):
        fail(oracle)
    with pytest.raises(RuntimeError, match="4 trials"):
        fail(oracle)


def test_retries_are_off_unless_asked_for_and_never_averaged(tmp_path):
    oracle = make(tmp_path, max_retries_per_trial=2)
    for reward, waiting in ((float("nan"), ["00000"]), (0.1, ["00000"]), (0.7, [])):
        trial = oracle.create_trial("w")
        assert trial.trial_id == "00000"
        run(oracle, trial, {"reward": reward}, status="INVALID" if reward == 0.1 else "COMPLETED", message="oops")
        assert oracle._retry_queue == waiting
    (line,) = lines(tmp_path)
    assert (line["reward"], line["status"]) == (0.7, "COMPLETED")
    for _ in range(3):
        trial = oracle.create_trial("w")
        run(oracle, trial, {"reward": 0.5}, status="INVALID", message="again")
    assert lines(tmp_path)[1]["status"] == "FAILED"
    assert oracle.create_trial("w").trial_id == "00002"


def test_a_worker_that_starts_its_trial_again_is_not_averaged_with_itself(tmp_path):
    oracle = make(tmp_path)
    trial = oracle.create_trial("w")
    oracle.update_trial(trial.trial_id, {"reward": 0.2})
    run(oracle, oracle.create_trial("w"), {"reward": 0.6})
    assert lines(tmp_path)[0]["reward"] == 0.6


def test_of_several_steps_the_best_counts(tmp_path):
    oracle = make(tmp_path)
    trial = oracle.create_trial("w")
    for step, reward in enumerate((0.2, 0.8, 0.5)):
        oracle.update_trial(trial.trial_id, {"reward": reward}, step=step)
    oracle.end_trial(trial)
    assert [(t.score, t.best_step) for t in (oracle.get_trial("00000"), make(tmp_path).get_trial("00000"))] == [
        (0.8, 1)
    ] * 2


def test_the_chief_gets_a_copy_and_a_second_answer_is_ignored(tmp_path, caplog):
    oracle = make(tmp_path)
    copy = Trial.from_proto(oracle.create_trial("w").to_proto())
    assert SPACE.decode_values(copy.hyperparameters.values)
    oracle.update_trial(copy.trial_id, {"reward": 0.5})
    copy.status = "COMPLETED"
    oracle.end_trial(copy)
    assert oracle.get_trial("00000").status == "COMPLETED"
    oracle.end_trial(copy)
    oracle.update_trial("00000", {"reward": 0.9})
    assert "has ended before" in caplog.text
    assert len(lines(tmp_path)) == 1 and oracle.strategy.feedbacks == 1
    (best,) = oracle.get_best_trials()
    assert best.score == best.metrics.get_best_value("reward") == 0.5


def test_a_late_worker_answers_a_trial_that_a_restart_put_back_into_the_queue(tmp_path):
    late = make(tmp_path).create_trial("w")
    oracle = make(tmp_path)
    run(oracle, late, {"reward": 0.5})
    assert oracle.create_trial("x").trial_id == "00001"
    assert [line["trial_id"] for line in lines(tmp_path)] == ["00000"]


def test_a_chief_serves_workers_and_outlives_bad_requests(tmp_path):
    grpc = pytest.importorskip("grpc")
    assert grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    oracle = make(tmp_path)
    servicer, service = OracleServicer(oracle), protos.get_service()
    trial = servicer.CreateTrial(service.CreateTrialRequest(tuner_id="w"), None).trial
    with pytest.raises(ValueError, match="`trial_id`"):
        servicer.UpdateTrial(service.UpdateTrialRequest(trial_id="9", metrics={"reward": 1.0}, step=0), None)
    with pytest.raises(ValueError, match="Objective value missing"):
        servicer.UpdateTrial(service.UpdateTrialRequest(trial_id=trial.trial_id, metrics={"a": 1.0}, step=0), None)
    servicer.UpdateTrial(service.UpdateTrialRequest(trial_id=trial.trial_id, metrics={"reward": 0.5}, step=0), None)
    answer = Trial.from_proto(trial)
    answer.status = "COMPLETED"
    thread = threading.Thread(
        target=servicer.EndTrial, args=(service.EndTrialRequest(trial=answer.to_proto()), None), daemon=True
    )
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(servicer.GetBestTrials(service.GetBestTrialsRequest(num_trials=3), None).trials) == 1


def test_the_best_come_first_and_a_loss_is_minimised(tmp_path):
    oracle = make(tmp_path, objective=keras_tuner.Objective("val_loss", "min"))
    for loss in (0.5, 0.2, float("nan"), 0.9, 0.2):
        run(oracle, oracle.create_trial("w"), {"val_loss": loss})
    running = oracle.create_trial("w")
    for again in (oracle, make(tmp_path, objective=keras_tuner.Objective("val_loss", "min"))):
        assert [trial.trial_id for trial in again.get_best_trials(4)] == ["00001", "00004", "00000", "00003"]
        assert [trial.trial_id for trial in again.get_best_trials(9)[4:]] == ["00002", running.trial_id]
        told = [reward for _, reward in again.strategy._population]
        assert told == [-0.5, -0.2, -0.9, -0.2]
    assert [line["reward"] for line in lines(tmp_path)] == [0.5, 0.2, None, 0.9, 0.2]


def test_seed_zero_is_a_seed_and_none_is_that_of_the_folder(tmp_path):
    values = [make(tmp_path / name, seed=0).create_trial("w").hyperparameters.values for name in "ab"]
    assert values[0] == values[1]
    assert make(tmp_path / "c", seed=1).create_trial("w").hyperparameters.values != values[0]
    assert make(tmp_path / "a", seed=None).create_trial("w").hyperparameters.values == values[0]
    oracle = make(tmp_path / "d", seed=None)
    trial = oracle.create_trial("w")
    assert json.loads((tmp_path / "d/search.json").read_text())["seed"] == oracle.seed
    again = make(tmp_path / "d", seed=None)
    assert again.create_trial("w").hyperparameters.values == trial.hyperparameters.values
    assert again.seed == oracle.seed
    assert make(tmp_path / "e", seed=None).create_trial("w").hyperparameters.values != trial.hyperparameters.values


def test_a_strategy_object_is_taken_as_it_is(tmp_path):
    strategy = RegularizedEvolution(SPACE, EvolutionSettings(population=3, sample=2), seed=9)
    oracle = make(tmp_path, strategy, seed=None)
    assert (oracle.space, oracle.seed) == (SPACE, 9)
    finish(oracle)
    assert strategy.feedbacks == 0 and oracle.strategy.feedbacks == 120
    with pytest.raises(ValueError, match="`space` must be left out"):
        make(tmp_path, strategy, seed=None, space=SearchSpace())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "`seed` must be 0, as in .*Received: 1"),
        ({"strategy": "random"}, "`strategy` must be 'evolution'"),
        ({"space": SearchSpace(blocks=3)}, "`space.blocks` must be 2"),
        ({"space": SearchSpace(blocks=2, operations=("identity",))}, "`space.operations`"),
        ({"settings": EvolutionSettings(population=11)}, "`settings.population` must be 10"),
        ({"objective": keras_tuner.Objective("reward", "min")}, "`objective.direction` must be 'max'"),
        ({"objective": "val_accuracy"}, "`objective.name`"),
    ],
)
def test_the_folder_of_another_search_is_refused(tmp_path, change, message):
    oracle = make(tmp_path)
    run(oracle, oracle.create_trial("w"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = make(tmp_path, **change)
    with pytest.raises(ValueError, match=message) as error:
        other.create_trial("w")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        other.reload()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00" * 40])
def test_a_damaged_header_is_set_aside_and_the_search_goes_on(tmp_path, content, caplog, monkeypatch):
    def kill(*_, **__):
        raise KeyboardInterrupt

    finish(make(tmp_path / "straight", "rl", max_trials=9))
    finish(make(tmp_path / "hurt", "rl", max_trials=4))
    (tmp_path / "hurt/search.json").write_text(content)
    with monkeypatch.context() as killed:  # before there is another
        killed.setattr(SearchLogs, "claim", kill)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "hurt", "rl", max_trials=9).reload()
    finish(make(tmp_path / "hurt", "rl", max_trials=9))
    assert (tmp_path / "hurt/search.json.damaged").read_text() == content and "cannot be read" in caplog.text
    assert lines(tmp_path / "hurt", without=["seconds"]) == lines(tmp_path / "straight", without=["seconds"])
    with pytest.raises(ValueError, match="`seed` must be 0"):
        make(tmp_path / "hurt", "rl", seed=1).reload()


def test_a_header_of_another_version_or_none_is_refused_in_one_line(tmp_path):
    finish(make(tmp_path, max_trials=2))
    (tmp_path / "search.json").write_text('{"format": "nasnet-search/9"}')
    with pytest.raises(ValueError, match=r"search\.json.*`format`") as error:
        make(tmp_path).create_trial("w")
    assert "\n" not in str(error.value)
    (tmp_path / "search.json").unlink()
    with pytest.raises(ValueError, match=r"no readable search\.json"):
        make(tmp_path).create_trial("w")


def test_damaged_lines_are_set_aside_and_their_trials_run_again(tmp_path, caplog):
    finish(make(tmp_path / "whole", max_trials=12))
    finish(make(tmp_path / "hurt", max_trials=12))
    log = tmp_path / "hurt/trials.jsonl"
    content = log.read_text().splitlines(keepends=True)
    content[5] = content[5][:50] + "\n"
    log.write_text("".join(content))
    finish(make(tmp_path / "hurt", max_trials=12))
    assert (tmp_path / "hurt/trials.jsonl.damaged").exists() and "cannot be read" in caplog.text
    without = ["seconds", "staleness"]  # the trial that ran again did so after the others
    whole = {line["number"]: line for line in lines(tmp_path / "whole", without)}
    assert {line["number"]: line for line in lines(tmp_path / "hurt", without)} == whole


def test_logs_of_something_else_are_refused(tmp_path):
    finish(make(tmp_path, max_trials=2))
    (tmp_path / "trials.jsonl").write_text('{"epoch": 1}\n')
    with pytest.raises(ValueError, match="the logs are not those of a search"):
        make(tmp_path).create_trial("w")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_at_any_write_loses_and_doubles_nothing(tmp_path, monkeypatch, error):
    finish(make(tmp_path / "straight", "rl", max_trials=40))
    oracle, syncs, real = make(tmp_path / "hit", "rl", max_trials=40), [0], os.fsync

    def sync(handle):
        syncs[0] += 1
        if syncs[0] % 5 == 0:
            raise error
        real(handle)

    monkeypatch.setattr(log.os, "fsync", sync)
    hits = 0
    for _ in range(200):
        try:
            finish(oracle)
            break
        except (OSError, KeyboardInterrupt):
            hits += 1
    assert hits > 10
    assert lines(tmp_path / "hit", without=["seconds"]) == lines(tmp_path / "straight", without=["seconds"])


@pytest.mark.parametrize("ends", ["crashes", "is lost"])
def test_a_trial_that_is_tried_again_survives_a_full_disk(ends, tmp_path, monkeypatch):
    oracle = make(tmp_path, max_retries_per_trial=2)
    trial = oracle.create_trial("w")
    trial.status = "INVALID"

    def broken(*args):
        raise OSError("disk")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk"):
        patch.setattr(log.Log, "append", broken)
        oracle.end_trial(trial) if ends == "crashes" else oracle.take_back(trial.trial_id)
    assert oracle.create_trial("w").trial_id == trial.trial_id


def test_an_exception_never_keeps_the_lock(tmp_path, monkeypatch):
    oracle = make(tmp_path)
    trial = oracle.create_trial("w")

    def broken(*args):
        raise OSError("disk")

    with monkeypatch.context() as patch:
        patch.setattr(log.Log, "append", broken)
        for call in (lambda: oracle.create_trial("x"), lambda: run(oracle, trial, {"reward": 1.0})):
            with pytest.raises(OSError, match="disk"):
                call()
    thread = threading.Thread(target=finish, args=(oracle,), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert len(lines(tmp_path)) == 120


def test_trials_share_one_space_until_one_adds_an_entry(tmp_path):
    oracle = make(tmp_path)
    one, other = oracle.create_trial("a"), oracle.create_trial("b")
    assert one.hyperparameters.space is other.hyperparameters.space is oracle.hyperparameters.space
    assert one.hyperparameters.Int("units", 1, 9) == 1
    assert len(one.hyperparameters.space) == 21
    assert len(other.hyperparameters.space) == 20
    assert other.hyperparameters.Int("units", 3, 9) == 3
    assert one.hyperparameters.copy().values == one.hyperparameters.values
    run(oracle, one)
    assert len(oracle.get_space().space) == 20
    assert oracle.create_trial("a").hyperparameters.values.keys() == SPACE.to_values([0] * 20).keys()


def test_what_a_hypermodel_asks_for_beside_the_cells_is_told_once(tmp_path, caplog):
    def build(hp):
        hp.Choice("lr", [0.001, 0.01])
        hp.Float("dropout", 0.1, 0.5)
        hp.Fixed("epochs", 3)
        hp.Int("units", 8, 16)
        hp.Float("decay", 0.0, 1.0, step=0.5)

    for _ in range(2):
        oracle = NASNetOracle(1, space=SPACE, strategy="random", seed=1)
        tuner = base_tuner.BaseTuner(oracle, build, directory=str(tmp_path), project_name="p")
        tuner.oracle.update_space(tuner.oracle.get_space())
        build(trial := tuner.oracle.create_trial("w").hyperparameters)
        tuner.oracle.update_space(trial)
        told = [message for message in caplog.messages if "is not searched for" in message]
        caplog.clear()
        assert told == [
            f"`{name}` is not searched for: every trial gets {value}; the oracle proposes cells alone"
            for name, value in (("lr", 0.001), ("dropout", 0.1), ("units", 8), ("decay", 0.0))
        ]


def test_two_processes_cannot_search_in_one_folder(tmp_path):
    oracle = make(tmp_path)
    run(oracle, oracle.create_trial("w"))
    make(tmp_path / "other").create_trial("w")
    before = (tmp_path / "trials.jsonl").read_bytes()
    code = "import sys; from test_oracle import make; make(sys.argv[1]).create_trial('w')"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": MODULES},
    )  # fmt: skip
    assert done.returncode == 1 and "is in use: another process searches there" in done.stderr.splitlines()[-1]
    assert (tmp_path / "trials.jsonl").read_bytes() == before


def is_free(folder):
    """Whether another process gets a trial there."""
    code = "import sys; from test_oracle import make; make(sys.argv[1]).create_trial('w')"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(folder)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": MODULES},
    )  # fmt: skip
    assert done.returncode == 0 or "is in use: another process searches there" in done.stderr.splitlines()[-1]
    return done.returncode == 0


@pytest.mark.long
def test_an_oracle_that_is_collected_takes_no_lock_with_it(tmp_path):
    """As in a notebook: Ctrl-C, the cell again, and then whatever kept the first oracle lets it go."""
    first = make(tmp_path)
    first.create_trial("w")
    second = make(tmp_path)
    second.create_trial("w")
    del first
    gc.collect()
    assert not is_free(tmp_path)
    second.close()
    assert is_free(tmp_path)
    assert second.create_trial("w").trial_id == "00000"  # opened again
    assert not is_free(tmp_path)


@pytest.mark.long
def test_in_one_process_the_newest_search_has_the_directory(tmp_path):
    older = make(tmp_path)
    trial = older.create_trial("w")
    older.update_trial(trial.trial_id, {"reward": 0.1})
    newer = make(tmp_path)
    run(newer, newer.create_trial("w"), {"reward": 0.2})
    trial.status = "COMPLETED"
    for call in (lambda: older.end_trial(trial), lambda: older.create_trial("w"), older.finished_trials, older.reload):
        with pytest.raises(ValueError, match="was taken over by a later search in this process") as error:
            call()
        assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    run(newer, newer.create_trial("w"), {"reward": 0.3})
    assert [line["reward"] for line in lines(tmp_path)] == [0.2, 0.3]
    older.close()
    assert not is_free(tmp_path)


def test_a_search_that_is_refused_takes_nothing_over(tmp_path):
    oracle = make(tmp_path)
    run(oracle, oracle.create_trial("w"))
    with pytest.raises(ValueError, match="`seed` must be 0"):
        make(tmp_path, seed=1).create_trial("w")
    run(oracle, oracle.create_trial("w"))
    assert len(lines(tmp_path)) == 2


def test_a_write_that_has_begun_ends_before_another_search_takes_over(tmp_path, monkeypatch):
    older, writing, go_on = make(tmp_path), threading.Event(), threading.Event()
    trial, real, read = older.create_trial("w"), log.Log.append, []

    def slow(log, value):
        writing.set()
        assert go_on.wait(20)
        real(log, value)

    monkeypatch.setattr(log.Log, "append", slow)
    end = threading.Thread(target=run, args=(older, trial, {"reward": 0.5}), daemon=True)
    end.start()
    assert writing.wait(20)
    take = threading.Thread(target=lambda: read.extend(make(tmp_path).finished_trials()), daemon=True)
    take.start()
    take.join(0.2)
    assert take.is_alive() and not read
    go_on.set()
    take.join(20)
    assert [line["reward"] for line in read] == [0.5] == [line["reward"] for line in lines(tmp_path)]


@pytest.mark.long
def test_a_forked_process_neither_has_nor_keeps_the_directory(tmp_path):
    oracle = make(tmp_path)
    oracle.create_trial("w")
    reads, answers = os.pipe()
    stays, goes = os.pipe()
    child = os.fork()
    if not child:
        os.close(goes)
        try:
            oracle.create_trial("x")
        except ValueError as error:
            os.write(answers, str(error).encode())
        os.close(answers)
        os.read(stays, 1)  # lives on as long as the parent wants
        os._exit(0)
    os.close(answers)
    os.close(stays)
    with os.fdopen(reads) as answer:
        assert "belongs to the process that this one was forked from" in answer.read()
    assert not is_free(tmp_path)
    oracle.close()
    assert is_free(tmp_path)
    os.close(goes)
    os.waitpid(child, 0)


def elsewhere(function):
    """In another thread, which ends soon."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_a_listener_may_ask_the_oracle_anything(tmp_path):
    oracle, told = make(tmp_path, max_trials=6), []

    def listen(trials):
        told.append(len(trials))
        assert oracle.finished_trials() == trials
        elsewhere(oracle.announce)
        elsewhere(lambda: told.append(oracle.create_trial(f"other{len(trials)}").trial_id))
        if len(trials) == 2:  # trials that end while somebody listens are told of after that
            elsewhere(lambda: run(oracle, oracle.create_trial("other1")))
            elsewhere(lambda: run(oracle, oracle.create_trial("other2")))

    oracle.on_finished = listen
    for _ in range(2):
        run(oracle, oracle.create_trial("w"))
    assert told == [1, "00001", 2, "00003", 4, "00004"] and oracle.announce()


def test_announcements_from_many_threads_are_in_order_and_none_is_lost_or_told_twice(tmp_path):
    oracle, told, within = make(tmp_path, "random", max_trials=300), [], []

    def listen(trials):
        within.append(1)
        assert len(within) == 1  # one at a time
        told.append([trial["trial_id"] for trial in trials])
        within.pop()

    def work(name):
        while (trial := oracle.create_trial(name)).status == "RUNNING":
            run(oracle, trial)

    oracle.on_finished = listen
    threads = [threading.Thread(target=work, args=(f"w{number}",), daemon=True) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    order = [line["trial_id"] for line in lines(tmp_path)]
    assert len(order) == 300 and told[-1] == order
    assert [len(trials) for trials in told] == sorted({len(trials) for trials in told})
    assert all(trials == order[: len(trials)] for trials in told)


def test_what_a_listener_that_failed_missed_is_told_the_next_time(tmp_path):
    oracle, told = make(tmp_path), []

    def listen(trials):
        told.append(len(trials))
        if len(trials) == 2:
            elsewhere(lambda: run(oracle, oracle.create_trial("other")))
            raise KeyError("listener")

    oracle.on_finished = listen
    run(oracle, oracle.create_trial("w"))
    with pytest.raises(KeyError, match="listener"):
        run(oracle, oracle.create_trial("w"))
    assert oracle.announce()
    oracle.create_trial("w")
    assert told == [1, 2, 3]


def test_a_trial_that_is_given_up_tells_its_last_reason(tmp_path):
    oracle = make(tmp_path, max_retries_per_trial=9, max_attempts=2)
    for reason in ("first", "OSError: broken pipe"):
        trial = oracle.create_trial("w")
        trial.status, trial.message = "INVALID", reason
        oracle.end_trial(trial)
    assert oracle.create_trial("w").trial_id == "00001"
    assert lines(tmp_path)[0]["reason"] == "given out 2 times, the last time: OSError: broken pipe"


def test_the_cost_of_a_trial_does_not_grow(tmp_path, monkeypatch):
    """Bytes and files, which do not depend on the machine: what trial 200 writes is what trial 20 writes."""
    oracle, written = make(tmp_path, "random", max_trials=200), []
    real = log.Log.append
    monkeypatch.setattr(log.Log, "append", lambda log, value: (written.append(log.path), real(log, value)))
    finish(oracle)
    assert len(written) == 400
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "controller", "lock", "proposals.jsonl", "search.json", "state.npz", "trials.jsonl",
    ]  # fmt: skip
    assert (tmp_path / "controller/state.npz").stat().st_size < 5000


def test_an_oracle_without_a_folder_says_so():
    with pytest.raises(ValueError, match="`directory`"):
        NASNetOracle(3).create_trial("w")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_trials": 0}, "`max_trials` must be None or an integer from 1. Received: 0"),
        ({"max_trials": 2.0}, "`max_trials`"),
        ({"max_trials": True}, "`max_trials`"),
        ({"max_trials": 3, "max_retries_per_trial": -1}, "`max_retries_per_trial`"),
        ({"max_trials": 3, "max_consecutive_failed_trials": 0}, "`max_consecutive_failed_trials`"),
        ({"max_trials": 3, "strategy": "grid"}, "`strategy`"),
        ({"max_trials": 3, "seed": -1}, "`seed`"),
        ({"max_trials": 3, "settings": EvolutionSettings()}, "`settings`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        NASNetOracle(**arguments)


def test_a_search_that_never_learns_is_told_once(tmp_path, caplog):
    oracle = make(tmp_path / "s", "rl", max_trials=7)
    for _ in range(2):
        oracle.reload()
    (told,) = caplog.messages
    assert told.startswith("rl proposes at random until 7 children have a reward: with `max_trials` 7 this is a random")
    caplog.clear()
    finish(oracle)
    make(tmp_path / "s", "rl", max_trials=7).reload()  # nothing is left
    rewards = [{"decisions": [0] * len(SPACE.decisions), "reward": 0.5}]
    make(tmp_path / "more", "rl", max_trials=7, imports=rewards).reload()
    for number, trials in enumerate((8, None)):
        make(tmp_path / str(number), "rl", max_trials=trials).reload()
    assert "random search" not in caplog.text
