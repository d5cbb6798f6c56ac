"""A search that minimises: what it leaves, and what others learn from it, takes the lowest reward for the best."""

import json
import os
from types import SimpleNamespace

import keras_tuner
import numpy as np
import pytest
from test_tensorboard import scalars

from nasnet_keras.commands.report import check, run
from nasnet_keras.genotype import Genotype
from nasnet_keras.pictures.importance import importance_svg
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.results.preference import Preference
from nasnet_keras.search.results.publication import Publisher, best_genotype
from nasnet_keras.search.results.tensorboard import Summaries
from nasnet_keras.search.rules import SoftTarget
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.evolution import EvolutionSettings
from nasnet_keras.search.trials.imported import check_same_start, read_imports

SPACE = SearchSpace(blocks=2)
LOSSES = [0.5, 0.25, 0.75, 0.125, 2.0, 0.375]
COSTS = [10, 20, 5, 50, 60, 40]


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def oracle(tmp_path):
    """One whose trials have been given these losses, followed while it ran."""
    objective = keras_tuner.Objective("val_loss", "min")
    oracle = NASNetOracle(len(LOSSES), space=SPACE, strategy="random", objective=objective, seed=0)
    oracle._set_project_dir(str(tmp_path), "s")
    listeners = [Publisher(tmp_path / "s"), Summaries(tmp_path / "s").update]
    oracle.on_finished = lambda trials: [listener(trials) for listener in listeners]
    for loss, cost in zip(LOSSES, COSTS, strict=True):
        trial = oracle.create_trial("w")
        oracle.update_trial(trial.trial_id, {"val_loss": loss, "multiply_adds": cost})
        oracle.end_trial(trial)
    yield oracle
    oracle.close()


def test_every_file_shows_the_lowest_loss_as_the_best(oracle, tmp_path):
    folder, trials = tmp_path / "s", oracle.finished_trials()
    genotype = Genotype.from_dict(trials[3]["genotype"])
    oracle.close()
    assert Genotype.load(folder / "best_genotype.json") == genotype  # as trials ended
    (folder / "best_genotype.json").unlink()
    options = SimpleNamespace(directory=str(folder), tensorboard=True, json=False)
    run(options, **check(options))
    assert Genotype.load(folder / "best_genotype.json") == genotype == best_genotype(folder, trials)
    page = (folder / "report.html").read_text()
    assert "<dt>Best reward</dt><dd>0.1250</dd>" in page and "Found by: the lowest reward." in page
    assert "the best reward is 0.125" in page and "6 trials, 4 on the front" in page
    order = page[page.index("Best trials") :].split('<tr class="first"><td>')[1:]
    assert [row.split("<td>")[2].split("<")[0] for row in order] == [f"{loss:.4f}" for loss in sorted(LOSSES)]
    assert [value for _, value in scalars(folder / "tensorboard/search")["trials/best_reward"]] == [
        0.5, 0.25, 0.25, 0.125, 0.125, 0.125,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prefer", "order"),
    [("reward", [3, 1, 5, 0, 2, 4]), ("within:0.25", [1, 5, 3]), ("below:20", [1, 0, 2]), ("below:4", [])],
)
def test_a_preference_counts_from_the_lowest(prefer, order, oracle, tmp_path):
    Preference(prefer=prefer).keep(tmp_path / "s")
    preference, trials = Preference.of(tmp_path / "s"), oracle.finished_trials()
    assert [trial["number"] for trial in preference.ranked(trials)] == order
    kept = []
    for trial in trials:
        kept = preference.contenders([*kept, trial])
    assert preference.ranked(kept)[:1] == preference.ranked(trials)[:1]


def test_what_makes_losses_lower_is_green():
    trials = []
    for number in range(40):
        genotype = SPACE.sample(1, np.random.default_rng(number))[0]
        count = sum("sep" in name for block in genotype.normal.blocks for name in block.operations)
        trials.append({"genotype": genotype.to_dict(), "reward": float(count), "canonical": str(number)})
    up, down = importance_svg(trials), importance_svg(trials, direction="min")
    green, red = 'fill="#15803d"', 'fill="#c0262d"'
    assert up.count(green) == down.count(red) > 0 and up.count(red) == down.count(green)


def test_another_search_learns_the_negative_and_one_of_losses_the_losses(oracle, tmp_path, caplog):
    imports = read_imports(tmp_path / "s", SPACE)
    assert [one["reward"] for one in imports] == [-loss for loss in LOSSES]
    assert "minimises val_loss: the negative of it is learnt from" in caplog.text
    for name, objective, sign in (("up", None, -1), ("down", keras_tuner.Objective("loss", "min"), 1)):
        given = {} if objective is None else {"objective": objective}
        settings = EvolutionSettings(population=8, sample=4)
        learner = NASNetOracle(9, SPACE, "evolution", seed=0, settings=settings, imports=imports, **given)
        learner._set_project_dir(str(tmp_path), name)
        learner.reload()
        told = [reward for _, reward in learner.strategy._population]
        assert told == [-loss for loss in LOSSES]  # the higher the better, whichever it is
        kept = [json.loads(line) for line in (tmp_path / name / "imported.jsonl").read_text().splitlines()]
        assert [one["reward"] for one in kept] == [sign * loss for loss in LOSSES]
        assert not any("direction" in one for one in kept)
        learner.close()
        assert check_same_start(tmp_path / name, tmp_path / "s", SPACE) is None
    with pytest.raises(ValueError, match="`start_from` must be a search that maximises where SoftTarget shapes"):
        read_imports(tmp_path / "s", SPACE, (SoftTarget(9),))
    # And the other way: what another search maximises is turned round by one that minimises.
    header = json.loads((tmp_path / "s/search.json").read_text())
    (tmp_path / "s/search.json").unlink()
    assert not any("direction" in one for one in read_imports(tmp_path / "s", SPACE))  # nothing says it: as its own
    header["objective"] = {"name": "reward", "direction": "max"}
    (tmp_path / "s/search.json").write_text(json.dumps(header))
    imports = read_imports(tmp_path / "s", SPACE)
    learner = NASNetOracle(
        9,
        SPACE,
        "evolution",
        seed=0,
        settings=settings,
        imports=imports,
        objective=keras_tuner.Objective("loss", "min"),
    )
    learner._set_project_dir(str(tmp_path), "turned")
    learner.reload()
    assert [reward for _, reward in learner.strategy._population] == LOSSES
