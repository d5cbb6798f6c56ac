"""A directory that holds another search: the line names the option that the user gave, and the way out."""

import shutil
from pathlib import Path

import pytest

from nasnet_keras.cli import main

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
