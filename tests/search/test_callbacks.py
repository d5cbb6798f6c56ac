"""What a search tells while it runs: to callbacks, and by its report."""

import json
import os
import threading
import time
import xml.etree.ElementTree as ET

import pytest
from free_children import Data, Free

from nasnet_keras import SearchCallback
from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.data.loading import load_data
from nasnet_keras.genotype import load_genotype
from nasnet_keras.search.callbacks import Callbacks
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.results import live
from nasnet_keras.search.results.live import LiveReport
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.tuner import NASNetTuner, search

SPACE = SearchSpace(blocks=1, operations=("identity", "sep_conv_3x3", "max_pool_3x3"), combinations=("add",))
TINY = load_genotype("tiny").to_dict()
CHILD = ChildSettings(repeats=(1, 1), filters=4)


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", limit=200)


@pytest.fixture
def untrained(monkeypatch):
    """Children whose reward is their seed; every third fails."""
    count = iter(range(1000))

    def evaluate(self, genotype, data, seed):
        if next(count) % 3 == 2:
            raise ValueError("too large")
        return {"reward": seed / 2**32}

    monkeypatch.setattr(ChildSettings, "evaluate", evaluate)


class Heard(SearchCallback):
    def __init__(self):
        self.told = []

    def on_trial_begin(self, trial):
        self.told.append(("begin", trial["trial_id"], set(trial)))

    def on_trial_end(self, trial):
        self.told.append(("end", trial["trial_id"], trial["reward"] is None))


def run(digits, directory, trials, **options):
    return search(digits, trials, directory, "random", 3, space=SPACE, child=CHILD, rules=(), **options)


def test_every_trial_is_told_of_once_when_it_begins_and_when_it_ends(digits, tmp_path, untrained):
    heard = Heard()
    result = run(digits, tmp_path / "s", 6, callbacks=(heard, SearchCallback()))
    keys = {"trial_id", "genotype", "worker"}
    assert heard.told == [
        one
        for number, trial in enumerate(result.trials)
        for one in (("begin", f"{number:05d}", keys), ("end", f"{number:05d}", trial["reward"] is None))
    ]
    heard = Heard()
    run(digits, tmp_path / "s", 8, callbacks=[heard])
    assert [told[:2] for told in heard.told] == [
        (what, f"{number:05d}") for number in (6, 7) for what in ("begin", "end")
    ]


def test_an_exception_in_a_callback_ends_the_search_with_everything_saved(digits, tmp_path, untrained):
    class Stops(SearchCallback):
        def on_trial_end(self, trial):
            if trial["number"] == 2:
                raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run(digits, tmp_path / "s", 6, callbacks=(Stops(),))
    assert len((tmp_path / "s/trials.jsonl").read_text().splitlines()) == 3
    assert "Running now" not in (tmp_path / "s/report.html").read_text()
    assert len(run(digits, tmp_path / "s", 6).trials) == 6


@pytest.mark.parametrize("callbacks", [print, (print,), ({},), "x", Heard()])
def test_bad_callbacks(callbacks):
    with pytest.raises(ValueError, match="`callbacks` must be"):
        Callbacks(callbacks)


def line(number, reward=0.5):
    return {"trial_id": f"{number:05d}", "reward": reward, "status": "COMPLETED", "genotype": TINY}


def began(number, worker):
    return {"trial_id": f"{number:05d}", "worker": worker}


def test_what_is_running_and_the_time_left(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    report = LiveReport(tmp_path, 23, hours=1)
    report.finished([line(0), line(1), line(2)])  # of an earlier run
    assert report.state()["left"] == 3600
    report.began(began(3, "a"))
    report.began(began(4, "b"))
    now[0] = 110.0
    report.finished([line(number) for number in range(4)])
    report.began(began(5, "a"))
    state = report.state()
    assert state["running"] == [
        {"trial_id": "00004", "worker": "b", "seconds": 10.0}, {"trial_id": "00005", "worker": "a", "seconds": 0.0},
    ]  # fmt: skip
    assert state["left"] == 190.0  # one in ten seconds, nineteen to go
    report.taken_back("00004")
    report.taken_back("00004")
    assert [one["worker"] for one in report.state()["running"]] == ["a"]
    report.began(began(4, "c"))
    assert [one["worker"] for one in report.state()["running"]] == ["a", "c"]
    assert report.state()["place"] is None
    report.looked({"nodes": 2})
    assert report.state()["place"] == {"nodes": 2}
    now[0] = 3695.0
    assert report.state()["left"] == 5.0  # of the hour


def test_the_page_says_so_and_renews_itself_until_the_end(tmp_path):
    with LiveReport(tmp_path, 10, every=0.01) as report:
        report.finished([line(0)])
        report.began(began(1, "worker <1>"))
        deadline = time.monotonic() + 20
        while not (tmp_path / "report.html").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        page = (tmp_path / "report.html").read_text()
    root = ET.fromstring(page)
    (section,) = [part for part in root.iter("section") if part.find("h2").text == "Running now"]
    assert [cell.text for cell in section.iter("td")][:2] == ["00001", "worker <1>"]
    assert "1 of 10 trials have ended" in "".join(section.itertext())
    assert [meta.get("content") for meta in root.iter("meta") if meta.get("http-equiv") == "refresh"] == ["1"]
    page = (tmp_path / "report.html").read_text()
    assert "Running now" not in page and "refresh" not in page
    assert not any(thread is report._thread for thread in threading.enumerate())


@pytest.mark.parametrize("hours", [float("inf"), 1e308])
def test_hours_without_an_end_are_no_limit(hours, tmp_path, caplog):
    report = LiveReport(tmp_path, 10, hours)
    report.finished([])
    report.began(began(0, "a"))
    assert report.state()["left"] is None
    report._write(report.state())
    assert "Running now" in (tmp_path / "report.html").read_text() and not caplog.text


@pytest.mark.parametrize(("trials", "shown"), [(4, "%H:%M"), (2000, "%Y-%m-%d %H:%M"), (10**18, None)])
def test_an_end_that_is_not_today_has_a_date_and_one_beyond_all_dates_none(trials, shown, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(live.time, "time", lambda: 1.7e9)
    report = LiveReport(tmp_path, trials)
    report.finished([])
    now[0] = 400.0
    report.finished([line(0)])
    state = report.state()
    assert state["left"] == pytest.approx(300 * (trials - 1))
    assert state["until"] == (shown and time.strftime(shown, time.localtime(1.7e9 + state["left"])))
    live.write_page(tmp_path, [line(0)], state)
    assert ("until" in (tmp_path / "report.html").read_text().split("Running now")[1].split("</section>")[0]) == bool(
        shown
    )


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TypeError("of a page")], ids=repr)
def test_a_page_that_cannot_be_written_does_not_end_the_search(error, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise error

    monkeypatch.setattr(live, "write_page", full)
    with LiveReport(tmp_path, 10, every=0.01) as report:
        report.began(began(1, "a"))
        time.sleep(0.1)
    assert "the report could not be written" in caplog.text


def test_a_callback_that_ends_the_search_again_and_again_costs_no_trial(digits, tmp_path, untrained):
    class Interrupts(SearchCallback):
        def on_trial_begin(self, trial):
            raise KeyboardInterrupt

    for _ in range(6):
        with pytest.raises(KeyboardInterrupt):
            run(digits, tmp_path / "s", 2, callbacks=(Interrupts(),))
    result = run(digits, tmp_path / "s", 2)
    assert [trial["status"] for trial in result.trials] == ["COMPLETED"] * 2
    assert "Given out again" not in (tmp_path / "s/report.html").read_text()


class Spoils(SearchCallback):
    """Does what it likes with what it is given."""

    def on_trial_begin(self, trial):
        trial["genotype"]["normal"].clear()
        trial.clear()

    def on_trial_end(self, trial):
        trial["genotype"]["normal"].clear()
        trial.clear()


def test_what_callbacks_do_with_their_trials_changes_nothing_else(digits, tmp_path, untrained):
    def on_trial(trials):
        for trial in trials:
            trial.clear()
        trials.clear()

    heard = Heard()
    result = run(digits, tmp_path / "s", 4, callbacks=(Spoils(), heard), on_trial=on_trial)
    on_disk = [json.loads(text) for text in (tmp_path / "s/trials.jsonl").read_text().splitlines()]
    assert result.trials == on_disk and len(on_disk) == len(heard.told) // 2 == 4
    assert all(trial["genotype"]["normal"] for trial in result.trials)
    page = (tmp_path / "s/report.html").read_text()
    assert "00003" in page and "None yet" not in page


def test_a_tuners_listener_gets_copies(tmp_path):
    counts = []

    def listen(trials):
        counts.append(sum(map(bool, trials)))
        trials[-1].clear()

    oracle = NASNetOracle(3, space=SPACE, strategy="random", seed=0)
    NASNetTuner(oracle, Free(), listen, directory=str(tmp_path), project_name="p").search(Data)
    assert counts == [1, 1, 1] and all("reward" in trial for trial in oracle.finished_trials())
