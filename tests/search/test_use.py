"""What would do nothing is refused where a search begins, and kept where one goes on, in Python as on the command."""

import json
import logging
from dataclasses import asdict

import numpy as np
import pytest
from free_children import Data, Free
from keras_tuner import Objective

from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.data.arrays import data_of_arrays
from nasnet_keras.search import tuner
from nasnet_keras.search.distributed.ray_pool import Engine
from nasnet_keras.search.distributed.roles import Role
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.rules import FailurePenalty, Limits, MedianStop, Replay, SoftTarget
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.strategies.evolution import EvolutionSettings
from nasnet_keras.search.strategies.local_search import LocalSettings
from nasnet_keras.search.strategies.predictor import PredictorSettings
from nasnet_keras.search.tuner import NASNetTuner, search

SPACE = SearchSpace(blocks=1)
DATA = data_of_arrays(np.zeros((8, 4, 4, 1), np.uint8), [0, 1] * 4, validation_split=0.5)
STOP = {"rules": (Replay(), MedianStop())}
NOTHING = [
    (STOP, "`rules` with MedianStop need `epochs` above 1 of independent children. Received: 1 of independent"),
    (
        {**STOP, "child": ChildSettings(evaluation="shared")},
        "`rules` with MedianStop need `epochs` above 1 of independent children. Received: 1 of shared children",
    ),
    (
        {"rules": (MedianStop(epochs=3),), "child": ChildSettings(epochs=3)},
        "`rules` with MedianStop need `epochs` above 3 of independent children. Received: 3 of independent",
    ),
    (
        {"rules": (SoftTarget(0.01, metric="latency"),)},
        "`metric` of SoftTarget must be of what children report: multiply_adds, parameters, seconds. Received: 'lat",
    ),
    (
        {"child": ChildSettings(evaluation="shared", epochs=20)},
        "`epochs` must be left out where `evaluation` is",
    ),
    ({"child": ChildSettings(shared_steps=50)}, "`shared_steps` needs `evaluation` shared, and does nothing without"),
    (
        {"child": ChildSettings(screen_share=0.9)},
        "`screen_share` needs `screen`, and does nothing without",
    ),
    ({"settings": ControllerSettings(algorithm="reinforce", clip=0.3)}, "`clip` needs `algorithm` ppo"),
    ({"settings": ControllerSettings(algorithm="reinforce", epochs=9)}, "`epochs` needs `algorithm` ppo"),
]
OF_ONE_CALL = [
    ({"lease": 5}, "`lease` 5 is not used"),
    ({"lease": 5, "workers": 2}, "`lease` 5 is not used"),
    ({"patience": 5}, "`patience` 5 is not used"),
    ({"patience": 5, "workers": 2}, "`patience` 5 is not used"),
]


@pytest.fixture
def to_the_data(monkeypatch):
    """Ends a search where it asks for its data."""

    def stop(*_, **__):
        raise LookupError("the data are asked for")

    monkeypatch.setattr(tuner, "load_data", stop)


@pytest.mark.parametrize(("arguments", "says"), OF_ONE_CALL)
def test_what_is_for_a_role_is_told_as_the_same_call_may_have_one(arguments, says, tmp_path, to_the_data, caplog):
    with pytest.raises(LookupError, match="the data are asked for"):
        search("digits", 5, tmp_path / "s", space=SPACE, **arguments)
    assert caplog.text.count(says) == 1


def test_an_engine_with_a_patience_of_its_own_takes_no_other(tmp_path):
    with pytest.raises(ValueError, match="`patience` must be left out where `engine` has its own, .*: 5"):
        search("digits", 5, tmp_path / "s", space=SPACE, patience=5, engine=Engine(patience=7))


@pytest.mark.parametrize(("arguments", "says"), NOTHING)
def test_what_would_do_nothing_is_refused_before_anything_is_loaded(arguments, says, tmp_path, to_the_data):
    with pytest.raises(ValueError, match=says):
        search("digits", 5, tmp_path / "s", space=SPACE, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {**STOP, "child": ChildSettings(epochs=2)},
        {"rules": (Replay(), Limits(9))},
        {"child": ChildSettings(evaluation="shared", shared_steps=50, screen="naswot", screen_share=0.9)},
        {"settings": ControllerSettings(clip=0.3, epochs=9)},
        {"patience": 5, "engine": "ray"},
        {"patience": 5, "engine": Engine(patience=5)},
        {"engine": Engine(patience=5)},
        {"lease": 5, "patience": 5, "role": Role("chief", port=0)},
    ],
)
def test_what_does_something_is_taken(arguments, tmp_path, to_the_data):
    with pytest.raises(LookupError, match="the data are asked for"):
        search("digits", 5, tmp_path / "s", space=SPACE, **arguments)


@pytest.mark.parametrize(("arguments", "says"), NOTHING)
def test_a_search_that_an_earlier_version_began_so_goes_on(arguments, says, tmp_path, to_the_data):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/search.json").write_text("{}")
    with pytest.raises(LookupError, match="the data are asked for"):
        search("digits", 5, tmp_path / "s", space=SPACE, **arguments)


@pytest.mark.parametrize(("arguments", "says"), NOTHING)
def test_a_tuner_of_one_s_own_refuses_it_as_well(arguments, says, tmp_path):
    arguments = dict(arguments)
    child, place = arguments.pop("child", None), {"directory": str(tmp_path), "project_name": "s"}
    oracle = NASNetOracle(5, space=SPACE, seed=0, **arguments)
    with pytest.raises(ValueError, match=says):
        NASNetTuner(oracle, child, **place)
    (tmp_path / "s").mkdir(exist_ok=True)
    (tmp_path / "s/search.json").write_text("{}")
    NASNetTuner(oracle, child, **place)
    with pytest.raises(ValueError, match=says):
        NASNetTuner(oracle, child, overwrite=True, **place)


def test_what_teaches_is_refused_where_nothing_learns(tmp_path, to_the_data):
    penalty, says = (
        (FailurePenalty(0.0),),
        "must be for a strategy that learns, and does nothing with random. Received: ",
    )
    imports = [{"decisions": [0] * len(SPACE.decisions), "reward": 0.5}]
    with pytest.raises(ValueError, match=f"`start_from` {says}'other'"):
        search("digits", 5, tmp_path / "s", "random", space=SPACE, start_from="other")
    with pytest.raises(ValueError, match=f"`rules` {says}FailurePenalty"):
        search("digits", 5, tmp_path / "s", "random", space=SPACE, rules=penalty)
    for name, options in (("imports", {"imports": imports}), ("rules", {"rules": penalty})):
        oracle = NASNetOracle(2, space=SPACE, strategy="random", seed=0, **options)
        with pytest.raises(ValueError, match=f"`{name}` {says}"):
            NASNetTuner(oracle, Free(), directory=str(tmp_path), project_name="t")
    (tmp_path / "s").mkdir(exist_ok=True)
    (tmp_path / "s/search.json").write_text("{}")
    with pytest.raises(LookupError, match="the data are asked for"):  # of an earlier version
        search("digits", 5, tmp_path / "s", "random", space=SPACE, rules=penalty)


def test_a_limit_needs_a_child_that_tells_its_sizes(tmp_path):
    def of(name, rule):
        oracle = NASNetOracle(2, space=SPACE, strategy="random", seed=0, rules=(rule,))
        if name == "begun":  # by an earlier version
            oracle._set_project_dir(str(tmp_path), name)
            oracle.reload()
        return NASNetTuner(oracle, Costly(), directory=str(tmp_path), project_name=name)

    with pytest.raises(ValueError, match="`child` must have `sizes`, .*where `rules` have Limits. Received: "):
        of("new", Limits(9))
    with pytest.raises(ValueError, match="`child` must have `sizes`"):
        search(DATA, 2, tmp_path / "t", "random", space=SPACE, child=Costly(), rules=(Limits(9),))
    # For a target it is enough what is reported with the reward.
    for one in (of("begun", Limits(9)), of("target", SoftTarget(5, "parameters"))):
        one.search(DATA)
        assert [line["reward"] for line in one.oracle.finished_trials()] == [0.5] * 2


class Costly:
    """A child that tells its size with its reward alone."""

    def evaluate(self, genotype, data, seed):
        return {"reward": 0.5, "parameters": 5}


def test_a_child_of_one_s_own_is_not_asked(tmp_path):
    oracle = NASNetOracle(2, space=SPACE, strategy="random", seed=0, rules=(MedianStop(),))
    NASNetTuner(oracle, Free(), directory=str(tmp_path), project_name="s")


def test_a_tuner_whose_children_are_its_own_is_not_asked_either(tmp_path):
    class Own(NASNetTuner):
        def run_trial(self, trial, *args, **kwargs):
            return {"reward": 0.5}

    oracle = NASNetOracle(2, space=SPACE, strategy="random", seed=0, rules=(MedianStop(),))
    Own(oracle, directory=str(tmp_path), project_name="s")


def test_a_search_in_python_says_that_it_never_learns(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(ChildSettings, "evaluate", lambda *_, **__: {"reward": 0.5, "multiply_adds": 9})
    oracle = NASNetOracle(2, space=SPACE, seed=0, settings=ControllerSettings(hidden_units=8, batch_size=2))
    with caplog.at_level(logging.WARNING):
        NASNetTuner(oracle, Free(), directory=str(tmp_path), project_name="s").search(Data)
    assert caplog.text.count("this is a random search") == 1


def latency(architecture):
    return 1.0


@pytest.mark.parametrize("place", [{}, {"engine": Engine()}, {"role": Role("chief", port=0)}])
@pytest.mark.parametrize(
    ("objective", "wrong"),
    [
        ("val_accuracy", "val_accuracy"),
        (Objective("val_loss", "min"), "val_loss"),
        ([Objective("reward", "max"), Objective("latency", "min")], "latency"),
    ],
)
def test_an_objective_that_no_child_reports_is_refused_before_anything_is_written(objective, wrong, place, tmp_path):
    """KerasTuner's usual one among them: after the first child its error spoke of a method that nobody had written."""
    oracle = NASNetOracle(2, space=SPACE, strategy="random", seed=0, objective=objective)
    names = "reward, multiply_adds, parameters, seconds"
    with pytest.raises(ValueError, match=f"^`objective` must be of what children report: {names}. Received: '{wrong}'"):
        NASNetTuner(oracle, ChildSettings(), directory=str(tmp_path), project_name="s", **place)
    assert not list(tmp_path.iterdir())
    # One that has begun is left alone, and so is who may report more.
    NASNetTuner(oracle, Free(), directory=str(tmp_path), project_name="own")
    (tmp_path / "s").mkdir()
    (tmp_path / "s/search.json").write_text("{}")
    NASNetTuner(oracle, ChildSettings(), directory=str(tmp_path), project_name="s")


@pytest.mark.parametrize("objective", [None, Objective("seconds", "min"), Objective("latency", "min")])
def test_an_objective_that_children_report_is_taken(objective, tmp_path):
    objective = [Objective("reward", "max"), Objective("latency", "min")] if objective is None else objective
    oracle = NASNetOracle(2, space=SPACE, strategy="random", seed=0, objective=objective)
    NASNetTuner(oracle, ChildSettings(), directory=str(tmp_path), project_name="s", cost=latency)


def test_a_target_for_a_cost_that_is_measured_is_taken(tmp_path, to_the_data):
    with pytest.raises(LookupError, match="the data are asked for"):
        search("digits", 2, tmp_path / "s", rules=(SoftTarget(0.01, metric="latency"),), cost=latency)


def test_integers_of_numpy_and_lists_are_taken_as_what_they_are(tmp_path):
    """As `np.arange` and the entries of arrays give them; kept as plain ones, which JSON knows."""
    three = np.int64(3)
    for made in (
        ChildSettings(repeats=[1, three], filters=three, epochs=three, batch_size=three),
        ControllerSettings(
            hidden_units=three, batch_size=three, epochs=three, embedding_size=three, clip=np.float64(1)
        ),
        EvolutionSettings(population=three, sample=three),
        LocalSettings(beginning=three),
        PredictorSettings(beginning=three, candidates=three, parents=three),
        Limits(max_parameters=three),
        MedianStop(epochs=three, trials=three),
        SearchSpace(blocks=three),
        SoftTarget(np.int64(5_000_000), exponent=np.float32(-0.5)),
        FailurePenalty(np.float64(0)),
        FailurePenalty(np.int64(-1)),
        ControllerSettings(learning_rate=np.float32(0.5), clip=three),
        PredictorSettings(random=np.float32(0.5)),
        Engine(workers=three, cpus=np.int64(2), gpus=np.float32(0.5), patience=np.int64(9)),
        Role("chief", port=three),
    ):
        assert json.loads(json.dumps(asdict(made) | {"secret": None}))
    assert ChildSettings(repeats=[1, three]) == ChildSettings(repeats=(1, 3))
    oracle = NASNetOracle(three, space=SPACE, strategy="random", seed=three, max_retries_per_trial=three)
    assert (type(oracle.max_trials), type(oracle.seed), type(oracle.strategy.seed)) == (int, int, int)
    result = search(DATA, three, tmp_path / "s", "random", np.uint32(1), space=SPACE, child=Free())
    assert len(result.trials) == 3
    assert search(DATA, 3, tmp_path / "s", "random", 1, space=SPACE, child=Free()).trials == result.trials
    times = {"lease": np.int64(60), "patience": np.float32(60)}
    oracle = NASNetOracle(3, space=SPACE, strategy="random", hours=np.int64(8))
    tuner = NASNetTuner(oracle, Free(), directory=str(tmp_path), project_name="p", **times)
    assert (type(tuner.lease), type(tuner.patience)) == (int, float)
    result = search(DATA, 3, tmp_path / "u", "random", 1, space=SPACE, child=Free(), hours=np.int64(8), **times)
    assert len(result.trials) == 3
    for wrong in (True, 2.0, np.float64(2)):
        with pytest.raises(ValueError, match="`filters` must be an integer"):
            ChildSettings(filters=wrong)
        with pytest.raises(ValueError, match="`max_trials` must be an integer"):
            search(DATA, wrong, tmp_path / "t")


def test_what_is_no_child_space_or_oracle_is_named(tmp_path):
    oracle = NASNetOracle(2, space=SPACE, strategy="random", seed=0)
    for child in ({"epochs": 2}, ChildSettings, 5):
        with pytest.raises(ValueError, match="`child` must be a ChildSettings, or .* Received: "):
            search(DATA, 2, tmp_path / "s", space=SPACE, child=child)
        with pytest.raises(ValueError, match="`child` must be a ChildSettings, or .* Received: "):
            NASNetTuner(oracle, child, directory=str(tmp_path))
    with pytest.raises(ValueError, match="`oracle` must be a NASNetOracle. Received: 'random'"):
        NASNetTuner("random", directory=str(tmp_path))
    with pytest.raises(ValueError, match="`hypermodel` must be left out: .* Received: "):
        NASNetTuner(oracle, hypermodel=print, directory=str(tmp_path))
    for space in (5, "small", SearchSpace):
        with pytest.raises(ValueError, match="`space` must be a SearchSpace. Received: "):
            search(DATA, 2, tmp_path / "s", space=space)
    assert not list(tmp_path.iterdir())


def test_an_argument_of_fit_is_refused_before_the_images_are_read(tmp_path):
    data = ["none that could be read"]
    tuner = NASNetTuner(NASNetOracle(2, space=SPACE, strategy="random", seed=0), directory=str(tmp_path))
    with pytest.raises(ValueError, match="`epochs` must be left out"):
        tuner.search(data, validation_data=data, epochs=3)
