"""The card and the curves beside a trained model: what they say, and whose files they do not replace."""

import json

import pytest
from test_outputs import NAMES, colours, data, network

from nasnet_keras.training import card, recipes
from nasnet_keras.training.transfer import fine_tune

RECIPE = recipes.recipe("scans", batch_size=16, augmentation="none")


def written(folder, **options):
    """What a training whose history lies in a folder leaves there, {name: text}."""
    card.write_card(folder, network(), data(), RECIPE, {"seed": 0}, **options)
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != "history.json"}


def test_the_card_names_the_epoch_whose_weights_there_are(tmp_path):
    """Of an epoch before `best from` none were kept, however good it was."""
    accuracies = [0.9, 0.5, 0.6, 0.4]
    epochs = [{"epoch": number, "loss": 1.0, "val_accuracy": value} for number, value in enumerate(accuracies, 1)]
    for since, best in ((None, 1), (2, 3)):
        state = {"epochs": epochs, **({} if since is None else {"best from": since})}
        (tmp_path / "history.json").write_text(json.dumps(state))
        assert f"| epochs | {best} of 4 |" in written(tmp_path, patience=3)["README.md"]


def test_a_card_and_a_picture_take_no_other_files_place(tmp_path, caplog):
    """Of a project's own `README.md`, say; what an earlier run has left is replaced, whatever it is called."""
    (tmp_path / "history.json").write_text(json.dumps({"epochs": [{"epoch": 1, "loss": 1.0}]}))
    mine = {"README.md": "My project", "curves.svg": "<svg/>"}
    assert set(written(tmp_path)) == set(mine) and "one" in written(tmp_path, words=["one"])["README.md"]
    assert not caplog.messages
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    for words in (["two"], ["three"]):
        found = written(tmp_path, words=words)
        assert {name: found.pop(name) for name in mine} == mine and set(found) == {"MODEL.md", "learning_curves.svg"}
        assert f"nasnet-keras {words[0]}" in found["MODEL.md"] and "(learning_curves.svg)" in found["MODEL.md"]
    assert [line.partition("stays: ")[2] for line in caplog.messages] == [
        "learning_curves.svg is written instead",
        "MODEL.md is written instead",
    ]
    (tmp_path / "MODEL.md").write_text("My model")
    assert written(tmp_path)["MODEL.md"] == "My model"
    assert caplog.messages[-1].endswith(
        "README.md was not left by a training and stays: so does MODEL.md, and none is written"
    )


@pytest.mark.usefixtures("eager")
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
def test_a_fine_tuning_in_python_leaves_a_card_too(tmp_path):
    """Without a command and a test, whose images nobody has named."""
    options = {"recipe": RECIPE, "epochs": 1, "unfreeze": "head", "seed": 7}
    fine_tune(network(), colours(48), colours(12, 1), NAMES, directory=tmp_path / "mine", **options)
    text, picture = ((tmp_path / "mine" / name).read_text() for name in ("README.md", "curves.svg"))
    assert "# mine\n" in text and "| validation | 12 |" in text and "| seed | 7 |" in text
    assert "| images | 48 train, 12 validation, 0 test |" in text and "| 3 classes | red, green, blue |" in text
    assert not any(
        word in text for word in ("## Command", "| test |", "digest of the images", "| data |", "test images")
    )
    assert picture.startswith("<svg") and "(curves.svg)" in text
    fine_tune(network(), colours(48), None, NAMES, directory=tmp_path / "unwatched", **{**options, "recipe": "scans"})
    text = (tmp_path / "unwatched/README.md").read_text()
    assert "## Figures" not in text and "| recipe | scans |" in text
