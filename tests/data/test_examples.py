"""Examples of TensorFlow Datasets by number: the index, the order, and files that are not as they should be."""

import io
import itertools
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.cli import parser
from nasnet_keras.commands.datasets import find
from nasnet_keras.data import examples, sources
from nasnet_keras.data.examples import open_examples, read_in_turn
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.images import read_image
from nasnet_keras.data.loading import load_data, open_data
from nasnet_keras.data.records import write_record
from nasnet_keras.data.splits import Split
from nasnet_keras.data.survey import near_places, survey

tfds = pytest.importorskip("tensorflow_datasets", reason="TensorFlow Datasets is not installed")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

SHARDS = 5


def prepare(root, form="tfrecord", shards=SHARDS, in_order=False, count=203, name="shades", first=0):
    """A data set of one grey in each image; the label is its last digit."""
    features = {
        "file_name": tfds.features.Text(),
        "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(num_classes=10),
        "other": tfds.features.Tensor(shape=(3,), dtype=np.float32),
    }
    rows = [
        (
            f"{number:04}",
            {
                "file_name": f"{number}.png",
                "image": np.full((8, 8, 3), number, np.uint8),
                "label": (first + number) % 10,
                "other": np.zeros(3, np.float32),
            },
        )
        for number in range(count)
    ]
    return store(root, name, features, {"train": rows}, form, shards, in_order)


def store(root, name, features, parts, form="tfrecord", shards=1, in_order=False):
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        data_dir=root,
        features=tfds.features.FeaturesDict(features),
        split_datasets=parts,
        disable_shuffling=in_order,
        file_format=form,
        download_config=tfds.download.DownloadConfig(try_download_gcs=False, num_shards=shards),
    )
    return root / name / "1.0.0"


def greys(sources):
    return [int(np.asarray(Image.open(io.BytesIO(sources[index])))[0, 0, 0]) for index in range(len(sources))]


@pytest.mark.parametrize("in_order", [False, True])
def test_examples_come_in_the_order_that_tfds_reads_them(tmp_path, in_order):
    folder = prepare(tmp_path, in_order=in_order)
    builder = tfds.builder_from_directory(folder)
    wanted = [int(one["image"][0, 0, 0]) for one in tfds.as_numpy(builder.as_dataset(split="train"))]
    assert len(builder.info.splits["train"].filepaths) == SHARDS
    data = open_data("tfds:shades", data_dir=tmp_path, validation=0, test=0)
    found = greys(data.train.images.sources)
    assert found == wanted and sorted(found) == list(range(203))
    np.testing.assert_array_equal(data.train.labels, np.array(wanted) % 10)


def test_shards_of_a_relative_folder_are_read_from_any_other(tmp_path, monkeypatch):
    prepare(tmp_path / "sets")
    monkeypatch.chdir(tmp_path)
    data = open_data("tfds:shades", data_dir="sets", validation=0, test=0)
    monkeypatch.chdir(tmp_path / "sets")
    assert sorted(greys(data.train.images.sources)) == list(range(203)) and data.name == "tfds:shades"


@pytest.mark.parametrize("counts", [[40, 3, 0, 16, 17, 100], [1] * 40, [16] * 20, [5] * 17 + [300]])
def test_the_turn_of_shards_is_that_of_interleave(counts):
    import tensorflow as tf

    starts = np.cumsum(counts) - counts
    shards = tf.data.Dataset.from_tensor_slices((starts, np.array(counts)))
    read = shards.interleave(
        lambda start, count: tf.data.Dataset.range(start, start + count), cycle_length=16, block_length=16
    )
    assert read_in_turn(np.array(counts)).tolist() == [int(one) for one in read]


def test_both_formats_have_the_same_images(tmp_path):
    pytest.importorskip("array_record", reason="array_record is not installed")
    kinds = {}
    for form in ("tfrecord", "array_record"):
        prepare(tmp_path / form, form)
        data = load_data("tfds:shades", data_dir=tmp_path / form, validation=0, test=0)
        kinds[form] = dict(zip(data.train.images[:, 0, 0, 0].tolist(), data.train.labels.tolist(), strict=True))
    assert kinds["tfrecord"] == kinds["array_record"] == {grey: grey % 10 for grey in range(203)}


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_an_index_is_made_once(tmp_path, monkeypatch, form):
    folder = prepare(tmp_path, form)
    first = open_data("tfds:shades", data_dir=tmp_path)
    for name in ("_index_records", "_index_arrays"):
        monkeypatch.setattr(examples, name, lambda *_: pytest.fail("indexed again"))
    second = open_data("tfds:shades", data_dir=tmp_path)
    np.testing.assert_array_equal(first.train.labels, second.train.labels)
    assert greys(first.test.images.sources) == greys(second.test.images.sources)
    monkeypatch.undo()
    index = folder / ".nasnet-index-train.npz"
    for damage in (b"", b"PK\x03\x04 nonsense", index.read_bytes()[:100]):
        index.write_bytes(damage)
        np.testing.assert_array_equal(open_data("tfds:shades", data_dir=tmp_path).train.labels, first.train.labels)


def test_other_files_have_another_index(tmp_path):
    folder = prepare(tmp_path / "one")
    open_data("tfds:shades", data_dir=tmp_path / "one")
    other = prepare(tmp_path / "two", count=57)
    for file in folder.glob("shades-train*"):
        file.unlink()
    for file in other.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    data = open_data("tfds:shades", data_dir=tmp_path / "one", validation=0, test=0)
    assert sorted(greys(data.train.images.sources)) == list(range(57))


def test_shards_that_are_not_whole_are_refused(tmp_path):
    folder = prepare(tmp_path)
    shards = sorted(folder.glob("shades-train*"))
    content = shards[2].read_bytes()
    shards[2].write_bytes(content[:-20])
    with pytest.raises(ValueError, match=f"shard {shards[2]} ends in the middle of an example, after [0-9]+$"):
        open_data("tfds:shades", data_dir=tmp_path)
    shards[2].write_bytes(b"\xff" * 400)
    with pytest.raises(ValueError, match="ends in the middle"):
        open_data("tfds:shades", data_dir=tmp_path)
    shards[2].write_bytes((60).to_bytes(8, "little") + b"\xff" * 68)
    with pytest.raises(ValueError, match="with the image 'image' and the label 'label', unlike byte 12"):
        open_data("tfds:shades", data_dir=tmp_path)
    shards[2].write_bytes(b"")
    with pytest.raises(ValueError, match="must have 203 examples in train. Received: 16[0-9]$"):
        open_data("tfds:shades", data_dir=tmp_path)
    shards[2].unlink()
    with pytest.raises(ValueError, match=f"cannot read the shard {shards[2]}: No such file"):
        open_data("tfds:shades", data_dir=tmp_path)


def test_a_shard_that_becomes_shorter_has_broken_images(tmp_path):
    """Weight 0 for what is gone; the other images of the batch are as they were."""
    from nasnet_keras.data.batches import Batches

    folder = prepare(tmp_path, in_order=True, shards=1)
    data = load_data("tfds:shades", data_dir=tmp_path, validation=0, test=0, memory_limit=100)
    (shard,) = folder.glob("shades-train*")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    images, labels, weights = Batches(data.train, 203)[0]
    good = weights > 0
    assert 90 < good.sum() < 110 and not good[110:].any()
    np.testing.assert_array_equal(np.round((images[good][:, 0, 0, 0] + 1) * 127.5) % 10, labels[good])
    assert all(name.startswith("shades-train") and "byte" in name for name in data.train.images.broken)


def test_numbers_of_every_length_and_either_packing():
    """Labels as both kinds of integer lists of the wire format have them, negative ones included."""

    def varint(value):
        value, parts = value % (1 << 64), bytearray()
        while value > 127:
            parts.append(value & 127 | 128)
            value >>= 7
        return bytes([*parts, value])

    def field(number, content):
        return varint(number << 3 | 2) + varint(len(content)) + content

    def pair(name, feature):
        return field(1, field(1, name) + field(2, feature))

    for label in (0, 1, 127, 128, 300, 2**31 - 1, -1):
        for numbers in (field(1, varint(label)), varint(1 << 3) + varint(label)):
            pairs = pair(b"label", field(3, numbers)) + pair(b"image", field(1, field(1, b"pixels" * 50)))
            record = field(1, pairs)
            start, stop, found = examples._example(record, 0, len(record), "image", "label", "file")
            assert record[start:stop] == b"pixels" * 50 and found == label


def test_a_folder_that_is_not_to_be_written_is_no_hindrance(tmp_path, monkeypatch, caplog):
    """The index goes to the cache, once, whatever way leads to the folder; where that cannot be, it is told."""
    folder = prepare(tmp_path)
    write, refused = examples.write_atomically, [".nasnet-index-train.npz"]

    def refuse(path, content):
        if path.name in refused or refused[0] == "all":
            raise PermissionError(13, "Permission denied")
        write(path, content)

    def opened(folder):
        paths = sorted(map(str, folder.glob("shades-train*")))
        return open_examples(paths, "train", "image", "label", count=203)[1]

    monkeypatch.setattr(examples, "write_atomically", refuse)
    first = opened(folder)
    assert not (folder / ".nasnet-index-train.npz").exists()
    (tmp_path / "link").symlink_to(folder)
    with monkeypatch.context() as patches:
        patches.setattr(examples, "_index_records", lambda *_: pytest.fail("indexed again"))
        np.testing.assert_array_equal(opened(tmp_path / "link"), first)
    assert "anew" not in caplog.text
    refused[0] = "all"
    assert len(opened(prepare(tmp_path / "other"))) == 203
    assert [text for text in caplog.messages if text.endswith("(Permission denied): it is made anew each time")]


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.zeros(3, np.int32)},
        {"labels": np.zeros(203)},
        {"places": np.full((203, 3), 1 << 60)},
        {"places": np.full((203, 3), -1)},
        {"places": np.zeros((5, 2), np.int64)},
        {"places": np.array(["a"])},
        {"more": np.zeros(10_000_000, np.int8)},
    ],
)
def test_an_index_that_cannot_be_right_is_made_anew(tmp_path, change):
    """Whoever writes beside the data does not decide what is read from where, nor how much memory it takes."""
    folder = prepare(tmp_path)
    before = open_data("tfds:shades", data_dir=tmp_path, validation=0, test=0).train
    index = folder / ".nasnet-index-train.npz"
    with np.load(index) as found:
        kept = dict(found)
    np.savez_compressed(index, **{**kept, **change})
    after = open_data("tfds:shades", data_dir=tmp_path, validation=0, test=0).train
    assert greys(after.images.sources) == greys(before.images.sources)
    np.testing.assert_array_equal(after.labels, before.labels)


def test_labels_that_no_class_has_are_refused(tmp_path):
    folder = prepare(tmp_path)
    names = folder / "label.labels.txt"
    assert not names.exists()
    features = folder / "features.json"
    features.write_text(features.read_text().replace('"numClasses": "10"', '"numClasses": "7"'))
    with pytest.raises(ValueError, match="'tfds:shades' must have labels from 0 to 6 in train.*Received: 0 to 9"):
        open_data("tfds:shades", data_dir=tmp_path)


def test_several_parts_are_one_source(tmp_path):
    """Nothing is read before it is asked for."""
    prepare(tmp_path)
    data = open_data("tfds:shades", data_dir=tmp_path, validation=0.2, test=0.3)
    parts = [data.train, data.validation, data.test]
    whole = Split.joined(parts)
    assert len(whole) == 203
    assert greys(whole.images.sources) == [grey for one in parts for grey in greys(one.images.sources)]
    some = whole.select(np.array([200, 0, 100]))
    np.testing.assert_array_equal([grey % 10 for grey in greys(some.images.sources)], some.labels)
    assert some.images.name(1) == data.train.images.name(0)


def test_records_are_looked_at_one_by_one(tmp_path, monkeypatch):
    """The whole data set may be larger than memory; and broken records of one length are two."""
    folder = prepare(tmp_path, shards=1)
    data = open_data("tfds:shades", data_dir=tmp_path, validation=0.2, test=0.2)
    sources = data.train.images.sources
    (shard,) = folder.glob("shades-train*")
    content = bytearray(shard.read_bytes())
    for _, start, size in sources.places[[3, 8]].tolist():
        content[start : start + size] = bytes(size)
    shard.write_bytes(content)
    monkeypatch.setattr(examples.RecordFiles, "__iter__", lambda _: pytest.fail("all at once"), raising=False)
    found = survey(data)
    assert found["images"]["train"] == len(data.train) - 2 and sum(found["images"].values()) == 201
    assert sum(row["train"] for row in found["classes"]) == len(data.train) - 2
    assert found["kinds"] == {"PNG RGB": 201}
    parts = [data.train, data.validation, data.test]
    assert found["bytes"] == sum(int(one.images.sources.places[:, 2].sum()) for one in parts)
    assert sorted(itertools.chain.from_iterable(found["left_out"].values())) == sorted(
        sources.name(index) for index in (3, 8)
    )
    assert near_places(data) == ([], 203)  # one grey each


def test_pairs_of_records_are_found(tmp_path):
    rng = np.random.default_rng(0)
    looks = [rng.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(4)]
    rows = [(f"{number}", {"image": one, "label": number % 2}) for number, one in enumerate(looks)]
    features = {"image": tfds.features.Image(shape=(16, 16, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
    store(tmp_path, "looks", features, {"train": rows, "test": rows[1:2]})
    data = open_data("tfds:looks", data_dir=tmp_path, validation=0)
    ((one, other),), _ = near_places(data)
    assert (one[0], other) == ("train", ("test", 0))
    assert np.array_equal(read_image(data.train.images.source(one[1])), looks[1])


def test_classes_without_images_and_parts_without_labels_are_told(tmp_path):
    """As letters of which the first class is never used, and a test set whose labels are a secret."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    rows = [(f"{number}", {"image": pixels, "label": 1 + number % 2}) for number in range(20)]
    secret = [(f"{number}", {"image": pixels, "label": -1}) for number in range(5)]
    features = {"image": tfds.features.Image(shape=(8, 8, 3)), "label": tfds.features.ClassLabel(num_classes=3)}
    store(tmp_path, "letters", features, {"train": rows, "test": secret})
    data = open_data("tfds:letters", data_dir=tmp_path)
    assert data.train.counts(3)[0] == 0 and len(data.test) == 4  # of the images for training
    assert data.notes == (
        "test has no labels for 5 of 5 images and is not used",
        "no image for training has the classes 0",
    )


def test_floats_that_are_kept_as_four_channels_are_refused(tmp_path):
    image = tfds.features.Image(shape=(8, 8, 1), dtype=np.float32)
    features = {"image": image, "label": tfds.features.ClassLabel(num_classes=2)}
    rows = [(f"{number}", {"image": np.full((8, 8, 1), 0.5, np.float32), "label": number % 2}) for number in range(4)]
    store(tmp_path, "floats", features, {"train": rows})
    with pytest.raises(ValueError, match="'tfds:floats' must have images of 8 or 16 bits. Received: float32"):
        open_data("tfds:floats", data_dir=tmp_path)


def test_a_shard_that_goes_has_broken_images(tmp_path):
    """Said as of other broken images; the training goes on without them, as it does without files that go."""
    folder = prepare(tmp_path, shards=1)
    data = open_data("tfds:shades", data_dir=tmp_path, validation=0, test=0)
    (shard,) = folder.glob("shades-train*")
    shard.unlink()
    images = ImageFiles(data.train.images.sources.take([0, 1]), (8, 8))
    found, broken = images.read()
    assert broken == dict.fromkeys([0, 1], "No such file or directory") and not found.any()
    assert survey(data)["images"]["train"] == 0
    assert data.all_left_out()[images.name(0)] == "broken file: No such file or directory"


def test_a_directory_knows_its_prepared_data_set_wherever_that_lies(tmp_path, monkeypatch):
    """By its name, shards and labels; directories of earlier versions have no record of that, and go on."""
    prepare(tmp_path / "one", shards=1)
    prepare(tmp_path / "two", shards=1, first=1)  # as many images of as many classes
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    net = tmp_path / "net"
    options = parser().parse_args(["train", "--data", "tfds:shades", "--directory", str(net)])

    def found(place):
        monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path / place))
        return find(options)

    data = found("one")
    write_record(net, data)
    (net / "history.json").write_text("{}")
    assert found("moved").digest == data.digest and data.digest
    with pytest.raises(ValueError, match="net was begun with other images than tfds:shades holds"):
        found("two")
    kept = json.loads((net / "data.json").read_text())
    (net / "data.json").write_text(json.dumps({**kept, "images": None}))
    assert found("two").digest != data.digest


@pytest.mark.parametrize("fault", ["cut short", "a field of another version", "a feature of another version"])
def test_what_another_version_has_prepared_is_one_line(tmp_path, fault):
    """Protobuf, JSON and TFDS each fail in ways of their own."""
    folder = prepare(tmp_path, shards=1)
    path = folder / ("features.json" if "feature " in fault else "dataset_info.json")
    text = path.read_text()
    changed = {
        "cut short": text[: len(text) // 2],
        "a field of another version": text.replace("{", '{"newField": {"a": 1},', 1),
        "a feature of another version": text.replace("class_label_feature.ClassLabel", "class_label_feature.Newer"),
    }[fault]
    assert changed != text
    path.write_text(changed)
    rule = r"^`data` 'tfds:shades' in .*/shades/1.0.0 cannot be read by TFDS \d.*: ."
    with pytest.raises(ValueError, match=rule) as told:
        open_data("tfds:shades", data_dir=tmp_path)
    assert "\n" not in str(told.value)


def parts_of(root, names, name="shades", form="tfrecord"):
    """A data set of twenty images in each split, of greys that count on."""
    rows = {
        split: [
            (f"{number:04}", {"image": np.full((8, 8, 3), 20 * place + number, np.uint8), "label": number % 2})
            for number in range(20)
        ]
        for place, split in enumerate(names)
    }
    features = {"image": tfds.features.Image(shape=(8, 8, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
    return store(root, name, features, rows, form)


@pytest.mark.parametrize(
    ("names", "sizes", "notes"),
    [
        (("train", "val", "extra"), (16, 20, 4), ("extra has 20 examples and is not used",)),
        (("train", "dev", "testing"), (20, 20, 20), ()),
        (("training", "unlabelled"), (14, 2, 4), ("unlabelled has 20 examples and is not used",)),
        (("train", "dev", "validation"), (16, 20, 4), ("dev has 20 examples and is not used",)),
        (("training", "train", "test"), (18, 2, 20), ("training has 20 examples and is not used",)),
    ],
)
def test_splits_of_other_names_are_used_or_told(names, sizes, notes, tmp_path):
    parts_of(tmp_path, names)
    data = open_data("tfds:shades", data_dir=tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == sizes and data.notes == notes


def test_two_splits_for_one_part_are_refused(tmp_path):
    parts_of(tmp_path, ("train", "val", "dev"))
    with pytest.raises(ValueError, match="'tfds:shades' must have one split for validation. Received: val and dev"):
        open_data("tfds:shades", data_dir=tmp_path)


def test_a_directory_goes_on_without_the_splits_that_it_did_not_know(tmp_path, monkeypatch):
    """An earlier version knew `train`, `validation` and `test` alone."""
    parts_of(tmp_path, ("train", "val"))
    with monkeypatch.context() as earlier:
        earlier.setattr(sources, "PARTS", {"train": "train", "validation": "validation", "test": "test"})
        before = open_data("tfds:shades", data_dir=tmp_path)
    assert before.record.shares == {"test": 0.2, "validation": 0.1}
    again = open_data("tfds:shades", data_dir=tmp_path, held_out=before.record)
    assert again.digest == before.digest and len(again.validation) == len(before.validation) == 2
    assert again.notes == ("val has 20 examples and is not used",)
    new = open_data("tfds:shades", data_dir=tmp_path)
    again = open_data("tfds:shades", data_dir=tmp_path, held_out=new.record)
    assert again.digest == new.digest != before.digest and len(again.validation) == 20


def test_records_of_two_parts_have_names_of_their_own(tmp_path):
    pytest.importorskip("array_record", reason="array_record is not installed")
    parts_of(tmp_path, ("train", "test"), form="array_record")
    data = open_data("tfds:shades", data_dir=tmp_path, validation=0)
    every = Split.joined([data.train, data.test])
    names = [every.images.name(index) for index in range(40)]
    assert len(set(names)) == 40 and names[0] == "train, record 0" and names[-1] == "test, record 19"
    every.images.broken[names[5]] = "broken"
    assert every.readable.sum() == 39


def test_records_of_several_parts_are_told_apart_by_their_names():
    parts = [examples.ArrayRecords([b""] * 3, np.arange(3), "image", part) for part in ("train", "test")]
    images = ImageFiles(parts[0], (8, 8)).joined([ImageFiles(part, (8, 8)) for part in parts])
    images.broken[images.name(1)] = "broken"
    assert Split(images, np.zeros(6, int)).readable.tolist() == [True, False, True, True, True, True]
