"""The cost of a child as a user gives it: what is refused, and what tells two functions of one name apart."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from free_children import Free

import nasnet_keras
from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.search.cost import mark_of_cost
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
    seen, of_one = [], SimpleNamespace()
    assert mark_of_cost(made(of_one)) == mark_of_cost(made(SimpleNamespace()))  # which is told by its type alone
    before = mark_of_cost(made(1, seen))
    seen.append(3)
    assert mark_of_cost(made(1, seen)) == before and mark_of_cost(Latency(1)) == mark_of_cost(Latency(1))
    source = "from functools import partial\nfrom nasnet_keras.search.cost import mark_of_cost\n"
    source += "print(mark_of_cost(partial(lambda a, b: a in {'x', 'y', 'z'} and [c for c in b], {'k', 'l'})))"
    paths, told = str(Path(nasnet_keras.__file__).parents[1]), set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": seed}
        told.add(subprocess.check_output([sys.executable, "-c", source], text=True, env=environment))
    assert len(told) == 1 and len(told.pop().strip()) == 16


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
