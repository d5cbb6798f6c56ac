"""Tables of every format in every command, and several labels an image from the first look to the served answer."""

import base64
import gzip
import json
import os
import signal
from importlib import import_module

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from servers import PREDICT, Server
from written_tables import write

from nasnet_keras import load_model, read_image
from nasnet_keras.cli import main, parser
from nasnet_keras.commands import evaluate
from nasnet_keras.models.network import NASNet

pytestmark = [
    pytest.mark.usefixtures("eager"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`"),
]
SIZE = ["--repeats", "1", "--filters", "4", "--batch-size", "16"]
NAMES = ("blue", "green", "red")  # those of the channels, backwards


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Eighty images of 8x8 pixels in which each channel is bright or dark, and tables of what is bright."""
    root = tmp_path_factory.mktemp("labels")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    several, single = [], []
    for number in range(80):
        bright = rng.random(3) < 0.5
        pixels = rng.integers(0, 90, (8, 8, 3)) + 150 * bright[::-1]
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"images/{number:02}.png")
        several.append((f"images/{number:02}.png", "|".join(np.array(NAMES)[bright])))
        single.append((f"images/{number:02}.png", "blue" if bright[0] else "dark"))
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.parquet"):
        if name != "a.parquet" or pytest.importorskip("pyarrow"):
            write(root / name, single)
    write(root / "several.csv", [*several, ("images/gone.png", "red")])
    return root


def call(capsys, *words):
    capsys.readouterr()
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def found(words):
    """The data that a command finds, before it loads a framework or trains anything."""
    options = parser().parse_args([str(word) for word in words])
    checked = import_module(f"nasnet_keras.commands.{options.command}").check(options)
    return next(checked[name] for name in ("data", "labelled", "calibration") if checked.get(name) is not None)


@pytest.mark.parametrize("command", ["data", "train", "finetune", "evaluate", "search", "export", "calibration"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_a_table_of_every_format_in_every_command(name, command, place, tmp_path, monkeypatch):
    monkeypatch.setattr("nasnet_keras.commands.export.check_installed", lambda *_: None)  # only data are looked for
    network = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=2)
    network.class_names = ("blue", "dark")
    if command not in ("data", "train", "search"):
        network.save(tmp_path / "net.keras")
    data = found(
        {
            "data": ["data", place / name],
            "train": ["train", "--data", place / name, "--directory", tmp_path / "new"],
            "finetune": ["finetune", "--model", tmp_path / "net.keras", "--data", place / name,
                         "--directory", tmp_path / "new"],
            "evaluate": ["evaluate", "--model", tmp_path / "net.keras", "--data", place / name, "--split", "all"],
            "search": ["search", "--data", place / name, "--directory", tmp_path / "new"],
            "export": ["export", "--model", tmp_path / "net.keras", "--output", tmp_path / "new", "--evaluate",
                       place / name, "--label-column", "label"],
            "calibration": ["export", "--model", tmp_path / "net.keras", "--output", tmp_path / "new", "--format",
                            "litert", "--calibration", place / name],
        }[command]
    )  # fmt: skip
    splits = [split for split in (data.train, data.validation, data.test) if len(split)]
    assert data.class_names == ("blue", "dark") and sum(map(len, splits)) == 80 and not data.left_out
    assert len(splits) == (1 if command in ("evaluate", "export", "calibration") else 3)
    for split in splits:
        blue = np.asarray(split.images[np.arange(len(split))])[..., 2].mean((1, 2)) > 120
        np.testing.assert_array_equal(split.labels, np.where(blue, 0, 1))


def test_a_table_is_trained_on_and_measured(place, tmp_path, capsys):
    data = ["--data", place / "a.csv"]
    net = [*SIZE, "--epochs", 1]
    code, out, err = call(capsys, "train", "--genotype", "tiny", *data, *net, "--directory", tmp_path / "net")
    assert code == 0 and err == "" and "test accuracy" in out
    code, out, _ = call(capsys, "evaluate", "--model", tmp_path / "net", *data, "--json")
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and figures["images"] > 8 and "confusion" not in figures
    code, out, _ = call(capsys, "evaluate", "--model", tmp_path / "net", *data, "--json", "--matrix")
    matrix = json.loads(out.splitlines()[-1])["confusion"]
    assert sum(map(sum, matrix)) == figures["images"] and (tmp_path / "net/reliability.svg").exists()
    code, _, err = call(capsys, "train", "--genotype", "tiny", "--data", place / "several.csv", "--separator", "|",
                        *net, "--directory", tmp_path / "net")  # fmt: skip
    assert code == 2 and "was begun with other images" in err


def test_several_labels_from_the_first_look_to_the_served_answer(place, tmp_path, capsys):
    data = ["--data", place / "several.csv", "--separator", "|"]
    code, out, _ = call(capsys, "data", *data[1:], "--output", tmp_path / "sheet.html", "--json")
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and [row["name"] for row in figures["classes"]] == list(NAMES)
    assert figures["left_out"] == {"file that is not there": ["images/gone.png"]}
    net = ["--epochs", 3, "--learning-rate", 0.1, *SIZE, "--batch-size", 8]
    code, out, err = call(capsys, "finetune", "--genotype", "tiny", *data, *net, "--augmentation", "none",
                          "--class-weights", "balanced", "--directory", tmp_path / "net")  # fmt: skip
    assert code == 0 and "test mean average precision" in out and err.count("not used") == 1
    model = load_model(tmp_path / "net")
    assert model.architecture.classifier_activation == "sigmoid" and len(model.thresholds) == 3

    card = (tmp_path / "net/README.md").read_text()
    assert "mean average precision" in card and "label_accuracy" not in card

    worst = ["--worst", tmp_path / "worst", "--json"]
    code, out, _ = call(capsys, "evaluate", "--model", tmp_path / "net", *data, *worst)
    figures = json.loads(out.splitlines()[-1])
    wrong = round((1 - figures["exact"]) * figures["images"])
    assert len(figures["worst"]) == wrong == (tmp_path / "worst/worst.html").read_text("utf-8").count("<img")
    assert all(row["class"] != row["taken_for"] and row["image"].endswith(".png") for row in figures["worst"])
    assert code == 0 and figures["mean_average_precision"] > 0.7 and figures["images"] > 5
    assert {row["name"] for row in figures["classes"]} == set(NAMES)
    assert [row["threshold"] for row in figures["classes"]] == pytest.approx(model.thresholds)
    assert (tmp_path / "net/precision_recall.svg").exists() and (tmp_path / "net/reliability.svg").exists()

    files = sorted((place / "images").iterdir())[:20]
    pixels = np.stack([read_image(file) for file in files])
    chances = np.asarray(model(pixels / np.float32(127.5) - 1, training=False))
    expected = [
        {name for name, own, cut in zip(NAMES, row, model.thresholds, strict=True) if own >= cut} for row in chances
    ]
    code, out, _ = call(capsys, "predict", "--model", tmp_path / "net", *files, "--json", "--top", 1)
    rows = json.loads(out.splitlines()[-1])["predictions"]
    assert code == 0 and [{one["name"] for one in row["labels"]} for row in rows] == expected
    assert len(set(map(len, expected))) > 1
    code, out, _ = call(capsys, "predict", "--model", tmp_path / "net", files[0], "--threshold", 0, "--json")
    (row,) = json.loads(out.splitlines()[-1])["predictions"]
    assert len(row["labels"]) == 3

    tf.config.run_functions_eagerly(False)
    try:
        code, _, _ = call(capsys, "export", "--model", tmp_path / "net", "--output", tmp_path / "served/net")
        assert code == 0
    finally:
        tf.config.run_functions_eagerly(True)
    server = Server(tmp_path / "served/net")
    try:
        instances = [{"image_bytes": {"b64": base64.b64encode(file.read_bytes()).decode()}} for file in files]
        body = json.dumps({"signature_name": "image_bytes", "instances": instances})
        code, told = server.ask("POST", PREDICT, body)
    finally:
        assert server.end(signal.SIGTERM) == 0
    assert code == 200
    for answer, row, chance in zip(told["predictions"], rows, chances, strict=True):
        assert [name for name in answer["labels"] if name] == [one["name"] for one in row["labels"]]
        assert answer["labels"] == sorted(answer["labels"], key=lambda name: not name)
        np.testing.assert_allclose(answer["probabilities"], chance, atol=1e-4)
        present = [one["score"] for one in row["labels"]]
        np.testing.assert_allclose(answer["label_scores"][: len(present)], present, atol=1e-4)

    code, _, err = call(capsys, "evaluate", "--model", tmp_path / "net", "--data", place / "a.csv")
    assert code == 2 and "They differ in" in err.splitlines()[-1]


@pytest.mark.long
def test_a_search_is_for_the_mean_average_precision(place, tmp_path, capsys):
    words = ["--data", place / "several.csv", "--separator", "|", *SIZE, "--blocks", 1, "--max-trials", 1]
    code, out, err = call(capsys, "search", *words, "--final-epochs", 1, "--directory", tmp_path / "found")
    assert code == 0 and err.count("not used") == 1 and "best validation mean average precision" in out
    rows = [json.loads(path.read_text()) for path in (tmp_path / "found/final").glob("*/result.json")]
    assert len(rows) == 3 and all(row["measure"] == "mean_average_precision" for row in rows)
    assert load_model(tmp_path / "found/final/found").thresholds is not None


HOSTILE = {
    "a picture.csv": lambda path: Image.new("RGB", (9, 9)).save(path, "PNG"),
    "an archive.csv": lambda path: path.write_bytes(gzip.compress(b"file,label\n" * 99)),
    "a parquet.parquet": lambda path: path.write_bytes(b"PAR1" + bytes(99) + b"PAR1"),
    "labels in a cell.csv": lambda path: path.write_text("file,label\nimages/00.png," + "a|" * 1_000_000),
    "labels in a list.jsonl": lambda path: path.write_text(
        json.dumps({"file": "images/00.png", "label": list(range(1_000_000))})
    ),
    "labels in rows.csv": lambda path: path.write_text(
        "file,label\n" + "".join(f"images/{n % 80:02}.png,{n}\n" for n in range(60_000))
    ),
    "columns.csv": lambda path: path.write_text(",".join(map(str, range(100_000))) + "\n"),
    "a way out.csv": lambda path: write(path, [("../../etc/passwd", "a")]),
    "a way out by backslashes.csv": lambda path: write(path, [("..\\..\\etc\\passwd", "a")]),
    "an absolute path.csv": lambda path: write(path, [("/etc/passwd", "a")]),
    "a cycle.csv": lambda path: path.symlink_to(path.name),
    "files in a cycle.csv": lambda path: ((path.parent / "loop").symlink_to("loop"), write(path, [("loop/a", "a")])),
    "a formula.csv": lambda path: write(path, [('=HYPERLINK("http://x")', "=1+1")]),
    "a pipe.csv": os.mkfifo,
    "a folder.csv": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_table_is_one_line(name, place, tmp_path, capsys):
    (tmp_path / "images").symlink_to(place / "images")
    HOSTILE[name](tmp_path / name)
    words = ["--data", tmp_path / name, *["--separator", "|"] * ("labels" in name)]
    code, out, err = call(capsys, "train", *words, "--directory", tmp_path / "net")
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and len(err) < 1000
    assert not (tmp_path / "net").exists()


def test_options_of_tables_are_refused_where_there_is_none(tmp_path, capsys):
    for words, says in (
        (["--separator", "|"], "are for a table. Received: digits"),
        (["--separator", "~"], "are for a table. Received: digits"),
        (["--data", tmp_path / "gone.csv"], "which does not exist"),
        (["--label-column", "a", "a", "--data", tmp_path / "gone.csv"], "different columns"),
    ):
        code, _, err = call(capsys, "train", *words, "--directory", tmp_path / "net")
        assert code == 2 and len(err.splitlines()) == 1 and says in err


def test_a_separator_that_looks_like_a_home_is_one(place, tmp_path, capsys):
    table = (place / "several.csv").read_text().replace("|", "~")
    (tmp_path / "t.csv").write_text(table)
    (tmp_path / "images").symlink_to(place / "images")
    code, out, _ = call(
        capsys, "data", tmp_path / "t.csv", "--separator", "~", "--json", "--output", tmp_path / "a.html"
    )
    assert code == 0 and sorted(row["name"] for row in json.loads(out.splitlines()[-1])["classes"]) == [*NAMES]


def test_a_table_may_lack_labels_of_the_model_that_is_measured(place, tmp_path, capsys):
    names = ("red", "white", "blue", "green")
    network = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 4}
    model = NASNet(
        "tiny", **network, class_names=names, classifier_activation="sigmoid", thresholds=(0.5, 0.5, 0.5, 0.5)
    )
    model.save(tmp_path / "net.keras")
    words = ["--data", place / "several.csv", "--separator", "|", "--split", "all"]
    data = found(["evaluate", "--model", tmp_path / "net.keras", *words])
    assert "has no images of white, which count as 0 images" in capsys.readouterr().err
    assert data.class_names == names and data.test.labels.shape == (80, 4) and not data.test.labels[:, 1].any()
    for number, path in enumerate(data.test.images.sources):
        bright = read_image(path).min((0, 1)) >= 150
        assert data.test.labels[number, [0, 3, 2]].tolist() == bright.tolist()


def test_labels_that_were_not_taken_apart_are_refused_with_the_way(place, tmp_path, capsys):
    network = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}
    several = {"class_names": NAMES, "classifier_activation": "sigmoid", "thresholds": (0.5, 0.5, 0.5)}
    NASNet("tiny", **network, **several).save(tmp_path / "net.keras")
    code, _, err = call(capsys, "evaluate", "--model", tmp_path / "net.keras", "--data", place / "several.csv")
    assert code == 2 and "They differ in: " in err
    assert err.rstrip().endswith("are one each: --separator '|' makes them several")


def test_the_picture_is_called_by_what_it_is_of(place, tmp_path, monkeypatch, capsys):
    """Labels of which each image has one become the classes of a model that tells one."""
    monkeypatch.chdir(tmp_path)
    network = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 2}
    NASNet("tiny", **network, class_names=("blue", "dark")).save("net.keras")
    words = ["evaluate", "--model", "net.keras", "--data", place / "a.csv", "--separator", "|", "--json"]
    code, out, err = call(capsys, *words)
    assert code == 0 and "each image has exactly one of the labels: that is its class" in err
    assert json.loads(out.splitlines()[-1])["output"] == "net-confusion.svg"
    assert "What is taken for what: net-confusion.svg" in out
    assert {path.name for path in tmp_path.glob("*.svg")} == {"net-confusion-reliability.svg", "net-confusion.svg"}


def test_of_more_labels_than_are_drawn_it_is_said_which(tmp_path, capsys):
    names = [f"label {place:02}" for place in range(30)]
    rows = [{"name": name, "wrong": place} for place, name in enumerate(names)]
    curves = {name: [(0.0, 1.0), (1.0, 0.5)] for name in names}
    figures = {"classes": rows, "curves": curves, "calibration": {"bins": []}}
    evaluate._draw(figures, names, "photos", (tmp_path / "a.svg", tmp_path / "b.svg"))
    picture, said = (tmp_path / "a.svg").read_text(), capsys.readouterr().out
    assert "label 29" in picture and "label 20" in picture and "label 19" not in picture
    for told in (picture, said):
        assert "the 10 of 30 labels with the most wrong images" in told
