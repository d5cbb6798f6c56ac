"""How an image is stored, by its EXIF block; `decoding` says the same in TensorFlow's words."""

import struct

ORIENTATION, SHORT, LONG = 0x112, 3, 4


def exif_orientation(block):
    """How an image is stored, 1 (upright) to 8, by the first orientation in the first directory of an EXIF block.

    Args:
        block: bytes, with or without `Exif` before them; whatever makes no sense in them means 1.
    """
    for _ in range(2):  # some write it twice
        block = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for place in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", block, place)
        if tag == ORIENTATION and kind in (SHORT, LONG) and number == 1:
            (value,) = struct.unpack_from(order + {SHORT: "H", LONG: "I"}[kind], block, place + 8)
            return value if 1 <= value <= 8 else 1
    return 1
