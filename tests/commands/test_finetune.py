"""What `finetune` and `train` refuse or say before anything is trained: whose a directory is, what an option is for."""

import json
import shutil
from pathlib import Path

import pytest

from nasnet_keras.cli import main, parser
from nasnet_keras.commands import datasets, finetune, predict, train

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a training, `net`, a fine-tuning, `mine`, and photographs; the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, copy in (("interrupted_training", "net"), ("finetuned", "mine"), ("photos", "photos")):
        shutil.copytree(FIXTURES / name, copy)
    shutil.copy("mine/model.keras", "net")
    shutil.copytree(FIXTURES / "search_finished/final", "found/final")
    Path("made").mkdir()
    shutil.copy("mine/model.keras", "made")
    Path("loop").symlink_to("loop")
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
        ("train --directory made", "`directory` made holds model.keras, which no training there has written. Choose"),
        ("finetune --genotype tiny --directory made", "`directory` made holds model.keras, which no training there"),
        ("finetune --model net --directory loop", "`directory` must be a folder that can be written"),
        ("train --directory found/final/found", "holds result.json, which no training there has written"),
        ("finetune --model net --directory new --epochs 1 --unfreeze cell_3", "`unfreeze` is for epochs in which"),
        ("finetune --model net --directory new --weights none --rate-factor 0.1", "`rate_factor` and a frozen"),
    ],
)
def test_what_would_go_over_another_model_or_not_take_place_is_refused(words, says, place, capsys):
    assert says in refused(capsys, f"{words} --data photos")


@pytest.mark.parametrize(
    ("words", "folder", "known"),
    [
        ("train --directory net", "net", {"`input_shape`": [8, 8, 3]}),
        ("train --directory net --sizes 8", "net", {"image sizes": [8], "image size": [8, 8]}),
        ("finetune --model zoo.keras --seed 3 --directory mine", "mine/head", {"`input_shape`": [8, 8, 3]}),
    ],
)
def test_another_size_of_images_is_refused_before_they_are_decoded(words, folder, known, place, monkeypatch, capsys):
    shutil.copy(FIXTURES / "zoo.keras", place)
    path = place / folder / "history.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "identity": {**state["identity"], **known}}))
    for command in (train, finetune):
        monkeypatch.setattr(command, "decode", lambda *_, **__: pytest.fail("images are decoded"))
    err = refused(capsys, f"{words} --data photos --recipe photos --batch-size 4 --image-size 16")
    assert "holds the state of another training: it has other" in err and "(by `image_size`" in err
    options = parser().parse_args(f"{words} --data photos --image-size 8".split())
    identity = datasets.size_identity(options)
    assert identity and identity.items() <= known.items()


def test_options_that_would_have_no_effect(place, capsys):
    assert "`matrix` means nothing without `json`" in refused(capsys, "evaluate --model net --data photos --matrix")
    labels = [{"name": name, "score": score} for name, score in (("cat", 0.9), ("dog", 0.8))]
    assert predict._best({"labels": labels, "classes": labels[:1]}) == "cat 90.00%   and 1 more"  # `--top 1`
    assert predict._best({"labels": labels, "classes": labels}) == "cat 90.00%   dog 80.00%"
    assert predict._best({"labels": [], "classes": labels[:1]}).startswith("no label reaches its threshold")
