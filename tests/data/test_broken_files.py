"""Broken files among good ones: found when they are decoded, in a check before, or when their batch is read."""

import io
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.data import loading
from nasnet_keras.data.batches import Batches, readable
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.loading import decoded, load_data, open_data

FAR = 1000  # bytes: nothing fits into this memory
WEB = b"<!DOCTYPE html><html><body>404</body></html>"


def noise(seed, size=(16, 16)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def jpeg(seed):
    stream = io.BytesIO()
    Image.fromarray(noise(seed)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def photos(tmp_path):
    """Forty images in two classes and three broken files; and a copy without those."""
    for root in ("photos", "good"):
        for number in range(40):
            path = tmp_path / root / "ab"[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(number)).save(path)
    (tmp_path / "photos/a/web.jpg").write_bytes(WEB)
    (tmp_path / "photos/a/half.jpg").write_bytes(jpeg(7)[:400])
    (tmp_path / "photos/b/none.jpg").write_bytes(b"")
    return tmp_path / "photos"


def names(split):
    return [Path(source).name for source in split.images.sources]


def test_what_another_process_has_found_broken_counts_here(photos):
    data = load_data(photos.parent / "good", memory_limit=FAR)
    there = pickle.loads(pickle.dumps(data))
    name = there.validation.images.sources[0]
    there.validation.images.broken[name] = "truncated"
    assert there.found_broken() == {name: "truncated"} and not data.all_left_out()
    data.note_broken(json.loads(json.dumps(there.found_broken())))
    assert dict(data.all_left_out()) == {os.path.relpath(name, photos.parent / "good"): "broken file: truncated"}
    assert data.validation.readable.tolist() == [False] + [True] * (len(data.validation) - 1)


def test_broken_images_that_are_bytes_have_a_name_that_json_takes():
    images = ImageFiles((b"no image", jpeg(1)), (16, 16))
    images.read()
    labels = np.zeros(2, np.int32)
    split = loading.Split(images, labels)
    none = split.select(np.arange(0))
    data = loading.Data("pairs", split, none, none, ("a", "b"), (16, 16, 3))
    assert list(json.loads(json.dumps(data.found_broken()))) == ["an image of 8 bytes"]


def test_pieces_are_all_images_in_order_however_many_are_read_ahead():
    files = ImageFiles((*map(jpeg, range(4)), b"no image", *map(jpeg, range(4, 8))), (16, 16))
    images, broken = files.read()
    starts, pieces, lacking = zip(*files.pieces(2), strict=True)
    assert starts == (0, 2, 4, 6, 8) and np.array_equal(np.concatenate(pieces), images)
    assert lacking == ({}, {}, {0: broken[4]}, {}, {})


@pytest.mark.parametrize("memory_limit", [1 << 20, FAR])
def test_broken_files_are_left_out_and_the_others_stay_where_they_are(photos, memory_limit):
    data, good = (load_data(root, memory_limit=memory_limit) for root in (photos, photos.parent / "good"))
    assert set(data.left_out) == {"a/web.jpg", "a/half.jpg", "b/none.jpg"}
    summary = data.left_out.summary()
    assert summary.startswith("3 broken files: ") and "b/none.jpg (it is empty)" in summary
    assert re.search(r"a/half.jpg \(.*truncated", summary, re.I)
    for part in ("train", "validation", "test"):
        one, other = getattr(data, part), getattr(good, part)
        np.testing.assert_array_equal(one.images[:], other.images[:])
        np.testing.assert_array_equal(one.labels, other.labels)
    assert data.train.broken + data.validation.broken + data.test.broken == 2  # the empty one was not even listed
    for text in ("1 broken file: b/none.jpg", "2 broken files: "):  # what the list tells is told before any is read
        with pytest.raises(ValueError, match=f"`strict`.*{text}"):
            load_data(photos, memory_limit=memory_limit, strict=True)
        (photos / "b/none.jpg").unlink(missing_ok=True)
    assert load_data(photos.parent / "good", memory_limit=memory_limit, strict=True).left_out == {}


def unchecked(root, monkeypatch, **options):
    """Data of which more files do not fit into memory than are checked before."""
    monkeypatch.setattr(loading, "CHECKED", 10)
    return decoded(open_data(root, **options), memory_limit=FAR)


def test_above_the_limit_they_are_found_when_they_are_read(photos, monkeypatch):
    data = unchecked(photos, monkeypatch, validation=0, test=0)
    assert set(data.left_out) == {"b/none.jpg"} and len(data.train) == 42
    batches = Batches(data.train, 6, training=True, seed=3, augmentation="cifar")
    seen = [batches[index] for index in range(len(batches))]
    order = np.random.default_rng([3, 0]).permutation(42)
    broken = [index for index, name in enumerate(names(data.train)) if name in ("web.jpg", "half.jpg")]
    for number, (images, labels, weights) in enumerate(seen):
        chosen = order[number * 6 : number * 6 + 6]
        np.testing.assert_array_equal(labels, data.train.labels[chosen])
        np.testing.assert_array_equal(weights, ~np.isin(chosen, broken))
        assert weights.dtype == np.float32 and images.any(axis=(1, 2, 3)).all()
        good = readable((images, labels, weights))
        assert len(good[0]) == len(good[1]) == weights.sum()
    assert set(data.all_left_out()) == {"a/web.jpg", "a/half.jpg", "b/none.jpg"}
    np.testing.assert_array_equal(np.flatnonzero(~data.train.readable), broken)
    again = Batches(unchecked(photos, monkeypatch, validation=0, test=0).train, 6, training=True, seed=3,
                    augmentation="cifar")  # fmt: skip
    for index, batch in enumerate(seen):
        for one, other in zip(batch, again[index], strict=True):
            np.testing.assert_array_equal(one, other)
    images, labels = data.train.in_memory()
    assert images.shape == (40, 16, 16, 3) and len(labels) == 40
    with pytest.raises(ValueError, match=r"`strict`.*3 broken files"):
        decoded(open_data(photos), memory_limit=FAR, strict=True)


def test_a_batch_of_broken_files_alone_has_no_weight(tmp_path):
    (tmp_path / "x.jpg").write_bytes(WEB)
    files = ImageFiles((str(tmp_path / "x.jpg"),) * 3, (4, 4))
    images, _, weights = Batches(loading.Split(files, np.zeros(3, int)), 3)[0]
    assert not weights.any() and np.isfinite(images).all()


def test_a_file_that_goes_while_it_is_trained_on_is_as_good_as_broken(photos):
    data = load_data(photos, memory_limit=FAR, validation=0, test=0)
    assert len(data.left_out) == 3
    Path(data.train.images.sources[4]).unlink()
    Path(data.train.images.sources[7]).write_bytes(jpeg(1)[:300])
    weights = np.concatenate([batch[2] for batch in Batches(data.train, 8)])
    assert np.flatnonzero(weights == 0).tolist() == [4, 7]
    assert len(data.all_left_out()) == 5 and "No such file" in str(dict(data.all_left_out()))
    with pytest.raises(ValueError, match="cannot read the image"):
        data.train.images[:]


def test_no_image_of_a_class_can_be_read(photos):
    for number, file in enumerate((photos / "b").iterdir()):
        file.write_bytes(WEB + bytes(number))
    assert load_data(photos).notes[-1] == "no image for training can be read of the classes b"


def test_a_network_learns_nothing_from_what_cannot_be_read(photos, monkeypatch):
    """Its loss, its accuracy and its figures are those of the same images without the broken ones."""
    import keras

    from nasnet_keras.training.compilation import compile_model
    from nasnet_keras.training.evaluation import evaluate_classes
    from nasnet_keras.training.recipes import recipe

    data = unchecked(photos, monkeypatch, validation=0, test=0)
    good = load_data(photos.parent / "good", validation=0, test=0)
    figures, trained = [], []
    for split, size in ((data.train, 42), (good.train, 40)):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
        )
        compile_model(model, recipe("micro"), 1, 1)
        history = model.fit(Batches(split, size), epochs=1, shuffle=False, verbose=0).history
        figures.append((history["accuracy"], evaluate_classes(model, split, ("a", "b"))))
        trained.append(history["loss"][0] * size)
    assert figures[0][0] == pytest.approx(figures[1][0]) and trained[0] == pytest.approx(trained[1], rel=1e-5)
    assert figures[0][1]["images"] == 40 and sum(map(sum, figures[0][1]["confusion"])) == 40


class Reader:
    """Encoded images, of which a reader of records refuses one in its own words."""

    def __init__(self, files, error):
        self.files, self.error = files, error

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        if index == 2:
            raise self.error
        return self.files[index]

    def take(self, indices):
        return Part(self, list(indices))

    def name(self, index):
        return f"record {index}"


class Part(Reader):
    """Some of them."""

    def __init__(self, whole, indices):
        super().__init__(indices, None)
        self.whole = whole

    def __getitem__(self, index):
        return self.whole[self.files[index]]

    def name(self, index):
        return self.whole.name(self.files[index])


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (FileNotFoundError(2, "No such file or directory", "shard"), "No such file or directory"),
        (KeyError("image"), "'image'"),
        (RuntimeError("DATA_LOSS:\n corrupted"), "DATA_LOSS: corrupted"),
    ],
)
def test_what_a_reader_of_records_raises_is_a_broken_image(error, why):
    files = ImageFiles(Reader([jpeg(number) for number in range(4)], error), (16, 16))
    _, _, weights = Batches(loading.Split(files, np.zeros(4, int)), 4)[0]
    assert weights.tolist() == [1, 1, 0, 1] and files.broken == {"record 2": why}
    assert files.check() == {2: why} and files.stored() > 0
    with pytest.raises(ValueError, match="^cannot read the image record 2: "):
        files.decode()
    files = ImageFiles(Reader([jpeg(1), WEB], error), (16, 16))
    assert files.read()[1][1].startswith("it is not a JPEG")


def test_pixels_that_know_their_files_cannot_be_written_to(photos):
    """A recipe that crops reads the files again, and what was changed in place would be lost without a word."""
    data = load_data(photos)
    for split in (data.train, data.validation, data.train.take(6, 0), loading.Split.joined([data.train, data.test])):
        assert split.files is not None
        with pytest.raises(ValueError, match="read-only"):
            split.images[...] = 0
    changed = loading.replace(data.train, images=255 - data.train.images)
    assert changed.files is None
    changed.images[...] = 0
