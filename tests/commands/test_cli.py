"""The command line as a user meets it: results, files, exit codes, one line for bad input."""

import json
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module

import keras
import numpy as np
import pytest
from checks import red_and_blue
from PIL import Image

from nasnet_keras import load_model, read_image
from nasnet_keras.cli import COMMANDS, main
from nasnet_keras.genotype import load_genotype
from nasnet_keras.models.network import NASNet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of two colours in two sizes."""
    root = tmp_path_factory.mktemp("photos")
    red_and_blue(root, lambda index: (9 + index % 2, 11))
    return root


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "net"
    size = ["--repeats", "1", "--filters", "4", "--image-size", "8", "--batch-size", "4"]
    code = main(
        ["train", "--genotype", "tiny", "--data", str(folder), *size, "--epochs", "12", "--directory", str(directory)]
    )
    assert code == 0
    return directory


def fresh(code, *words):
    """What a new process prints."""
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True).stdout


def refused_with_a_framework(rows):
    """The first command that is not refused, or not before a framework is loaded, in a list."""
    code = (
        "import json, sys\n"
        "from nasnet_keras.cli import main\n"
        "def code(words):\n"
        "    try: return main(words)\n"
        "    except SystemExit as error: return error.code\n"
        "done = ((words, code(words), {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules))\n"
        "        for words in json.loads(sys.argv[1]))\n"
        "print(json.dumps([words for words, code, loaded in done if code != 2 or loaded][:1]))"
    )
    return json.loads(fresh(code, json.dumps(rows)).splitlines()[-1])


def call(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_train_evaluate_predict(trained, folder, capsys):
    code, out, _ = call(capsys, "evaluate", "--model", trained, "--data", folder, "--json")
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and figures["accuracy"] >= 0.75 and figures["images"] >= 2
    assert [row["name"] for row in figures["classes"]] == ["blue", "red"] and "precision" in out
    assert figures["output"] == str(trained / "confusion.svg")
    assert (trained / "confusion.svg").read_text().startswith("<svg")
    code, out, _ = call(
        capsys, "predict", "--model", trained, folder / "red" / "0.png", folder / "blue" / "1.png", "--json"
    )
    answers = json.loads(out.splitlines()[-1])["predictions"]
    assert code == 0
    assert [len(answer["classes"]) for answer in answers] == [2, 2]
    shown = np.stack([read_image(folder / name, (8, 8)) for name in ("red/0.png", "blue/1.png")])
    expected = np.asarray(load_model(trained)(shown / np.float32(127.5) - 1.0, training=False))
    for answer, scores in zip(answers, expected, strict=True):
        found = {one["name"]: one["score"] for one in answer["classes"]}
        assert [found["blue"], found["red"]] == pytest.approx(list(scores), abs=1e-5)
        assert answer["classes"][0]["score"] == max(found.values())


def test_a_card_and_the_curves_lie_beside_a_trained_model(trained, folder, capsys):
    _, out, _ = call(capsys, "evaluate", "--model", trained, "--data", folder, "--json")
    figures = json.loads(out.splitlines()[-1])
    card = (trained / "README.md").read_text()
    assert f"| test | {figures['images']} | {100 * figures['accuracy']:.2f}% | {figures['loss']:.4f} |" in card
    assert f"nasnet-keras train --genotype tiny --data {folder} --repeats 1" in card
    digest = json.loads((trained / "data.json").read_text())["images"]
    rows = ("| 2 classes | blue, red |", digest, "| learning\\_rate | 0.05 |", "| optimizer | sgd |", "| seed | 0 |")
    assert all(row in card for row in rows)
    history = json.loads((trained / "history.json").read_text())["epochs"]
    assert f"| {100 * history[-1]['val_accuracy']:.2f}% | — |" in card
    picture = (trained / "curves.svg").read_text()
    assert picture.startswith("<svg") and "12 epochs" in picture and "(curves.svg)" in card


def settled(*words):
    """The options of `train` with what is not given settled, and their recipe."""
    from nasnet_keras.cli import parser
    from nasnet_keras.commands import train
    from nasnet_keras.commands.options import given_recipe

    options = parser().parse_args(["train", "--directory", "new", *words])
    train._settle(options)
    return vars(options), given_recipe(options)


def test_the_recipe_of_imagenet_brings_its_network():
    options, recipe = settled("--recipe", "imagenet", "--filters", "8", "--no-auxiliary-head")
    assert (options["repeats"], options["filters"], options["stem"], options["epochs"]) == (4, 8, "imagenet", 312)
    assert (options["image_size"], options["dropout"], options["weight_decay"]) == (224, 0.5, 4e-5)
    assert options["batch_norm_momentum"] == 0.9997 and options["auxiliary_head"] is False
    assert (recipe.warmup_epochs, recipe.moving_average, recipe.label_smoothing) == (5, 0.9999, 0.1)
    assert settled("--recipe", "imagenet")[0]["auxiliary_head"] is True
    assert settled("--recipe", "imagenet", "--moving-average", "0")[1] == replace(recipe, moving_average=None)
    options, recipe = settled("--optimizer", "adamw", "--gradient-accumulation", "4")
    assert (options["repeats"], options["filters"], options["stem"], options["epochs"]) == (2, 16, "cifar", 20)
    assert options["image_size"] is None and options["auxiliary_head"] is False and options["dropout"] == 0
    assert (recipe.optimizer, recipe.learning_rate, recipe.gradient_accumulation) == ("adamw", 0.001, 4)
    assert settled("--hours", "2")[0]["epochs"] == 1000 and settled("--hours", "2", "--epochs", "9")[0]["epochs"] == 9


@pytest.mark.long
def test_the_recipe_of_imagenet_trains(folder, tmp_path, capsys):
    """In short: a small network, images of 72 pixels, one epoch."""
    size = ["--genotype", "tiny", "--repeats", 1, "--filters", 4, "--image-size", 72, "--batch-size", 4, "--epochs", 1]
    place = ["--data", folder, "--directory", tmp_path / "net", "--recipe", "imagenet", "--json"]
    code, out, err = call(capsys, "train", *size, *place)
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["images"] >= 2
    card = (tmp_path / "net" / "README.md").read_text()
    assert "| moving\\_average | 0.9999 |" in card and "| optimizer | rmsprop |" in card


@pytest.mark.long
def test_evaluate_takes_the_images_that_the_training_did_not_see(folder, tmp_path, capsys):
    size = ["--repeats", 1, "--filters", 4, "--image-size", 8, "--batch-size", 4, "--epochs", 1]
    made = [*size, "--genotype", "tiny", "--data", folder, "--directory", tmp_path / "net"]
    code, _, _ = call(capsys, "train", *made, "--seed", 3)
    assert code == 0
    figures = []
    for further in ([], ["--seed", 3], ["--seed", 4]):
        code, out, _ = call(capsys, "evaluate", "--model", tmp_path / "net", "--data", folder, *further, "--json")
        assert code == 0
        figures.append(json.loads(out.splitlines()[-1]))
    assert figures[0] == figures[1] == figures[2]  # by the directory, whatever the seed
    history = tmp_path / "net" / "history.json"
    kept = history.read_text()
    for content in ('{"identity": {"seed": "abc"}}', '{"identity": []}', 99999 * "["):  # as if there were none
        history.write_text(content)
        code, out, _ = call(capsys, "evaluate", "--model", tmp_path / "net", "--data", folder, "--limit", 1)
        assert code == 0 and out.startswith("accuracy")
    code, _, err = call(capsys, "train", *made, "--seed", 3)
    assert code == 2 and len(err.splitlines()) == 1
    history.write_text(kept)
    words = ["--split", "train", "--limit", 5, "--output", tmp_path / "new" / "five.svg", "--json"]
    code, out, _ = call(capsys, "evaluate", "--model", tmp_path / "net", "--data", folder, *words)
    assert code == 0 and json.loads(out.splitlines()[-1])["images"] == 5 and (tmp_path / "new" / "five.svg").exists()
    for further, named in (
        (["--seed", 4], "other seed"),
        (["--seed", 3, "--learning-rate", 0.5], "other `learning_rate`"),
        (["--seed", 3, "--recipe", "photos"], "another training"),
    ):
        words = [str(word) for word in ["train", *made, *further]]
        code, _, err = call(capsys, *words)
        assert code == 2 and named in err and "Choose another directory" in err and len(err.splitlines()) == 1
        assert refused_with_a_framework([words]) == []


@pytest.mark.long
def test_the_same_answers_from_a_network_that_scales_images_itself(trained, folder, tmp_path, capsys):
    model = keras.saving.load_model(trained / "model.keras")
    config = model.get_config()
    inside = NASNet.from_config({**config, "include_preprocessing": True})
    inside.set_weights(model.get_weights())
    inside.save(tmp_path / "inside.keras")
    commands = [("predict", folder / "red" / "0.png"), ("evaluate", "--data", folder, "--output", tmp_path / "out.svg")]
    for name, *words in commands:
        answers = []
        for file in (trained / "model.keras", tmp_path / "inside.keras"):
            code, out, _ = call(capsys, name, "--model", file, *words, "--json")
            assert code == 0
            answers.append(json.loads(out.splitlines()[-1]))
        if name == "evaluate":
            assert answers[0]["loss"] == pytest.approx(answers[1]["loss"], rel=1e-4)
        else:
            scores = [[one["score"] for one in answer["predictions"][0]["classes"]] for answer in answers]
            assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def strange(root):
    """Two classes of images of every kind that people have in their folders."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (9, 12, 3), dtype="uint8")
    photo = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6  # a camera held sideways
    kinds = {
        "grey.png": (photo.convert("L"), {}),
        "deep.png": (Image.fromarray(pixels[..., 0].astype("uint16") * 256), {}),
        "print.jpg": (photo.convert("CMYK"), {}),
        "clear.png": (photo.convert("RGBA"), {}),
        "turned.jpg": (photo, {"exif": turned}),
        "palette.gif": (photo.convert("P"), {}),
    }
    for name in ("one", "two"):
        (root / name).mkdir(parents=True)
        for file, (image, options) in kinds.items():
            image.save(root / name / file, **options)
    return root


@pytest.mark.long
def test_finetune_takes_a_trained_directory_and_any_image(trained, tmp_path, capsys):
    photos = strange(tmp_path / "photos")
    options = ["--epochs", 2, "--batch-size", 4, "--class-weights", "balanced", "--directory", tmp_path / "mine"]
    code, out, err = call(capsys, "finetune", "--model", trained, "--data", photos, *options, "--json")
    figures = json.loads(out.splitlines()[-1])
    parts, classes = err.splitlines()  # the same images lie in both classes
    assert code == 0 and "equal one in another part" in parts and "equal one in another class" in classes
    assert figures["images"] >= 2
    code, out, _ = call(capsys, "predict", "--model", tmp_path / "mine", photos / "one" / "turned.jpg", "--json")
    names = {row["name"] for row in json.loads(out.splitlines()[-1])["predictions"][0]["classes"]}
    assert code == 0 and names == {"one", "two"}


@pytest.mark.long
def test_a_found_cell_goes_to_larger_images_with_one_command(folder, tmp_path, capsys):
    """The paper's transfer: searched on small images, stacked deeper and wider for larger ones."""
    load_genotype("tiny").save(tmp_path / "best_genotype.json")
    size = ["--repeats", 2, "--filters", 8, "--stem", "imagenet", "--image-size", 32, "--batch-size", 8]
    code, _, err = call(
        capsys,
        *["train", "--genotype", tmp_path / "best_genotype.json", "--data", folder, *size],
        *["--recipe", "photos", "--epochs", 1, "--directory", tmp_path / "large"],
    )
    assert code == 0 and err == ""

    config = load_model(tmp_path / "large").get_config()
    assert (config["stem"], config["repeats"], config["filters"]) == ("imagenet", 2, 8)


def test_search_goes_on_and_ends_with_a_comparison(tmp_path, capsys):
    size = ["--blocks", "1", "--filters", "4", "--limit", "120", "--directory", tmp_path / "s"]
    code, out, err = call(capsys, "search", "--max-trials", "1", "--no-final", *size)
    assert code == 0 and "1 trials, 0 failed" in out
    assert err.count("\n") == 1 and "with --max-trials 1 this is a random search" in err
    code, out, _ = call(capsys, "search", "--max-trials", "2", "--final-epochs", "1", *size, "--json")
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and figures["trials"] == 2
    assert [row["network"] for row in figures["final"]] == ["found", "nasnet_a", "random"]
    code, out, _ = call(capsys, "report", tmp_path / "s")
    assert code == 0 and (tmp_path / "s" / "report.html").exists()
    rows = [["search", *map(str, size), *further] for further in (["--seed", "1"], ["--filters", "5"])]
    before = (tmp_path / "s" / "trials.jsonl").read_bytes()
    for words, named in zip(rows, ("`--seed` must be 0, as in the search", "another `filters`: 4"), strict=True):
        code, _, err = call(capsys, *words)
        assert code == 2 and named in err and len(err.splitlines()) == 1
    assert refused_with_a_framework(rows) == [] and (tmp_path / "s" / "trials.jsonl").read_bytes() == before
    for file in ("children.json", "search.json"):  # looked at first, and set aside only by the search itself
        (tmp_path / "s" / file).write_text(99999 * "[")
    assert refused_with_a_framework([[*rows[0], "--limit", "0"]]) == []
    assert not [*(tmp_path / "s").glob("*.damaged")]
    code, out, _ = call(capsys, "search", "--max-trials", "2", "--no-final", *size)
    assert code == 0 and out.startswith("2 trials") and len([*(tmp_path / "s").glob("*.damaged")]) == 2
    # The found cell builds a network elsewhere and predicts.
    genotype = load_genotype(tmp_path / "s" / "best_genotype.json")
    net = NASNet(genotype, repeats=1, filters=4, stem="cifar", input_shape=(16, 16, 3), classes=2)
    assert np.asarray(net(np.zeros((1, 16, 16, 3), "float32"))).shape == (1, 2)


def test_plot_and_list(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(capsys, "plot", "nasnet_a", "--output", tmp_path / "a.svg")
    assert code == 0 and (tmp_path / "a.svg").read_text().startswith("<svg")
    code, out, _ = call(capsys, "list", "--json")
    assert code == 0 and "nasnet_a" in json.loads(out.splitlines()[-1])["genotypes"]
    assert "NASNetCIFAR(weights=None)" in out and "…" not in out  # no name is cut


def spoilt(folder, root, what):
    """A copy of the photographs with one thing wrong."""
    import shutil

    copy = root / what
    shutil.copytree(folder, copy)
    if what == "empty":
        (copy / "green").mkdir()
    elif what == "text":
        (copy / "red" / "notes.jpg").write_text("no image")
    elif what == "single":
        shutil.rmtree(copy / "blue")
    return copy


BAD = [
    (["search", "--data", "{root}/missing"], "missing"),
    (["search", "--data", "{empty}", "--strict"], "green"),
    (["search", "--data", "{text}", "--strict"], "notes.jpg"),
    (["search", "--data", "{single}"], "class"),
    (["search", "--max-trials", "0"], "max_trials"),
    (["search", "--validation", "0", "--directory", "{root}/s"], "validation"),
    (["train", "--validation", "1", "--directory", "{root}/t"], "validation"),
    (["train", "--sizes", "8", "0", "--directory", "{root}/t"], "sizes"),
    (["search", "--directory", "/proc/nowhere"], "directory"),
    (["search", "--data", "tfds:no_such_set"], "no_such_set"),
    (["search", "--blocks", "0"], "blocks"),
    (["search", "--recipe", "best"], "recipe"),
    (["search", "--filters", "0"], "filters"),
    (["search", "--epochs", "0"], "epochs"),
    (["search", "--final-epochs", "0"], "final_epochs"),
    (["search", "--hours", "0"], "hours"),
    (["search", "--retrain", "-1"], "retrain"),
    (["search", "--max-parameters", "0"], "max_parameters"),
    (["search", "--target-parameters", "9", "--target-multiply-adds", "9"], "target_parameters"),
    (["search", "--target-parameters", "9", "--target-exponent", "1"], "exponent"),
    (["search", "--start-from", "{root}/missing"], "missing"),
    (["search", "--try", "nasnet_z"], "`try`"),
    (["search", "--prefer", "cheapest"], "`prefer`"),
    (["search", "--try", "nasnet_a", "--try", "{root}/broken.json"], "broken.json"),
    (["search", "--workers", "-1"], "workers"),
    (["search", "--workers", "2", "--role", "worker"], "workers"),
    (["search", "--role", "chief", "--address", "nowhere"], "address"),
    (["search", "--role", "worker", "--name", "my_chief"], "name"),
    (["search", "--role", "worker", "--address", "127.0.0.1:9", "--patience", "0.5"], "no chief answers"),
    (["search", "--role", "chief", "--address", "0.0.0.0:0"], "`secret`"),
    (["search", "--role", "worker", "--address", "10.0.0.7:7877"], "`secret`"),
    (["search", "--role", "chief", "--secret", "{root}/missing"], "`secret`"),
    (["search", "--secret", "{root}/broken.json"], "`secret`"),
    (["search", "--engine", "dask"], "`engine`"),
    (["search", "--engine", "ray://nowhere"], "`engine`"),
    (["search", "--engine", "ray", "--role", "worker"], "`role`"),
    (["search", "--engine", "ray", "--child-gpus", "1.5"], "`child_gpus`"),
    (["search", "--child-cpus", "2"], "`child_cpus`"),
    (["train", "--epochs", "0", "--directory", "{root}/t"], "epochs"),
    (["train", "--learning-rate", "0", "--directory", "{root}/t"], "learning_rate"),
    (["train", "--genotype", "{root}/broken.json", "--directory", "{root}/t"], "broken.json"),
    (["train", "--genotype", "{root}/unknown.json", "--directory", "{root}/t"], "conv_9x9"),
    (["train", "--genotype", "nasnet_z", "--directory", "{root}/t"], "nasnet_z"),
    (["evaluate", "--model", "{root}/missing"], "model"),
    (["finetune", "--directory", "{root}/t"], "either `model` or `genotype`"),
    (["finetune", "--model", "{root}/missing", "--directory", "{root}/t"], "missing"),
    (["finetune", "--model", "{root}/t", "--directory", "{root}/t"], "another one than the model's"),
    (["finetune", "--model", "PNASNetMobile", "--directory", "{root}/t"], "none of PNASNetMobile"),
    (["predict", "--model", "PNASNetMobile", "{text}/red/0.png"], "Received: 'PNASNetMobile'"),
    (["evaluate", "--model", "PNASNetLarge"], "`model` must be a trained one"),
    (["export", "--model", "PNASNetMobile", "--output", "{root}/o"], "`model` must be a trained one"),
    (["finetune", "--genotype", "tiny", "--batch-norm", "often", "--directory", "{root}/t"], "batch_norm"),
    (["finetune", "--genotype", "tiny", "--recipe", "best", "--directory", "{root}/t"], "recipe"),
    (["finetune", "--genotype", "tiny", "--unfreeze", "cell_1", "--directory", "{root}/t"], "trained weights"),
    (["finetune", "--genotype", "tiny", "--data", "{empty}", "--strict", "--directory", "{root}/t"], "green"),
    (["finetune", "--genotype", "tiny", "--data", "{text}", "--directory", "{root}/t", "--strict"], "1 broken file"),
    (["finetune", "--genotype", "tiny", "--data", "{single}", "--directory", "{root}/t"], "two classes"),
    (["predict", "--model", "{root}/missing", "a.png"], "model"),
    (["plot", "{root}/broken.json"], "broken.json"),
    (["report", "{root}"], "trials.jsonl"),
    (["search", "--lease", "0"], "lease"),
    (["search", "--seed", "-1"], "seed"),
    (["search", "--limit", "0"], "limit"),
    (["search", "--image-size", "0"], "image_size"),
    (["search", "--controller-batch", "0"], "`controller_batch`"),
    (["search", "--controller", "random", "--controller-batch", "5"], "`controller_batch` is for the controller rl"),
    (["search", "--median-stop"], "`median_stop` needs `epochs` above 1"),
    (["search", "--evaluation", "shared", "--epochs", "2"], "`epochs` must be left out where `evaluation` is shared"),
    (["search", "--max-trials", "1", "--try", "nasnet_a", "--try", "tiny"], "`max_trials` must be at least 2"),
    (["train", "--sizes", "8", "16", "--auxiliary-head", "--directory", "{root}/t"], "`sizes` must be left out"),
    (["search", "--screen", "naswot", "--recipe", "imagenet"], "plain gradient descent"),
    (["train", "--stem", "imagenet", "--directory", "{root}/t"], "input_shape"),
    (["train", "--drop-path", "1", "--directory", "{root}/t"], "drop_path"),
    (["train", "--weight-decay", "-1", "--directory", "{root}/t"], "weight_decay"),
    (["train", "--dtype", "float33", "--directory", "{root}/t"], "float33"),
    (["train", "--directory", "/proc/nowhere"], "directory"),
    (["evaluate", "--model", "NASNetCIFAR", "--data", "{root}/missing"], "missing"),
    (["predict", "--model", "NASNetCIFAR", "{root}/missing.png"], "missing.png"),
    (["predict", "--model", "NASNetCIFAR", "--top", "0", "{text}/red/0.png"], "top"),
    (["finetune", "--model", "NASNetMobile", "--weights", "none such", "--directory", "{root}/t"], "none such"),
    (["finetune", "--model", "NASNetCIFAR", "--repeats", "5", "--directory", "{root}/t"], "repeats"),
    (["finetune", "--model", "NASNetCIFAR", "--head-epochs", "99", "--directory", "{root}/t"], "head_epochs"),
    (["finetune", "--model", "NASNetCIFAR", "--dropout", "2", "--directory", "{root}/t"], "dropout"),
    (["finetune", "--model", "NASNetCIFAR", "--unfreeze", "cell_99", "--directory", "{root}/t"], "cell_99"),
    (["export", "--model", "{root}/missing", "--output", "{root}/o"], "missing"),
    (["export", "--model", "NASNetCIFAR", "--output", "{root}/o", "--version", "0"], "version"),
    (["export", "--model", "NASNetCIFAR", "--output", "{root}", "--format", "onnx"], "must not exist yet"),
    (["serve", "--model", "{root}/missing"], "no such folder"),
    (["serve", "--model", "{root}", "--timeout", "0"], "seconds"),
    (["serve", "--model", "{root}", "--max-queue", "0"], "`max_queue`"),
    (["serve", "--model", "{root}", "--max-queue", "4", "--max-batch", "16"], "`max_batch` must be at most"),
    (["serve", "--model", "{root}", "--max-queue", "4", "--max-batch=8"], "`max_batch` must be at most 4"),
    (["serve", "--model", "{root}", "--key-file", ""], "`key_file` must be more than an empty text"),
    (["serve", "--model", "{root}", "--name", ""], "`name` must be"),
    (["train", "--directory", ""], "`directory` must be"),
    (["search", "--start-from", ""], "`start_from` must be"),
    (["finetune", "--genotype", "tiny", "--directory", "{root}/t", "--grey-range", ""], "`grey_range` must be"),
    (["plot", "nasnet_a", "--output", ""], "`output` must be"),
    (["search", "--target-parameters", "0"], "`target_parameters`"),
    (["search", "--failure-reward", "nan"], "`failure_reward`"),
    (["search", "--stem", "imagenet"], "input_shape"),
    (["search", "--stem", "imagenet", "--filters", "2"], "filters"),
    (["search", "--hours", "nan"], "hours"),
    (["search", "--role", "chief", "--address", "a.b.invalid:7877"], "host"),
    (["search", "--directory", "{root}/broken.json"], "directory"),
    (["search", "--role", "worker", "--data", "{root}/missing"], "missing"),
    (
        ["train", "--sizes", "8", "16", "--epochs", "1", "--directory", "{root}/t"],
        "no more than there are epochs, here 1",
    ),
    (["train", "--sizes", "999999", "--directory", "{root}/t"], "sizes"),
    (["train", "--seed", "4294967296", "--directory", "{root}/t"], "seed"),
    (["train", "--weight-decay", "inf", "--directory", "{root}/t"], "weight_decay"),
    (["train", "--directory", "{root}/new/" + 300 * "a"], "directory"),
    (["finetune", "--genotype", "tiny", "--label-smoothing", "-5", "--directory", "{root}/t"], "label_smoothing"),
    (["finetune", "--genotype", "tiny", "--weights", "{root}/broken.keras", "--directory", "{root}/t"], "broken.keras"),
    (["evaluate", "--model", "{root}/broken.keras"], "broken.keras"),
    (["evaluate", "--model", "NASNetCIFAR", "--output", "{root}"], "output"),
    (["evaluate", "--model", "NASNetCIFAR", "--data", "{root}/photos"], "airplane"),
    (["predict", "--model", "NASNetCIFAR", "{root}/cut.png"], "cut.png"),
    (["export", "--model", "NASNetCIFAR", "--output", "{root}/broken.json"], "output"),
    (["export", "--model", "NASNetCIFAR", "--output", "/proc/nowhere", "--format", "onnx"], "output"),
    (["serve", "--model", "{root}", "--max-pixels", "inf"], "max_pixels"),
    (["plot", "nasnet_a", "--output", "/proc/nowhere.svg"], "output"),
    (["plot", "nasnet_a", "--output", "{root}/a.png"], "must be a .svg file"),
    (["search", "--controller", "luck"], "luck"),
    (["dance"], "dance"),
]


# What only a network, images in its size, or a chief that is waited for can tell.
SLOW = ("cell_99", "no chief answers", "1 broken file")


def written_out(arguments, folder, root):
    """Arguments with the places that they name, which are made."""
    (root / "broken.json").write_text('{"format": "nasnet-genotype/1", "normal":')
    tiny = load_genotype("tiny").to_json()
    (root / "unknown.json").write_text(tiny.replace("conv_3x3", "conv_9x9", 1))
    (root / "broken.keras").write_bytes(b"PK")
    content = (folder / "red" / "0.png").read_bytes()
    (root / "cut.png").write_bytes(content[: len(content) // 2])
    if not (root / "photos").exists():
        (root / "photos").symlink_to(folder)
    places = {"root": root}
    for what in ("empty", "text", "single"):
        if f"{{{what}}}" in str(arguments):
            places[what] = root / what if (root / what).exists() else spoilt(folder, root, what)
    arguments = [argument.format(**places) for argument in arguments]
    if arguments[0] == "search" and "--directory" not in arguments:
        arguments += ["--directory", str(root / "s")]
    return arguments


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=[" ".join(row[0]) for row in BAD])
def test_bad_input_is_one_line_and_code_2(arguments, named, folder, tmp_path, capsys):
    try:
        code = main(written_out(arguments, folder, tmp_path))
    except SystemExit as error:
        code = error.code
    out, err = capsys.readouterr()
    assert code == 2 and out == ""
    assert named in err and len(err.strip().splitlines()) == 1 and "Traceback" not in err
    assert not [name for name in ("s", "t", "new") if (tmp_path / name).exists()]


def test_bad_input_is_refused_without_a_framework(folder, tmp_path):
    rows = [written_out(arguments, folder, tmp_path) for arguments, named in BAD if named not in SLOW]
    assert refused_with_a_framework(rows) == []


@pytest.mark.long
def test_it_takes_a_fraction_of_what_loading_a_framework_takes():
    """Half a second on a quiet machine, where Keras takes four; the ratio holds on a busy one too."""

    def seconds(*words):
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], capture_output=True)
        return time.perf_counter() - start

    framework = seconds("-c", "import keras")
    for words in (
        ["--help"],
        ["search", "--data", "nowhere"],
        ["predict", "--model", "none", "a.png"],
        ["plot", "none"],
    ):
        assert min(seconds("-m", "nasnet_keras.cli", *words) for _ in range(2)) < framework / 4


def test_unreadable_images_to_predict(trained, tmp_path, capsys):
    (tmp_path / "a.png").write_text("no image")
    code, _, err = call(capsys, "predict", "--model", trained, tmp_path / "a.png")
    assert code == 2 and "a.png" in err and len(err.splitlines()) == 1


def test_ctrl_c_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("nasnet_keras.search.tuner.search", interrupted)
    code, _, err = call(capsys, "search", "--max-trials", "5", "--directory", tmp_path / "s")
    assert code == 130
    assert f"nasnet-keras search --max-trials 5 --directory {tmp_path / 's'}" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_only_what_goes_on_says_so_after_ctrl_c(name, monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    words = shlex.split(import_module(f"nasnet_keras.commands.{name}").EXAMPLE)
    monkeypatch.setattr(f"nasnet_keras.commands.{name}.check", interrupted)
    code, _, err = call(capsys, *words)
    assert code == 130 and len(err.splitlines()) == 1
    assert ("To go on, run the same command again" in err) == (name in ("search", "train", "finetune"))


def test_a_search_without_a_reward_ends_with_code_2_and_the_commonest_reason(tmp_path, capsys):
    words = ["--blocks", 1, "--filters", 2, "--limit", 60, "--max-parameters", 1, "--directory", tmp_path / "s"]
    code, out, err = call(capsys, "search", "--max-trials", 3, "--controller", "random", *words, "--json")
    figures = json.loads(out.splitlines()[-1])
    assert (code, figures["trials"], figures["failed"], figures["best_reward"]) == (2, 3, 3, None)
    assert len(err.splitlines()) == 1 and "no child has got a reward: " in err
    trials = [json.loads(line) for line in (tmp_path / "s" / "trials.jsonl").read_text().splitlines()]
    assert err.strip().endswith(f": 3 of 3 failed with {trials[0]['reason']}") and "parameters" in err
    assert len({trial["reason"] for trial in trials}) > 1  # each has its own number


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("`x` must be 1.\n  Received: 2"), 2, "nasnet-keras: `x` must be 1. Received: 2"),
        (OSError(28, "No space left on device", "a.svg"), 2, "nasnet-keras: No space left on device: a.svg"),
        (KeyError("blocks"), 1, "nasnet-keras: a fault of nasnet_keras: KeyError: 'blocks'"),
        (RuntimeError("no\nluck"), 1, "nasnet-keras: a fault of nasnet_keras: RuntimeError: no luck"),
        (
            AttributeError("None has no `x`"),
            1,
            "nasnet-keras: a fault of nasnet_keras: AttributeError: None has no `x`",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.parametrize("part", ["check", "run"])
def test_every_error_is_one_line_and_traceback_shows_where(error, code, line, part, monkeypatch, capsys):
    def faulty_function(*args, **kwargs):
        raise error

    monkeypatch.setattr(f"nasnet_keras.commands.plot.{part}", faulty_function)
    more = "; --traceback shows where" if code == 1 else ""
    assert call(capsys, "plot", "tiny") == (code, "", f"{line}{more}\n")
    found, out, err = call(capsys, "plot", "tiny", "--traceback")
    assert (found, out) == (code, "") and err.startswith("Traceback (most recent call last):")
    assert "in faulty_function" in err and err.splitlines()[-1] == line


def test_every_command_has_traceback_and_says_so():
    from nasnet_keras.cli import COMMANDS, parser

    commands = next(action for action in parser()._actions if action.dest == "command").choices
    assert list(commands) == list(COMMANDS)
    assert all("--traceback" in sub.format_help() for sub in commands.values())


def test_the_bar_of_a_training_follows_its_callback(monkeypatch):
    from rich.progress import Progress

    from nasnet_keras.commands import progress

    shown = Progress(disable=True)
    monkeypatch.setattr(progress, "bar", lambda: shown)
    with progress.epoch_progress("train", 3) as callback:
        callback.set_params({"steps": 4, "epochs": 3})
        callback.on_train_begin()
        callback.on_epoch_begin(1)  # resumed
        for batch in range(4):
            callback.on_train_batch_end(batch)
        callback.on_epoch_end(1, {"accuracy": 0.5, "loss": 1.0})
        task, _ = shown.tasks  # the other one is for features that are computed before
    assert (task.total, task.completed, task.fields["note"]) == (12, 8, "epoch 2/3  accuracy 0.500")


def test_help_and_looking_come_without_a_framework(tmp_path):
    code = (
        "import sys, contextlib, nasnet_keras.cli as cli\n"
        "for words in (['--help'], ['search', '--help'], ['list'], ['plot', 'tiny', '--output', sys.argv[1]]):\n"
        "    with contextlib.suppress(SystemExit): cli.main(words)\n"
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    printed = fresh(code, str(tmp_path / "tiny.svg"))
    assert printed.splitlines()[-1] == "False False" and (tmp_path / "tiny.svg").exists()
    assert "example: nasnet-keras search" in printed and "NASNetMobile" in printed
