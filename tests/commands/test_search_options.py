"""What `search` says and refuses before anything is loaded."""

import logging
import os

import pytest

from nasnet_keras.cli import main
from nasnet_keras.commands import search


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


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a file that is always full")
def test_a_log_on_a_full_disk_is_said_in_one_line(capsys):
    logger = logging.getLogger("nasnet_keras")
    level, before = logger.level, list(logger.handlers)
    search._log_to("/dev/full")
    try:
        for number in range(3):
            logger.warning("trial %d has failed", number)
    finally:
        (handler,) = (handler for handler in logger.handlers if handler not in before)
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
    assert capsys.readouterr().err == "nasnet-keras: /dev/full cannot be written: [Errno 28] No space left on device\n"
