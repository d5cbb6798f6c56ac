"""What a trained child is judged by."""

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.children.settings import accuracy, reward
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.splits import Split


class Guesses:
    """A child that takes everything for class 0; it notes how many images it is asked about at once."""

    def __init__(self):
        self.sizes = []

    def logits(self, images):
        """[n, 2]."""
        self.sizes.append(len(images))
        return np.tile([1.0, 0.0], (len(images), 1))

    def accuracy_of(self, logits, labels):
        """A share."""
        return float((logits.argmax(1) == labels).mean())


def test_a_reward_is_not_that_of_the_images_before_a_drive_went_away(tmp_path):
    """In the order of classes those that are read first are no sample."""
    paths = [str(tmp_path / f"{number}.png") for number in range(20)]
    for path in paths[:10]:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    labels = np.repeat([0, 1], 10)
    assert accuracy(Guesses(), Split(ImageFiles(tuple(paths[:10]), (8, 8)), labels[:10])) == 1.0
    with pytest.raises(OSError, match="none of the last 10 of 20 images for validation can be read"):
        accuracy(Guesses(), Split(ImageFiles(tuple(paths), (8, 8)), labels))


@pytest.mark.parametrize(
    ("side", "count", "sizes"), [(32, 600, [500, 100]), (90, 501, [500, 1]), (91, 257, [256, 1]), (224, 65, [64, 1])]
)
def test_of_large_images_fewer_are_judged_at_once(side, count, sizes):
    """Of small ones 500, as ever: a reward stays what it was."""
    child = Guesses()
    accuracy(child, Split(np.broadcast_to(np.uint8(0), (count, side, side, 3)), np.zeros(count, int)))
    assert child.sizes == sizes


def test_of_files_the_size_counts_that_they_are_brought_to(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    child = Guesses()
    accuracy(child, Split(ImageFiles((str(tmp_path / "a.png"),) * 17, (512, 512)), np.zeros(17, int)))
    assert child.sizes == [16, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_reward_without_a_number(value):
    with pytest.raises(FloatingPointError):
        reward(value)
