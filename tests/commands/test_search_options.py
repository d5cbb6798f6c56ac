"""What `search` says and refuses before anything is loaded, and what it says at its end."""

import logging
import os
from types import SimpleNamespace

import pytest

from nasnet_keras.cli import main
from nasnet_keras.commands import search, terminal
from nasnet_keras.genotype import load_genotype
from nasnet_keras.search.results.preference import Preference
from nasnet_keras.search.strategies import choice
from nasnet_keras.search.tuner import SearchResult


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """What is said with some options, by a command that never comes to its data."""

    def stop(options):
        raise ValueError("the data are asked for")

    monkeypatch.setattr(search, "find", stop)

    def say(*words):
        assert main(["search", "--directory", str(tmp_path / "s"), *words]) == 2
        return capsys.readouterr().err

    return say


def test_workers_without_number_are_refused_at_once(refusal):
    err = refusal("--workers", "99999")
    assert err.count("\n") == 1 and "workers` must be at most" in err and "the data" not in err


def test_a_name_that_cannot_travel_is_refused_by_its_option(refusal):
    err = refusal("--role", "worker", "--patience", "0.1", "--name", "wörker")
    assert err.count("\n") == 1 and "name` must be a name of ASCII characters. Received: 'wörker'" in err


@pytest.mark.parametrize(("words", "told"), [((), True), (("--max-trials", "101"), False)])
def test_evolution_without_a_trial_that_is_not_random_is_told(words, told, refusal):
    err = refusal("--controller", "evolution", *words)
    assert ("with --max-trials 60 this is a random search" in err) == told and "the data are asked for" in err
    assert "random search" not in refusal("--controller", "predictor", *words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--controller-batch", "100"], "rl proposes at random until 100 children have a reward: with --max-trials 60"),
        (["--max-trials", "4"], "rl proposes at random until 4 children"),
        (["--max-trials", "12", "--controller", "predictor"], "predictor proposes at random until 12 children"),
        (["--max-trials", "10", "--controller", "local"], "local proposes at random until 10 children"),
        (["--max-trials", "5"], None),
        (["--max-trials", "1", "--controller", "random"], None),
    ],
)
def test_whoever_learns_nothing_before_the_end_is_told(words, told, refusal):
    err = refusal(*words)
    assert err.count("this is a random search") == (told is not None) and (told or "") in err


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["--target-exponent", "-0.1"], "`target_exponent` needs a target"),
        (["--screen-share", "0.5"], "`screen_share` needs `screen`"),
        (["--shared-steps", "5"], "`shared_steps` needs `evaluation` shared"),
        (["--final-epochs", "5", "--no-final"], "`final_epochs` needs a comparison at the end, or `retrain`"),
        (["--name", "a"], "`name` needs `role` worker"),
        (["--name", "a", "--role", "chief"], "`name` needs `role` worker"),
        (["--address", "127.0.0.1:1"], "`address` needs `role`"),
        (["--lease", "5"], "`lease` needs `role`"),
        (["--lease", "5", "--workers", "2"], "`lease` needs `role`"),
        (["--patience", "5"], "`patience` needs `role`, or `engine` ray"),
    ],
)
def test_an_option_that_does_nothing_without_another_is_refused(words, needed, refusal):
    err = refusal(*words)
    assert err.count("\n") == 1 and needed in err and f"Received: {words[1]!r}".replace("'", "") in err.replace("'", "")


@pytest.mark.parametrize(
    "words",
    [
        ["--target-exponent", "-0.1", "--target-parameters", "9"],
        ["--screen-share", "0.5", "--screen", "naswot"],
        ["--shared-steps", "5", "--evaluation", "shared"],
        ["--lease", "5", "--role", "chief", "--address", "127.0.0.1:0", "--patience", "5"],
        ["--target-exponent", "-0.07", "--screen-share", "0.3"],
    ],
)
def test_with_the_other_one_it_is_taken(words, refusal):
    assert "the data are asked for" in refusal(*words)


@pytest.mark.parametrize(
    "words",
    [
        ["--hours", "2"],
        ["--tensorboard"],
        ["--retrain", "3"],
        ["--start-from", "other"],
        ["--try", "nasnet_a"],
        ["--cost", "seconds"],
        ["--prefer", "within:0.01"],
        ["--final-epochs", "5"],
    ],
)
def test_what_is_the_chiefs_alone_is_refused_on_a_worker(words, refusal):
    name = words[0].strip("-").replace("-", "_")
    err = refusal("--role", "worker", "--address", "127.0.0.1:9", "--patience", "0.1", *words)
    assert err.count("\n") == 1 and f"`{name}` needs `role` chief, or none, and does nothing without. Rec" in err
    assert "`role` chief" not in refusal("--role", "chief", "--address", "127.0.0.1:0", *words)
    assert "`role` chief" not in refusal(*words)


@pytest.mark.parametrize("words", [["--start-from", "other"], ["--failure-reward", "0.5"]])
def test_what_teaches_is_refused_where_nothing_learns(words, refusal, tmp_path):
    name = words[0].strip("-").replace("-", "_")
    err = refusal("--controller", "random", *words)
    assert err.count("\n") == 1 and f"`{name}` is for a controller that learns. Received: {words[1]}, random" in err
    (tmp_path / "s").mkdir()
    (tmp_path / "s/search.json").write_text("{")  # of an earlier version
    assert "is for a controller that learns" not in refusal("--controller", "random", *words)


def test_a_directory_of_a_training_is_refused(refusal, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/model.keras").write_text("")
    err = refusal()
    assert err.count("\n") == 1 and "holds model.keras, which no search there has written" in err


def test_a_failure_that_is_better_than_any_reward_is_told(refusal):
    assert "--failure-reward 10 makes failures the best of all" in refusal("--failure-reward", "10")
    assert "failures the best" not in refusal("--failure-reward", "1")


def test_genotypes_to_try_are_no_random_search(refusal):
    tries = ["--try", "nasnet_a", "--try", "pnasnet_5"]
    assert "random search" not in refusal("--max-trials", "2", *tries)
    assert "random search" in refusal("--max-trials", "3", *tries)
    assert "`max_trials` must be at least 2, as many as genotypes to try" in refusal("--max-trials", "1", *tries)


def test_keras_tuners_variables_are_a_role(refusal, monkeypatch):
    for name, value in (("IP", "127.0.0.1"), ("PORT", "0"), ("ID", "the chief")):
        monkeypatch.setenv(f"KERASTUNER_{'TUNER' if name == 'ID' else 'ORACLE'}_{name}", value)
    assert "the data are asked for" in refusal("--lease", "5", "--patience", "5")
    assert "`address` needs `role`" in refusal("--address", "127.0.0.1:0")


def test_options_of_children_that_a_search_was_begun_with_stay_allowed(refusal, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/search.json").write_text("{")  # a search is there
    assert "the data are asked for" in refusal("--screen-share", "0.5")
    assert "the data are asked for" in refusal("--epochs", "5", "--evaluation", "shared")


def conclude(trials, best, directory, capsys, **options):
    """What the command says at the end of a search."""
    given = {"max_trials": len(trials), "retrain": 0, "no_final": True, "json": False, **options}
    result = SearchResult(best, trials, directory)
    try:
        search._conclude(SimpleNamespace(**given), result, SimpleNamespace(several=False), None, None)
    except ValueError as error:
        return capsys.readouterr(), str(error)
    return capsys.readouterr(), None


def trial(reward, **more):
    return {"trial_id": "00000", "reward": reward, "status": "COMPLETED", "multiply_adds": 9, "metrics": {}, **more}


def test_a_shaped_reward_is_no_accuracy(tmp_path, capsys):
    trials = [trial(0.5), trial(1.08571, metrics={"raw_reward": 0.97}), trial(None)]
    (out, _), _ = conclude(trials, load_genotype("tiny"), tmp_path, capsys)
    assert "3 trials, 1 failed; best reward 1.0857 (validation accuracy 97.00%)\n" in out
    (out, _), _ = conclude(trials[:1], load_genotype("tiny"), tmp_path, capsys)
    assert "1 trials, 0 failed; best validation accuracy 50.00%\n" in out
    (out, _), error = conclude(trials[2:], None, tmp_path, capsys)
    assert "best validation accuracy —" in out and error.startswith("no child has got a reward")


def test_a_preference_that_does_not_work_is_told(tmp_path, capsys):
    Preference(prefer="within:0.1").keep(tmp_path)
    (_, err), error = conclude([trial(0.5), trial(0.6, multiply_adds=None)], load_genotype("tiny"), tmp_path, capsys)
    assert error is None and err.count("\n") == 1 and "1 of 2 trained trials have no `multiply_adds`" in err
    Preference(prefer="below:5").keep(tmp_path)
    (_, err), error = conclude([trial(0.5)], None, tmp_path, capsys)
    assert err == "" and "no child costs so little" in error


def test_what_the_library_logs_of_a_preference_the_command_does_not_say_twice(caplog):
    told = Preference(prefer="below:5")
    with search._told_at_the_end():
        told.warn([trial(0.5)])
        choice.warn_if_random(choice.make_strategy("rl"), 5, 5)
    assert not caplog.messages
    told.warn([trial(0.5)])
    choice.warn_if_random(choice.make_strategy("rl"), 5, 5)
    assert len(caplog.messages) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a file that is always full")
def test_a_log_on_a_full_disk_is_said_in_one_line(capsys):
    logger = logging.getLogger("nasnet_keras")
    level, before = logger.level, list(logger.handlers)
    terminal.log_to("/dev/full")
    try:
        for number in range(3):
            logger.warning("trial %d has failed", number)
    finally:
        (handler,) = (handler for handler in logger.handlers if handler not in before)
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
    assert capsys.readouterr().err == "nasnet-keras: /dev/full cannot be written: [Errno 28] No space left on device\n"
