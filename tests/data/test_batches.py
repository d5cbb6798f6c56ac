"""Batches that depend on nothing but the seed, the epoch and the step, however and whenever they are asked for."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.data.batches import Batches
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.loading import decoded, load_data, open_data
from nasnet_keras.data.splits import Split
from nasnet_keras.training import recipes
from nasnet_keras.training.fitting import training_batches

EVERYTHING = {"augmentation": "photo", "cutout": 3, "rand_augment": 9, "erasing": 0.5, "mixup": 0.4, "cutmix": 1.0}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Forty wide photographs of two classes."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir()
        for number in range(20):
            small = Image.fromarray(rng.integers(0, 256, (6, 12, 3), np.uint8))
            small.resize((96, 48), Image.Resampling.BICUBIC).save(root / name / f"{number}.jpg")
    return root


def batches(photos, memory_limit, **options):
    data = load_data(photos, image_size=16, memory_limit=memory_limit)
    return Batches(data.train, 4, training=True, seed=3, classes=2, **{**EVERYTHING, **options})


def same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.mark.jax
@pytest.mark.parametrize("options", [{}, {"augmentation": "cifar"}])
@pytest.mark.parametrize("memory_limit", [0, 1 << 30])
def test_killed_at_random_steps_the_batches_are_those_of_an_undisturbed_run(photos, memory_limit, options, rng):
    undisturbed = batches(photos, memory_limit, **options)
    steps = len(undisturbed)
    whole = [undisturbed.batch(*divmod(number, steps)) for number in range(3 * steps)]
    for stop in rng.integers(1, 3 * steps, 6):
        resumed = batches(photos, memory_limit, **options)  # as after a new start
        same(resumed.batch(*divmod(int(stop), steps)), whole[stop])
    for number in rng.permutation(3 * steps)[:6]:  # in any order, and by epochs
        epoch, step = divmod(int(number), steps)
        undisturbed.epoch = epoch
        same(undisturbed[step], whole[number])


def test_images_of_a_batch_and_batches_differ(photos):
    found = batches(photos, 0, mixup=0.0, cutmix=0.0, augmentation="none", cutout=0, scaled=False)
    one = replace(found.split, images=found.split.images.take([0] * 8), labels=found.split.labels[[0] * 8])
    for options in ({"rand_augment": 9}, {"erasing": 1.0}, {"augmentation": "photo"}):
        made = Batches(one, 8, training=True, **options)
        pixels = [made.batch(*place)[0] for place in ((0, 0), (1, 0))]
        assert len({image.tobytes() for image in np.concatenate(pixels)}) >= 12, options


def test_crops_come_from_the_files_also_where_images_are_in_memory(photos):
    """From arrays that were decoded, as from files: the same pixels; and not where a user has put others in place."""
    in_memory, files = load_data(photos, image_size=16), load_data(photos, image_size=16, memory_limit=0)
    assert isinstance(in_memory.train.images, np.ndarray) and isinstance(files.train.images, ImageFiles)
    options = {"training": True, "augmentation": "photo", "seed": 1}
    for change in (lambda split: split, lambda split: split.take(9, 4), lambda split: split.select(np.arange(3, 9))):
        one, other = (Batches(change(data.train), 4, **options)[0] for data in (in_memory, files))
        same(one, other)
    joined = [Split.joined([data.train, data.validation]) for data in (in_memory, files)]
    same(*(Batches(split, 4, **options)[0] for split in joined))
    recipe = recipes.recipe("photos")
    same(*(training_batches(data, recipe, 0)[0] for data in (in_memory, files)))
    black = replace(in_memory.train, images=np.zeros_like(in_memory.train.images))
    assert (Batches(black, 4, **options)[0][0] < -0.5).all()
    shrunk = Batches(in_memory.train, 4, training=True, augmentation="cifar", seed=1)[0]
    assert len(shrunk) == 2  # no crop of the file: what is in memory does, and nothing can be broken


def test_training_images_stay_files_for_a_recipe_that_crops_and_the_rest_within_memory(photos):
    opened = open_data(photos, image_size=64)
    kept = decoded(opened, as_files=True)
    assert isinstance(kept.train.images, ImageFiles) and isinstance(kept.validation.images, np.ndarray)
    rest = 64 * 64 * 3 * (len(kept.validation) + len(kept.test))
    assert isinstance(decoded(opened, memory_limit=rest, as_files=True).test.images, np.ndarray)
    assert isinstance(decoded(opened, memory_limit=rest - 1, as_files=True).test.images, ImageFiles)
    small = decoded(open_data(photos, image_size=4), memory_limit=4 * 4 * 3 * 100)
    assert isinstance(small.train.images, ImageFiles)  # their files are larger than that
    assert recipes.recipe("photos").crops and recipes.recipe("imagenet").crops and not recipes.recipe("cifar").crops


def test_a_broken_file_is_left_out_of_a_mixture(photos, tmp_path):
    """Its row has the pixels and the label of another one, so that what is mixed with it has a true label."""
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(2):
            colour = (255, 255, 255) if label == "a" else (0, 0, 0)
            Image.new("RGB", (8, 8), colour).save(tmp_path / label / f"{number}.png")
    data = load_data(tmp_path, validation=0, test=0, memory_limit=0)
    (tmp_path / "b/1.png").write_bytes(b"broken")
    made = Batches(data.train, 4, training=True, mixup=1.0, classes=2)
    for epoch in range(4):
        images, labels, weights = made.batch(epoch, 0)
        assert sorted(weights) == [0, 1, 1, 1]
        np.testing.assert_allclose(images.mean((1, 2, 3)), labels[:, 0] - labels[:, 1], atol=1e-5)


def test_a_batch_of_a_million_images_costs_no_more_than_of_a_few():
    """An epoch's order is drawn once; a batch after it touches its own images alone."""
    many = np.broadcast_to(np.zeros((1, 2, 2, 3), np.uint8), (1_300_000, 2, 2, 3))
    split = Split(many, np.zeros(len(many), np.int32))
    for training in (True, False):
        made = Batches(split, 4, training=training)
        made.batch(0, 0)
        assert made._indices(0, 5).base is made._order[1] if training else True
        assert len(made.batch(0, 5)[0]) == 4


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"erasing": 1.5}, "`erasing`"),
        ({"mixup": -0.1}, "`mixup`"),
        ({"cutmix": "a"}, "`cutmix`"),
        ({"rand_augment": 11}, "`rand_augment`"),
        ({"mixup": 0.2}, "`classes`"),
        ({"mixup": 0.2, "classes": 2, "training": False}, "`mixup` must be left out unless `training`"),
        ({"rand_augment": 5, "training": False}, "`rand_augment` must be left out unless `training`"),
    ],
)
def test_bad_arguments_are_named(options, named):
    split = Split(np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) % 2)
    with pytest.raises(ValueError, match=named):
        Batches(split, 2, **{"training": True, **options})


def test_two_epochs_show_both_sides_of_every_image(tmp_path):
    """Of arrays and of files, whatever order they come in."""
    images = np.zeros((40, 8, 8, 3), np.uint8)
    images[:, :, 4:] = 255
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    for source in (images, ImageFiles(tuple(map(str, paths)), (8, 8))):
        split = Split(source, np.arange(40))  # so that a label tells which image it is
        batches = Batches(split, 8, training=True, augmentation="alternating", seed=3)
        shown = []
        for epoch in range(4):
            found = [batches.batch(epoch, step)[:2] for step in range(len(batches))]
            shown.append({label: image[0, 0, 0] > 0 for both in found for image, label in zip(*both, strict=True)})
        assert shown[0] == shown[2] and shown[1] == shown[3] == {label: not side for label, side in shown[0].items()}
        assert 8 < sum(shown[0].values()) < 32


@pytest.mark.jax
def test_batches_are_got_ready_in_their_order():
    """Elsewhere than on TensorFlow a thread reads ahead; whatever is asked for, in whatever order, is what it is."""
    split = load_data("digits", limit=200).train
    batches, plain = (Batches(split, 16, training=True, augmentation="shifts", seed=1) for _ in range(2))
    for epoch, index in [(0, 0), (0, 1), (0, 2), (1, 2), (0, len(plain) - 1), (1, 0), (0, 1)]:
        batches.epoch = epoch
        for one, other in zip(batches[index], plain.batch(epoch, index), strict=True):
            np.testing.assert_array_equal(one, other)
    failing = Batches(split, 16, training=True, seed=1)
    read, failing.batch = failing.batch, lambda *_: 1 / 0
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing[0]
    failing.batch = read
    np.testing.assert_array_equal(failing[0][0], read(0, 0)[0])
    copy = pickle.loads(pickle.dumps(batches))
    np.testing.assert_array_equal(copy[0][0], batches[0][0])


def test_a_training_whose_files_are_all_gone_ends(tmp_path):
    """A drive that was taken away: black images would teach the batch norms."""
    paths = [tmp_path / f"{number}.png" for number in range(16)]
    for path in paths[:8]:
        Image.new("RGB", (8, 8), "red").save(path)
    split = Split(ImageFiles(tuple(map(str, paths)), (8, 8)), np.arange(16) % 2)
    for seed in range(3):  # half of them are there
        Batches(split, 16, training=True, seed=seed).batch(0, 0)
    for path in paths[:8]:
        path.unlink()
    batches = Batches(split, 16, training=True)
    with pytest.raises(OSError, match="none of the 16 images of a batch can be read, such as .*png") as raised:
        batches.batch(0, 0)
    assert batches.failure is raised.value
    assert not Batches(split, 16).batch(0, 0)[2].any()  # who only looks is told by the weights


def test_files_that_are_gone_are_counted_across_small_batches(tmp_path):
    there = tmp_path / "there.png"
    Image.new("RGB", (8, 8), "red").save(there)
    paths = [str(tmp_path / f"{number}.png") for number in range(16)]
    split = Split(ImageFiles(tuple(paths), (8, 8)), np.arange(16) % 2)
    for size in (1, 3, 4):
        batches = Batches(split, size, training=True)
        read = -(-8 // size) - 1
        for step in range(read):
            assert not batches[step][2].any()
        with pytest.raises(OSError, match="none of the [89] images of batches in a row can be read, such as .*png: No"):
            _ = batches[read]
    mixed = Split(ImageFiles((*paths[:15], str(there)), (8, 8)), split.labels)
    batches = Batches(mixed, 4, training=True)
    found = next(step for step in range(4) if 15 in batches._indices(0, step))
    for step in [0, found] * 4:  # what is read in between begins the count anew
        assert len(batches[step]) == 3 if step != found else batches[step][2].any()


def test_a_pass_that_is_needed_has_an_image(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    split = Split(ImageFiles(tuple(map(str, paths)), (8, 8)), np.arange(6) % 2)
    batches = Batches(split, 2)
    assert not any(batches[index][2].any() for index in range(3))
    batches.needed = True
    Image.new("RGB", (8, 8), "red").save(paths[1])
    for _ in range(2):
        assert [batches[index][2].tolist() for index in range(3)] == [[0, 1], [0, 0], [0, 0]]
    paths[1].unlink()
    _ = batches[0], batches[1]
    with pytest.raises(OSError, match="none of the 6 images for validation can be read, such as .*0.png: No such"):
        _ = batches[2]


@pytest.mark.parametrize("size", [1, 6, 20])
def test_a_pass_of_which_the_last_images_have_gone_is_an_error(size, tmp_path):
    """The accuracy would be that of the first classes, and the loss would fall with the share that is lost."""
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    split = Split(ImageFiles(tuple(map(str, paths)), (8, 8)), np.arange(20) % 2)
    batches = Batches(split, size)
    batches.needed = True

    def read(lost, broken=()):
        for number, path in enumerate(paths):
            Image.new("RGB", (8, 8), "red").save(path)
            if number in broken:
                path.write_bytes(b"broken")
            elif number in lost:
                path.unlink()
        return sum(int(batches[index][2].sum()) for index in range(len(batches)))

    assert read(range(13, 20)) == 13  # too few to tell
    assert read((), broken=range(2, 20)) == 2  # which nothing brings back
    assert read(range(2, 14)) == 8  # it came back
    assert read(range(2, 20), broken=[15]) == 2
    with pytest.raises(OSError, match="none of the last 8 of 20 images for validation can be read, such as .*12.png: "):
        read(range(12, 20))
    assert str(batches.failure).endswith("12.png: No such file or directory")
    assert read(()) == 20
