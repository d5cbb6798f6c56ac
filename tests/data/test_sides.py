"""Which part an image of a folder belongs to, and that it stays there."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_folders import write

from nasnet_keras.data.loading import load_data, open_data
from nasnet_keras.data.records import division, read_record, write_record
from nasnet_keras.data.sides import TEST, TRAIN, VALIDATION, by_class, by_place

PARTS = ("train", "validation", "test")


def sides(root, **options):
    """{file relative to the root: its part}."""
    data = open_data(root, **options)
    return {os.path.relpath(path, root): part for part in PARTS for path in getattr(data, part).images.sources}


def test_an_image_more_moves_no_other(tmp_path):
    root = write(tmp_path / "photos", {"cat": 40, "dog": 60})
    before = sides(root)
    assert {part: list(before.values()).count(part) for part in PARTS} == pytest.approx(
        {"train": 70, "validation": 10, "test": 20}, abs=12
    )
    for number in range(20):
        write(root, {f"cat/new{number}.png": b"x" * (number + 1), f"cow{number % 2}/{number}.png": b"x"})
        after = sides(root)
        assert {name: after[name] for name in before} == before
    assert sides(root, seed=7) == after
    os.rename(root, tmp_path / "moved")
    assert sides(str(tmp_path / "moved")) == after


def test_the_share_is_what_was_asked_for(tmp_path):
    places = np.random.default_rng(0).random(20000)
    plain = by_place(places, {"test": 0.3, "validation": 0.05})
    assert np.bincount(plain) / 20000 == pytest.approx([0.65, 0.05, 0.3], abs=0.01)
    assert not by_place(places, {}).any()
    root = write(tmp_path / "photos", {"cat": 10, "dog": 10})
    assert set(sides(root, test=0, validation=0).values()) == {"train"}
    assert set(sides(root, test=0).values()) == {"train", "validation"}


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.floats(0, 0.49), st.floats(0, 0.49), st.integers(0, 99))
@settings(deadline=None, max_examples=100)
def test_small_classes_have_at_least_one_image_in_each_part_or_are_for_training(counts, test, validation, seed):
    places = np.random.default_rng(seed).random(sum(counts))
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    found, rare = by_class(places, labels, {"test": test, "validation": validation}, len(counts))
    wanted = 1 + (test > 0) + (validation > 0)
    for label, count in enumerate(counts):
        own = np.bincount(found[labels == label], minlength=3)
        assert own[TRAIN] >= 1
        if count < wanted:
            assert own[TRAIN] == count
        else:
            assert (own[TEST] > 0) == (test > 0) and (own[VALIDATION] > 0) == (validation > 0)
            order = np.argsort(places[labels == label])
            # Test images have the lowest places, validation images the highest.
            assert (np.diff(np.array([1, 2, 0])[found[labels == label][order]]) <= 2).all()
            assert (
                found[labels == label][order].tolist()
                == [TEST] * own[TEST] + [TRAIN] * own[TRAIN] + [VALIDATION] * own[VALIDATION]
            )
    assert rare.tolist() == ([label for label, count in enumerate(counts) if count < wanted] if wanted > 1 else [])


def test_rare_classes_are_told_and_trained_on(tmp_path):
    root = write(tmp_path, {"cat": 9, "rare": 2})
    data = open_data(root)
    assert data.notes == ("classes with fewer than 3 images are for training alone: rare",)
    assert (np.bincount(data.train.labels)[1], data.test.labels.max()) == (2, 0)
    assert open_data(root, test=0).notes == ()


def test_a_given_part_is_kept_and_only_the_missing_one_is_held_out(tmp_path):
    root = write(tmp_path, {"train/cat": 9, "train/dog": 9, "test/cat": 2, "test/dog": 2})
    found = sides(root)
    assert {name for name, part in found.items() if part == "test"} == {name for name in found if name[:4] == "test"}
    assert {part for name, part in found.items() if name[:5] == "train"} == {"train", "validation"}


def test_a_directory_keeps_what_was_held_out(tmp_path):
    root = write(tmp_path / "photos", {"cat": 30, "dog": 3, "rare": 2, "dog/note.txt": b""})
    data, before = open_data(root, test=0.3, validation=0.2), sides(root, test=0.3, validation=0.2)
    write_record(tmp_path / "net", data)
    kept = json.loads((tmp_path / "net" / "data.json").read_text())
    assert kept["format"] == "nasnet-data/1" and kept["images"] == data.digest
    assert sorted(kept["sides"]["test"]) == sorted(name for name, part in before.items() if part == "test")
    assert kept["left_out"] == {"file of unknown type: .txt": ["dog/note.txt"]}
    write(root, {f"{name}/x{n}.png": b"x" * n for name in ("rare", "dog") for n in range(1, 40)})
    after = sides(root, **division(tmp_path / "net", True))
    assert {name: after[name] for name in before} == before
    new = [part for name, part in after.items() if name not in before]
    assert len(new) == 78 and set(new) == set(PARTS)
    # The rule alone would have changed its mind: classes that were too small have grown.
    assert {name: part for name, part in sides(root).items() if name in before} != before


def test_directories_of_earlier_versions_go_by_the_seed(tmp_path):
    root = write(tmp_path / "photos", {"cat": 20, "dog": 20, "dog/inner": 5})
    assert division(tmp_path / "net", False) == {} and division(tmp_path / "net", True) == {"split_rule": "seeded"}
    assert division(tmp_path / "net", True, by_seed=False) == {}  # somebody else's model, and no word of a training
    old = open_data(root, seed=3, split_rule="seeded")
    assert len(old.train) + len(old.validation) + len(old.test) == 40 and old.digest is None
    assert [len(getattr(old, part)) for part in PARTS] == [28, 4, 8]
    write_record(tmp_path / "net", old)
    assert not (tmp_path / "net").exists()


RECORD = {"format": "nasnet-data/1", "images": "a", "shares": {"test": 0.2}, "sides": {"test": ["a/1.png"]}}
DAMAGED = (
    {"images": 3},
    {"shares": {"test": "much"}},
    {"shares": {"train": 0.2}},
    {"shares": {"test": 7}},
    {"shares": [1]},
    {"sides": {"test": 5}},
    {"sides": {"test": [["a"]]}},
    {"sides": 3},
    {"trained": 3},
    {"trained": "?"},
    {"seed": "3"},
    {"seed": -1},
    {"lists": 1},
)


@pytest.mark.parametrize("content", ["", "[]", "{}", *(json.dumps({**RECORD, **change}) for change in DAMAGED)])
def test_a_damaged_record_is_refused(content, tmp_path):
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(ValueError, match=r"data\.json must"):
        read_record(tmp_path)


def test_names_of_any_bytes_are_kept(tmp_path):
    root = write(tmp_path / "photos", {b"caf\xe9\n": 9, "dog": 9})
    data = load_data(root)
    write_record(tmp_path / "net", data)
    assert sides(root, **division(tmp_path / "net", True)) == sides(root)
    assert any("\udce9" in name for name in read_record(tmp_path / "net").sides["test"])


def test_data_without_files_are_divided_as_a_directory_has_kept_it(tmp_path):
    """Whatever seed and shares a later command has."""
    pairs = (np.arange(60, dtype="uint8").reshape(60, 1, 1, 1).repeat(3, 3), np.arange(60) % 2)
    first = open_data(pairs, seed=3, test=0.4)
    write_record(tmp_path, first)
    assert json.loads((tmp_path / "data.json").read_text())["seed"] == 3
    kept = division(tmp_path, True)
    again = open_data(pairs, seed=5, test=0.1, **kept)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(again, part).images, getattr(first, part).images)
    assert again.record.seed == 3 and open_data(pairs, seed=5).record.seed == 5
    write_record(tmp_path / "folder", open_data(write(tmp_path / "photos", {"cat": 9, "dog": 9}), seed=3))
    assert "seed" not in json.loads((tmp_path / "folder/data.json").read_text())  # it had no say
