"""The search's report and curve: every part is there, figures are right, and data cannot break out."""

import math
import random
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.pictures.curves import search_curve_svg
from nasnet_keras.pictures.report import failure_reasons, search_report

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</title></script><img src=x onerror=alert(1)> \"'& \x00\ud800"
TINY = load_genotype("tiny")


def make_trial(index, reward, **changes):
    trial = {
        "trial_id": f"{index:05d}",
        "genotype": TINY.to_dict(),
        "reward": reward,
        "seconds": 2.5,
        "status": "COMPLETED" if reward is not None else "FAILED",
        "parameters": 1234567 + index,
        "multiply_adds": 7654321,
    }
    return trial | changes


def make_trials(count, seed=0):
    """Rewards that rise with noise; each tenth trial fails."""
    rng = random.Random(seed)
    rewards = [None if index % 10 == 9 else 0.5 + 0.3 * index / count + 0.1 * rng.random() for index in range(count)]
    return [
        make_trial(index, reward, **({} if reward else {"reason": "NaN loss"})) for index, reward in enumerate(rewards)
    ]


def parse(report):
    assert report.startswith("<!DOCTYPE html>")
    return ET.fromstring(report.encode("utf-8"))


def words(element):
    return " ".join(" ".join(element.itertext()).split())


def section(root, heading):
    found = [part for part in root.iter("section") if part.find("h2").text == heading]
    return found[0] if found else None


def figures(root):
    return {words(div.find("dt")): div.find("dd").text for div in root.find(".//dl").iter("div")}


class Curve:
    """What a drawn curve says, read back in rewards and numbers of trials."""

    def __init__(self, svg):
        self.root = ET.fromstring(svg)
        ticks = {"end": [], "middle": []}
        for text in self.root.iter(f"{SVG}text"):
            if re.fullmatch(r"[-\d.,e+]+", text.text or "") and text.get("text-anchor") in ticks:
                ticks[text.get("text-anchor")].append((float(text.text.replace(",", "")), text))
        self.y_ticks = sorted((value, float(text.get("y")) - 4.5) for value, text in ticks["end"])
        self.x_ticks = sorted((value, float(text.get("x"))) for value, text in ticks["middle"])

    def reward(self, y):
        (low, y_low), (high, y_high) = self.y_ticks[0], self.y_ticks[-1]
        return low + (y - y_low) * (high - low) / (y_high - y_low)

    def trial(self, x):
        (low, x_low), (high, x_high) = self.x_ticks[0], self.x_ticks[-1]
        return low + (x - x_low) * (high - low) / (x_high - x_low)

    def dots(self):
        return [
            (float(dot.get("cx")), float(dot.get("cy")))
            for dot in self.root.iter(f"{SVG}circle")
            if dot.find(f"{SVG}title") is not None
        ]

    def path(self, name):
        found = [path.get("d") for path in self.root.iter(f"{SVG}path") if path.get("class") == name]
        return found


def test_every_part_is_there():
    trials = make_trials(60)
    best = load_genotype("nasnet_a")
    summary = {"Test accuracy": {"found": 0.97221, "NASNet-A": 0.9556}, "Epochs": {"found": 12}}
    root = parse(search_report(trials, title="My search", best=best, summary=summary))
    assert root.find(".//h1").text == "My search" and root.find(".//title").text == "My search"
    rewards = [trial["reward"] for trial in trials if trial["reward"] is not None]
    assert figures(root) == {
        "Trials done": "54",
        "Failed": "6",
        "Best reward": f"{max(rewards):.4f}",
        "Mean of the last 20": f"{sum(rewards[-20:]) / 20:.4f}",
        "Time in trials": "2 min 30 s",
    }
    rows = [[words(cell) for cell in row] for row in section(root, "Final figures").iter("tr")]
    assert rows == [
        ["", "found", "NASNet-A"],
        ["Test accuracy", "0.9722", "0.9556"],
        ["Epochs", "12", "\u2013"],
    ]
    assert len(list(section(root, "Reward").iter(f"{SVG}circle"))) == 54 + 1  # one in the legend
    found = section(root, "Found cells")
    assert [svg.get("aria-label").split(":")[0] for svg in found.iter(f"{SVG}svg")] == ["Normal cell", "Reduction cell"]
    assert Genotype.from_json(found.find(".//pre").text) == best
    assert [words(cell) for cell in next(section(root, "Failed trials").iter("tbody"))[0]] == ["NaN loss", "6"]


def failing(reasons):
    return [{**make_trial(number, None), "status": "FAILED", "reason": one} for number, one in enumerate(reasons)]


@pytest.mark.parametrize(
    "reason",
    [
        "ValueError: `parameters` must be at most 100. Received: {:,}",
        "ValueError: `loss` must be finite. Received: {:,} at <object at 0x7f{:012x}>",
        "ScreenedOut: not trained: its naswot, {}.25, is below 610.5",
        "ScreenedOut: not trained: its gradient_norm, -1e-{}, is below nan",
        "ResourceExhaustedError: OOM when allocating a tensor of [128,{},8]",
        "ValueError: genotype {:016x} cannot be built",
        "no space for <Child at 0x7f{:012x}>",
    ],
)
def test_reasons_that_differ_only_in_their_figures_are_one(reason):
    texts = [reason.format(number, number) for number in (13204, 7, 99, 123456)]
    others = ["MemoryError", "ValueError: `multiply_adds` must be at most 100. Received: 9"]
    assert failure_reasons(failing([*others, *texts])) == [(texts[0], 4), (others[0], 1), (others[1], 1)]


def test_the_table_of_failures_says_what_it_leaves_out():
    for count, more in ((10, []), (13, [["other reasons", "3"]])):
        trials = failing([f"{chr(97 + number)} failed" for number in range(count)])
        rows = section(parse(search_report(trials)), "Failed trials").find(".//tbody")
        assert [[words(cell) for cell in row] for row in rows][10:] == more and len(rows) == 10 + len(more)


def test_the_ten_best_are_ranked():
    trials = make_trials(60)
    table = section(parse(search_report(trials)), "Best trials")
    rows = [[words(cell) for cell in row] for row in table.find(".//tbody") if row.get("class") == "first"]
    expected = sorted((t for t in trials if t["reward"] is not None), key=lambda t: -t["reward"])[:10]
    assert rows == [
        [str(rank), t["trial_id"], f"{t['reward']:.4f}", f"{t['parameters']:,}", "7,654,321", "2.5"]
        for rank, t in enumerate(expected, 1)
    ]
    assert len(list(table.iter("details"))) == len(list(table.iter(f"{SVG}svg"))) == 10


def test_the_best_trial_is_shown_by_default():
    other = load_genotype("pnasnet_5")
    trials = [make_trial(0, 0.5), make_trial(1, 0.9, genotype=other.to_dict()), make_trial(2, 0.7)]
    root = parse(search_report(trials))
    assert Genotype.from_json(section(root, "Found cells").find(".//pre").text) == other


@pytest.mark.parametrize("trials", [[], [make_trial(0, None)], [make_trial(0, None, status="RUNNING")]])
def test_before_the_first_result(trials):
    root = parse(search_report(trials))
    shown = figures(root)
    assert shown["Trials done"] == "0" and shown["Best reward"] == shown["Mean of the last 20"] == "\u2013"
    assert "None yet" in words(section(root, "Found cells")) and "None yet" in words(section(root, "Best trials"))
    assert section(root, "Reward").find(f".//{SVG}svg") is not None


def test_during_a_search():
    running = make_trial(3, None, status="RUNNING", seconds=None)
    root = parse(search_report([make_trial(0, 0.5), make_trial(1, 0.75), make_trial(2, None), running]))
    assert figures(root)["Trials done"] == "2" and figures(root)["Failed"] == "1"
    assert "1 without a result yet" in words(root.find(".//dl"))
    assert figures(root)["Mean of the last 20"] == "0.6250" and "there are 2" in words(root.find(".//dl"))


def test_replays_staleness_and_workers_are_counted_where_there_are_any():
    assert not {"Replayed", "Mean staleness", "Workers"} & set(figures(parse(search_report(make_trials(20)))))
    told = [
        trial
        | {"worker": f"worker-{number % 3}", "staleness": number % 4, "replayed": "00000" if number > 16 else None}
        for number, trial in enumerate(make_trials(20))
    ]
    found = figures(parse(search_report(told)))
    assert (found["Replayed"], found["Mean staleness"], found["Workers"]) == ("3", "1.5", "3")


def test_what_stale_rewards_are_worth_is_told_where_there_are_any():
    fresh = [{"weight": 1.0, "effective_sample_size": 20.0, "clipped": 0.5}]
    assert "Effective rewards" not in figures(parse(search_report(make_trials(20), updates=fresh)))
    stale = [{"weight": 0.9, "effective_sample_size": size, "clipped": 0.1} for size in (18.0, 16.5)]
    page = search_report(make_trials(20), updates=[*fresh * 18, *stale, {"weight": None}, {}])
    assert figures(parse(page))["Effective rewards"] == "19.7" and "an update, 46% of its ratios clipped" in page


def test_twenty_thousand_trials_stay_small():
    trials = make_trials(20_000)
    for index, trial in enumerate(trials):  # the worst case: each trial is the best so far
        if trial["reward"] is not None:
            trial["reward"] = index / 20_000
    report = search_report(trials)
    assert len(report.encode()) < 2_000_000
    root = parse(report)
    assert figures(root)["Trials done"] == "18,000"
    assert 3000 < len(list(section(root, "Reward").iter(f"{SVG}circle"))) <= 6000
    assert "some of the trials" in words(section(root, "Reward"))


@pytest.mark.parametrize("count", [1, 2, 25, 60, 1500])
def test_the_curve_says_what_the_trials_say(count):
    trials = make_trials(count)
    curve = Curve(search_curve_svg(trials))
    rewards = [(place, trial["reward"]) for place, trial in enumerate(trials, 1) if trial["reward"] is not None]
    pixel = abs(curve.reward(100.0) - curve.reward(100.2))
    dots = curve.dots()
    assert len(dots) == len(rewards)
    for (x, y), (place, reward) in zip(dots, rewards, strict=True):
        assert abs(curve.reward(y) - reward) < pixel
        if count > 1:
            assert abs(curve.trial(x) - place) < 0.01 + abs(curve.trial(0.2) - curve.trial(0.0))
    assert len(curve.path("failed")) == count - len(rewards)
    (best,) = curve.path("best")
    heights = [float(best.split("H")[0].split()[1]), *(float(part) for part in re.findall(r"V([\d.]+)", best))]
    assert heights == sorted(heights, reverse=True)
    assert abs(curve.reward(heights[-1]) - max(reward for _, reward in rewards)) < pixel
    assert abs(curve.reward(heights[0]) - rewards[0][1]) < pixel
    if len(rewards) < 5:
        assert curve.path("mean") == []
        return
    means = [tuple(map(float, point.split())) for point in curve.path("mean")[0][1:].split("L")]
    last = [reward for _, reward in rewards[-20:]]
    assert abs(curve.reward(means[-1][1]) - sum(last) / len(last)) < pixel
    assert abs(curve.reward(means[0][1]) - sum(reward for _, reward in rewards[:5]) / 5) < pixel


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1e6, 1e6) | st.floats(0, 1) | st.none(), max_size=12))
def test_axes_hold_every_reward(rewards):
    curve = Curve(search_curve_svg([make_trial(index, reward) for index, reward in enumerate(rewards)]))
    values, ys = zip(*curve.y_ticks, strict=True)
    assert 3 <= len(values) <= 12
    assert len(set(values)) == len(values)
    assert list(ys) == sorted(ys, reverse=True)
    assert all(min(ys) - 0.1 <= y <= max(ys) + 0.1 for _, y in curve.dots())
    given_values = [reward for reward in rewards if reward is not None]
    if given_values:
        assert values[0] <= min(given_values) + 1e-6 and max(given_values) <= values[-1] + 1e-6


def test_what_is_no_number_is_no_reward():
    rewards = [math.nan, math.inf, "0.9", True, [1], None, 10**400, 0.5]
    trials = [make_trial(i, reward, seconds=reward, parameters=reward) for i, reward in enumerate(rewards)]
    report = search_report(trials, summary={"a": math.nan, "b": {"c": math.inf}})
    root = parse(report)
    assert figures(root)["Trials done"] == "1" and figures(root)["Failed"] == "7"
    assert figures(root)["Best reward"] == "0.5000" and figures(root)["Time in trials"] == "0.5 s"
    assert not re.search(r"\b(nan|inf|infinity)\b", report, re.IGNORECASE)


def test_hostile_data_stays_data():
    genotype = TINY.to_dict() | {"name": HOSTILE}
    trials = [
        make_trial(0, 0.9, trial_id=HOSTILE, genotype=genotype),
        make_trial(1, 0.8, genotype={"x": HOSTILE}, parameters=HOSTILE, seconds=HOSTILE),
        make_trial(2, 0.7, genotype=HOSTILE, trial_id=None),
        make_trial(3, None, reason=HOSTILE),
        make_trial(4, None, status=HOSTILE, reason={"a": 1}),
        {},
    ]
    report = search_report(trials, title=HOSTILE, summary={HOSTILE: {HOSTILE: HOSTILE}, "x": HOSTILE})
    root = parse(report)
    assert "<img" not in report and "<script" not in report and "</title></script>" not in report
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)
    assert root.find(".//h1").text == HOSTILE.replace("\x00\ud800", "\ufffd" * 2)
    assert ET.fromstring(search_curve_svg(trials, HOSTILE).encode()) is not None


def test_the_report_needs_nothing_else():
    report = search_report(make_trials(30), best=TINY)
    root = parse(report)
    assert report.replace('xmlns="http://www.w3.org/2000/svg"', "").count("://") == 0
    assert not {"script", "link", "img", "iframe", "object", "base"} & {element.tag for element in root.iter()}
    assert not any(name in ("src", "href") for element in root.iter() for name in element.attrib)
    assert "url(" not in report and "@import" not in report
    (policy,) = [meta.get("content") for meta in root.iter("meta") if meta.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert report == search_report(make_trials(30), best=TINY)


def test_durations_are_readable():
    for seconds, text in [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 0 s"),
        (3599.9, "1 h 0 min"),
        (7260, "2 h 1 min"),
        (400000, "4 d 15 h"),
    ]:
        assert figures(parse(search_report([make_trial(0, 0.5, seconds=seconds)])))["Time in trials"] == text
    live = {"at": "", "every": 5, "max_trials": 1, "until": None, "running": [], "left": float("inf")}
    assert "About \u2013 left." in search_report([], live=live)  # what is not finite is no duration


@pytest.mark.parametrize("function", [search_report, search_curve_svg])
@pytest.mark.parametrize("trials", [None, {}, "x", [1]])
def test_wrong_types_are_named(function, trials):
    with pytest.raises(ValueError, match=r"`trials` must be a list of dicts\. Received: "):
        function(trials)
    with pytest.raises(ValueError, match=r"`best` must be a Genotype or None\. Received: 'nasnet_a'"):
        search_report([], best="nasnet_a")


def test_the_last_line_is_what_was_advised():
    root = parse(search_report(make_trials(3), advice="take <this>"))
    assert words(list(root.find(".//main"))[-1]) == "take <this>"


def test_a_running_search_shows_its_nodes_workers_losses_and_queue():
    place = {"nodes": 3, "workers": 8, "working": 6, "starting": 1, "lost": 2, "waiting": 4, "dashboard": "http://a:1"}
    live = {"at": "12:00:00", "every": 5.0, "running": [], "max_trials": 9, "left": None, "until": None, "place": place}
    now = section(parse(search_report(make_trials(3), live=live)), "Running now")
    shown = {words(div.find("dt")): words(div.find("dd")) for div in now.find("dl").iter("div")}
    assert shown == {
        "Nodes": "3", "Workers now": "8 6 of them work, 1 more start", "Runs lost": "2 and given out again",
        "Trials that wait": "4",
    }  # fmt: skip
    assert [link.get("href") for link in now.iter("a")] == ["http://a:1"]
    here = section(parse(search_report(make_trials(3), live={**live, "place": None})), "Running now")
    assert here.find("dl") is None and not list(here.iter("a"))
    hostile = parse(search_report([], live={**live, "place": {**place, "dashboard": HOSTILE}}))
    assert not list(hostile.iter("img")) and not list(hostile.iter("script"))


def test_runs_that_were_given_out_again_are_counted():
    assert figures(parse(search_report(make_trials(3), again=5)))["Given out again"] == "5"
    assert "Given out again" not in figures(parse(search_report(make_trials(3))))


def test_a_rule_that_forbids_the_best_trial_shows_what_it_has_chosen_or_nothing():
    other = load_genotype("pnasnet_5")
    trials = [make_trial(0, 0.5, genotype=other.to_dict()), make_trial(1, 0.9)]
    choice = {"prefer": "below:5", "complaint": "the <least> is 9"}
    shown = section(parse(search_report(trials, choice=choice)), "Found cells")
    assert words(shown) == "Found cells None is chosen. the <least> is 9." and shown.find(".//pre") is None
    shown = section(parse(search_report(trials, choice={"prefer": "within:1", "chosen": "00000"})), "Found cells")
    assert Genotype.from_json(shown.find(".//pre").text) == other
    shown = section(parse(search_report(trials, choice={"cost": "parameters"})), "Found cells")
    assert Genotype.from_json(shown.find(".//pre").text) == TINY
