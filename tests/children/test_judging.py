"""What a trained child is judged by."""

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.children.settings import accuracy, reward
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.splits import Split


class Guesses:
    """A child that takes everything for class 0."""

    def logits(self, images):
        """[n, 2]."""
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_reward_without_a_number(value):
    with pytest.raises(FloatingPointError):
        reward(value)
