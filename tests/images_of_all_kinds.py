"""Image files for tests of the server: good ones, and headers that announce more than anybody should decode."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

KINDS = ("JPEG", "PNG", "GIF", "BMP")


def encode(pixels, kind):
    """An image file of an array [height, width, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def noise(rng, height=9, width=11):
    """Pixels that no format makes small."""
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def announce(content, kind, width, height):
    """The same file with another size in its header."""
    if kind == "JPEG":
        place = next(content.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in content) + 5
        return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]
    if kind == "PNG":
        header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    if kind == "GIF":
        return content[:6] + struct.pack("<HH", width, height) + content[10:]
    return content[:18] + struct.pack("<ii", width, height) + content[26:]


def bomb(side=6_000):
    """A valid PNG of `side`² black pixels in a few kilobytes."""
    rows = zlib.compress(b"\0" * ((side // 8 + 1) * side), 9)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
