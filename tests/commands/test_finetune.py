"""What `finetune` and `train` refuse or say before anything is trained: whose a directory is, what an option is for."""

import shutil
from pathlib import Path

import pytest

from nasnet_keras.cli import main

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a training, `net`, a fine-tuning, `mine`, and photographs; the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, copy in (("interrupted_training", "net"), ("finetuned", "mine"), ("photos", "photos")):
        shutil.copytree(FIXTURES / name, copy)
    shutil.copy("mine/model.keras", "net")
    return tmp_path


def refused(capsys, words):
    """The one line that a command says, which ends with code 2 and changes nothing."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    code = main(words.split())
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and len(err.splitlines()) == 1, err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    return err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train --directory mine", "holds a fine-tuning"),
        ("train --directory ./mine/", "holds a fine-tuning"),
        ("finetune --model mine --directory net", "holds a training that is no fine-tuning"),
        ("finetune --genotype tiny --directory net", "holds a training that is no fine-tuning"),
        ("finetune --model mine/model.keras --directory mine", "another one than the model's"),
        ("finetune --model net --weights mine --directory mine", "another one than the model's"),
        ("finetune --genotype tiny --weights mine/model.keras --directory mine", "another one than the model's"),
    ],
)
def test_no_training_goes_over_another_ones_model(words, says, place, capsys):
    assert says in refused(capsys, f"{words} --data photos")
