"""Images that stay files, or encoded bytes, until somebody asks for their pixels."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from nasnet_keras.data.images import read_image, read_size

CHUNK = 64  # images that a thread takes at a time


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images that are decoded when they are asked for; indexing it is like indexing a uint8 array.

    Args:
        sources: paths, or encoded images as `bytes`.
        image_size: `(height, width)` of every decoded image.
        grey_range: as for `images.read_image`.
    """

    sources: tuple
    image_size: tuple[int, int]
    grey_range: tuple[float, float] | None = None

    def __len__(self):
        return len(self.sources)

    @property
    def shape(self):
        """`(images, height, width, 3)`."""
        return (len(self), *self.image_size, 3)

    def __getitem__(self, indices):
        """uint8 images [n, height, width, 3] of an integer array or a slice, [height, width, 3] of an integer."""
        chosen = np.arange(len(self))[indices]
        if chosen.ndim == 0:
            return read_image(self.sources[chosen], self.image_size, self.grey_range)
        return self.take(chosen).decode()

    def take(self, indices, axis=0):
        """The images at these indices, still not decoded; named after the method of arrays."""
        if axis != 0:
            raise ValueError(f"`axis` must be 0. Received: {axis!r}")
        return replace(self, sources=tuple(self.sources[index] for index in indices))

    def decode(self, progress=None):
        """Decode all images, on all processors.

        Args:
            progress: None, or a function called with the number of images done and of all.

        Returns:
            uint8 array [n, height, width, 3].

        Raises:
            ValueError: naming the first file that cannot be read.
        """
        images = np.empty(self.shape, np.uint8)

        def decode(index):
            images[index] = read_image(self.sources[index], self.image_size, self.grey_range)

        self._each(decode, progress)
        return images

    def check(self, progress=None):
        """Read every header. Raises `ValueError` naming the first file that is no image."""
        self._each(lambda index: read_size(self.sources[index]), progress)

    def _each(self, function, progress):
        def chunk(start):
            stop = min(start + CHUNK, len(self))
            for index in range(start, stop):
                function(index)
            return stop

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done in pool.map(chunk, range(0, len(self), CHUNK)):
                if progress:
                    progress(done, len(self))
