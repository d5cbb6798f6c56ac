"""The front of rewards and costs: which trials are on it, and its picture."""

import random
import xml.etree.ElementTree as ET

import pytest

from nasnet_keras.pictures.curves import DOTS
from nasnet_keras.pictures.pareto import cost_of, pareto_front, pareto_svg, short
from nasnet_keras.pictures.report import search_report

SVG = "{http://www.w3.org/2000/svg}"


def make(points):
    return [
        {"trial_id": str(place), "reward": reward, "multiply_adds": cost, "metrics": {"latency": cost}}
        for place, (reward, cost) in enumerate(points)
    ]


def ids(trials):
    return [int(trial["trial_id"]) for trial in trials]


def dominated(points):
    """By comparing every two."""
    found = []
    for place, (reward, cost) in enumerate(points):
        better = [
            other
            for other, (r, c) in enumerate(points)
            if r >= reward and c <= cost and ((r, c) != (reward, cost) or other < place)
        ]
        found += [place] if not better else []
    return sorted(found, key=lambda place: points[place][1])


def test_the_front_is_what_no_other_trial_dominates():
    rng = random.Random(0)
    for _ in range(100):
        points = [(rng.randrange(6), rng.randrange(6)) for _ in range(rng.randrange(1, 20))]
        assert ids(pareto_front(make(points))) == dominated(points)


def test_what_has_no_finite_cost_or_reward_is_not_on_it():
    trials = make([(0.5, 3), (0.9, None), (0.8, float("nan")), (None, 1), (0.4, True), (0.6, "4"), (0.3, 2)])
    assert ids(pareto_front(trials)) == [6, 0]
    assert pareto_front([]) == [] and pareto_front(make([(0.5, None)])) == []
    assert cost_of({"metrics": {"latency": 2}}, "latency") == 2.0 and cost_of({"metrics": None}, "latency") is None


@pytest.mark.parametrize("points", [[], [(0.5, 3)], [(0.5, 3), (0.5, 3)], [(1e300, 1e-300)], [(0, 0), (-1, 5e12)]])
def test_the_picture_stands_whatever_there_is(points):
    root = ET.fromstring(pareto_svg(make(points), chosen="0"))
    assert len([path for path in root.iter(f"{SVG}path") if path.get("class") == "front"]) == bool(points[:1]) * bool(
        pareto_front(make(points))
    )
    assert "nan" not in pareto_svg(make(points))


def test_the_picture_shows_the_front_and_what_was_chosen():
    trials = make([(0.2, 10), (0.4, 20), (0.3, 30), (0.6, 40)])
    root = ET.fromstring(pareto_svg(trials, chosen="1", title="a < b"))
    dots = [dot for dot in root.iter(f"{SVG}circle") if dot.find(f"{SVG}title") is not None]
    assert len(dots) == 4 + 3
    (ring,) = [dot for dot in root.iter(f"{SVG}circle") if dot.get("class") == "chosen"]
    (at,) = {(dot.get("cx"), dot.get("cy")) for dot in dots if dot.find(f"{SVG}title").text.startswith("trial 1:")}
    assert (ring.get("cx"), ring.get("cy")) == at
    heights = {dot.find(f"{SVG}title").text[6]: float(dot.get("cy")) for dot in dots}
    assert heights["3"] < heights["1"] < heights["2"] < heights["0"]


def test_the_report_has_the_front_as_picture_and_table():
    trials = make([(0.2, 10), (0.4, 20), (0.3, 30)])
    page = search_report(trials, choice={"cost": "latency", "prefer": "within:0.1", "chosen": "1"})
    part = page[page.index("<h2>Reward and cost") :].split("</section>")[0]
    assert part.count('<tr class="first">') == 2 and "latency</th>" in part
    assert "at most 0.1 below the highest" in part
    assert "Reward and cost" not in search_report(make([(0.2, None)]))
    assert "Reward and cost" in search_report(make([(0.2, 5)]))


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1500, "1.5k"), (2_345_678, "2.346M"), (5e9, "5G"), (0.0125, "0.0125")]
)
def test_short_numbers(value, text):
    assert short(value) == text


def test_of_more_trials_than_are_drawn_the_axes_hold_the_front_and_the_ring_all_the_same():
    late = [(0.5 + place / 1e5, 1000 + place) for place in range(DOTS)]
    trials = make([(0.1, 10), (0.4, 20), (0.2, 5000), *late])  # the front's cheapest and the chosen are the oldest
    root = ET.fromstring(pareto_svg(trials, chosen="2"))
    circles = [dot for dot in root.iter(f"{SVG}circle") if dot.get("cx") not in (None, "6")]
    width = float(root.get("width"))
    assert all(60 < float(dot.get("cx")) < width and 40 < float(dot.get("cy")) < 330 for dot in circles)
    (ring,) = [dot for dot in circles if dot.get("class") == "chosen"]
    titles = [dot.find(f"{SVG}title") for dot in circles]
    (dot,) = [dot for dot, title in zip(circles, titles, strict=True) if title is not None and "trial 2:" in title.text]
    assert (ring.get("cx"), ring.get("cy")) == (dot.get("cx"), dot.get("cy"))
    assert f"{len(trials)} trials" in root.get("aria-label") and "of the last 4,000" in "".join(root.itertext())
    line = next(path for path in root.iter(f"{SVG}path") if path.get("class") == "front").get("d")
    assert float(line[1:].split(" ")[0]) > 60


def test_a_cost_of_ones_own_has_as_many_digits_as_it_needs():
    trials = make([(0.2, 0.0000123), (0.4, 0.00045)])
    page = search_report(trials, choice={"cost": "latency"})
    assert "<td>1.23e-05</td>" in page and "<td>0.00045</td>" in page
