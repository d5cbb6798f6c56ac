"""The command `data`: what it prints, draws and refuses."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.cli import main
from nasnet_keras.commands import data as data_command
from nasnet_keras.commands import evaluate as evaluate_command


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(f"photos/{name}/{number:02}.png")
    (tmp_path / "photos/cat/web.jpg").write_text("<html>")
    (tmp_path / "photos/cat/cut.png").write_bytes((tmp_path / "photos/cat/00.png").read_bytes()[:-300])
    (tmp_path / "photos/list.csv").write_text("a,b")
    return tmp_path


def call(capsys, *words):
    capsys.readouterr()
    code = main(["data", *words])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def test_what_is_seen_is_printed_and_drawn(photos, capsys):
    code, out, err = call(capsys, "photos", "--json")
    figures = json.loads(out.splitlines()[-1])
    assert (code, err) == (0, []) and sum(figures["images"].values()) == 41
    assert figures["kinds"] == {"PNG RGB": 41} and figures["sizes"]["most"] == [12, 16]
    assert "cat" in out and "not used: 1 × file of unknown type: .csv" in out and "web.jpg" in out
    page = (photos / "photos-sheet.html").read_text()
    assert page.count("<img") >= 16 and "not used" in page


def test_check_finds_files_that_are_cut_off(photos, capsys):
    assert "cut.png" not in call(capsys, "photos")[1]
    code, out, _ = call(capsys, "photos", "--check", "--output", "sheet.html")
    assert code == 0 and "cut.png" in out and (photos / "sheet.html").exists()
    (photos / "photos/list.csv").unlink()
    (photos / "photos/cat/web.jpg").unlink()
    assert call(capsys, "photos", "--strict")[0] == 0
    code, out, err = call(capsys, "photos", "--check", "--strict")
    assert code == 2 and len(err) == 1 and "1 broken file: cat/cut.png" in err[0]


def test_pairs_are_named(photos, capsys):
    rng = np.random.default_rng(5)
    picture = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize((40, 40), Image.Resampling.BICUBIC)
    for number in range(20):
        picture.resize((40 + number, 40)).save(f"photos/dog/same{number}.png")
    code, out, _ = call(capsys, "photos", "--near", "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["near"] and "dog/same" in out
    assert "Alike in different parts" in (photos / "photos-sheet.html").read_text()


def test_digits_have_a_sheet_as_well(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "digits", "--near")
    assert code == 0 and "8×8" in out and (tmp_path / "digits-sheet.html").read_text().count("<img") > 80


def test_what_is_for_files_is_told_where_there_are_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, "digits", "--near", "--check")
    said = [f"nasnet-keras: --{name} is not used: it is for files, and digits has none" for name in ("check", "near")]
    assert code == 0 and err == said
    said = call(capsys, "digits", "--grey-range", "0:9")[1]
    assert said.count("`grey_range` changes nothing here: the digits have no") == 1


def test_a_sheet_that_cannot_be_written_is_one_line(photos, capsys):
    (photos / "photos-sheet.html").mkdir()
    code, out, err = call(capsys, "photos")
    assert code == 0 and "together" in out and len(err) == 1 and "no contact sheet" in err[0]
    code, _, err = call(capsys, "photos", "--output", "sheet.txt")
    assert code == 2 and len(err) == 1 and "`output` must be a .html file" in err[0]


def test_no_data_is_one_line(photos, capsys):
    code, _, err = call(capsys, "nothing")
    assert code == 2 and len(err) == 1 and "does not exist" in err[0]


def test_deep_greys_are_shown_by_their_range(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    values = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (64, 1))
    for name in ("cat", "dog"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(np.roll(values, number, axis=1)).save(f"scans/{name}/{number:02}.png")
            Image.fromarray(np.roll(values, number, axis=0).astype(np.float32)).save(f"scans/{name}/{number:02}.tif")
    for words, brightest in (([], 20), (["--grey-range", "0:4095"], 255)):
        code, out, _ = call(capsys, "scans", "--near", "--json", *words)
        page = (tmp_path / "scans-sheet.html").read_text()
        found = [base64.b64decode(one) for one in re.findall(r"data:image/jpeg;base64,([\w+/=]+)", page)]
        shown = [int(np.asarray(Image.open(io.BytesIO(one))).max()) for one in found]
        figures = json.loads(out.splitlines()[-1])
        assert code == 0 and max(shown) <= brightest and (not words or min(shown) > 240)
        assert (figures["not_compared"] > 0) == (not words)
        assert ("images that were not compared" in out) == (not words)


def test_warnings_of_pillow_name_no_file_and_are_not_shown(photos, capsys):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0"  # of five entries none is there
    Image.new("RGB", (16, 12)).save("photos/dog/odd.jpg", exif=exif)
    code, out, err = call(capsys, "photos", "--check")
    assert (code, err) == (0, []) and "odd.jpg" not in out and "1 JPEG RGB" in out


def test_the_sheet_never_lies_in_the_data(photos, capsys, monkeypatch):
    """Where `--strict` would refuse it as a file that is no image."""
    (photos / "photos/list.csv").unlink()
    (photos / "photos/cat/web.jpg").unlink()
    for place, words in (("photos", "."), ("photos/cat", ".."), ("photos/cat", str(photos / "photos"))):
        monkeypatch.chdir(photos / place)
        code, out, _ = call(capsys, words)
        assert code == 0 and (photos / "photos-sheet.html").exists() and f"{photos / 'photos-sheet.html'}" in out
        (photos / "photos-sheet.html").unlink()
        assert call(capsys, words, "--strict")[0] == 0
    monkeypatch.setattr(data_command.os, "access", lambda path, mode: False)
    monkeypatch.chdir(photos / "photos")
    code, _, err = call(capsys, ".")
    assert code == 2 and len(err) == 1 and "`output` must be a file outside of the data" in err[0]
    assert call(capsys, ".", "--output", str(photos / "other.html"))[0] == 0


# What Rich would take for markup or an emoji, and two names that differ behind their sixtieth letter.
NAMES = ("[/x]", "[x]", "a:cat:b", "\\[x]", "long" * 16 + "one", "long" * 16 + "two")


def cells(out):
    """What the first column of a table reads, lines that belong together as one."""
    column = [line.split("│")[1] for line in out.splitlines() if line.startswith("│")]
    return "".join(column).replace(" ", "")


@pytest.mark.parametrize("command", ["data", "evaluate"])
def test_names_in_tables_are_no_markup_and_not_cut(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    if command == "data":
        rows = [f"{number}.png,{NAMES[number % 6]}" for number in range(24)]
        for number in range(24):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(f"{number}.png")
        (tmp_path / "a.csv").write_text("\n".join(["file,label", *rows]))
        code, out, err = call(capsys, "a.csv")
        assert (code, err) == (0, []) and (tmp_path / "a.csv-sheet.html").exists()
    else:
        row = {"images": 4, "wrong": 1, "precision": 0.5, "recall": 0.5}
        figures = {"accuracy": 0.75, "loss": 1.0, "images": 24, "calibration": {"error": 0.1}}
        evaluate_command._print({**figures, "classes": [{"name": name, **row} for name in NAMES]})
        out = capsys.readouterr().out
    assert all(name in cells(out) for name in NAMES) and "…" not in out
