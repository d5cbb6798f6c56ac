"""The data that commands name: what is said of them, what a directory keeps, and other images in it."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written_tables import write

from nasnet_keras.cli import main, parser
from nasnet_keras.commands import datasets, evaluate, export, train
from nasnet_keras.commands import search as search_command
from nasnet_keras.commands.datasets import find
from nasnet_keras.data import loading
from nasnet_keras.data.records import write_record
from nasnet_keras.models.network import NASNet
from nasnet_keras.search.distributed import worker
from nasnet_keras.search.distributed.roles import Role
from nasnet_keras.weights.zoo import imagenet_names

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Sixty images of two colours, a broken one and a list; the working directory is the folder around them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(30):
            pixels = np.array(colour) * rng.uniform(0.3, 1, (8, 8, 1))
            Image.fromarray(pixels.astype(np.uint8)).save(f"photos/{name}/{number:02}.png")
    (tmp_path / "photos/red/web.jpg").write_text("<html>")
    (tmp_path / "photos/list.csv").write_text("a,b")
    return tmp_path


NET = ["--genotype", "tiny", "--repeats", "1", "--filters", "4", "--epochs", "1", "--batch-size", "8"]
NAMES = ("red", "blue", "green")


def call(capsys, *words):
    capsys.readouterr()
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def options(*words):
    found = parser().parse_args(list(words))
    found.seed = found.seed or 0
    return found


def test_strict_refuses_before_anything_is_made(photos, capsys):
    code, _, err = call(capsys, "train", *NET, "--directory", "net", "--data", "photos", "--strict")
    assert code == 2 and len(err) == 1 and "`strict`" in err[0] and "1 file of unknown type: .csv" in err[0]
    assert not os.path.exists("net")
    os.remove("photos/list.csv")
    code, _, err = call(capsys, "train", *NET, "--directory", "net", "--data", "photos", "--strict")
    assert code == 2 and len(err) == 1 and "1 broken file: red/web.jpg" in err[0] and not os.path.exists("net")


def test_a_training_keeps_its_data_and_refuses_others(photos, capsys, monkeypatch):
    """Of these files, more than are checked before; so the broken one is found when it is read."""
    monkeypatch.setattr(loading, "CHECKED", 10)
    monkeypatch.setattr(datasets, "decoded", lambda data, size, limit, *more: loading.decoded(data, size, 1000, *more))
    train = ["train", *NET, "--directory", "net", "--json"]
    code, out, err = call(capsys, *train, "--data", "photos")
    assert code == 0
    assert "not used of photos: 1 file of unknown type: .csv" in err[0] and "1 broken file: red/web.jpg (" in err[1]
    assert len(err) == 2
    kept = json.loads((photos / "net/data.json").read_text())
    assert kept["left_out"].popitem()[1] == ["red/web.jpg"] and kept["left_out"].popitem()[1] == ["list.csv"]
    assert json.loads(out.splitlines()[-1])["images"] == len(set(kept["sides"]["test"]) - {"red/web.jpg"})
    os.rename("photos", "moved")
    for place in ("moved", "./moved/", str(photos / "moved")):
        data = find(options(*train, "--data", place))
        tested = {os.path.relpath(path, "moved") for path in data.test.images.sources}
        assert tested == set(kept["sides"]["test"])
    # Other images of the same names and number.
    shutil.copytree("moved", "other")
    Image.new("RGB", (9, 9)).save("other/red/03.png")
    code, _, err = call(capsys, *train, "--data", "other")
    assert code == 2 and len(err) == 1 and "begun with other images than other holds" in err[0]
    # What the training did not see stays what is tested, whatever is added, and wherever shares are given.
    for number in range(40):
        Image.new("RGB", (8, 8), (0, 0, number)).save(f"moved/blue/new{number}.png")
    data = find(options("evaluate", "--model", "net", "--data", "moved", "--test", "0.5"))
    tested = {os.path.relpath(path, "moved") for path in data.test.images.sources}
    old = {f"{name}/{file}" for name in ("red", "blue") for file in os.listdir(f"other/{name}")}
    assert tested & old == set(kept["sides"]["test"]) and tested - old


def test_no_test_images_at_all(photos, capsys):
    import keras

    from nasnet_keras.training.evaluation import evaluate_classes

    data = find(options("train", "--directory", "net", "--data", "photos", "--test", "0"))
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    figures = evaluate_classes(model, data.test, data.class_names)
    assert len(data.test) == figures["images"] == 0 and figures["accuracy"] is None
    with pytest.raises(ValueError, match="`validation` must be above 0"):
        find(options("train", "--directory", "net", "--data", "photos", "--validation", "0"))
    Path("made").mkdir()
    Path("made/data.json").write_text(
        json.dumps({"format": "nasnet-data/1", "images": None, "shares": {"test": 0}, "sides": {}})
    )
    shutil.copy(FIXTURES / "finetuned/model.keras", "made")
    code, _, err = call(capsys, "evaluate", "--model", "made", "--data", "photos")
    assert code == 2 and len(err) == 1 and "`split` must be one that has images" in err[0]
    assert "0 for test; --split all takes all 61" in err[0]


def test_a_search_goes_on_with_its_images_wherever_they_lie(photos, capsys):
    search = ["search", "--max-trials", "1", "--filters", "4", "--blocks", "1", "--no-final", "--directory", "found"]
    search += ["--batch-size", "8", "--json", "--controller", "random"]
    assert call(capsys, *search, "--data", "photos")[0] == 0
    os.rename("photos", "moved")
    for data in ("moved", "moved/", "./moved"):
        code, out, _ = call(capsys, *search, "--data", data)
        assert code == 0 and json.loads(out.splitlines()[-1])["trials"] == 1
    os.rename("moved/red/03.png", "moved/red/99.png")
    code, _, err = call(capsys, *search, "--data", "moved")
    assert code == 2 and len(err) == 1 and "other images" in err[0]
    assert (photos / "found/data.json").exists()


@pytest.mark.long
def test_a_model_that_is_trained_further_is_not_tested_on_what_it_has_seen(photos, capsys):
    """The new directory divides the same images as the old one did, whatever its options say, and says so."""
    assert main(["train", *NET, "--directory", "net", "--data", "photos", "--test", "0.4"]) == 0
    capsys.readouterr()
    kept = json.loads(Path("net/data.json").read_text())["sides"]["test"]
    words = ["finetune", "--model", "net", "--directory", "tuned", "--data", "photos"]
    data = find(options(*words, "--test", "0.1"))
    assert {os.path.relpath(path, "photos") for path in data.test.images.sources} == set(kept)
    assert "--test 0.1 is not used: the data were divided with 0.4" in capsys.readouterr().err
    find(options(*words))
    assert "is not used:" not in capsys.readouterr().err.replace("not used of", "")
    shutil.copytree("photos", "others")
    Path("others/red/00.png").unlink()
    tested = {os.path.relpath(path, "others") for path in find(options(*words[:-1], "others")).test.images.sources}
    assert tested == set(kept) - {"red/00.png"}  # a folder that has changed; another one goes by its own rule
    for index, path in enumerate(sorted(Path("others").rglob("*.*"))):
        path.rename(path.with_name(f"other{index}{path.suffix}"))
    assert len(find(options(*words[:-1], "others", "--test", "0.1")).test) < 20
    Path("net/data.json").unlink()
    find(options(*words))
    assert "net was divided by its seed" in capsys.readouterr().err


@pytest.mark.long
def test_fit_keeps_its_data_in_its_directory(photos):
    from nasnet_keras import NASNet, load_data
    from nasnet_keras.data.records import read_record
    from nasnet_keras.training.fitting import fit
    from nasnet_keras.training.recipes import recipe

    data = load_data("photos", test=0.3)
    model = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=2)
    fit(model, data, recipe("scans", batch_size=16), epochs=1, directory="own")
    assert read_record("own").sides["test"] == data.record.sides["test"]


@pytest.mark.long
def test_what_was_trained_on_is_not_tested_after_it_has_changed(photos, capsys):
    """Images that were saved again have another size, but a name that the directory knows."""
    assert main(["train", *NET, "--directory", "net", "--data", "photos"]) == 0
    trained = set(find(options("train", *NET, "--directory", "net", "--data", "photos")).train.images.sources)
    for path in trained - {"photos/red/web.jpg"}:
        Image.open(path).resize((9, 9)).save(path)
    Image.new("RGB", (8, 8), "red").save("photos/red/new.png")
    data = find(options("evaluate", "--model", "net", "--data", "photos"))
    assert not trained & set(data.test.images.sources)
    capsys.readouterr()
    code, out, err = call(capsys, "evaluate", "--model", "net", "--data", "photos")
    assert code == 0 and any("photos is not as it was when net was trained" in line for line in err)
    os.makedirs("fresh")
    for name in ("red", "blue"):
        shutil.copytree(f"photos/{name}", f"fresh/{name}", ignore=shutil.ignore_patterns("*.jpg"))
        for index, file in enumerate(os.listdir(f"fresh/{name}")):
            os.rename(f"fresh/{name}/{file}", f"fresh/{name}/other{index}.png")
    code, out, err = call(capsys, "evaluate", "--model", "net", "--data", "fresh", "--split", "all", "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["images"] == 61


def test_what_lies_beside_a_model_file_may_be_somebody_elses(tmp_path, capsys):
    """Only where a training has left a model is `data.json` what it kept."""
    fixtures = Path(__file__).parents[1] / "fixtures"
    shutil.copy(fixtures / "finetuned" / "model.keras", tmp_path / "mine.keras")
    (tmp_path / "data.json").write_text("{}")
    words = ["--data", str(fixtures / "photos"), "--split", "all", "--output", str(tmp_path / "a.svg")]
    assert main(["evaluate", "--model", str(tmp_path / "mine.keras"), *words]) == 0
    shutil.copy(tmp_path / "mine.keras", tmp_path / "model.keras")
    assert main(["evaluate", "--model", str(tmp_path / "mine.keras"), *words]) == 2
    assert "data.json must be a file of the format" in capsys.readouterr().err


@pytest.mark.usefixtures("eager")
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
def test_data_may_lack_classes_of_the_model_that_is_measured(photos, capsys):
    """Whether the file says its classes before it is loaded or not; strange classes are refused."""
    import keras

    from nasnet_keras import NASNet

    names = ("red", "green", "blue")
    net = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=3, class_names=names)
    net.save("net.keras")
    keras.Sequential([keras.Input((8, 8, 3)), net]).save("wrapped.keras")
    words = ["evaluate", "--data", "photos", "--split", "all", "--json", "--matrix", "--model"]
    data = evaluate.check(options(*words, "net.keras"))["data"]
    assert data.class_names == names and data.test.counts(3).tolist() == [31, 0, 30]
    told = "nasnet-keras: photos has no images of green, which count as 0 images"
    assert told in capsys.readouterr().err
    code, out, err = call(capsys, *words, "wrapped.keras")
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and told in err
    assert [(row["name"], row["images"]) for row in figures["classes"]] == [("red", 30), ("green", 0), ("blue", 30)]
    assert figures["classes"][1]["recall"] is None and list(map(sum, figures["confusion"])) == [30, 0, 30]
    os.rename("photos/blue", "photos/violet")
    code, _, err = call(capsys, "evaluate", "--model", "net.keras", "--data", "photos", "--split", "all")
    assert code == 2 and len(err) == 1 and "`data` must have the model's 3 classes" in err[0]
    assert err[0].endswith("They differ in: violet")


@pytest.mark.long
def test_digits_of_another_size_go_on(tmp_path, monkeypatch, capsys):
    """Before they are resized they are others than those that are learnt from."""
    monkeypatch.chdir(tmp_path)
    words = ["train", "--genotype", "tiny", "--repeats", "1", "--filters", "4", "--image-size", "10", "--limit", "40"]
    words += ["--directory", "net"]
    assert call(capsys, *words, "--epochs", "1")[0] == 0
    code, _, err = call(capsys, *words, "--epochs", "2")
    assert code == 0, err


def left_by_a_training(folder, *words):
    """A directory as `train` leaves it, with a model of some kind; the data of it."""
    data = find(options("train", "--directory", folder, *words))
    write_record(folder, data)
    identity = {"seed": options("train", "--directory", folder, *words).seed, "classes": list(data.class_names)}
    Path(folder, "history.json").write_text(json.dumps({"identity": identity}))
    shutil.copy(FIXTURES / "finetuned/model.keras", folder)
    return data


STARTS = (
    ["--model", "net"],
    ["--genotype", "tiny", "--weights", "net"],
    ["--model", "NASNetCIFAR", "--weights", "net"],
    ["--model", "other.keras", "--weights", "net/model.keras"],
)


def test_images_of_a_single_class_of_the_model_are_tested(photos, capsys):
    """Where the model says what its classes are, one of them is enough; what trains needs two."""
    os.remove("photos/red/web.jpg")
    shutil.rmtree("photos/blue")
    network = NASNet("tiny", repeats=1, filters=2, stem="cifar", input_shape=(8, 8, 3), classes=3, class_names=NAMES)
    network.save("net.keras")
    code, out, err = call(capsys, "evaluate", "--model", "net.keras", "--data", "photos", "--split", "all", "--json")
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and "nasnet-keras: photos has no images of blue, green, which count as 0 images" in err
    assert figures["images"] == 30 and {row["name"]: row["images"] for row in figures["classes"]} == dict(
        red=30, blue=0, green=0
    )
    asked = parser().parse_args(["export", "--model", "net.keras", "--output", "new", "--evaluate", "photos"])
    assert len(export.check(asked)["labelled"].test) == 30
    for words in (["train", *NET, "--directory", "net"], ["finetune", "--model", "net.keras", "--directory", "net"]):
        code, _, err = call(capsys, *words, "--data", "photos")
        assert code == 2 and "`data` must have at least two classes" in err[-1]
    NASNet("tiny", repeats=1, filters=2, stem="cifar", input_shape=(8, 8, 3), classes=2).save("unnamed.keras")
    code, _, err = call(capsys, "evaluate", "--model", "unnamed.keras", "--data", "photos")
    assert code == 2 and "`data` must have the model's 2 classes. Received: 1" in err[-1]


def test_what_was_trained_on_stays_untested_and_all_are_all(photos, capsys):
    """Of another fold, by what a fine-tuning has made of the model, too."""
    for first in range(2):
        parts = [["test", "train", "train"][(number - first) % 3] for number in range(30)]
        files = [(name, *numbered) for name in NAMES[:2] for numbered in enumerate(parts)]
        rows = [(f"photos/{name}/{number:02}.png", name, part) for name, number, part in files]
        write(photos / f"fold{first}.csv", rows, ("file", "label", "split"))
    every = left_by_a_training("net", "--data", "fold0.csv")
    assert len(every.test) == 20
    words = ("finetune", "--model", "net", "--directory", "mine", "--data", "fold1.csv")
    begun = find(options(*words))
    tested = len(begun.test)
    assert tested < 20 and begun.record.untested == 20 - tested
    write_record("mine", begun)
    shutil.copy("net/history.json", "mine")
    shutil.copy("net/model.keras", "mine")
    assert len(find(options(*words)).test) == tested

    def asked(model, split):
        found = evaluate.check(options("evaluate", "--model", model, "--data", "fold1.csv", "--split", split))
        return len(getattr(found["data"], found["part"]))

    capsys.readouterr()
    assert [asked(model, split) for model in ("net", "mine") for split in ("test", "all")] == [tested, 60, tested, 60]
    assert f"{tested} of 60 images are tested; --split all takes all" in capsys.readouterr().err


def test_what_a_model_may_have_learnt_from_is_told_where_nothing_says_what_it_had(photos, capsys):
    """Data of Python have no names that could be compared; with a limit some of a part were not had."""
    left_by_a_training("net", "--data", "photos", "--test", "0.4")

    def told(split):
        capsys.readouterr()
        evaluate.check(options("evaluate", "--model", "net", "--data", "photos", "--split", split))
        return capsys.readouterr().err

    assert "learnt from" not in told("train") and "trained on" not in told("test")
    path = Path("net/history.json")
    state = json.loads(path.read_text())
    state["identity"]["number of training images"] = 5
    path.write_text(json.dumps(state))
    assert "net learnt from 5 of " in told("train") and "learnt from" not in told("test")
    record = {"format": "nasnet-data/1", "images": None, "shares": {}, "sides": {}, "trained": "", "left_out": {}}
    Path("net/data.json").write_text(json.dumps(record))
    for split, says in (("test", True), ("all", True), ("train", False)):
        assert ("net was trained on data of Python, of which no names are kept" in told(split)) == says
    find(options("finetune", "--model", "net", "--directory", "mine", "--data", "photos"))
    assert "net was trained on data of Python" in capsys.readouterr().err


def test_a_model_for_another_size_than_the_last_one_is_told(photos, capsys):
    words = ["train", *NET[:-4], "--epochs", "2", "--directory", "net", "--data", "photos", "--sizes", "4"]
    for size, says in (("6", True), ("8", False)):
        train.check(options(*words, size))
        assert (f"--image-size {size} makes it a model" in capsys.readouterr().err) == says


def test_nothing_is_tested_that_the_weights_have_learnt_from(photos):
    """Wherever they come from; `test_a_model_that_is_trained_further_…` has the rest."""
    data = left_by_a_training("net", "--data", "photos", "--test", "0.4")
    shutil.copy("net/model.keras", "other.keras")
    for words in STARTS:
        found = find(options("finetune", *words, "--directory", "mine", "--data", "photos"))
        assert set(found.test.images.sources) == set(data.test.images.sources), words


def test_digits_that_a_model_has_learnt_from_are_not_tested(tmp_path, monkeypatch, capsys):
    """They have no names to be known by: the seed and the shares of the training divide them."""
    monkeypatch.chdir(tmp_path)
    data = left_by_a_training("net", "--seed", "3", "--test", "0.4")
    shutil.copy("net/model.keras", "other.keras")
    for words in STARTS:
        found = find(options("finetune", *words, "--directory", "mine", "--seed", "5", "--test", "0.1"))
        np.testing.assert_array_equal(found.test.images, data.test.images)
        assert "--seed 5 does not divide the data: they are divided by 3, as for net" in capsys.readouterr().err
    write_record("mine", found)  # the seed of the second training is another one
    Path("mine/history.json").write_text(json.dumps({"identity": {"seed": 5}}))
    shutil.copy("net/model.keras", "mine")
    monkeypatch.setattr(datasets, "known_classes", lambda _: None)
    for model in ("net", "mine"):
        for words in ([], ["--seed", "3"], ["--seed", "5"], ["--seed", "7"]):
            tested = evaluate.check(parser().parse_args(["evaluate", "--model", model, *words]))["data"].test
            np.testing.assert_array_equal(tested.images, data.test.images)
    assert "--seed 7 is not used: data are divided as when mine was trained" in capsys.readouterr().err
    words = ["evaluate", "--model", "net", "--limit", "20", "--seed"]
    few = [evaluate.check(parser().parse_args([*words, seed]))["data"].test for seed in ("3", "5")]
    assert not np.array_equal(few[0].images, few[1].images) and capsys.readouterr().err == ""
    Path("net/data.json").unlink()  # as of an earlier version
    found = find(options("finetune", "--model", "net", "--directory", "new", "--seed", "5", "--test", "0.4"))
    np.testing.assert_array_equal(found.test.images, data.test.images)


@pytest.mark.usefixtures("eager")
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
@pytest.mark.parametrize("names", [("n01440764", "n03000684"), ("tench", "chain saw")])
def test_a_network_of_the_zoo_tells_the_classes_of_imagenet(names, photos, monkeypatch, capsys):
    """Ten folders of WordNet ids, as Imagenette has them, are classes of its thousand."""
    from nasnet_keras import NASNet
    from nasnet_keras.models.applications import FACTORIES

    for colour, name in zip(("red", "blue"), names, strict=True):
        os.rename(f"photos/{colour}", f"photos/{name}")
    size = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3)}
    monkeypatch.setitem(FACTORIES, "NASNetMobile", lambda: NASNet("tiny", **size))  # of a thousand classes
    words = ["evaluate", "--model", "NASNetMobile", "--data", "photos", "--split", "all", "--output", "a.svg", "--json"]
    data = evaluate.check(options(*words))["data"]
    assert len(data.class_names) == 1000 and np.flatnonzero(data.test.counts(1000)).tolist() == [0, 491]
    code, out, err = call(capsys, *words)
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and figures["images"] == 60 and not any("does not name its classes" in line for line in err)
    assert {row["name"] for row in figures["classes"] if row["images"]} == set(names)
    assert imagenet_names("NASNetMobile", ("tench", "crane")) is None  # which two classes are called
    assert imagenet_names("NASNetCIFAR", names) is None is imagenet_names("net", names)


def test_a_worker_divides_its_data_by_nothing_that_lies_around(photos, monkeypatch):
    plain = find(options("search", "--data", "photos", "--directory", "nothing"))
    other = find(options("search", "--data", "photos", "--directory", "nothing", "--validation", "0.5"))
    write_record(photos / "search", other)  # of another search, in the default `--directory`
    (photos / "search/controller").mkdir()
    (photos / "search/controller/proposals.jsonl").touch()
    assert len(find(options("search", "--data", "photos")).validation) == len(other.validation)
    taken = []

    def take(options, data):
        taken.append(data)
        raise LookupError

    monkeypatch.setattr(search_command, "decode", take)
    monkeypatch.setattr(worker, "await_chief", lambda *_: None)
    with pytest.raises(LookupError):
        search_command.run(options("search", "--data", "photos"), *[None] * 4, Role("w"), None, None)
    assert taken[0].record.sides == plain.record.sides != other.record.sides
    # A directory that is named is read: what lies there may be the chief's, divided as earlier versions did.
    (photos / "search").rename(photos / "chief")
    with pytest.raises(LookupError):
        words = "search", "--data", "photos", "--directory", "chief"
        search_command.run(options(*words), *[None] * 4, Role("w"), None, None)
    assert taken[1].record.sides == other.record.sides


def test_columns_of_which_each_image_has_one_are_judged_as_classes(tmp_path, capsys):
    """By a network that tells one class; where an image has none of them, or two, nobody can say what is right."""
    network = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=2)
    network.class_names = ("dog", "cat")
    for number in range(12):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    marks = [(f"{number}.png", int(number < 5), int(number >= 5)) for number in range(12)]
    write(tmp_path / "t.csv", marks, ("file", "cat", "dog"))
    data = loading.load_data(tmp_path / "t.csv", label_column=("cat", "dog"), test=0, validation=0)
    split, names = datasets.for_judging(network, data, "train", "net")
    assert names == ("dog", "cat") and split.labels.tolist() == [int(i < 5) for i in data.train.images[:, 0, 0, 0]]
    assert "each image has exactly one of the labels: that is its class" in capsys.readouterr().err
    write(tmp_path / "t.csv", [*marks[:-1], ("11.png", 0, 0)], ("file", "cat", "dog"))
    data = loading.load_data(tmp_path / "t.csv", label_column=("cat", "dog"), test=0, validation=0)
    with pytest.raises(
        ValueError, match="a column with the names of classes. Received: several labels for an image, or"
    ):
        datasets.for_judging(network, data, "train", "net")
