"""The cost of a child as a user gives it: what is refused, and what tells two functions of one name apart."""

import enum
import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from free_children import Free

import nasnet_keras
from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.search.cost import mark_of_cost, name_of_cost
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.results.preference import Preference, keep_function
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.tuner import NASNetTuner, search

SPACE = SearchSpace(blocks=1)


class Own(ChildSettings):
    """What `cost` can be asked of."""


def measured(architecture):
    return 1.0


@pytest.mark.parametrize("cost", ["multiply_adds", "latency", 3])
def test_a_tuner_s_cost_is_a_function(cost, tmp_path):
    with pytest.raises(ValueError, match="`cost` must be a function of a child's Architecture, or None: .*Received: "):
        NASNetTuner(NASNetOracle(1, space=SPACE), cost=cost, directory=str(tmp_path), project_name="p")
    assert not list(tmp_path.iterdir())


def test_a_cost_is_not_asked_of_children_without_an_architecture(tmp_path):
    rule = "`child` must have an `architecture`, with which `cost` is asked"
    place = {"directory": str(tmp_path), "project_name": "p"}
    with pytest.raises(ValueError, match=rule):
        NASNetTuner(NASNetOracle(1, space=SPACE), Free(), cost=measured, **place)
    with pytest.raises(ValueError, match=rule):
        search("digits", 1, tmp_path / "s", space=SPACE, child=Free(), cost=measured)
    assert not list(tmp_path.iterdir())
    NASNetTuner(NASNetOracle(1, space=SPACE), Free(), **place)
    NASNetTuner(NASNetOracle(1, space=SPACE), Own(), cost=measured, directory=str(tmp_path), project_name="q")


def made(bound, seen=()):
    return lambda architecture: seen or architecture.filters * bound


class Latency:
    def __init__(self, batch):
        self.batch, self._runs = batch, object()

    def __call__(self, architecture):
        return self.batch

    def slow(self, architecture):
        return 2 * self.batch


class Phone:
    def __init__(self, device):
        self.device, self.model = device, Changing()

    def latency(self, architecture):
        return {"pixel": 1.0}.get(self.device, 2.0)


class Changing:
    """As a Keras model is: with attributes that are other ones in every process, or after a call."""

    def __init__(self):
        self.name, self.function = f"model_{id(self)}", None

    def __call__(self, inputs):
        self.function = len(self.name)
        return inputs


class Chip(enum.Enum):
    FAST, SLOW = {"conv": 1.0}, {"conv": 2.0}


@dataclass
class Table:
    milliseconds: dict
    runs: int = field(default=0, compare=False)


class Answering:
    """As a proxy of another machine: whatever it is asked for is something new."""

    def __getattr__(self, name):
        return Answering()

    def __call__(self, architecture):
        return 1.0


class Raising:
    __slots__ = ()

    @property
    def __dict__(self):
        raise RuntimeError

    def __call__(self, architecture):
        return 1.0


def again(architecture, depth=3):
    def inner(left):
        return inner(left - 1) if left else 0

    return inner(depth)


def recursive(bound):
    def inner(left):
        return inner(left - 1) if left else bound

    return inner


DIFFERENT = [
    lambda a: a.filters,
    lambda a: a.repeats,
    lambda a: a.filters + 1,
    lambda a: a.filters + 2,
    lambda a: a.filters in {"a", "b", "c"},
    lambda a: [one + 1 for one in a.repeats],
    lambda a: [one + 2 for one in a.repeats],
    lambda a, n=1: n,
    lambda a, n=2: n,
    lambda a, *, n=2: n,
    measured,
    again,
    made(1),
    made(2),
    made((1, 2)),
    made(measured),
    made([]),
    made({"conv": 1.0}),
    made({"conv": 2.0}),
    made({"conv": [1.0, 2.0]}),
    made({1, 2}),
    made(np.array([1, 2])),
    made(np.array([1, 3])),
    made(np.array([1.0, 2.0])),
    made(np.array([[1, 2]])),
    made(np.array([1, None])),
    made(np.array([2, None])),
    made(np.float32(1)),
    made(Chip.FAST),
    made(Chip.SLOW),
    made(Table({"conv": 1.0})),
    made([Table({"conv": np.zeros(2)})]),
    made([Table({"conv": np.ones(2)})]),
    Phone("pixel").latency,
    Phone("jetson").latency,
    Phone({"conv": np.zeros(2)}).latency,
    Phone({"conv": np.ones(2)}).latency,
    functools.partial(Phone("pixel").latency),
    functools.partial(Phone("jetson").latency),
    functools.lru_cache(Phone("pixel").latency),
    functools.lru_cache(Phone("jetson").latency),
    recursive(1),
    recursive(2),
    functools.partial(measured),
    functools.partial(made(1), 2),
    functools.partial(made(1), 3),
    functools.partial(made(1), n=3),
    functools.partial(made(1), [3, 4]),
    functools.partial(made(1), [3, 5]),
    functools.lru_cache(measured),
    functools.lru_cache(again),
    Latency(1),
    Latency(2),
    Latency(1).slow,
    Latency(2).slow,
    Latency,
    len,
]


def test_functions_that_are_not_the_same_have_marks_of_their_own():
    marks = list(map(mark_of_cost, DIFFERENT))
    assert [(one, other) for other in range(len(marks)) for one in range(other) if marks[one] == marks[other]] == []


def test_the_same_function_made_again_has_the_same_mark_in_every_process():
    assert mark_of_cost(Latency(1)) == mark_of_cost(Latency(1))
    source = "from functools import partial\nfrom nasnet_keras.search.cost import mark_of_cost\n"
    source += "print(mark_of_cost(partial(lambda a, b: a in {'x', 'y', 'z'} and [c for c in b], {'k', 'l'})))"
    paths, told = str(Path(nasnet_keras.__file__).parents[1]), set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": seed}
        told.add(subprocess.check_output([sys.executable, "-c", source], text=True, env=environment))
    assert len(told) == 1 and [len(part) for part in told.pop().strip().split(f"{sys.implementation.cache_tag} ")] == [
        0,
        16,
    ]


def test_what_changes_by_itself_is_no_other_cost(monkeypatch):
    """A model that was called, or is another one; what a dataclass does not compare; the module that a script is."""
    model, table, plain, phone = Changing(), Table({}), made(1), Phone("pixel").latency
    costs = [made(model), made([Chip.FAST, {"model": model}]), made(table), plain, phone]
    before = list(map(mark_of_cost, costs))
    model.name = model(3)
    table.runs += 1
    for one in (plain, Phone):
        monkeypatch.setattr(one, "__module__", "__main__")
    assert list(map(mark_of_cost, costs)) == before and None not in before
    assert mark_of_cost(made(Changing())) == before[0] and mark_of_cost(Phone("pixel").latency) == before[-1]


def test_no_cost_ends_a_search_by_what_it_answers(tmp_path, caplog):
    assert name_of_cost(Answering()) == "cost" and mark_of_cost(Answering()) == mark_of_cost(Answering()) is not None
    nested = []
    nested.append(nested)
    assert mark_of_cost(made(functools.reduce(lambda part, _: [part], range(10_000)))) and mark_of_cost(made(nested))
    assert mark_of_cost(Raising()) is None
    keep_function(tmp_path, Raising(), priced("cost"))
    assert not list(tmp_path.iterdir()) and not caplog.records


def priced(name):
    return [{"reward": 0.5, "metrics": {name: 3.0}}, {"reward": 0.6, "metrics": {}}]


def test_numbers_of_two_functions_under_one_name_are_told_once(tmp_path, caplog):
    Preference("cost", "within:0.1").keep(tmp_path)
    kept = (tmp_path / "preference.json").read_text()

    def say(cost, name="cost"):
        caplog.clear()
        keep_function(tmp_path, cost, priced(name))
        assert (tmp_path / "preference.json").read_text() == kept  # no more than earlier versions read
        return caplog.text

    def first(architecture):
        return architecture.filters

    def second(architecture):
        return len(architecture.repeats)

    first.__name__ = second.__name__ = "cost"
    assert not say(first) and not say(first)
    assert not say(None)
    assert "`cost` cost is another function than before, or was changed: the numbers of 1 trials" in say(second)
    assert not say(second)
    assert not say(first, name="latency")  # none was measured
    former = json.loads((tmp_path / "cost_functions.json").read_text())["cost"].split()[1]
    for mark in (f"cpython-999 {former}", former, [former]):
        (tmp_path / "cost_functions.json").write_text(json.dumps({"cost": mark}))
        assert not say(second)  # other Pythons compile to other code


def test_a_tuner_of_one_s_own_tells_it_too_and_has_the_rule_that_it_had(tmp_path, caplog):
    class Tuner(NASNetTuner):
        def run_trial(self, trial, data):
            return {"reward": 0.5, "cost": self.cost(None)}

    for trials, cost in ((1, lambda architecture: 1.0), (2, lambda architecture: 2.0)):
        assert "another function" not in caplog.text
        oracle = NASNetOracle(trials, space=SPACE, strategy="random", seed=0)
        Tuner(oracle, cost=cost, directory=str(tmp_path), project_name="p").search({"any": "data"})
    assert "`cost` cost is another function than before" in caplog.text
    assert Preference.of(tmp_path / "p") == Preference()
