"""Pixel parity: whether training, evaluation, prediction, a SavedModel and the server see the same in a file.

    python tests/pixels.py [FOLDER] [--count 24] [--sizes 32 224]

Each photograph is written as each kind of file that training takes, and read on every way. A row for each kind says
by how much the pixels differ from those of `read_image`: mean, signed mean and 99.9th percentile of 255, and how often
the best class is another one where its probability is above 0.6. It ends with code 1 where that is too much. Without a
folder the photographs are drawn. `test_pixels.py` runs a short form of it.
"""

import argparse
import base64
import io
import json
import os
import struct
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

RANGE = (-1024, 3071)  # of greys of more than 8 bits, as computed tomography has them
MEAN, SIGNED, PERCENTILE, SURE = 1.0, 0.1, 8, 0.6
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
LARGE = (4000, 3000)
WAYS = ("training", "evaluate", "predict", "serve", "graph")


# --- writers of what Pillow does not write ---


def png(values, colour, interlaced=False, chunks=(), behind=()):
    """A PNG of an array [height, width, channels] of 8 or 16 bits; `colour` is its colour type."""
    height, width = values.shape[:2]
    depth = 8 * values.itemsize
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = []
    for left, top, right, down in passes:
        part = values[top::down, left::right].astype(values.dtype.newbyteorder(">"))
        rows += [b"\0" + row.tobytes() for row in part] if part.size else []
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"".join(rows), 1)), *behind, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def png_chunk(kind, content):
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff(values, order="<", photometric=1, signed=False, orientation=1):
    """An uncompressed TIFF of an array [height, width] or [height, width, channels]."""
    height, width, *channels = values.shape
    count = channels[0] if channels else 1
    kind = 3 if values.dtype.kind == "f" else 2 if signed else 1
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    end = 8 + len(data)
    bits = struct.pack(f"{order}{count}H", *[8 * values.itemsize] * count)
    kinds = struct.pack(f"{order}{count}H", *[kind] * count)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, count, bits), (259, 3, 1, 1), (262, 3, 1, photometric)]
    tags += [(273, 4, 1, 8), (274, 3, 1, orientation), (277, 3, 1, count), (278, 4, 1, height), (279, 4, 1, len(data))]
    tags += [(339, 3, count, kinds)]
    entries, further = b"", b""
    for tag, form, number, value in tags:
        if isinstance(value, int):
            value = struct.pack(order + {3: "HH", 4: "I"}[form], *((value, 0) if form == 3 else (value,)))
        if len(value) > 4:
            place = end + 2 + 12 * len(tags) + 4 + len(further)
            further, value = further + value, struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", tag, form, number) + value.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", end)
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + further


def exif(orientation):
    """An EXIF block as Pillow takes it."""
    block = Image.Exif()
    block[0x112] = orientation
    return block


def write(image, kind, **options):
    """A file of a Pillow image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- kinds ---


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        write: function of a photograph (RGB) to the content of a file.
        in_graph: whether a graph decodes it by itself; if not, it refuses it.
        grey_range: that of the network.
    """

    write: object
    in_graph: bool = True
    grey_range: tuple | None = None


def alpha(image):
    """A photograph with transparent, half transparent and opaque parts."""
    mask = image.convert("L").filter(ImageFilter.GaussianBlur(3)).point(lambda value: min(255, max(0, 3 * value - 200)))
    image = image.copy()
    image.putalpha(mask)
    return image


def deep(image, high=65535, low=0):
    """Greys from `low` to `high` in whole numbers, int64 [height, width]; the last bits are drawn."""
    grey = np.asarray(image.convert("L"), np.float64) + np.random.default_rng(0).random(image.size[::-1])
    return np.floor(low + grey / 256 * (high - low + 1)).astype(np.int64)


def colours(image, alpha_channel=False):
    """16-bit colours [height, width, 3 or 4]."""
    values = np.asarray(image, np.uint16) * 256
    values = values + np.random.default_rng(0).integers(0, 256, values.shape, dtype=np.uint16)
    return np.concatenate([values, 65535 - values[..., :1]], -1) if alpha_channel else values


def inks(image):
    """A photograph in four inks, with black in dark places."""
    light = np.asarray(image, np.int64)
    most = np.maximum(light.max(-1, keepdims=True), 1)
    return Image.fromarray(np.concatenate([255 - 255 * light // most, 255 - most], -1).astype(np.uint8), "CMYK")


def ycck(image):
    """A JPEG of four inks, three of them as luma and chroma: what Photoshop writes."""
    cyan, magenta, yellow, black = inks(image).split()
    luma = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    content = write(Image.merge("CMYK", [*map(ImageChops.invert, luma), black]), "JPEG", quality=90, subsampling=0)
    place = content.index(b"Adobe") + 11  # the transform
    return content[:place] + b"\2" + content[place + 1 :]


def frames(image):
    """An animation of two frames."""
    return write(image, "GIF", save_all=True, append_images=[ImageChops.invert(image)])


def free(image):
    """A GIF whose first frame leaves the right and the lower border of the canvas free."""
    content = write(image, "GIF")
    return content[:6] + struct.pack("<HH", image.width + 9, image.height + 7) + content[10:]


def large(image, size=None):
    """A photograph as a camera takes it."""
    return write(image.resize(size or LARGE, Image.Resampling.BICUBIC), "JPEG", quality=90)


def oriented(kind, orientation, **options):
    """A writer of a file with an EXIF orientation."""
    return lambda image: write(image, kind, exif=exif(orientation), **options)


def grey(image):
    """Luma, three equal channels' worth of it."""
    return image.convert("L")


def palette(image):
    """64 colours."""
    return image.quantize(64)


def few(image):
    """A photograph in 16 colours, RGB, and the first of them."""
    image = image.quantize(16).convert("RGB")
    return image, image.getpixel((image.width // 2, image.height // 2))


def keyed(image, **options):
    """A PNG with a transparent colour."""
    image, colour = few(image)
    return write(image, "PNG", transparency=colour, **options)


def keyed_colours(image):
    """A PNG of 16 bits with a transparent colour, of which only some pixels have the low bytes."""
    image, colour = few(image)
    key = struct.pack(">3H", *(257 * part for part in colour))
    return png(np.asarray(image, np.uint16) * 257, 2, chunks=((b"tRNS", key),))


KINDS = {
    **{f"JPEG orientation {n}": Kind(oriented("JPEG", n, quality=90)) for n in range(1, 9)},
    "JPEG 4:4:4": Kind(lambda image: write(image, "JPEG", quality=90, subsampling=0)),
    "JPEG 4:2:2": Kind(lambda image: write(image, "JPEG", quality=90, subsampling=1)),
    "JPEG low quality": Kind(lambda image: write(image, "JPEG", quality=30)),
    "JPEG progressive": Kind(lambda image: write(image, "JPEG", quality=90, progressive=True)),
    "JPEG grey": Kind(lambda image: write(grey(image), "JPEG", quality=90)),
    "JPEG CMYK": Kind(lambda image: write(inks(image), "JPEG", quality=90)),
    "JPEG YCCK": Kind(ycck),
    "JPEG large": Kind(large),
    "JPEG two in one (MPO)": Kind(lambda image: write(image, "MPO", save_all=True, append_images=[grey(image)])),
    "PNG": Kind(lambda image: write(image, "PNG")),
    "PNG orientation 6": Kind(oriented("PNG", 6)),
    "PNG interlaced": Kind(lambda image: png(np.asarray(image), 2, interlaced=True)),
    "PNG alpha": Kind(lambda image: write(alpha(image), "PNG")),
    "PNG grey alpha": Kind(lambda image: write(alpha(image).convert("LA"), "PNG")),
    "PNG palette": Kind(lambda image: write(palette(image), "PNG")),
    "PNG palette, one transparent": Kind(lambda image: write(palette(image), "PNG", transparency=7)),
    "PNG palette, many transparent": Kind(lambda image: write(palette(image), "PNG", transparency=bytes(range(64)))),
    "PNG transparent colour": Kind(keyed),
    "PNG grey": Kind(lambda image: write(grey(image), "PNG")),
    "PNG transparent grey": Kind(lambda image: write(grey(image), "PNG", transparency=90)),
    "PNG 1 bit": Kind(lambda image: write(image.convert("1"), "PNG")),
    "PNG 16-bit grey": Kind(lambda image: png(deep(image).astype(np.uint16)[..., None], 0)),
    "PNG 16-bit grey, range": Kind(lambda image: png(deep(image, 3071).astype(np.uint16)[..., None], 0), True, RANGE),
    "PNG 16-bit grey alpha": Kind(lambda image: png(colours(image)[..., :2], 4)),
    "PNG 16-bit colour": Kind(lambda image: png(colours(image), 2)),
    "PNG 16-bit colour alpha": Kind(lambda image: png(colours(image, True), 6)),
    "PNG 16-bit transparent colour": Kind(keyed_colours, False),
    "GIF": Kind(lambda image: write(image, "GIF")),
    "GIF animated": Kind(frames),
    "GIF transparent": Kind(lambda image: write(palette(image), "GIF", transparency=7), False),
    "GIF partial": Kind(free, False),
    "BMP": Kind(lambda image: write(image, "BMP")),
    "BMP palette": Kind(lambda image: write(palette(image), "BMP"), False),
    "BMP grey": Kind(lambda image: write(grey(image), "BMP"), False),
    "BMP 32 bits": Kind(lambda image: write(alpha(image), "BMP"), False),
    "WebP": Kind(lambda image: write(image, "WEBP", quality=90), False),
    "WebP orientation 6": Kind(oriented("WEBP", 6), False),
    "WebP alpha": Kind(lambda image: write(alpha(image), "WEBP", lossless=True), False),
    "AVIF": Kind(lambda image: write(image, "AVIF", quality=90), False),
    "AVIF orientation 6": Kind(oriented("AVIF", 6), False),
    "TIFF": Kind(lambda image: write(image, "TIFF"), False),
    "TIFF LZW": Kind(lambda image: write(image, "TIFF", compression="tiff_lzw"), False),
    "TIFF JPEG": Kind(lambda image: write(image, "TIFF", compression="jpeg"), False),
    "TIFF orientation 6": Kind(lambda image: tiff(np.asarray(image), photometric=2, orientation=6), False),
    "TIFF alpha": Kind(lambda image: write(alpha(image), "TIFF"), False),
    "TIFF palette": Kind(lambda image: write(palette(image), "TIFF"), False),
    "TIFF CMYK": Kind(lambda image: write(inks(image), "TIFF"), False),
    "TIFF 16-bit grey": Kind(lambda image: tiff(deep(image).astype(np.uint16)), False),
    "TIFF 16-bit grey, high byte first": Kind(lambda image: tiff(deep(image).astype(np.uint16), ">"), False),
    "TIFF 16-bit grey, range": Kind(lambda image: tiff(deep(image, 3071).astype(np.uint16)), False, RANGE),
    "TIFF 16-bit colour": Kind(lambda image: tiff(colours(image), photometric=2), False),
    "TIFF signed, range": Kind(
        lambda image: tiff(deep(image, 3071, -1024).astype(np.int16), signed=True), False, RANGE
    ),
    "TIFF 32-bit, range": Kind(
        lambda image: tiff(deep(image, 3071, -1024).astype(np.int32), signed=True), False, RANGE
    ),
    "TIFF float, range": Kind(lambda image: tiff(deep(image, 3071, -1024).astype(np.float32)), False, RANGE),
    "PPM": Kind(lambda image: write(image, "PPM"), False),
    "PGM": Kind(lambda image: write(grey(image), "PPM"), False),
    "PGM 16 bits": Kind(lambda image: write(Image.fromarray(deep(image).astype(np.uint16)), "PPM"), False),
    "PBM": Kind(lambda image: write(image.convert("1"), "PPM"), False),
}


def drawn(count, size=(150, 120)):
    """Pictures with edges and texture at all scales, RGB."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        layers = np.zeros((size[1], size[0], 3))
        for side in (2, 5, 13, 40, 120):
            noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            layers += np.asarray(noise.resize(size, Image.Resampling.BICUBIC), np.float64)
        layers -= layers.min((0, 1))
        found.append(Image.fromarray((255 * layers / layers.max((0, 1))).astype(np.uint8)))
    return found


# --- ways ---


class Network:
    """A network and what was exported of it, for images of one size and one range of deep greys."""

    def __init__(self, model, folder):
        import tensorflow as tf

        from nasnet_keras.export.saved_model import export_saved_model

        self.model, self.size = model, model.input_shape[1:3]
        self.signature = tf.saved_model.load(str(export_saved_model(model, folder))).signatures["image_bytes"]
        spec = tf.TensorSpec((), tf.string)
        self.decoded = tf.function(self._decode, input_signature=[spec])

    def _decode(self, content):
        from nasnet_keras.data.decoding import decode

        return decode(content, self.size, grey_range=self.model.grey_range)

    def served(self, content):
        """What the server gives to the graph for a file."""
        from nasnet_keras.serving.rest import Spec, read_predict

        encoded = {"b64": base64.b64encode(content).decode()}
        body = json.dumps({"signature_name": "image_bytes", "instances": [encoded]}).encode()
        signatures = {"image_bytes": {"image_bytes": Spec("string", ())}}
        reading = {"image_size": self.size, "grey_range": self.model.grey_range}
        _, (row,), _ = read_predict(body, signatures, 25_000_000, 1, reading)
        return row["image_bytes"]

    def graph(self, contents):
        """Pixels [n, h, w, 3] and probabilities that the exported graph makes of files."""
        import tensorflow as tf

        pixels = np.stack([self.decoded(tf.constant(content)).numpy() for content in contents])
        return pixels, self.signature(image_bytes=tf.constant(contents))["probabilities"].numpy()

    def probabilities(self, pixels):
        """Those of the network, for pixels in 0 to 255."""
        from nasnet_keras.data.loading import normalize
        from nasnet_keras.training import fitting

        return fitting.predict(self.model, normalize(pixels))


def compared(kind, network, photographs):
    """{way: (mean, signed mean, percentile, changed)} of one kind; None where the graph refuses it, as it should."""
    import tensorflow as tf

    from nasnet_keras.data.batches import Batches
    from nasnet_keras.data.image_files import ImageFiles
    from nasnet_keras.data.images import read_image
    from nasnet_keras.data.splits import Split

    contents = tuple(map(kind.write, photographs))
    size, model = network.size, network.model
    truth = np.stack([read_image(content, size, model.grey_range) for content in contents])
    expected = network.probabilities(truth)
    files = ImageFiles(contents, size, model.grey_range)
    labels = np.zeros(len(contents), np.int32)
    pixels = {
        "training": Batches(Split(files, labels), len(files), scaled=False)[0][0],
        "evaluate": files.decode(),
        "predict": np.stack([read_image(content, size, grey_range=model.grey_range) for content in contents]),
    }
    found = {
        way: (seen, expected if (seen == truth).all() else network.probabilities(seen)) for way, seen in pixels.items()
    }
    given = tuple(map(network.served, contents))
    found["serve"] = network.graph(given)
    try:
        found["graph"] = found["serve"] if given == contents else network.graph(contents)
    except tf.errors.InvalidArgumentError as error:
        if kind.in_graph or "nasnet-keras serve" not in str(error):
            raise
    table = {"graph": None}
    for way, (seen, probabilities) in found.items():
        apart = seen.astype(np.float64) - truth
        sure = expected.max(-1) > SURE
        changed = int((sure & (probabilities.argmax(-1) != expected.argmax(-1))).sum())
        table[way] = (np.abs(apart).mean(), apart.mean(), np.percentile(np.abs(apart), 99.9), changed)
    return table


def faults(kind, table):
    """The ways of a row that differ too much, or that refuse what they should take."""
    for way, row in table.items():
        if row is None:
            if kind.in_graph:
                yield way
        elif row[0] > MEAN or abs(row[1]) > SIGNED or row[2] > PERCENTILE or row[3]:
            yield way


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 224])
    options = parser.parse_args()
    photographs = drawn(options.count)
    if options.folder:
        paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        chosen = np.linspace(0, len(paths) - 1, options.count).astype(int)
        photographs = [Image.open(paths[index]).convert("RGB") for index in chosen]
    from nasnet_keras import NASNetCIFAR

    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            networks = {}
            for grey_range in (None, RANGE):
                model = NASNetCIFAR(input_shape=(size, size, 3), grey_range=grey_range)
                networks[grey_range] = Network(model, Path(folder) / f"{size}-{grey_range is None}")
            print(f"\n{len(photographs)} photographs at {size} pixels: mean, signed mean, 99.9th percentile, changed")
            print(f"{'':34}", *(f"{way:16}" for way in WAYS))
            for name, kind in KINDS.items():
                table = compared(kind, networks[kind.grey_range], photographs)
                texts = [
                    "refused" if table[way] is None else "{:.3f} {:+.3f} {:.0f} {}".format(*table[way]) for way in WAYS
                ]
                bad = list(faults(kind, table))
                wrong += bad
                print(
                    f"{name:34}",
                    *(f"{text:16}" for text in texts),
                    "WRONG " + ", ".join(bad) if bad else "",
                    flush=True,
                )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
