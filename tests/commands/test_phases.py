"""A fine-tuning of the command line that goes on: what counts of what its phases were begun with."""

import json
import shutil
from pathlib import Path

import pytest

from nasnet_keras.cli import main, parser
from nasnet_keras.commands import finetune
from nasnet_keras.training.identity import passed, settled_head_epochs

FIXTURES = Path(__file__).parents[1] / "fixtures"
WORDS = ["finetune", "--model", "zoo.keras", "--data", "photos", "--epochs", "6", "--batch-size", "4", "--seed", "3"]
WORDS += ["--patience", "0", "--directory", "finetuned"]


@pytest.fixture
def change(tmp_path, monkeypatch):
    """Changes the state of the phase `cells` of a fine-tuning of 2 and 4 epochs, in a copy."""
    monkeypatch.chdir(tmp_path)
    for name in ("finetuned", "photos"):
        shutil.copytree(FIXTURES / name, name)
    shutil.copy(FIXTURES / "zoo.keras", ".")
    path = Path("finetuned/cells/history.json")
    state = json.loads(path.read_text())

    def change(rate, **further):
        identity = {**state["identity"], "`learning_rate`": rate * 0.3}
        path.write_text(json.dumps({**state, "identity": identity, **further}))

    return change


def check(*words):
    finetune.check(parser().parse_args([*WORDS, *words]))


@pytest.mark.parametrize("further", [{}, {"epochs": [], "inside": {"step": 1, "epoch": 3}}], ids=["epochs", "a part"])
def test_a_rate_that_was_lowered_in_the_second_phase_goes_on_again(change, further):
    """The first phase keeps in its history the rate that it was begun with, and is over."""
    change(0.01, **further)
    check("--learning-rate", "0.01")
    with pytest.raises(ValueError, match="cells holds the state of another training: it has other `learning_rate`"):
        check("--learning-rate", "0.02")
    assert passed("finetuned", ["head", "cells"]) == ["head"] and settled_head_epochs("finetuned", 12) == 2


def test_phases_that_are_not_over_are_compared_in_all(change):
    change(0.01, epochs=[], identity={})
    assert passed("finetuned", ["head", "cells"]) == [] == passed(None, ["head", "cells"])
    with pytest.raises(ValueError, match="head holds the state of another training: it has other `learning_rate`"):
        check("--learning-rate", "0.01")


def test_a_second_phase_for_which_no_epoch_is_left_is_refused(tmp_path):
    """Otherwise the head alone would be the plan, without a word."""
    (tmp_path / "head").mkdir()
    epochs = [{"epoch": number + 1} for number in range(10)]
    (tmp_path / "head/history.json").write_text(json.dumps({"epochs": epochs}))
    for many in (10, 4):
        with pytest.raises(ValueError, match=f"`epochs` must be above 10 in .*the head has had.*Received: {many}"):
            settled_head_epochs(tmp_path, many)
    assert settled_head_epochs(tmp_path, 11) == settled_head_epochs(tmp_path, 10, 10) == 10
    assert settled_head_epochs(tmp_path, 10, unfreeze="head") is None


@pytest.mark.parametrize(
    ("words", "views"),
    [
        ("", 1),
        ("--augmentation none", 1),
        ("--unfreeze head --epochs 2", 1),
        ("--head-views 0", None),
        ("--head-views 2", 2),
        ("--epochs 4", None),  # one of the head
        ("--augmentation digits", None),
        ("--erasing 0.2", None),
        ("--mixup 0.2", None),
        ("--hours 1", None),
        ("--devices 2", None),
        ("--weights none", None),  # no phase of the head
    ],
)
def test_the_head_learns_from_one_view_where_nothing_is_in_the_way(words, views, change):
    options = parser().parse_args([*WORDS, "--directory", "new", "--recipe", "photos", *words.split()])
    assert finetune.check(options)["views"] == views


@pytest.mark.parametrize("begun", [{}, {"`head_views`": 1}, {"`head_views`": 3}])
def test_a_head_goes_on_with_the_views_that_it_was_begun_with(begun, change):
    path = Path("finetuned/head/history.json")
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "identity": {**state["identity"], **begun}}))
    assert finetune.check(parser().parse_args(WORDS))["views"] == begun.get("`head_views`")


@pytest.mark.parametrize(("words", "name"), [("--devices 2", "devices"), ("--hours 1", "hours")])
def test_a_head_with_kept_features_goes_on_as_it_was_begun(words, name, change):
    path = Path("finetuned/head/history.json")
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "identity": {**state["identity"], "`head_views`": 1}}))
    over = Path("finetuned/cells")
    over.rename("elsewhere")
    rule = f"`{name}` must be left out until the phase of the head is over, which has begun with features that are kept"
    with pytest.raises(ValueError, match=rule):
        finetune.check(parser().parse_args([*WORDS, *words.split()]))
    Path("elsewhere").rename(over)
    finetune.check(parser().parse_args([*WORDS, "--devices", "2"]))


def test_one_view_that_nobody_asked_for_is_told_once(change, capsys):
    words = [*WORDS, "--directory", "new", "--unfreeze", "head", "--epochs", "2", "--image-size", "8"]
    for further, lines in ((["--recipe", "photos"], 1), (["--recipe", "micro", "--directory", "plain"], 0)):
        assert main([*words, *further]) == 0
        assert capsys.readouterr().err.count("--head-views 0") == lines
    history = json.loads(Path("new/head/history.json").read_text())
    assert history["identity"]["`head_views`"] == 1
