"""Images that stay files, or encoded bytes, until somebody asks for their pixels."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from nasnet_keras.data.findings import Findings, look, readable_ones
from nasnet_keras.data.images import called, read_pillow, read_size, reason

SHARES = 4  # of a thread in the images at hand, so that none waits long for another
MOST = 64  # images that a thread takes at a time
AHEAD = 2  # pieces that are read while one is looked at
SAMPLE = 256  # images by which the bytes of all are told
LARGEST_OWN_SIZE = 256  # of images that are as large as they are
DEFAULT_SIZE = (224, 224)


@dataclass(frozen=True, eq=False)
class Several:
    """Images of several sources as one source.

    Args:
        sources: what `ImageFiles` takes.
        places: int64 [n, 2]: the number of the source, and that of the image in it.
    """

    sources: tuple
    places: np.ndarray

    @classmethod
    def of(cls, sources):
        """All images of some sources, one source after the other."""
        places = [np.stack(np.broadcast_arrays(number, np.arange(len(one))), 1) for number, one in enumerate(sources)]
        return cls(tuple(sources), np.concatenate(places).astype(np.int64))

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        """As the source of the image gives it."""
        source, place = self.places[index].tolist()
        return self.sources[source][place]

    def take(self, indices):
        """Those at an integer array."""
        return replace(self, places=self.places[np.asarray(indices, np.int64)])

    def name(self, index):
        """What the source of the image calls it."""
        source, place = self.places[index].tolist()
        source = self.sources[source]
        return source[place] if isinstance(source, tuple) else source.name(place)


def own_size(sources, findings=None):
    """`(height, width)` of images: their own if a sample of them agrees on a small one, else 224x224."""
    sample = np.linspace(0, len(sources) - 1, min(64, len(sources))).astype(int)
    sizes = set(map(tuple, readable_ones("size", (sources[index] for index in sample), read_size, findings)))
    own = sizes.pop() if len(sizes) == 1 else DEFAULT_SIZE
    return own if max(own) <= LARGEST_OWN_SIZE else DEFAULT_SIZE


def bytes_of(source):
    """How many bytes an encoded image has, given as `bytes` or as a path; none where there is no file."""
    try:
        return len(source) if isinstance(source, bytes) else os.path.getsize(source)
    except OSError:
        return 0


def _words(error):
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images that are decoded when they are asked for; indexing it is like indexing a uint8 array.

    Args:
        sources: paths, or encoded images as `bytes`, in a tuple; or what has `[index]` for such bytes, `name(index)`
            and `take(indices)`, such as `examples.RecordFiles`.
        image_size: `(height, width)` of every decoded image.
        grey_range: as for `images.read_image`.
        broken: {name: the reason} of those that could not be read so far; parts of these files add to the same dict.
        findings: a `findings.Findings`, by which a check leaves out files that it has checked before; None for none.
    """

    sources: tuple
    image_size: tuple[int, int]
    grey_range: tuple[float, float] | None = None
    broken: dict = field(default_factory=dict, repr=False, kw_only=True)
    findings: Findings | None = field(default=None, repr=False, kw_only=True)

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
            return np.array(self._decode(chosen))
        return self.take(chosen).decode()

    def source(self, index):
        """An image as its path or as encoded `bytes`.

        Raises:
            ValueError: naming the image, where the source cannot give it, whatever it says itself.
        """
        if isinstance(self.sources, tuple):
            return self.sources[index]
        try:
            return self.sources[index]
        except MemoryError:
            raise
        except Exception as error:  # a file that is gone, or what a reader of records written in C++ has to say
            raise ValueError(f"cannot read the image {called(self.name(index))}: {_words(error)}") from None

    def take(self, indices, axis=0):
        """The images at these indices, still not decoded; named after the method of arrays."""
        if axis != 0:
            raise ValueError(f"`axis` must be 0. Received: {axis!r}")
        if not isinstance(self.sources, tuple):
            return replace(self, sources=self.sources.take(indices))
        return replace(self, sources=tuple(map(self.sources.__getitem__, np.asarray(indices, np.int64).tolist())))

    def joined(self, others):
        """Several images of this kind as one."""
        sources = [files.sources for files in others]
        if all(isinstance(one, tuple) for one in sources):
            return replace(self, sources=sum(sources, ()))
        return replace(self, sources=Several.of(sources))

    def name(self, index):
        """What an image is known by: its path, or whatever its source calls it."""
        return self.sources[index] if isinstance(self.sources, tuple) else self.sources.name(index)

    def stored(self):
        """What the encoded images take together, in bytes, by a sample of them; unreadable ones count as nothing."""
        sample = np.unique(np.linspace(0, len(self) - 1, SAMPLE).astype(int)) if len(self) else ()
        sizes = [self._stored(index) for index in sample]
        return round(len(self) * np.mean(sizes)) if sizes else 0

    def _stored(self, index):
        try:
            return bytes_of(self.source(index))
        except ValueError:
            return 0

    def decode(self, progress=None):
        """All images, uint8 [n, height, width, 3]; see `read`. Raises `ValueError` naming a file that is broken."""
        images, broken = self.read(progress)
        for index in sorted(broken)[:1]:
            raise ValueError(f"cannot read the image {called(self.name(index))}: {broken[index]}")
        return images

    def read(self, progress=None):
        """Decode all images, on all processors.

        Args:
            progress: None, or a function called with the number of images done and of all.

        Returns:
            (uint8 array [n, height, width, 3], {index: the reason} of those that cannot be read, which are black).
        """
        return self.make(lambda index, decode: decode(), progress)

    def pieces(self, length):
        """All images, so many at a time, of which the next ones are read while one piece is looked at.

        Yields:
            (index of the first image, uint8 images [at most length, height, width, 3], {index among these: the reason}
            of those that cannot be read).
        """

        def read(start):
            return start, *self.take(range(start, min(start + length, len(self)))).read()

        waiting = deque()
        with ThreadPoolExecutor(1) as reader:
            for start in range(0, len(self), length):
                waiting.append(reader.submit(read, start))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def make(self, function, progress=None):
        """Make something of all images, on all processors.

        Args:
            function: of an image's index and a function that decodes it, by default or a `part` of it, see
                `images.read_pillow`; it gives uint8 [height, width, 3], or such a Pillow image.
            progress, and what is returned: as for `read`.
        """
        images = np.zeros(self.shape, np.uint8)

        def read(index):
            images[index] = function(index, partial(self._decode, index))

        return images, self.each(read, progress)

    def check(self, progress=None):
        """Decode all images and keep none; {index: the reason} of those that cannot be read.

        Files that a check before could read are not decoded again unless they have changed.
        """
        kind = f"pixels {self.grey_range}"

        def one(index):
            look(kind, self.source(index), lambda _: self._decode(index) is not None, self.findings)

        return self.each(one, progress)

    def _why(self, index, error):
        """The reason of an error without the image's name; the source is not asked again, as it may be what fails."""
        text = reason(self.name(index), error)
        return text.partition(": ")[2] if text.startswith("cannot read the image of ") else text

    def _decode(self, index, part=None):
        return read_pillow(self.source(index), self.image_size, self.grey_range, part=part)

    def each(self, function, progress=None):
        """Call a function for every image, on all processors.

        Args:
            function: of an image's index; its `ValueError` says that the image is broken, which is noted in `broken`.
            progress: as for `read`.

        Returns:
            {index: the reason} of those that are broken.
        """
        broken = {}

        def attempt(index):
            try:
                function(index)
            except ValueError as error:
                broken[index] = self._why(index, error)
                self.broken[self.name(index)] = broken[index]

        threads = os.cpu_count() or 1
        share = max(1, min(MOST, len(self) // (SHARES * threads)))

        def chunk(start):
            stop = min(start + share, len(self))
            for index in range(start, stop):
                attempt(index)
            return stop

        with ThreadPoolExecutor(threads) as pool:
            for done in pool.map(chunk, range(0, len(self), share)):
                if progress:
                    progress(done, len(self))
        return dict(sorted(broken.items()))
