"""Where `plot` writes: what a file from elsewhere says of itself leads nowhere."""

from dataclasses import replace
from pathlib import Path

import pytest

from nasnet_keras import load_genotype
from nasnet_keras.cli import main


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder deep below `tmp_path`, in which the command runs."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def written(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.suffix == ".svg")


@pytest.mark.parametrize(
    "name", ["../../logo", "{root}/logo", "x/logo", "x/", "..", ".hidden", "", "two\nlines", "\0", "a\\b", "x" * 300]
)
def test_a_name_is_no_path(name, place, tmp_path, capsys):
    genotype = replace(load_genotype("tiny"), name=name.format(root=tmp_path))
    genotype.save(place / "got by mail.json")
    assert main(["plot", "got by mail.json"]) == 0
    assert written(tmp_path) == ["a/b/got by mail.svg"] and capsys.readouterr().out == "got by mail.svg\n"


def test_a_plain_name_is_the_file_s(place, tmp_path):
    replace(load_genotype("tiny"), name="my cell, 2.1").save(place / "x.json")
    assert main(["plot", "x.json"]) == main(["plot", "tiny"]) == 0
    assert written(tmp_path) == ["a/b/my cell, 2.1.svg", "a/b/tiny.svg"]


def test_a_picture_is_replaced_in_one_step(place, monkeypatch, capsys):
    """A full disk leaves the old one."""
    Path("tiny.svg").write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nasnet_keras.files.os.fsync", full)
    assert main(["plot", "tiny"]) == 2 and "No space left on device" in capsys.readouterr().err
    assert [path.name for path in place.iterdir()] == ["tiny.svg"] and Path("tiny.svg").read_text() == "old"
