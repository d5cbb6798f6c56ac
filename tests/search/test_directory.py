"""The paths of a search's directory, and of what kind its children are."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.data.arrays import data_of_arrays
from nasnet_keras.data.loading import load_data
from nasnet_keras.search.directory import (
    BEFORE,
    LATER,
    SearchDirectory,
    check_place,
    compare_children,
    description,
    keep_children,
)
from nasnet_keras.search.distributed.chief import difference
from nasnet_keras.search.tuner import search

IMAGES, LABELS = np.arange(8 * 48, dtype=np.uint8).reshape(8, 4, 4, 3), np.arange(8) % 2

NAMES = {
    "header": "search.json",
    "children": "children.json",
    "trials": "trials.jsonl",
    "imported": "imported.jsonl",
    "tries": "tries",
    "controller": "controller",
    "proposals": "controller/proposals.jsonl",
    "attempts": "controller/attempts.jsonl",
    "updates": "controller/updates.jsonl",
    "snapshot": "controller/state.npz",
    "lock_file": "controller/lock",
    "preference": "preference.json",
    "cost_functions": "cost_functions.json",
    "best_genotype": "best_genotype.json",
    "best_normal": "best_normal.svg",
    "best_reduction": "best_reduction.svg",
    "report": "report.html",
    "retrained": "retrained.json",
    "retrained_models": "retrained",
    "final": "final",
    "tensorboard": "tensorboard",
    "shared": "shared",
    "logs": "logs",
    "chief_log": "chief.log",
}


def test_the_names_are_those_of_earlier_versions(tmp_path):
    directory = SearchDirectory(tmp_path)
    found = {name for name, value in vars(SearchDirectory).items() if isinstance(value, property)}
    assert {name: str(getattr(directory, name).relative_to(tmp_path)) for name in found} == NAMES
    assert SearchDirectory(str(tmp_path)).report == tmp_path / "report.html"
    assert not list(tmp_path.iterdir())


def test_children_of_another_kind_are_refused(tmp_path):
    compare_children(tmp_path, {"epochs": 1})  # nothing is known yet
    keep_children(tmp_path, {"epochs": 1, "filters": [4]}, "jax/1")
    keep_children(tmp_path, {"epochs": 1, "filters": [4]}, "jax/1")
    compare_children(tmp_path, {"epochs": 1})
    for other, message in (
        ({"epochs": 2}, "another `epochs`: 1. Received: 2. Choose another directory"),
        ({"epochs": 1, "filters": [8]}, r"another `filters`: \[4\]. Received: \[8\]"),
        ({"data": "x"}, "another `data`: None. Received: 'x'"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_children(tmp_path, other)
    (tmp_path / "children.json").write_text("{")
    keep_children(tmp_path, {"epochs": 2}, "jax/1")
    assert (tmp_path / "children.json.damaged").read_text() == "{"


def described(images, name="arrays"):
    data = data_of_arrays(images, LABELS, (images[:4], LABELS[:4]))
    return description(ChildSettings(), replace(data, name=name))


def test_other_pixels_of_the_same_shape_are_other_data(tmp_path):
    now = described(IMAGES)
    keep_children(tmp_path, now, "jax/1")
    keep_children(tmp_path, described(IMAGES.copy()), "jax/1")
    with pytest.raises(ValueError, match="another `images`"):
        compare_children(tmp_path, described(IMAGES + 1))
    held = data_of_arrays(IMAGES, LABELS, (IMAGES[4:], LABELS[4:]))
    with pytest.raises(ValueError, match="another `validation`"):
        compare_children(tmp_path, description(ChildSettings(), held))
    with pytest.raises(ValueError, match="another `data`: 'arrays'. Received: 'elsewhere'"):
        compare_children(tmp_path, described(IMAGES, "elsewhere"))
    # An earlier version kept the name alone: then that decides.
    (tmp_path / "children.json").write_text(json.dumps({key: now[key] for key in now if key not in LATER}))
    compare_children(tmp_path, described(IMAGES + 1))
    listed = {key: value for key, value in now.items() if key not in ("data", "validation")}
    with pytest.raises(ValueError, match="another `images`: None"):
        compare_children(tmp_path, listed)


def test_other_files_of_the_same_names_are_other_data(tmp_path):
    """What an earlier version knew by their names alone goes on."""

    def of(colour):
        (tmp_path / colour).mkdir()
        files = [str(tmp_path / colour / f"{number}.bmp") for number in range(8)]
        for number, file in enumerate(files):
            Image.new("RGB", (8, 8), colour).resize((8, 8 + (number == 5))).save(file)
        return description(ChildSettings(), load_data((files, LABELS), image_size=8, validation=0.5, test=0))

    now, other = of("red"), of("blue")
    keep_children(tmp_path, now, "jax/1")
    assert BEFORE not in json.loads((tmp_path / "children.json").read_text())
    compare_children(tmp_path, now)
    with pytest.raises(ValueError, match="another `images`"):
        compare_children(tmp_path, other)
    before = {key: value for key, value in now.items() if key != BEFORE} | now[BEFORE]
    (tmp_path / "children.json").write_text(json.dumps(before))
    compare_children(tmp_path, now)


def test_a_folder_with_another_range_of_greys_or_other_of_its_images_is_refused(tmp_path):
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            image = Image.fromarray(np.full((8, 8), 4000 + 10 * number, np.uint16))
            image.save(tmp_path / "photos" / label / f"{number}.png")

    def of(**options):
        return description(ChildSettings(), load_data(tmp_path / "photos", **options))

    now = of(grey_range=(0, 4095), limit=12)
    keep_children(tmp_path, now, "jax/1")
    keep_children(tmp_path, of(grey_range=(0, 4095), limit=12), "jax/1")
    for options, says in (
        ({"limit": 12}, r"`grey_range`: \[0, 4095\]. Received: None. Choose another directory$"),
        ({"limit": 12, "grey_range": (0, 4095), "seed": 1}, "`(training|validation)`"),
    ):
        with pytest.raises(ValueError, match=f"another {says}"):
            compare_children(tmp_path, of(**options))
    # An earlier version kept neither.
    before = {key: now[key] for key in now if key not in ("training", "validation", "grey_range")}
    (tmp_path / "children.json").write_text(json.dumps(before))
    compare_children(tmp_path, of(limit=12, seed=1))


def test_a_child_may_hold_what_json_cannot():
    @dataclass(frozen=True)
    class Own:
        score: object = print

    assert description(Own()) == {"score": "builtin_function_or_method", "child.class": Own.__qualname__}


class Mine:
    """A child that is no dataclass."""

    def __init__(self, epochs, images=None):
        self.epochs, self.data, self.model, self._seen, self.images = epochs, "digits", print, 0, images


class Other(Mine):
    """Another one."""


def test_a_child_of_one_s_own_is_known_by_its_class_and_its_attributes(tmp_path, caplog):
    known = description(Mine(np.int64(1)))
    assert known == {"child.class": "Mine", "child.epochs": 1, "child.data": "digits", "child.images": None}
    assert len(description(Mine(1, list(range(10**4))))["child.images"]) == 16
    keep_children(tmp_path, known, "jax/1")
    keep_children(tmp_path, description(Mine(1)), "jax/1")
    for child, says in (
        (Other(1), "another `child.class`: 'Mine'. Received: 'Other'. Choose another directory$"),
        (object(), "another `child.class`"),
        (ChildSettings(), "another `"),
    ):
        with pytest.raises(ValueError, match=says):
            keep_children(tmp_path, description(child), "jax/1")
    assert difference({"child": known}, {"child": description(Mine(50))}).startswith("`child` must be ")
    assert not caplog.messages
    less = Mine(1)
    del less.data
    for child, says in (
        (Mine(50), "children of `epochs` 1, and goes on with 50: "),
        (Mine(1, [3]), "children of `images` None, and goes on with [3]: "),
        (less, "children of `data` 'digits', and goes on with None: "),
    ):
        caplog.clear()
        keep_children(tmp_path, description(child), "jax/1")
        (message,) = caplog.messages
        assert says in message and message.endswith(" if none does")


def test_a_child_that_takes_the_place_of_chosen_settings_is_refused(tmp_path):
    @dataclass(frozen=True)
    class Longer(ChildSettings):
        """Of the same fields."""

    keep_children(tmp_path, description(ChildSettings()), "jax/1")
    for child in (Longer(), Mine(1)):
        with pytest.raises(ValueError, match="another `child.class`: 'ChildSettings'"):
            keep_children(tmp_path, description(child), "jax/1")


def test_children_of_an_earlier_version_go_on_and_a_class_of_one_s_own_is_told(tmp_path, caplog):
    before = {key: value for key, value in description(ChildSettings()).items() if not key.startswith("child.")}
    keep_children(tmp_path, before, "jax/1")
    keep_children(tmp_path, description(ChildSettings()), "jax/1")
    assert not caplog.messages
    for _ in range(2):  # and it is told once
        keep_children(tmp_path, description(Mine(3)), "jax/1")
    assert [message.partition("children.json ")[2] for message in caplog.messages] == [
        "does not say which child it was begun with, and goes on with Mine"
    ]


@pytest.mark.parametrize(
    "name", ["model.keras", "result.json", "history.json", "data.json", "best_genotype.json", "report.html"]
)
def test_a_search_begins_in_no_directory_of_somebody_else(name, tmp_path):
    place = tmp_path / "s"
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    check_place(place)
    (place / name).write_text("mine")
    with pytest.raises(ValueError, match=f"^`directory` {place} holds {name}, which no search there has written. Ch"):
        search("digits", 1, place)
    assert sorted(path.name for path in place.iterdir()) == sorted(["notes.txt", name])
    (place / "controller").mkdir()  # of a search that was killed, or has lost its header
    check_place(place)


def test_other_numerics_are_told(tmp_path, caplog):
    keep_children(tmp_path, {"epochs": 1}, "tensorflow/2")
    keep_children(tmp_path, {"epochs": 1}, "tensorflow/2")
    assert not caplog.messages
    keep_children(tmp_path, {"epochs": 1}, "jax/1")
    assert "begun with numerics tensorflow/2 and goes on with jax/1" in caplog.text
    (tmp_path / "children.json").write_text('{"epochs": 1}')  # as it was before they were written down
    keep_children(tmp_path, {"epochs": 1}, "tensorflow/2")
    assert "begun with numerics tensorflow/1 and goes on with tensorflow/2" in caplog.text
    caplog.clear()
    keep_children(tmp_path, {"epochs": 1}, "jax/1")
    assert not caplog.messages
