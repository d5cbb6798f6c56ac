"""Every name that KerasTuner does not promise and a search relies on: it is there, and is called as we call it."""

import inspect
import re
from pathlib import Path

import keras_tuner
import pytest

from nasnet_keras.search import kerastuner
from nasnet_keras.search.distributed.chief import Servicer
from nasnet_keras.search.distributed.worker import Client
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.trials.format import _SharedSpace
from nasnet_keras.search.tuner import NASNetTuner

TRIAL = kerastuner.Trial(keras_tuner.HyperParameters())
ORACLE = keras_tuner.oracles.RandomSearchOracle(keras_tuner.Objective("reward", "max"), 3)
CALLED = [
    (kerastuner.Trial, "(hyperparameters, trial_id=None, status='RUNNING', message=None)"),
    (kerastuner.Trial.to_proto, "(self)"),
    (kerastuner.Trial.from_proto, "(proto)"),
    (kerastuner.infer_metric_direction, "(metric)"),
    (TRIAL.metrics.register, "(name, direction=None)"),
    (TRIAL.metrics.exists, "(name)"),
    (ORACLE._check_objective_found, "(metrics)"),
    (ORACLE.score_trial, "(trial)"),
    (ORACLE._display.on_trial_begin, "(trial)"),
    (ORACLE._display.on_trial_end, "(trial)"),
    (kerastuner.BaseTuner._run_and_update_trial, "(self, trial, *fit_args, **fit_kwargs)"),
]


@pytest.mark.parametrize(("function", "signature"), CALLED, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_called(function, signature):
    assert str(inspect.signature(function)) == signature


OVERRIDDEN = [
    (NASNetOracle, "_set_project_dir", "(self, directory, project_name)"),
    (NASNetOracle, "get_trial", "(self, trial_id)"),
    (NASNetOracle, "get_best_trials", "(self, num_trials=1)"),
    (NASNetOracle, "remaining_trials", "(self)"),
    (NASNetOracle, "update_space", "(self, hyperparameters)"),
    (NASNetOracle, "save", "(self)"),
    (NASNetOracle, "reload", "(self)"),
    (NASNetTuner, "_try_run_and_update_trial", "(self, trial, *fit_args, **fit_kwargs)"),
    (NASNetTuner, "_is_worker", "(self)"),
    (NASNetTuner, "run_trial", "(self, trial, *fit_args, **fit_kwargs)"),
    (NASNetTuner, "on_trial_begin", "(self, trial)"),
    (NASNetTuner, "on_trial_end", "(self, trial)"),
    (NASNetTuner, "on_search_end", "(self)"),
    (NASNetTuner, "load_model", "(self, trial)"),
    (_SharedSpace, "_register", "(self, hyperparameter, overwrite=False)"),
    *((Servicer, verb, "(self, request, context)") for verb in ("CreateTrial", "UpdateTrial", "EndTrial", "GetTrial")),
    (Client, "create_trial", "(self, tuner_id)"),
    (Client, "update_trial", "(self, trial_id, metrics, step=0)"),
    (Client, "end_trial", "(self, trial)"),
    (Client, "get_trial", "(self, trial_id)"),
    (Client, "get_best_trials", "(self, num_trials=1)"),
]


@pytest.mark.parametrize(("ours", "name", "signature"), OVERRIDDEN, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_overridden(ours, name, signature):
    assert name in vars(ours)
    assert str(inspect.signature(getattr(ours.__base__, name))) == signature


def test_the_synchronised_verbs_of_an_oracle_are_called_with_these_names():
    """KerasTuner wraps them in its lock; the signature is that of what is inside."""
    inside = {}
    for name in ("create_trial", "update_trial", "end_trial"):
        (inside[name],) = (
            cell.cell_contents
            for cell in getattr(keras_tuner.Oracle, name).__closure__
            if inspect.isfunction(cell.cell_contents) and cell.cell_contents.__name__ == name
        )
    for name, function in inside.items():
        assert str(inspect.signature(function)) == str(inspect.signature(getattr(NASNetOracle, name)))


def test_what_is_read_and_written_is_there():
    assert {"trials", "ongoing_trials", "start_order", "end_order", "tuner_ids", "_run_times", "_retry_queue"} <= vars(
        ORACLE
    ).keys()
    assert {"trial_start", "verbose"} <= vars(ORACLE._display).keys()
    assert {"_hps", "_space", "values"} <= vars(TRIAL.hyperparameters).keys()
    assert {"metrics", "best_step", "score", "status", "message"} <= vars(TRIAL).keys()
    for name in ("RUNNING", "IDLE", "INVALID", "STOPPED", "COMPLETED", "FAILED"):
        assert getattr(kerastuner.TrialStatus, name) == name
    TRIAL.metrics.register("reward", "max")
    history = TRIAL.metrics.metrics["reward"]
    history.update(0.5, 2)
    (seen,) = history.get_history()
    assert (seen.value, seen.step, history.get_best_value()) == ([0.5], 2, 0.5)
    assert issubclass(keras_tuner.errors.FailedTrialError, keras_tuner.errors.FatalError) is False


def test_messages_travel_with_these_fields():
    messages = kerastuner.protos.get_service()
    fields = {
        "CreateTrialRequest": {"tuner_id"},
        "UpdateTrialRequest": {"trial_id", "metrics", "step"},
        "EndTrialRequest": {"trial"},
        "GetTrialRequest": {"trial_id"},
        "GetBestTrialsRequest": {"num_trials"},
    }
    for name, expected in fields.items():
        assert {field.name for field in getattr(messages, name).DESCRIPTOR.fields} == expected
    assert kerastuner.protos.get_service_grpc().OracleStub and kerastuner.OracleServicer


def test_nobody_else_imports_them():
    """Everything under `keras_tuner.engine` and `keras_tuner.src` comes through the door."""
    rooms = Path(kerastuner.__file__).parents[1].rglob("*.py")
    inside = re.compile(r"^\s*(from|import) keras_tuner(\.| import .*)(engine|src)", re.MULTILINE)
    assert [path.name for path in rooms if inside.search(path.read_text())] == ["kerastuner.py"]
