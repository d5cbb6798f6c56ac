"""Random bytes for what reads strangers' bytes: request bodies, base64, images, weight files. Needs `atheris`.

    pip install atheris
    python benchmarks/fuzz_readers.py CORPUS -max_total_time=600     # libFuzzer's own options follow
    python benchmarks/fuzz_readers.py CORPUS --pack tests/serving/corpus.json.gz    # the smallest of each way through

The first byte of an input names the reader, the rest is what it reads. A reader answers, or refuses in one line; what
else happens is found and kept by libFuzzer in crash-*. `tests/serving/test_hostile.py` goes through the packed inputs.
"""

import base64
import gzip
import json
import os
import sys
import tempfile
from pathlib import Path

CONTENT_TYPES = ("application/json", "multipart/form-data; boundary=b", "image/jpeg", "", "multipart/form-data; ")
LINE = 1000  # characters that a refusal has at most
MOST = 1000  # inputs that are packed
PIXELS = 65_536


def readers():
    """[(name, function of bytes)]: the function returns what it has read, or raises `ValueError`."""
    from nasnet_keras.data.images import read_header, read_image
    from nasnet_keras.serving.rest import Spec, decode_base64, read_predict, sent_as
    from nasnet_keras.weights.foreign import _read_safetensors

    signatures = {
        "serving_default": {"image": Spec("float32", (2, 2, 3))},
        "raw": {"image": Spec("uint8", (None, None, 3))},
        "image_bytes": {"image_bytes": Spec("string", ())},
        "two": {"a": Spec("float32", (1,)), "b": Spec("uint8", ())},
    }

    def body(content):
        kind, content = (CONTENT_TYPES[content[0] % len(CONTENT_TYPES)], content[1:]) if content else ("", b"")
        if kind.endswith("; "):  # its parameters are a stranger's as well
            options, _, content = content.partition(b"\n")
            kind += options.decode("latin-1")
        sent = sent_as(content, kind)
        name, rows, _ = read_predict(content, signatures, PIXELS, 4, sent=sent)
        assert 1 <= len(rows) <= 4 and all(set(row) == set(signatures[name]) for row in rows)

    def image(content):
        header = read_header(content, PIXELS)
        pixels = read_image(content)
        assert pixels.dtype == "uint8" and pixels.size <= 3 * PIXELS and header.format

    def weights(content):
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(content)
            file.flush()
            _read_safetensors(file.name)

    def text(content):
        decode_base64(content.decode("latin-1"))

    return [("body", body), ("image", image), ("weights", weights), ("base64", text)]


def check(content, every):
    """Give an input to the reader that its first byte names; `AssertionError` if it neither answers nor refuses."""
    if not content:
        return
    name, read = every[content[0] % len(every)]
    try:
        read(content[1:])
    except ValueError as error:
        line = str(error)
        assert "\n" not in line and 0 < len(line) <= LINE, (name, line)


def seeds(folder):
    """A few inputs of each kind to begin with."""
    import io

    from PIL import Image

    files = []
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"):
        stream = io.BytesIO()
        Image.effect_noise((6, 4), 60).convert("RGB").save(stream, kind)
        files.append(stream.getvalue())
    encoded = base64.b64encode(files[1])
    form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n%s\r\n--b--\r\n'
    bodies = [
        b'\0{"instances": [[[[1, 2, 3], [1, 2, 3]], [[1, 2, 3], [1, 2, 3]]]]}',
        b'\0{"signature_name": "image_bytes", "instances": [{"b64": "%s"}]}' % encoded,
        b'\0{"signature_name": "two", "inputs": {"a": [[1.5]], "b": [3]}}',
        *(b"\1" + form % file for file in files[:2]),
        *(b"\2" + file for file in files),
        *(b"\3" + file for file in files[:1]),
        b"\4boundary=b\n" + form % files[0],
    ]
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    inputs = [b"\0" + body for body in bodies] + [b"\1" + file for file in files]
    inputs += [b"\2" + len(header).to_bytes(8, "little") + header + bytes(8)]
    inputs += [b"\3" + encoded, b"\3data:image/png;base64," + encoded, b"\3-_==", b"\3a\r\nb="]
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(inputs):
        (folder / f"seed_{number:02}").write_bytes(content)


def pack(folder, target):
    """The smallest files of a corpus as one, gzipped JSON of base64."""
    contents = sorted((path.read_bytes() for path in folder.iterdir()), key=lambda content: (len(content), content))
    chosen = contents[:MOST]
    text = json.dumps([base64.b64encode(content).decode() for content in chosen])
    target.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{len(chosen)} of {len(contents)} inputs, {target.stat().st_size / 1024:.0f} KiB")


def main():
    """Fuzz, or pack what was found."""
    folder = Path(sys.argv[1])
    if sys.argv[2:3] == ["--pack"]:
        pack(folder, Path(sys.argv[3]))
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import atheris

    with atheris.instrument_imports(include=["nasnet_keras", "PIL", "python_multipart"]):
        every = readers()
    seeds(folder)
    atheris.Setup([sys.argv[0], str(folder), "-max_len=4096", *sys.argv[2:]], lambda content: check(content, every))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
