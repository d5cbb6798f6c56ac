"""What requests may take, and the reading of their bodies under it."""

import asyncio
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from nasnet_keras.checks import check_integer
from nasnet_keras.export.folders import MAX_BATCH
from nasnet_keras.serving.batching import SIZES
from nasnet_keras.serving.rest import LARGEST_IMAGES, Refusal

BODIES = 8  # as many bodies of the greatest size may be in memory at a time


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take.

    Args:
        body: greatest size of a request's body in bytes; all of them together may have eight times that.
        pixels: greatest height × width of an encoded image; those of a request together may have 16 times that.
        queue: greatest number of rows that wait, and that one request has.
        batch: greatest size of a batch, at most 128: a version is warmed up in every power of two up to it. The default
            gives way to a smaller `queue`; another one must not be above it.
        runners: batches that run at a time.
        seconds: how long a client may take to send a request, and about how long it may read nothing of an answer.

    Raises:
        ValueError: a value that is not above 0, or no integer where it must be one; a batch that is too large.
    """

    body: int = 32 * 2**20
    pixels: int = 25_000_000
    queue: int = 256
    batch: int = SIZES[-1]
    runners: int = 2
    seconds: float = 30.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"`{name}` must be above 0. Received: {value}")
        check_integer("batch", self.batch, least=1, most=MAX_BATCH)
        if self.batch > self.queue and self.batch != SIZES[-1]:
            rule = f"at most {self.queue}, the number of rows that may wait, as no batch is larger"
            raise ValueError(f"`batch` must be {rule}. Received: {self.batch}")
        check_integer("runners", self.runners, least=1)

    @property
    def sizes(self):
        """The sizes of batches: powers of two, and `batch` itself, or `queue` if that is less."""
        most = int(min(self.batch, self.queue)) or 1
        return tuple(sorted({2**power for power in range(most.bit_length())} | {most}))


class Bodies:
    """Reads the bodies of requests.

    Args:
        limits: a `Limits`.
    """

    def __init__(self, limits):
        self._limits = limits
        self._held = 0  # bytes of all bodies, those that are still coming included
        self._files = 0  # bytes of the image files in requests that wait, many of them re-coded

    @asynccontextmanager
    async def read(self, request):
        """The body as bytes; it counts as held until the block is left.

        Raises:
            Refusal: it is too large, too slow, compressed, or one too many.
        """
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(self._limits.seconds):
                    await self._fill(body, request)
            except TimeoutError:
                raise Refusal(408, f"the body did not arrive within {self._limits.seconds:g} seconds") from None
            yield bytes(body)
        finally:
            self._held -= len(body)

    @contextmanager
    def hold(self, rows):
        """Count the image files of a request that waits: what was re-coded is far larger than its body.

        All may have what bodies may, and what the pixels of one request make. Raises `Refusal` where they have more.
        """
        size = sum(len(value) for row in rows for value in row.values() if type(value) is bytes)
        most = BODIES * self._limits.body + 3 * LARGEST_IMAGES * self._limits.pixels
        if self._files + size > most:
            raise Refusal(503, "too many large requests at a time. Try again later")
        self._files += size
        try:
            yield
        finally:
            self._files -= size

    async def _fill(self, body, request):
        limits = self._limits
        too_large = Refusal(413, f"the body must have at most {limits.body} bytes")
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "the body must not be compressed")
        if int(request.headers.get("content-length", "0")) > limits.body:
            raise too_large
        async for part in request.stream():
            body += part
            self._held += len(part)
            if len(body) > limits.body:
                raise too_large
            if self._held > BODIES * limits.body:
                raise Refusal(503, "too many large requests at a time. Try again later")
