"""Which genotype a search has found: one answer in every file, also after the best were trained again."""

import contextlib
import json
import os
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from nasnet_keras.children import longer_training
from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.commands import report
from nasnet_keras.commands.search import _print_networks, _tell_of_costs
from nasnet_keras.data.loading import load_data
from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.pictures.cells import cell_svg
from nasnet_keras.search.directory import DirectoryLock, SearchDirectory
from nasnet_keras.search.results import final
from nasnet_keras.search.results.live import LiveReport
from nasnet_keras.search.results.preference import Preference
from nasnet_keras.search.results.publication import (
    Publisher,
    best_genotype,
    commonest_reason,
    renew_report,
    write_report,
)
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.tuner import search

SPACE = SearchSpace(blocks=1, operations=("identity", "sep_conv_3x3", "max_pool_3x3"), combinations=("add",))
CHILD = ChildSettings(repeats=(1, 1), filters=4)
BEST = ("best_genotype.json", "best_normal.svg", "best_reduction.svg")


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def trials_with(rewards, seed=0):
    """Finished trials of different cells with these rewards; None for a failure."""
    rng, made = np.random.default_rng(seed), {}
    while len(made) < len(rewards):
        genotype = SPACE.decode(SPACE.random(rng))
        made.setdefault(genotype.digest, genotype)
    return [
        {
            "trial_id": f"{number:05d}", "number": number, "genotype": genotype.to_dict(), "reward": reward,
            "status": "FAILED" if reward is None else "COMPLETED", "canonical": genotype.digest, "reason": None,
        }
        for number, (genotype, reward) in enumerate(zip(made.values(), rewards, strict=True))
    ]  # fmt: skip


def found(directory, trials):
    """The digest that all answers give."""
    best = best_genotype(directory, trials)
    Publisher(directory)(trials)
    answers = {best.digest, Genotype.load(directory / "best_genotype.json").digest}
    write_report(directory, trials)
    answers.add(Genotype.load(directory / "best_genotype.json").digest)
    page = (directory / "report.html").read_text()
    shown = page[page.index("Found cells") : page.index("Best trials")]
    answers.add(Genotype.from_json(shown.split("<pre>")[1].split("</pre>")[0].replace("&quot;", chr(34))).digest)
    (digest,) = answers
    return digest


def digest_of(trial):
    return Genotype.from_dict(trial["genotype"]).digest


def retrained(directory, *trials):
    rows = [{"network": trial["trial_id"], "digest": digest_of(trial)} for trial in trials]
    (directory / "retrained.json").write_text(json.dumps(rows))


def test_the_highest_reward_and_of_equals_the_first_is_found(tmp_path):
    trials = trials_with([0.2, None, 0.7, 0.7, 0.1])
    assert found(tmp_path, trials) == digest_of(trials[2])
    assert best_genotype(tmp_path, []) is None and best_genotype(tmp_path, trials[1:2]) is None


def test_the_winner_of_another_training_stands_until_a_new_trial_has_more_than_all_that_took_part(tmp_path):
    trials = trials_with([0.2, 0.5, 0.7, 0.6, 0.65, 0.9])
    retrained(tmp_path, trials[1], trials[2], trials[3])
    assert found(tmp_path, trials[:4]) == found(tmp_path, trials[:5]) == digest_of(trials[1])
    assert found(tmp_path, trials) == digest_of(trials[5])
    retrained(tmp_path, trials[2], trials[5])
    assert found(tmp_path, trials) == digest_of(trials[2])


def test_files_are_kept_up_to_date_as_trials_end(tmp_path):
    trials = trials_with([0.2, 0.5, 0.7, 0.6, 0.9])
    retrained(tmp_path, trials[1], trials[2])
    publisher, seen = Publisher(tmp_path, lambda trials: seen.append(len(trials))), []
    for count, best in ((3, 1), (4, 1), (5, 4)):
        publisher(trials[:count])
        assert Genotype.load(tmp_path / "best_genotype.json").digest == digest_of(trials[best])
    assert seen == [3, 4, 5]


def shows(directory, trial):
    """Whether all that lies there for people to take is of one trial's genotype."""
    genotype = Genotype.from_dict(trial["genotype"])
    cells = (genotype.normal, "Normal cell"), (genotype.reduction, "Reduction cell")
    written = [genotype.to_json(), *(cell_svg(cell, title=title) for cell, title in cells)]
    return [(directory / name).read_text() for name in BEST] == written


def test_pictures_go_with_the_best_genotype_at_every_moment(tmp_path):
    """Not only after a search that ends in the ordinary way."""
    trials = trials_with([None, 0.2, 0.5])
    publisher = Publisher(tmp_path)
    publisher(trials[:1])
    assert not any((tmp_path / name).exists() for name in BEST)
    publisher(trials[:2])
    assert shows(tmp_path, trials[1])
    publisher(trials)
    assert shows(tmp_path, trials[2])
    Publisher(tmp_path, preference=Preference(prefer="below:1"))(trials)  # nothing is known of their costs
    assert not any((tmp_path / name).exists() for name in BEST)
    Publisher(tmp_path)(trials)
    assert shows(tmp_path, trials[2])


def keep(directory, trials):
    (directory / "trials.jsonl").write_text("".join(f"{json.dumps(trial)}\n" for trial in trials))


def test_a_report_on_the_side_leaves_the_best_to_the_search_that_runs(tmp_path):
    trials, options = trials_with([0.2, 0.5]), SimpleNamespace(tensorboard=False, json=False)
    place = SearchDirectory(tmp_path)
    keep(tmp_path, trials[:1])
    with contextlib.closing(DirectoryLock(place)):
        Publisher(tmp_path)(trials)  # the second has ended since the report was begun
        report.run(options, place, trials[:1])
        assert shows(tmp_path, trials[1]) and "00000" in (tmp_path / "report.html").read_text()
    keep(tmp_path, trials)
    (tmp_path / "best_genotype.json").unlink()
    report.run(options, place, trials[:1])
    assert shows(tmp_path, trials[1])


def test_the_page_of_a_search_that_runs_goes_on_renewing_itself(tmp_path):
    trials = trials_with([0.2, 0.5])
    keep(tmp_path, trials)
    place, live = SearchDirectory(tmp_path), LiveReport(tmp_path, 10)
    with contextlib.closing(DirectoryLock(place)):
        live._write(live.state())
        page = (tmp_path / "report.html").read_text()
        renew_report(tmp_path)
        assert (tmp_path / "report.html").read_text() == page and "refresh" in page
        os.utime(tmp_path / "report.html", (0, 0))  # of a search that was killed, and this one writes none
        renew_report(tmp_path)
        assert "refresh" not in (tmp_path / "report.html").read_text()
        live._write(live.state())
    renew_report(tmp_path)  # it was killed
    assert "refresh" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("training", ["compare", "retrain"])
def test_final_trainings_know_of_trials_that_have_ended_meanwhile(training, tmp_path, monkeypatch):
    trials = trials_with([0.2, 0.5])
    keep(tmp_path, trials)
    row = {"network": "00000", "digest": digest_of(trials[0]), "validation_accuracy": 0.5}
    monkeypatch.setattr(final, "train_longer", lambda *_: row)
    monkeypatch.setattr(final, "alike", lambda networks, *_: dict.fromkeys(networks, CHILD))
    result = SimpleNamespace(best=load_genotype("tiny"), trials=trials[:1], directory=tmp_path)
    if training == "compare":
        final.compare(result, None, None, SPACE, 1, 0, quiet)
    else:
        final.retrain(result, None, None, 1, 1, 0, quiet)
    assert shows(tmp_path, trials[1])


class Comparisons:
    """Final comparisons of a search whose trainings take no time; `broken` is the network at which one is interrupted.

    Args:
        directory: of the search.
        monkeypatch: pytest's.
    """

    def __init__(self, directory, monkeypatch):
        self.directory, self.made, self.broken = directory, [], None
        self.digits = load_data("digits", limit=200)
        keep(directory, trials_with([0.2]))
        monkeypatch.setattr(longer_training, "_train", self.train)

    def train(self, name, genotype, data, child, epochs, seed, directory, *_):
        directory.mkdir(parents=True, exist_ok=True)
        if name == self.broken:
            raise KeyboardInterrupt
        self.made.append(name)
        known = {"network": name, "digest": genotype.digest, "epochs": epochs, "filters": child.filters}
        return {**known, "accuracy": 0.5, "validation_accuracy": 0.5, **child.sizes(genotype, data)}

    def compare(self, best, epochs=1):
        self.made.clear()
        result = SimpleNamespace(best=best, trials=[], directory=self.directory)
        return final.compare(result, self.digits, CHILD, SPACE, epochs, 0, quiet)


def test_an_interrupted_comparison_goes_on_and_mixes_no_budgets(tmp_path, monkeypatch):
    """The second cell's comparison has a larger NASNet-A than the first one's, whose random network would do."""
    first, second = load_genotype("tiny"), Genotype.from_dict(trials_with([0.5])[0]["genotype"])
    filters = {first.digest: (4, 4, 4), second.digest: (6, 5, 4)}

    def alike(networks, *_):
        return {
            name: replace(CHILD, filters=count)
            for name, count in zip(networks, filters[networks["found"].digest], strict=True)
        }

    monkeypatch.setattr(final, "alike", alike)
    comparisons = Comparisons(tmp_path, monkeypatch)
    rows = comparisons.compare(first)
    assert comparisons.made == ["found", "nasnet_a", "random"] and {row["reference"] for row in rows} == {4}
    assert comparisons.compare(first) == rows and not comparisons.made
    comparisons.broken = "nasnet_a"
    with pytest.raises(KeyboardInterrupt):
        comparisons.compare(second)
    assert comparisons.made == ["found"]
    comparisons.broken = None
    rows = comparisons.compare(second)
    assert comparisons.made == ["nasnet_a"]
    assert [(row["network"], row["filters"]) for row in rows] == [("found", 6), ("nasnet_a", 5), ("random", 4)]
    assert {row["reference"] for row in rows} == {5}
    assert comparisons.compare(second) == rows and not comparisons.made


def test_a_finished_comparison_survives_the_beginning_of_another_one(tmp_path, monkeypatch):
    comparisons, best = Comparisons(tmp_path, monkeypatch), Genotype.from_dict(trials_with([0.2])[0]["genotype"])
    rows = comparisons.compare(best)
    comparisons.broken = "found"
    with pytest.raises(KeyboardInterrupt):
        comparisons.compare(best, epochs=2)
    comparisons.broken = None
    assert comparisons.compare(best) == rows and not comparisons.made
    comparisons.broken = "random"
    with pytest.raises(KeyboardInterrupt):
        comparisons.compare(best, epochs=2)
    for shown in (2, 3):  # what the other one has not come to is not shown beside its figures
        write_report(tmp_path, trials_with([0.2]))
        assert (tmp_path / "report.html").read_text().count("50.00%") == shown
        comparisons.broken = None
        comparisons.compare(best, epochs=2)


def test_no_figures_lie_beside_a_model_that_they_are_not_of(tmp_path, monkeypatch):
    (tmp_path / "result.json").write_text("{}")
    monkeypatch.setattr(longer_training.fitting, "save_model", lambda *_: made.append(list(tmp_path.iterdir())))
    made = []
    longer_training._save(None, SimpleNamespace(several=False), tmp_path)
    assert made == [[]]


@pytest.mark.parametrize(
    ("filters", "is_old", "stands"),
    [((4, 4, 4), True, True), ((None, 5, None), False, True), ((4, 5, 4), False, False), ((None, 5, 4), False, False)],
)
def test_a_comparison_of_an_earlier_version_stands_if_it_is_one(filters, is_old, stands, tmp_path, monkeypatch):
    """The earliest had the same filters for all; then, here None, as many as come nearest to NASNet-A's cost."""
    comparisons, best = Comparisons(tmp_path, monkeypatch), load_genotype("tiny")
    rows = comparisons.compare(best)
    rng = np.random.default_rng([0, 0xF1])
    networks = (best, load_genotype("nasnet_a"), SPACE.decode(SPACE.random(rng)))
    cost = replace(CHILD, filters=filters[1]).sizes(networks[1], comparisons.digits)["multiply_adds"]
    for row, genotype, count in zip(rows, networks, filters, strict=True):
        sized = replace(CHILD, filters=count) if count else CHILD.at_cost(genotype, comparisons.digits, cost)
        row |= {"filters": sized.filters, **sized.sizes(genotype, comparisons.digits)}
        row.pop("reference")
        if is_old:
            row.pop("filters")
        (tmp_path / "final" / row["network"] / "result.json").write_text(json.dumps(row))
    again = comparisons.compare(best)
    assert (again == rows, not comparisons.made) == (stands, stands)


@pytest.mark.parametrize("content", ["", "[1]", '{"validation_accuracy": 0.1}'])
def test_figures_that_cannot_be_read_are_made_anew(content, tmp_path, monkeypatch):
    row = {"network": "found", "validation_accuracy": 0.5}
    monkeypatch.setattr(longer_training, "_train", lambda *_: row)
    (tmp_path / "result.json").write_text(content)
    data = SimpleNamespace(record=None)
    assert longer_training.train_longer("found", load_genotype("tiny"), data, CHILD, 1, 0, tmp_path, quiet) == row
    assert json.loads((tmp_path / "result.json").read_text()) == row
    assert (tmp_path / "result.json.damaged").exists() == (content[:1] != "{")


@pytest.mark.parametrize("content", ["", "{}", "[]", "[1]", '[{"network": "00001"}]', '[{"network": [], "digest": 1}]'])
def test_a_record_that_cannot_be_read_counts_for_nothing(tmp_path, content):
    trials = trials_with([0.2, 0.5])
    (tmp_path / "retrained.json").write_text(content)
    assert found(tmp_path, trials) == digest_of(trials[1])


def test_a_record_of_other_trials_counts_for_nothing(tmp_path):
    trials = trials_with([0.2, 0.5])
    others = trials_with([0.2, 0.5], seed=5)
    retrained(tmp_path, *others)
    assert found(tmp_path, trials) == digest_of(trials[1])


def test_final_figures_of_a_cell_that_is_no_longer_the_best_are_not_shown(tmp_path):
    trials = trials_with([0.2, 0.5])
    figures = {"accuracy": 0.123, "epochs": 1, "parameters": 1, "multiply_adds": 1}
    for name, trial in (("found", trials[0]), ("random", trials[0])):
        (tmp_path / "final" / name).mkdir(parents=True)
        row = {"network": name, "digest": digest_of(trial), **figures}
        (tmp_path / "final" / name / "result.json").write_text(json.dumps(row))
    for count, shown in ((1, 2), (2, 1)):
        write_report(tmp_path, trials[:count])
        assert (tmp_path / "report.html").read_text().count("12.30%") == shown


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"network": "random", "accuracy": "high"}', None])
def test_final_figures_without_test_images_are_a_dash_and_damaged_ones_are_left_out(content, tmp_path):
    trials = trials_with([0.2])
    row = {"network": "random", "digest": "", "accuracy": None, "epochs": 1, "parameters": 1, "multiply_adds": 1}
    (tmp_path / "final" / "random").mkdir(parents=True)
    (tmp_path / "final" / "random" / "result.json").write_text(json.dumps(row) if content is None else content)
    write_report(tmp_path, trials)
    _, *figures = (tmp_path / "report.html").read_text().split("Final figures")
    assert [">–<" in part.split("</section>")[0] for part in figures] == [True] * (content is None)
    assert shows(tmp_path, trials[0])


def test_the_commonest_reason_of_failures():
    trials = [{"status": "FAILED", "reward": None, "reason": reason} for reason in ("a", "b", None, "b")]
    assert commonest_reason([*trials, {"status": "COMPLETED", "reward": 1.0, "reason": None}]) == ("b", 2)
    assert commonest_reason([]) is None and commonest_reason(trials[2:3]) == ("no reason was given", 1)


@contextlib.contextmanager
def quiet(title, epochs):
    yield keras.callbacks.Callback()


def test_the_best_are_trained_again_and_all_files_agree_also_when_the_search_is_made_longer(tmp_path, monkeypatch):
    digits, directory = load_data("digits", limit=300), tmp_path / "s"
    rewards = iter([0.30, 0.50, 0.40, 0.10, 0.45, 0.60])
    monkeypatch.setattr(ChildSettings, "evaluate", lambda *_, **__: {"reward": next(rewards)})

    def run(max_trials):
        return search(digits, max_trials, directory, "random", 3, space=SPACE, child=CHILD)

    def on_disk():
        return Genotype.load(directory / "best_genotype.json")

    first = run(4)
    assert first.best == on_disk() == Genotype.from_dict(first.trials[1]["genotype"])
    accuracies = {"00000": 0.9, "00001": 0.2, "00002": 0.7}
    train, made = longer_training._train, []

    def as_told(name, *args):
        made.append(name)
        row = train(name, *args)
        return {**row, "validation_accuracy": accuracies[name]}

    monkeypatch.setattr(longer_training, "_train", as_told)
    rows = final.retrain(first, digits, CHILD, 3, 1, 3, quiet)
    assert made == ["00001", "00002", "00000"]  # by their rewards
    assert [row["network"] for row in rows] == ["00000", "00002", "00001"]
    winner = Genotype.from_dict(first.trials[0]["genotype"])
    assert rows[0]["genotype"] == winner == on_disk() == best_genotype(directory, first.trials)
    kept = json.loads((directory / "retrained.json").read_text())
    assert {(row["cost"], row["prefer"]) for row in kept} == {("multiply_adds", "reward")}
    assert [row["network"] for row in kept] == ["00000", "00002", "00001"] and "genotype" not in kept[0]
    # The test images stay unseen until the comparison at the end.
    measured = [json.loads(path.read_text()) for path in directory.glob("retrained/*/result.json")]
    assert len(measured) == 3 and not any("accuracy" in row for row in (*rows, *kept, *measured))
    assert final.retrain(first, digits, CHILD, 3, 1, 3, quiet) == rows and len(made) == 3  # not trained twice

    seen = []
    longer = search(  # 0.45 is not above 0.50, which took part
        digits, 5, directory, "random", 3, space=SPACE, child=CHILD, on_trial=lambda _: seen.append(on_disk())
    )
    assert {genotype.digest for genotype in seen} == {winner.digest}
    assert longer.best == on_disk() == winner and found(directory, longer.trials) == winner.digest
    longest = run(6)
    better = Genotype.from_dict(longest.trials[5]["genotype"])
    assert longest.best == on_disk() == better and found(directory, longest.trials) == better.digest
    accuracies |= {"00005": 0.1, "00004": 0.8}
    # Beyond the three best by their rewards are two that were trained before, the winner among them.
    for count in (3, 1):
        rows = final.retrain(longest, digits, CHILD, count, 1, 3, quiet)
        assert made == ["00001", "00002", "00000", "00005", "00004"]
        assert [row["network"] for row in rows] == ["00000", "00004", "00002", "00001", "00005"]
        assert on_disk() == best_genotype(directory, longest.trials) == run(6).best == winner
    # Those of another length or size are not compared.
    larger = replace(CHILD, filters=CHILD.filters + 1)
    for child, epochs in ((CHILD, 2), (larger, 1)):
        rows = final.retrain(longest, digits, child, 1, epochs, 3, quiet)
        assert [row["network"] for row in rows] == ["00005"]
    # Nor are those that a rule of cost puts behind.
    (directory / "preference.json").write_text(json.dumps({"cost": "parameters", "prefer": "within:1"}))
    assert [row["network"] for row in final.retrain(longest, digits, CHILD, 1, 1, 3, quiet)] == ["00005"]


def diverging(name, train):
    """`_train` whose loss becomes no number for the network of this name."""

    def wrapped(network, *args):
        if network == name:
            raise FloatingPointError("the loss is nan in epoch 3: a lower learning rate may help")
        return train(network, *args)

    return wrapped


def test_a_network_that_diverges_takes_no_other_out_of_the_longer_training(tmp_path, monkeypatch, caplog):
    comparisons, trials = Comparisons(tmp_path, monkeypatch), trials_with([0.4, 0.5, 0.3])
    keep(tmp_path, trials)
    result = SimpleNamespace(trials=trials, directory=tmp_path)
    monkeypatch.setattr(longer_training, "_train", diverging("00001", comparisons.train))
    rows = final.retrain(result, comparisons.digits, CHILD, 3, 1, 0, quiet)
    assert [row["network"] for row in rows] == ["00000", "00002"]
    assert "trial 00001 is left out: the loss is nan in epoch 3\n" in caplog.text and "rate" not in caplog.text
    # It took part, so its reward alone does not make it the best again.
    kept = json.loads((tmp_path / "retrained.json").read_text())
    assert [(row["network"], row["validation_accuracy"]) for row in kept] == [
        ("00000", 0.5), ("00002", 0.5), ("00001", None),
    ]  # fmt: skip
    assert found(tmp_path, trials) == digest_of(trials[0])
    shown = (tmp_path / "report.html").read_text().split("trial 00001, trained again")[1].split("</tr>")[0]
    assert "–" in shown and "nan" not in shown
    (tmp_path / "retrained/00001").mkdir(parents=True)
    (tmp_path / "retrained/00001/model.keras").write_text("an earlier one")
    assert final.retrain(result, comparisons.digits, CHILD, 1, 2, 0, quiet) == []
    assert f"; what lies in {tmp_path / 'retrained/00001'} is of an earlier training" in caplog.text
    assert json.loads((tmp_path / "retrained.json").read_text()) == kept


@pytest.mark.parametrize("name", ["found", "nasnet_a", "random"])
def test_a_network_that_diverges_takes_no_other_out_of_the_comparison(name, tmp_path, monkeypatch, caplog, capsys):
    best = Genotype.from_dict(trials_with([0.2])[0]["genotype"])
    comparisons = Comparisons(tmp_path, monkeypatch)
    comparisons.compare(best, epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(longer_training, "_train", diverging(name, comparisons.train))
        rows = comparisons.compare(best)
    reached = {row["network"]: row["accuracy"] for row in rows}
    assert reached == {"found": 0.5, "nasnet_a": 0.5, "random": 0.5, name: None}
    assert f"{name} is left out: the loss is nan in epoch 3\n" in caplog.text
    assert json.loads(json.dumps(rows)) == rows and len({tuple(row) for row in map(sorted, rows)}) == 1
    _print_networks(rows, "After 1 epochs")
    _tell_of_costs(rows)
    assert "—" in capsys.readouterr().out
    # What an earlier comparison said of it is not shown beside the others.
    assert (tmp_path / "report.html").read_text().count("50.00%") == 2
    assert comparisons.compare(best) != rows and comparisons.made == [name]  # another machine may train it


def test_the_report_ends_with_the_controller_that_was_measured_best(tmp_path):
    write_report(tmp_path, trials_with([0.2]))
    page = (tmp_path / "report.html").read_text()
    assert "`--controller predictor` was ahead of evolution, local search and RL on two hundred" in page
    (tmp_path / "search.json").write_text('{"strategy": "rl"}')
    write_report(tmp_path, trials_with([0.2]))
    assert "This search has `rl`." in (tmp_path / "report.html").read_text().split("</section>")[-1]


def test_the_report_says_by_what_another_trial_than_the_first_was_chosen_and_shows_its_figures(tmp_path):
    trials = [trial | {"multiply_adds": 5} for trial in trials_with([0.2, 0.5, 0.7])]
    figures = {"epochs": 10, "parameters": 1, "multiply_adds": 5, "accuracy": 0.1}
    rows = [
        {"network": trial["trial_id"], "digest": digest_of(trial), "validation_accuracy": accuracy, **figures}
        for trial, accuracy in ((trials[1], 0.876), (trials[2], 0.512))
    ]
    (tmp_path / "retrained.json").write_text(json.dumps(rows))
    write_report(tmp_path, trials)
    page = (tmp_path / "report.html").read_text()
    told = "Found by: the highest reward; of the 2 that were trained again for 10 epochs the best."
    assert told in page
    final_figures = page[page.index("Final figures") :].split("</section>")[0]
    assert "validation accuracy" in final_figures and "87.60%" in final_figures and "51.20%" in final_figures
    assert "trial 00001, trained again" in final_figures and "10.00%" not in final_figures
    write_report(tmp_path, [trial | {"multiply_adds": 5} for trial in trials_with([0.2, 0.5, 0.7, 0.9])])
    assert "that were trained again for" not in (tmp_path / "report.html").read_text()
