"""The whole loop on real digits: children, rewards, files, interruption, failures."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from nasnet_keras.children import settings as children
from nasnet_keras.children.longer_training import train_longer
from nasnet_keras.children.screening import ScreenedOut
from nasnet_keras.children.settings import ChildSettings, child_seed
from nasnet_keras.data.loading import load_data
from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.search import tuner
from nasnet_keras.search.results.final import alike, compare
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.trials import log
from nasnet_keras.search.tuner import NASNetTuner, search
from nasnet_keras.training import recipes
from nasnet_keras.training.recipes import RECIPES

SPACE = SearchSpace(blocks=1, operations=("identity", "sep_conv_3x3", "max_pool_3x3"), combinations=("add",))
CHILD = ChildSettings(repeats=(1, 1), filters=4)
FAST = ControllerSettings(batch_size=2)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", limit=300)


def run(digits, directory, trials=4, controller="rl", **options):
    settings = FAST if controller == "rl" else None
    return search(digits, trials, directory, controller, 3, space=SPACE, child=CHILD, settings=settings, **options)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def lines(directory):
    keep = ("trial_id", "genotype", "reward", "status", "parameters", "multiply_adds", "policy_version")
    text = (directory / "trials.jsonl").read_text().splitlines()
    return [{key: json.loads(line)[key] for key in keep} for line in text]


@pytest.fixture(scope="module")
def uninterrupted(digits, tmp_path_factory):
    directory = tmp_path_factory.mktemp("search") / "whole"
    return run(digits, directory), directory


def test_a_search_leaves_what_it_promises(uninterrupted):
    result, directory = uninterrupted
    assert len(result.trials) == 4 and result.directory == directory
    assert {line["status"] for line in lines(directory)} == {"COMPLETED"}
    best = max(result.trials, key=lambda trial: trial["reward"])
    assert Genotype.load(directory / "best_genotype.json") == result.best == Genotype.from_dict(best["genotype"])
    for name in ("report.html", "best_normal.svg", "best_reduction.svg", "controller"):
        assert (directory / name).exists()
    assert all(trial["seconds"] > 0 and trial["parameters"] > 0 for trial in result.trials)
    assert len({trial["reward"] for trial in result.trials}) > 1
    assert result.trials[-1]["policy_version"] > 0


@pytest.mark.parametrize("controller", ["random", "evolution"])
def test_the_other_strategies_run_the_same_loop(controller, digits, tmp_path):
    assert len(run(digits, tmp_path / "s", 2, controller).trials) == 2


def test_an_interrupted_search_goes_on_as_if_nothing_had_been(uninterrupted, digits, tmp_path):
    def interrupt(trials):
        if len(trials) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(digits, tmp_path / "s", on_trial=interrupt)
    seen = []
    run(digits, tmp_path / "s", on_trial=lambda trials: seen.append(len(trials)))
    assert seen == [2, 3, 4]
    assert lines(tmp_path / "s") == lines(uninterrupted[1])


@pytest.mark.long
def test_a_killed_search_goes_on_as_if_nothing_had_been(uninterrupted, tmp_path):
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/search']; import test_tuner as t;"
        "from nasnet_keras.data.loading import load_data;"
        f"from pathlib import Path; t.run(load_data('digits', limit=300), Path({str(tmp_path / 's')!r}))"
    )
    root = Path(__file__).parents[2]
    for stop_after in (1, 2, None):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stderr=subprocess.DEVNULL)
        if stop_after is None:
            assert process.wait(timeout=240) == 0
            break
        log = tmp_path / "s" / "trials.jsonl"
        deadline = time.monotonic() + 240
        while not (log.exists() and len(log.read_text().splitlines()) >= stop_after):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert lines(tmp_path / "s") == lines(uninterrupted[1])


def test_another_search_is_refused(uninterrupted, digits):
    with pytest.raises(ValueError, match="another `epochs`"):
        search(
            digits,
            5,
            uninterrupted[1],
            "rl",
            3,
            space=SPACE,
            child=ChildSettings(repeats=(1, 1), filters=4, epochs=2),
            settings=FAST,
        )
    with pytest.raises(ValueError, match="seed"):
        search(digits, 5, uninterrupted[1], "rl", 4, space=SPACE, child=CHILD, settings=FAST)


FAULTS = [
    (MemoryError("no room"), 2),
    (OSError("broken pipe"), 2),
    (tf.errors.ResourceExhaustedError(None, None, "no room for a tensor"), 2),
    (tf.errors.UnavailableError(None, None, "gone"), 2),
    (tf.errors.InternalError(None, None, "of the framework"), 2),
    (KeyError("unexpected"), 2),
    (SystemExit("enough"), 2),
    (FloatingPointError("the loss is nan"), 1),
    (ScreenedOut("not trained"), 1),
    (ValueError("`parameters` must be at most 3"), 1),
]


@pytest.mark.parametrize(("error", "times"), FAULTS, ids=lambda value: type(value).__name__)
def test_a_child_that_fails_is_one_failed_trial(error, times, digits, tmp_path, monkeypatch):
    tried = []

    def second_fails(self, genotype, data, seed):
        tried.append(seed)
        if seed == child_seed(3, "00001"):
            raise error
        return {"reward": seed / 2**32}

    monkeypatch.setattr(ChildSettings, "evaluate", second_fails)
    result = run(digits, tmp_path / "s", 3, "random")
    assert [trial["status"] for trial in result.trials] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert f"{type(error).__name__}: " in result.trials[1]["reason"]
    assert result.trials[1]["reward"] is None and tried.count(child_seed(3, "00001")) == times
    again = {line["attempt"] for line in read(tmp_path / "s" / "controller" / "attempts.jsonl") if line["worker"]}
    assert again == ({2} if times == 2 else set())


@pytest.mark.parametrize("first", [ChildSettings.evaluate, None], ids=["after training", "before training"])
def test_a_child_that_is_tried_again_after_an_accident_has_the_same_reward(
    first, uninterrupted, digits, tmp_path, monkeypatch
):
    evaluate, tried = ChildSettings.evaluate, []

    def once(self, genotype, data, seed):
        tried.append(seed)
        if seed == child_seed(3, "00001") and tried.count(seed) == 1:
            if first:
                first(self, genotype, data, seed)
            raise MemoryError("no room")
        return evaluate(self, genotype, data, seed)

    monkeypatch.setattr(ChildSettings, "evaluate", once)
    result = run(digits, tmp_path / "s")
    assert len(tried) == 5 and [trial["reason"] for trial in result.trials] == [None] * 4
    assert lines(tmp_path / "s") == lines(uninterrupted[1])


def test_a_full_disk_under_the_logs_ends_the_search(digits, tmp_path, monkeypatch):
    def full(log, value):
        raise OSError(28, "No space left on device")

    def evaluate(self, genotype, data, seed):
        monkeypatch.setattr(log.Log, "append", full)
        return {"reward": 0.5}

    monkeypatch.setattr(ChildSettings, "evaluate", evaluate)
    with pytest.raises(OSError, match="No space left"):
        run(digits, tmp_path / "s", 3, "random")


def test_a_search_leaves_its_directory_to_others_however_it_ends(digits, tmp_path, monkeypatch):
    oracles = []
    monkeypatch.setattr(ChildSettings, "evaluate", lambda self, genotype, data, seed: {"reward": 0.5})

    class Kept(tuner.NASNetOracle):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            oracles.append(self)

    def interrupt(trials):
        if trials:
            raise KeyboardInterrupt

    monkeypatch.setattr(tuner, "NASNetOracle", Kept)
    with pytest.raises(KeyboardInterrupt):
        run(digits, tmp_path / "s", 2, "random", on_trial=interrupt)
    run(digits, tmp_path / "s", 2, "random")
    code = "import fcntl, sys; file = open(sys.argv[1], 'r+'); "
    code += "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB); fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "s" / "controller" / "lock"], check=True)
    assert len(oracles) == 2  # nobody has the lock, though they are still there


def test_a_child_that_really_diverges(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "wild", recipes.Recipe(learning_rate=1e30, clip_norm=None))
    child = ChildSettings(repeats=(1, 1), filters=4, recipe="wild")
    result = search(digits, 1, tmp_path / "s", "random", 0, space=SPACE, child=child)
    assert result.trials[0]["status"] == "FAILED" and "FloatingPointError" in result.trials[0]["reason"]
    assert result.best is None


@pytest.mark.long
def test_the_interpreted_child_and_the_compiled_one_agree(digits, monkeypatch):
    genotype = SPACE.decode(SPACE.random(np.random.default_rng(1)))
    one = CHILD.evaluate(genotype, digits, 1)
    monkeypatch.setattr(children.ChildSettings, "is_interpreted", lambda self: False)
    other = CHILD.evaluate(genotype, digits, 1)
    assert (one["parameters"], one["multiply_adds"]) == (other["parameters"], other["multiply_adds"])
    monkeypatch.undo()
    assert one == CHILD.evaluate(genotype, digits, 1)


def test_the_search_never_sees_the_test_images(digits):
    class Forbidden:
        def __getattr__(self, name):
            raise AssertionError("the test split was touched")

    from dataclasses import replace

    blind = replace(digits, test=Forbidden())
    genotype = SPACE.decode(SPACE.random(np.random.default_rng(2)))
    assert 0 <= CHILD.evaluate(genotype, blind, 0)["reward"] <= 1


def test_the_final_comparison(uninterrupted, digits):
    result, directory = uninterrupted

    class Silent:
        def __init__(self, *_):
            pass

    @contextlib.contextmanager
    def quiet(title, epochs):
        yield keras.callbacks.Callback()

    rows = compare(result, digits, CHILD, SPACE, 1, 3, quiet)
    assert [row["network"] for row in rows] == ["found", "nasnet_a", "random"]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    assert rows == compare(result, digits, CHILD, SPACE, 1, 3, lambda *_: pytest.fail("trained again"))
    assert "nasnet_a" in (directory / "report.html").read_text()
    assert (directory / "final" / "found" / "model.keras").exists()


def test_driving_kerastuner_oneself(digits, tmp_path):
    from nasnet_keras.search.oracle import NASNetOracle

    driver = NASNetTuner(
        NASNetOracle(2, space=SPACE, strategy="random", seed=0), CHILD, directory=str(tmp_path), project_name="p"
    )
    driver.search(digits)
    best = driver.oracle.get_best_trials(1)[0]
    assert SPACE.decode_values(best.hyperparameters.values) and best.score > 0
    with pytest.raises(NotImplementedError, match="genotype"):
        driver.get_best_models(1)


def test_a_tuner_takes_arrays_as_kerastuner_s_do(digits, tmp_path):
    """The same images as arrays are the same search."""
    from nasnet_keras.search.oracle import NASNetOracle

    def tuner(name):
        oracle = NASNetOracle(2, space=SPACE, strategy="random", seed=1)
        return NASNetTuner(oracle, CHILD, directory=str(tmp_path), project_name=name)

    x, y = digits.train.in_memory()
    val_x, val_y = digits.validation.in_memory()
    tuner("arrays").search(x, y, validation_data=(val_x, val_y))
    tuner("data").search(digits)
    rewards = [[line["reward"] for line in lines(tmp_path / name)] for name in ("arrays", "data")]
    assert rewards[0] == rewards[1] and all(reward > 0 for reward in rewards[0])
    with pytest.raises(ValueError, match=r"`epochs` must be left out: `child=ChildSettings\(epochs="):
        tuner("epochs").search(x, y, validation_data=(val_x, val_y), epochs=3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"epochs": 0}, "epochs"), ({"recipe": "none"}, "recipe"), ({"batch_size": 0}, "batch_size")],
)
def test_children_have_sensible_settings(arguments, named):
    with pytest.raises(ValueError, match=f"`{named}`"):
        ChildSettings(**arguments)


def test_a_recipe_beyond_plain_descent_trains_the_ordinary_network():
    """A child that starts at once knows neither RMSProp nor smoothing: it would learn by another recipe."""
    interpreted = {name: children.ChildSettings(recipe=name).is_interpreted() for name in RECIPES}
    assert interpreted == {
        "micro": True,
        "scans": True,
        "photos": False,
        "cifar": True,
        "short": True,
        "imagenet": False,
    }


def test_what_a_search_began_without_is_not_taken_in_later(uninterrupted, digits, tmp_path):
    _, directory = uninterrupted
    with pytest.raises(ValueError, match="`start_from` must be left out where a search goes on that began without it"):
        run(digits, directory, start_from=tmp_path / "nowhere")
    learnt = run(digits, tmp_path / "s", 2, start_from=directory)
    assert run(digits, tmp_path / "s", 2, start_from=directory).trials == learnt.trials


def test_networks_are_compared_at_the_same_multiply_adds(digits):
    """A cell that does more gets fewer filters."""
    child = ChildSettings(repeats=1, filters=48)
    cost = child.sizes(load_genotype("nasnet_a"), digits)["multiply_adds"]
    for genotype in (load_genotype("pnasnet_5"), *SPACE.sample(3, np.random.default_rng(0))):
        alike = child.at_cost(genotype, digits, cost)
        assert alike == replace(child, filters=alike.filters)
        costs = [
            replace(alike, filters=alike.filters + more).sizes(genotype, digits)["multiply_adds"] for more in (-1, 0, 1)
        ]
        assert abs(costs[1] / cost - 1) < 0.03 and costs[0] < costs[1] < costs[2]
        assert abs(costs[1] - cost) == min(abs(one - cost) for one in costs)
    assert child.at_cost(load_genotype("nasnet_a"), digits, cost) == child
    small, images = ChildSettings(filters=4, stem="imagenet"), replace(digits, image_shape=(32, 32, 3))
    for cost in (1, 10**6, 10**9):  # that stem's cells have a quarter of the filters
        assert small.at_cost(load_genotype("nasnet_a"), images, cost).filters >= 4


def test_where_filters_are_few_all_get_more_until_their_multiply_adds_are_the_same(digits):
    child, nasnet_a = ChildSettings(repeats=1, filters=6), load_genotype("nasnet_a")
    for seed, others in enumerate(np.reshape(SPACE.sample(8, np.random.default_rng(3)), (4, 2))):
        networks = {"found": others[0], "nasnet_a": nasnet_a, "random": others[1]}
        distances = []
        for filters in range(6, 13):
            first = replace(child, filters=filters)
            cost = first.sizes(nasnet_a, digits)["multiply_adds"]
            sized = {name: first.at_cost(genotype, digits, cost) for name, genotype in networks.items()}
            costs = [one.sizes(networks[name], digits)["multiply_adds"] for name, one in sized.items()]
            distances.append((max(abs(other / cost - 1) for other in costs), sized))
        near = [sized for distance, sized in distances if distance <= 0.03]
        expected = near[0] if near else min(distances, key=lambda pair: pair[0])[1]
        assert alike(networks, "nasnet_a", digits, child) == expected, seed


def test_a_comparison_of_an_earlier_version_stands_and_one_with_other_filters_is_made_anew(digits, tmp_path):
    genotype, told = load_genotype("tiny"), []

    @contextlib.contextmanager
    def progress(title, epochs):
        told.append(title)
        yield keras.callbacks.Callback()

    row = train_longer("found", genotype, digits, CHILD, 1, 0, tmp_path / "m", progress)
    assert row["filters"] == CHILD.filters and len(told) == 1
    card = (tmp_path / "m" / "README.md").read_text()
    for part in ("test", "validation"):
        count, value = len(getattr(digits, part)), row["accuracy" if part == "test" else "validation_accuracy"]
        assert f"| {part} | {count} | {100 * value:.2f}% |" in card
    assert "`data.json` which images were held out" in card and "| epochs | 1 |" in card
    assert "judged its cells by; the test images were not" in card and "curves.svg" not in card
    assert train_longer("found", genotype, digits, CHILD, 1, 0, tmp_path / "m", progress) == row and len(told) == 1
    more = train_longer("found", genotype, digits, replace(CHILD, filters=6), 1, 0, tmp_path / "m", progress)
    assert more["filters"] == 6 and more["parameters"] > row["parameters"] and len(told) == 2
    old = {key: value for key, value in row.items() if key != "filters"}
    (tmp_path / "m" / "result.json").write_text(json.dumps(old))
    assert train_longer("found", genotype, digits, CHILD, 1, 0, tmp_path / "m", progress) == old and len(told) == 2
    # Where filters were few, an earlier version compared networks with fewer than this one does.
    train_longer("found", genotype, digits, replace(CHILD, filters=6), 1, 0, tmp_path / "m", progress)
    assert len(told) == 3
