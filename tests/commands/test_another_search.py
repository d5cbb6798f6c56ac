"""A directory that holds another search: the line names the option that the user gave, and the way out."""

import json
import shutil
from pathlib import Path

import pytest

from nasnet_keras.cli import main
from nasnet_keras.commands import search

FINISHED = Path(__file__).parents[1] / "fixtures" / "search_finished"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--controller-entropy", "0.1"], "`--controller-entropy` must be 1e-05, "),
        (["--controller-rate", "0.1"], "`--controller-rate` must be 0.006, "),
        (["--controller-baseline", "0.5"], "`--controller-baseline` must be 0.95, "),
        (["--controller-batch", "3"], "`--controller-batch` must be 2, "),
        (["--controller", "random"], "`--controller` must be 'rl', "),
        (["--seed", "1"], "`--seed` must be 0, "),
        (["--blocks", "2"], "`--blocks` must be 1, "),
    ],
)
def test_the_option_and_the_way_out(words, says, tmp_path, capsys):
    shutil.copytree(FINISHED, tmp_path / "found")
    before = {path: path.read_bytes() for path in (tmp_path / "found").rglob("*") if path.is_file()}
    given = ["search", "--blocks", "1", "--controller-batch", "2", "--directory", str(tmp_path / "found"), *words]
    assert main(given) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and says in err
    assert "or use another directory, where `--start-from` learns from its trials" in err
    assert before == {path: path.read_bytes() for path in (tmp_path / "found").rglob("*") if path.is_file()}


RULES = {
    "limits": [{"rule": "Replay"}, {"rule": "Limits", "max_parameters": 1000, "max_multiply_adds": None}],
    "target": [{"rule": "Replay"}, {"rule": "SoftTarget", "target": 500, "metric": "parameters", "exponent": -0.07}],
    "stop": [{"rule": "MedianStop", "epochs": 1, "trials": 10}],
    "penalty": [{"rule": "Replay"}, {"rule": "FailurePenalty", "reward": 0.0}],
    "none": None,
    "own": [{"rule": "Replay"}, {"rule": "Divides"}],
}


@pytest.mark.parametrize(
    ("kind", "words", "says"),
    [
        ("limits", [], "`--max-parameters` must be 1000, as in the search"),
        ("limits", ["--max-parameters", "2000"], "`--max-parameters` must be 1000, "),
        ("limits", ["--max-multiply-adds", "5", "--max-parameters", "1000"], "`--max-multiply-adds` must be left out"),
        ("target", [], "`--target-parameters` must be 500, "),
        ("target", ["--target-multiply-adds", "500"], "`--target-parameters` must be 500, "),
        ("target", ["--target-parameters", "500", "--target-exponent", "-1"], "`--target-exponent` must be -0.07, "),
        ("penalty", [], "`--failure-reward` must be 0.0, "),
        ("penalty", ["--failure-reward", "0", "--no-replay"], "`--no-replay` must be left out, "),
        ("none", [], "`--no-replay` must be given, "),
        ("none", ["--no-replay", "--median-stop", "--epochs", "2"], "`--median-stop` must be left out, "),
        ("stop", ["--no-replay"], "`--median-stop` must be given, "),
        ("own", [], "`rules` must be [{'rule': 'Replay'}, {'rule': 'Divides'}], "),
    ],
)
def test_of_a_rule_its_option_is_named(kind, words, says, tmp_path, capsys):
    header = json.loads((FINISHED / "search.json").read_text())
    del header["rules"]
    header |= {"rules": RULES[kind]} if RULES[kind] else {}
    (tmp_path / "found").mkdir()
    (tmp_path / "found/search.json").write_text(json.dumps(header))
    given = ["search", "--blocks", "1", "--controller-batch", "2", "--directory", str(tmp_path / "found"), *words]
    assert main(given) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and says in err and "must be None" not in err
    assert "or use another directory, where `--start-from` learns from its trials" in err


def test_a_search_that_goes_on_is_refused_with_another_start(tmp_path, capsys, monkeypatch):
    found, other = tmp_path / "found", tmp_path / "other"
    shutil.copytree(FINISHED, found)
    shutil.copytree(FINISHED, other)
    (found / "children.json").unlink()
    begun = {"trial_id": "00000", "decisions": [0] * 10, "reward": 0.25}
    (found / "imported.jsonl").write_text(json.dumps(begun) + "\n")
    words = ["search", "--blocks", "1", "--controller-batch", "2", "--directory", str(found)]
    words += ["--start-from", str(other)]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "it began with another `start_from`" in err

    def stop(options):
        raise ValueError("the data are asked for")

    monkeypatch.setattr(search, "find", stop)
    shutil.rmtree(other)
    assert main(words) == 2 and "the data are asked for" in capsys.readouterr().err
