"""Which decisions go with high rewards: slopes and intervals as NumPy and SciPy have them, and their picture."""

import random
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from scipy import stats

from nasnet_keras.genotype import load_genotype
from nasnet_keras.pictures.importance import importance_svg, slopes
from nasnet_keras.pictures.report import search_report
from nasnet_keras.search.space import SearchSpace

SVG = "{http://www.w3.org/2000/svg}"
SPACE = SearchSpace(blocks=3, operations=("identity", "avg_pool_3x3", "sep_conv_3x3"))


def count(genotype, cell, operation):
    return sum(block.operations.count(operation) for block in getattr(genotype, cell).blocks)


def made(number, reward, seed=0):
    rng = np.random.default_rng(seed)
    genotypes = SPACE.sample(number, rng)
    return [
        {"trial_id": str(place), "genotype": genotype.to_dict(), "reward": reward(genotype, rng)}
        for place, genotype in enumerate(genotypes)
    ]


def pools(genotype, rng):
    return 0.3 + 0.05 * count(genotype, "normal", "avg_pool_3x3") + 0.05 * rng.normal()


def test_slopes_and_intervals_are_those_of_least_squares():
    trials = made(60, pools)
    found = slopes(trials)
    genotypes = SPACE.sample(60, np.random.default_rng(0))
    values = [count(genotype, "normal", "avg_pool_3x3") for genotype in genotypes]
    line = stats.linregress(values, [trial["reward"] for trial in trials])
    slope, half = found["normal", "avg 3x3"]
    assert slope == pytest.approx(line.slope)
    assert half == pytest.approx(stats.t.ppf(0.975, 58) * line.stderr, rel=0.01)
    assert abs(slope - 0.05) < half < 0.03


@pytest.mark.long
def test_intervals_hold_the_truth_as_often_as_they_say():
    inside = []
    for seed in range(60):
        found = slopes(made(40, lambda _, rng: rng.normal(), seed))
        inside += [abs(slope) <= half for slope, half in found.values()]
    assert 0.92 < np.mean(inside) < 0.98


def test_networks_count_once_and_what_cannot_be_read_not_at_all():
    trials = made(40, pools)
    more = [{**random.Random(0).choice(trials), "reward": 9.0} for _ in range(30)]
    more += [{"reward": 5.0}, {"reward": 5.0, "genotype": {"blocks": 3}}, {"reward": None, "genotype": None}]
    assert slopes(trials + more) == slopes(trials)


def test_a_name_of_another_type_is_not_one():
    trials = made(30, pools)
    assert slopes([{**trial, "canonical": ["x"]} for trial in trials]) == slopes(trials) != {}


def test_features_that_hardly_vary_are_left_out():
    trials = made(40, pools)
    tiny = {"trial_id": "x", "genotype": load_genotype("tiny").to_dict(), "reward": 0.1}
    assert {feature for _, feature in slopes([*trials, tiny])} == {feature for _, feature in slopes(trials)}


@pytest.mark.parametrize("trials", [[], [{}], [{"reward": 1.0}] * 50, made(19, pools)])
def test_too_few_networks_say_nothing(trials):
    assert importance_svg(trials) is None and slopes(trials) == {}
    assert "What goes with the reward" not in search_report(trials)


@pytest.mark.parametrize("reward", [lambda *_: 0.5, lambda *_: 0, lambda *_: -1e250])
def test_equal_rewards_have_no_slope(reward):
    svg = importance_svg(made(30, reward))
    assert svg and "nan" not in svg
    assert set(slopes(made(30, reward)).values()) == {(0.0, 0.0)}


def test_the_picture_puts_the_best_operation_first_and_marks_what_is_certain():
    trials = made(200, pools)
    root = ET.fromstring(importance_svg(trials, title="<b>"))
    names = [text.text for text in root.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    assert names[0] == "avg 3x3" and names[-2:] in (["add", "concat"], ["concat", "add"])
    drawn = {group.find(f"{SVG}title").text.split(":")[0]: group for group in root.iter(f"{SVG}g")}
    assert len(drawn) == len(slopes(trials))
    assert drawn["Normal cell, one more avg 3x3"].find(f"{SVG}circle").get("fill") == "#15803d"
    assert "What goes with the reward" in search_report(trials)
