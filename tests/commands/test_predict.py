"""Answers for many images: what may be asked about, what is broken, and where the answers go."""

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from pixels import png, tiff

from nasnet_keras import NASNet, read_image
from nasnet_keras.cli import main
from nasnet_keras.commands import predict as command
from nasnet_keras.data.asked import as_heat_map, asked_images

FIXTURE = Path(__file__).parents[1] / "fixtures"  # a network that tells blue photographs from red ones


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the fixture's model and its photographs."""
    monkeypatch.chdir(tmp_path)
    for name in ("finetuned", "photos"):
        shutil.copytree(FIXTURE / name, tmp_path / name)
    return tmp_path


def call(capsys, *words):
    capsys.readouterr()
    code = main(["predict", "--model", "finetuned", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def classes_of(rows):
    return {row["image"]: row["classes"][0]["name"] for row in rows}


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_many_files_with_ten_broken_ones(count, place, capsys):
    (place / "many").mkdir()
    every = sorted((place / "photos").glob("*/*.png"))
    step = count // 10
    for number in range(count):
        path = place / "many" / f"{number:04}.png"
        path.write_bytes(every[number % len(every)].read_bytes()[: 60 if number % step == step // 2 else None])
    code, out, err = call(capsys, "many", "--output", "answers.jsonl", "--json")
    rows = [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()]
    assert code == 1 and len(rows) == count - 10
    assert len(err) == 10 and all("cannot read the image many/" in one for one in err)
    assert [row["image"] for row in rows] == [f"many/{n:04}.png" for n in range(count) if n % step != step // 2]
    single = json.loads(call(capsys, "photos/red", "photos/blue", "--json")[1].splitlines()[-1])["predictions"]
    for row in rows[::37]:
        number = int(Path(row["image"]).stem) % len(every)
        same = next(one for one in single if Path(one["image"]) == every[number].relative_to(place))
        assert row["classes"][0]["name"] == same["classes"][0]["name"]
        assert row["classes"][0]["score"] == pytest.approx(same["classes"][0]["score"], abs=1e-5)
    assert f"{count - 10} of {count:,} images" in out
    assert json.loads(out.splitlines()[-1])["predictions"] == count - 10


def test_folders_patterns_lists_and_pipes_name_the_same(place, capsys, monkeypatch):
    names = [f"photos/red/{number:02}.png" for number in range(12)]
    (place / "red.txt").write_text("".join(f"{name}\r\n" for name in names) + "\r\n")
    (place / "photos" / "own.txt").write_text("".join(f"red/{number:02}.png\n" for number in range(12)))
    (place / "windows.txt").write_text("\r\n".join(names), encoding="utf-16")
    for words, content in (
        (["photos/red"], b""),
        (["photos/r*/*.png"], b""),
        (["photos/**/red/*"], b""),
        (["**/red"], b""),
        (["photos/r?d"], b""),
        (["red.txt"], b""),
        (["photos/own.txt"], b""),
        (["windows.txt"], b""),
        (["-"], "\n".join(names).encode()),
        (["-"], b"\0".join(name.encode() for name in names) + b"\0"),
    ):
        assert asked_images(words, io.BytesIO(content)) == (tuple(names), []), words
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photos/red/03.png\nphotos/blue/04.png\n")))
    code, out, err = call(capsys, "-", "--json", "--top", 1)
    rows = json.loads(out.splitlines()[-1])["predictions"]
    assert (code, err) == (0, []) and [row["image"] for row in rows] == ["photos/red/03.png", "photos/blue/04.png"]
    assert all(len(row["classes"]) == 1 for row in rows)


def test_what_is_asked_twice_or_deep_below_is_answered_as_it_was_asked(place, capsys):
    deep = place / "all of them" / "2024\nspring"
    shutil.copytree("photos", deep)
    code, out, err = call(capsys, "all of them", "photos/red/00.png", "photos/red/00.png", "--json", "--top", 99)
    rows = json.loads(out.splitlines()[-1])["predictions"]
    below = sorted(str(path.relative_to(place)) for path in deep.rglob("*.png"))
    assert (code, err) == (0, []) and [row["image"] for row in rows] == [*below, *["photos/red/00.png"] * 2]
    assert all(sorted(one["name"] for one in row["classes"]) == ["blue", "red"] for row in rows)
    assert rows[-1] == rows[-2]


def test_what_names_no_image_is_one_line(place, capsys, monkeypatch):
    (place / "empty").mkdir()
    (place / "notes").mkdir()
    (place / "notes/a.md").write_text("x")
    (place / "none.txt").touch()
    (place / "gone.txt").write_text("gone.png\ngone2.png\n")
    for name in ("a.csv", "b.TSV"):
        (place / name).write_text("file,label\nphotos/red/00.png,red\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n\r\n")))
    for words, says in (
        (["-"], "`images` must be at least one file. Received: -"),
        (["*.bmp"], "which nothing matches"),
        (["empty"], "must be at least one file"),
        (["notes"], "1 file of unknown type: .md"),
        (["none.txt"], "must be at least one file"),
        (["missing.txt"], "cannot read the list missing.txt"),
        (["gone.txt"], "none of the 2 images can be read; the first: cannot read the image gone.png"),
        (["gone.png"], "cannot read the image gone.png"),
        (["a.csv"], "image; a table is no list: name its folder, or a .txt file of paths"),
        (["a.csv", "b.TSV"], "image; a table is no list: name its folder, or a .txt file of paths"),
        (["photos", "--threshold", "1.5"], "`threshold` must be a share"),
        (["photos", "--output", "a.xlsx"], "`output` must be one of .csv, .jsonl"),
        (["photos", "--output", "photos/red/00.png/a.csv"], "`output` must be a file that can be written"),
    ):
        code, out, err = call(capsys, *words)
        assert code == 2 and out == "" and len(err) == 1 and says in err[0], words


def test_an_export_is_no_model_of_a_training(place, capsys):
    (place / "served/net/3").mkdir(parents=True)
    (place / "served/net/3/saved_model.pb").touch()
    said = "an export: `serve` answers with it, here the directory is wanted that its training left"
    for words in (
        ["predict", "photos/red/00.png", "--model", "served/net"],
        ["evaluate", "--data", "photos", "--model", "served/net/3"],
    ):
        assert main(words) == 2 and capsys.readouterr().err.strip().endswith(f"Received: '{words[-1]}', {said}")


def test_a_broken_one_among_good_ones_leaves_the_exit_code(place, capsys):
    (place / "notes.png").write_text("no image")
    code, out, err = call(capsys, "notes.png", "photos/red/00.png", "missing.png", "--json")
    assert code == 1 and len(err) == 2 and "notes.png" in err[0] and "missing.png" in err[1]
    figures = json.loads(out.splitlines()[-1])
    assert classes_of(figures["predictions"]) == {"photos/red/00.png": "red"}
    assert [row["image"] for row in figures["failed"]] == ["notes.png", "missing.png"]


def test_a_table_of_answers_holds_no_formula(place, capsys):
    shutil.copy("photos/red/00.png", "=1+1.png")
    shutil.copy("photos/red/01.png", "a, b.png")
    code, _, _ = call(capsys, "=1+1.png", "a, b.png", "--output", "out/answers.csv", "--top", 2)
    rows = list(csv.reader(io.StringIO((place / "out/answers.csv").read_text())))
    assert code == 0 and rows[0] == ["file", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[0] for row in rows[1:]] == ["'=1+1.png", "a, b.png"] and {row[1] for row in rows[1:]} == {"red"}
    assert float(rows[1][2]) + float(rows[1][4]) == pytest.approx(1, abs=1e-4)


def test_heat_maps_are_named_beside_the_answers(place, capsys):
    (place / "notes.png").write_text("no image")
    words = ["photos/red/00.png", "notes.png", "photos/blue/00.png", "--explain", "heat", "--top", 1]
    code, _, _ = call(capsys, *words, "--output", "answers.csv")
    rows = list(csv.reader(io.StringIO((place / "answers.csv").read_text())))
    assert code == 1 and rows[0] == ["file", "heat_map", "class_1", "probability_1"]
    assert [row[1] for row in rows[1:]] == ["heat/001-00.png", "heat/003-00.png"]
    assert sorted(map(str, Path("heat").iterdir())) == [row[1] for row in rows[1:]]


def test_heat_maps_of_an_earlier_run_are_no_images_that_are_asked_about(place, capsys):
    (place / "few").mkdir()
    shutil.copy("photos/red/00.png", "few/00.png")
    for where, seen in (("heat", []), ("heat", ["1 heat map"]), (".", ["1 heat map"]), ("heat", ["2 heat maps"])):
        code, out, err = call(capsys, "few", "--explain", f"few/{where}", "--json")
        seen = [f"nasnet-keras: not used: {one} of an earlier --explain" for one in seen]
        rows = json.loads(out.splitlines()[-1])["predictions"]
        assert (code, err) == (0, seen) and [row["image"] for row in rows] == ["few/00.png"]
    assert [row["heat_map"] for row in rows] == ["few/heat/001-00.png"]


def test_a_folder_stands_for_what_lies_beside_heat_maps_and_a_name_for_one(place):
    (place / "photos/heat").mkdir()
    maps = ["photos/heat/001-00.png", "photos/heat/1000-a\nb.png"]
    for name in (*maps, "photos/heat/own.png", "photos/blue/001-00.png"):
        shutil.copy("photos/red/00.png", name)
    assert len(asked_images(["photos"])[0]) == 28  # of whatever names, those are images
    for name in maps:
        marked = as_heat_map(Path(name).read_bytes())
        Path(name).write_bytes(marked)
        assert np.array_equal(read_image(name), read_image("photos/red/00.png"))
    others = ["photos/blue/001-00.png", "photos/heat/own.png"]
    for word in ("photos", "photos/*/*.png", "photos/**/*", "ph?tos"):
        found, lines = asked_images([word])
        assert lines == ["not used: 2 heat maps of an earlier --explain"], word
        assert len(found) == 26 and {*others} <= {*found} and not {*maps} & {*found}, word
    assert asked_images([*maps, "photos/blue"])[0][:2] == tuple(maps)
    with pytest.raises(ValueError, match="at least one file"):
        asked_images(["photos/heat/0*"])


def test_no_batch_waits_for_a_data_pipeline_of_its_own(place, capsys, monkeypatch):
    """Of a few small images Keras' `predict` takes longer to begin than to answer (`benchmarks/many_images.py`)."""
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential(layers)
    model.save("own.keras")
    monkeypatch.setattr(keras.Model, "predict", None)
    for name in ("own.keras", "finetuned"):
        code, out, _ = call(capsys, "photos/red", "--model", name, "--json")
        rows = json.loads(out.splitlines()[-1])["predictions"]
        assert code == 0 and len(rows) == 12
    code, out, _ = call(capsys, "photos/red", "--model", "own.keras", "--json", "--threshold", 0.4)
    pixels = np.stack([read_image(path, 8) for path in sorted(Path("photos/red").iterdir())])
    chances = model.predict_on_batch(pixels / np.float32(127.5) - 1)
    for row, own in zip(json.loads(out.splitlines()[-1])["predictions"], chances, strict=True):
        found = {int(one["name"]): one["score"] for one in row["classes"]}
        assert found == pytest.approx({place: chance for place, chance in enumerate(own) if chance >= 0.4}, abs=1e-5)


def test_of_large_images_fewer_are_looked_at_together(place, capsys, monkeypatch):
    """As in `evaluate`: 64 of 331 pixels would take a NASNetLarge twice its memory."""
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    keras.Sequential(layers).save("own.keras")
    answer, counts = keras.Model.predict_on_batch, []
    monkeypatch.setattr(keras.Model, "predict_on_batch", lambda self, x: counts.append(len(x)) or answer(self, x))
    monkeypatch.setattr("nasnet_keras.training.fitting.JUDGED_PIXELS", 0)
    code, out, _ = call(capsys, "photos/red", "photos/blue", "--model", "own.keras", "--json")
    assert code == 0 and counts == [16, 8] and len(json.loads(out.splitlines()[-1])["predictions"]) == 24


def test_a_threshold_leaves_out_what_is_less_likely(place, capsys):
    code, out, _ = call(capsys, "photos/red/00.png", "--threshold", 0.5, "--json")
    (row,) = json.loads(out.splitlines()[-1])["predictions"]
    assert code == 0 and [one["name"] for one in row["classes"]] == ["red"]
    code, out, _ = call(capsys, "photos/red/00.png", "--threshold", 1)
    assert code == 0 and ("no class is that probable" in out or "100.00%" in out)


def save_without_numbers(path):
    """A model that answers a black image with NaN, and every other one with its second class."""
    dense = keras.layers.Dense(1, activation="sigmoid", use_bias=False)
    ends = [keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D(), dense]
    model = keras.Sequential([keras.Input((8, 8, 3)), *ends])
    dense.set_weights([np.full((3, 1), np.inf)])
    model.save(path)


def test_an_answer_that_is_no_number_is_none(place, capsys):
    save_without_numbers("nan.keras")
    Image.new("RGB", (8, 8)).save("black.png")
    Image.new("RGB", (8, 8), "white").save("white.png")
    words = ["--model", "nan.keras", "--json"]
    code, out, err = call(capsys, "black.png", "white.png", *words, "--output", "a.jsonl")
    figures = json.loads(out.splitlines()[-1], parse_constant=pytest.fail)
    assert code == 1 and err == [
        "nasnet-keras: cannot answer to the image black.png: what the model answers is no number"
    ]
    assert figures["failed"] == [{"image": "black.png", "reason": command.NO_NUMBERS}]
    (row,) = map(json.loads, Path("a.jsonl").read_text().splitlines())
    assert row["image"] == "white.png" and row["classes"][0] == {"name": "1", "score": 1.0}
    code, out, err = call(capsys, "black.png", *words)
    assert (code, out) == (2, "") and "cannot answer to the image black.png: what the model answers is no" in err[0]
    shutil.copy("black.png", "other.png")
    code, out, err = call(capsys, "black.png", "other.png", *words)
    assert (code, out) == (2, "") and "none of the 2 images has an answer; the first: cannot answer" in err[-1]


def test_a_line_break_in_a_class_breaks_no_line(capsys):
    rows = [{"name": "cat\nor dog", "score": 0.5}]
    command._print([{"image": "a.png", "classes": rows}, {"image": "a.png", "classes": rows, "labels": rows}])
    assert capsys.readouterr().out == "a.png: cat\\nor dog 50.00%\n" * 2


def test_labels_in_a_table_can_be_taken_apart(place, capsys):
    size = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 2}
    names = ("black|white", "colour")
    network = NASNet("tiny", **size, class_names=names, classifier_activation="sigmoid", thresholds=(0.0, 0.0))
    network.save("own.keras")
    code, _, err = call(capsys, "photos/red/00.png", "--model", "own.keras", "--output", "a.csv")
    (row,) = csv.DictReader(io.StringIO(Path("a.csv").read_text()))
    assert code == 0 and sorted(row["labels"].split(";")) == list(names)
    assert err == ["nasnet-keras: a class has | in its name: between labels there is ';'"]
    assert call(capsys, "photos/red/00.png", "--model", "own.keras", "--output", "a.jsonl")[::2] == (0, [])


def test_names_that_cannot_be_printed_are_escaped(place, capsys):
    name = "two\nlines\udcff.png"
    shutil.copy("photos/red/00.png", name)
    code, out, _ = call(capsys, name)
    assert code == 0 and out.startswith("two\\nlines") and len(out.splitlines()) == 1
    written = "two\nlines\\xff.png"  # in a file a line break may stand, but nothing that is no text
    code, out, _ = call(capsys, name, "--output", "a.jsonl", "--json")
    assert json.loads((place / "a.jsonl").read_text())["image"] == written
    out = json.loads(call(capsys, name, "photos/red/00.png", "--explain", "heat", "--json")[1].splitlines()[-1])
    assert [one["image"] for one in out["predictions"]] == [written, "photos/red/00.png"]
    assert out["predictions"][0]["heat_map"] == "heat/001-two\nlines\\xff.png"
    call(capsys, name, "--output", "a.csv")
    (row,) = csv.DictReader(io.StringIO((place / "a.csv").read_text()))
    assert row["file"] == written
    assert np.isclose(sum(one["score"] for one in json.loads((place / "a.jsonl").read_text())["classes"]), 1, atol=1e-5)


def test_greys_that_the_model_reads_as_black_are_told(place, capsys):
    """By what can be done about it: `predict` has no option for a range, which a model gets when it is trained."""
    values = np.random.default_rng(0).integers(0, 4096, (9, 11))
    Path("dark.png").write_bytes(png(values.astype(np.uint16)[..., None], 0))
    Path("float.tif").write_bytes(tiff(values.astype(np.float32)))
    code, _, err = call(capsys, "dark.png", "photos/red/00.png")
    note = "1 of 2 images looked at have greys of more than 8 bits, and use 16 of 256 greys, "
    note += "where the model is trained: --grey-range 0:4095"
    assert code == 0 and len(err) == 1 and note in err[0]
    code, _, err = call(capsys, "float.tif")
    assert code == 2 and len(err) == 1 and "--grey-range LOW:HIGH where the model is trained" in err[0]
    code, _, err = call(capsys, "float.tif", "photos/red/00.png")
    assert code == 1 and ", where the model is trained: say black and white, --grey-range LOW:HIGH" in err[0]
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    keras.Sequential(layers).save("own.keras")
    assert call(capsys, "photos/red/00.png", "--model", "own.keras")[::2] == (0, [])


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted: the images that were not looked at have no answers"),
        (OSError(28, "No space left on device", "heat"), 2, "No space left on device: heat"),
        (RuntimeError("late"), 1, "a fault of nasnet_keras: RuntimeError: late"),
    ],
)
@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl"])
def test_answers_stay_however_it_ends(name, error, code, says, place, capsys, monkeypatch):
    """The batches that are whole are in the file, in one step, and nothing else is left beside it."""

    def ending(model, paths, options):
        rows = [{"image": path, "classes": [{"name": "red", "score": 0.5}]} for path in paths]
        yield 0, rows[:5], {}
        yield 5, rows[5:7], {}
        not_there.append(not Path(name).exists())
        raise error

    not_there = []
    monkeypatch.setattr(command, "_answered", ending)
    found, out, err = call(capsys, "photos", "--output", name)
    lines = Path(name).read_text().splitlines()
    assert found == code and err == [f"nasnet-keras: {says}" + "; --traceback shows where" * (code == 1)]
    assert f"7 of 24 images: {name}" in out and len(lines) == 7 + name.endswith(".csv")
    assert not_there == [True]
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl"])
def test_a_part_goes_beside_the_answers_of_an_earlier_run(name, place, capsys, monkeypatch):
    assert call(capsys, "photos", "--output", name)[0] == 0
    whole, rows = Path(name).read_bytes(), command._answered

    def ending(model, paths, options):
        yield from rows(model, paths[:5], options)
        raise KeyboardInterrupt

    for _ in range(2):  # the second part takes the place of the first
        with monkeypatch.context() as patches:
            patches.setattr(command, "_answered", ending)
            code, out, _ = call(capsys, "photos", "--output", name)
        beside = name.replace(".", ".partial.")
        assert code == 130 and f"5 of 24 images: {beside}" in out and Path(name).read_bytes() == whole
        assert len(Path(beside).read_text().splitlines()) == 5 + name.endswith(".csv")
    Path(name).write_text("of yesterday")
    assert call(capsys, "photos", "--output", name)[0] == 0 and Path(name).read_bytes() == whole


def test_without_an_answer_an_earlier_file_stays(place, capsys, monkeypatch):
    def ending(*_):
        raise KeyboardInterrupt
        yield

    Path("a.csv").write_text("of yesterday")
    monkeypatch.setattr(command, "_answered", ending)
    code, out, err = call(capsys, "photos", "--output", "a.csv")
    assert code == 130 and out == "" and "again" not in err[0] and Path("a.csv").read_text() == "of yesterday"
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(("top", "more"), [(1, "   and 6 more"), (5, "   and 2 more"), (7, ""), (8, "")])
def test_labels_beyond_those_that_are_printed_are_counted(top, more, capsys):
    chances = np.linspace(0.9, 0.2, 8)
    rows = [{"name": f"label {place}", "score": float(chance)} for place, chance in enumerate(chances)]
    command._print([{"image": "a.png", "labels": rows[:7], "classes": rows[:top]}])
    line = capsys.readouterr().out.strip()
    assert line.startswith("a.png: label 0 90.00%") and line.count("label") == min(top, 7)
    assert line.endswith(f"%{more}")
    command._print([{"image": "a.png", "labels": [], "classes": rows[:top]}])
    assert "no label reaches its threshold (the most likely: label 0 90.00%)" in capsys.readouterr().out
