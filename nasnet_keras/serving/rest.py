"""A request's body as rows of inputs, in TF Serving's JSON or as image files, and rows of outputs as its JSON.

What a stranger sends is judged here, before the model sees it: types, shapes, base64, and how large an image
says it is. Whatever does not fit is a `Refusal` with the HTTP code that TF Serving gives. Images of kinds that training
takes and a graph does not decode are re-coded.
"""

import base64
import re
import reprlib
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from nasnet_keras.data.images import BEGINNINGS, a_graph_decodes, as_png, read_header

# A progressive JPEG may ask for any number of passes over all its pixels; cameras and editors write about ten.
MAX_SCANS = 100
MARKER = re.compile(rb"\xff([^\x00-\xbf\xd0-\xd8\xff])")  # of what has a length in a JPEG, and its end
# As many images of the greatest size may a request announce, all of its together: the client sends no more at a time.
LARGEST_IMAGES = 16
# Raw pixels of a model for images of any size: what the network itself has to hold.
MAX_RAW_PIXELS = 1_048_576

AS_IT_IS = (b"binary", b"8bit", b"7bit")  # of the encodings of a form's parts those that change nothing


class Refusal(ValueError):
    """A request that gets no prediction: `code` is the HTTP status."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Spec:
    """One row of an input: `kind` is `"string"`, `"float32"` or `"uint8"`, `shape` has None where any size goes."""

    kind: str
    shape: tuple


@dataclass(frozen=True)
class Sent:
    """How a body was sent: `kind` is `"json"`, `"image"` or `"form"`; `boundary` stands between a form's parts."""

    kind: str = "json"
    boundary: bytes = b""
    labelled: bool = True


def sent_as(body, content_type):
    """The `Sent` of a body, by its `Content-Type`, and by its first bytes where that says nothing."""
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if kind == b"multipart/form-data":
        return Sent("form", options.get(b"boundary", b""))
    if kind == b"application/octet-stream" or kind.startswith(b"image/"):
        return Sent("image")
    labelled = kind == b"application/json"  # of a file nothing may say what it is: curl calls every body a form
    return Sent("image" if not labelled and BEGINNINGS.match(body) else "json", labelled=labelled)


def read_predict(body, signatures, max_pixels, max_rows, reading=None, sent=None, admit=lambda rows: None):
    """Read the body of a `:predict` request.

    Args:
        body: bytes of JSON, with `instances` (row form) or `inputs` (column form) and perhaps `signature_name`; or
            an image file, or a form of image files called `image`, which are rows of the signature that takes such.
        signatures: `{name: {input: Spec}}`.
        max_pixels: greatest height × width that an encoded image may announce; all of a request together may announce
            `LARGEST_IMAGES` times that.
        max_rows: greatest number of rows.
        reading: how the network's images are read: the `image_size` and `grey_range` of `data.read_image`, if known.
        sent: how it was sent, by default as JSON.
        admit: called with the number of rows before any is read; it may raise a `Refusal`.

    Returns:
        The signature's name, the rows as dicts `{input: bytes or array}`, and whether it was the row form.

    Raises:
        Refusal: it is no such request.
    """
    sent = sent or Sent()
    if sent.kind != "json":
        return _read_files(body, signatures, max_pixels, max_rows, reading, sent, admit)
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        also = "" if sent.labelled else ", nor is it an image file or a form of such"
        raise Refusal(400, f"JSON Parse error: {error}{also}") from None
    if type(request) is not dict:
        raise Refusal(400, f"JSON Value: {reprlib.repr(request)} is not an object")
    name = request.get("signature_name", "")
    if type(name) is not str:
        raise Refusal(400, f"'signature_name' key must be a string value. Received: {reprlib.repr(name)}")
    name = name or "serving_default"
    if name not in signatures:
        raise Refusal(
            400, f'Serving signature name: "{name[:100]}" not found in signature def. Known: {", ".join(signatures)}'
        )
    forms = [form for form in ("instances", "inputs") if form in request]
    if len(forms) != 1:
        raise Refusal(400, "the request must have either 'instances' (row form) or 'inputs' (column form)")
    specs = signatures[name]
    columns = {"instances": _row_form, "inputs": _column_form}[forms[0]](request[forms[0]], specs)
    counts = {len(values) for values in columns.values()}
    if len(counts) != 1:
        raise Refusal(400, f"all inputs must have the same number of rows. Received: {sorted(counts)}")
    if not 1 <= (count := counts.pop()) <= max_rows:
        raise Refusal(400, f"a request must have between 1 and {max_rows} rows. Received: {count}")
    admit(count)
    columns = {
        key: [_image(value, key) for value in values]
        if specs[key].kind == "string"
        else _numbers(values, key, specs[key])
        for key, values in columns.items()
    }
    columns |= _decodable({key: columns[key] for key in specs if specs[key].kind == "string"}, max_pixels, reading)
    return (
        name,
        [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        "instances" in request,
    )


def _read_files(body, signatures, max_pixels, max_rows, reading, sent, admit):
    """As `read_predict`, of image files."""
    of_files = [name for name, specs in signatures.items() if [spec.kind for spec in specs.values()] == ["string"]]
    if not of_files:
        raise Refusal(400, "this model takes no image files: send pixels, as JSON")
    name = "image_bytes" if "image_bytes" in of_files else of_files[0]
    if sent.kind == "form":
        contents = _parts(body, sent.boundary, max_rows)
    elif not sent.labelled and not re.search(rb"[\r\n\0]", body):
        raise Refusal(400, "the file has lost its line ends and zero bytes: send it by curl's --data-binary, not by -d")
    else:
        contents = [body]
    admit(len(contents))
    (key,) = signatures[name]
    return name, [{key: content} for content in _decodable({key: contents}, max_pixels, reading)[key]], True


def _parts(body, boundary, most):
    """The files called `image` of a form."""
    files, header, ended = [], {"name": b"", "value": b""}, []

    def begin():
        if len(files) == most:
            raise Refusal(400, f"a form must have at most {most} files")
        files.append((bytearray(), {}))

    def collect(what):
        def callback(data, start, end):
            header[what] += data[start:end]

        return callback

    def end_header():
        files[-1][1][header["name"].lower()] = header["value"]
        header.update(name=b"", value=b"")

    def end_headers():
        headers = files[-1][1]
        name = parse_options_header(headers.get(b"content-disposition"))[1].get(b"name", b"")
        if name != b"image":
            received = name[:50].decode("utf-8", "replace")
            raise Refusal(400, f"the files of a form must be called image: `-F image=@FILE`. Received: {received!r}")
        encoding = headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in AS_IT_IS:
            received = encoding[:50].decode("utf-8", "replace")
            rule = "a file in a form must stand there as it is: Content-Transfer-Encoding binary, 8bit, 7bit or none"
            raise Refusal(400, f"{rule}. Received: {received!r}")

    callbacks = {
        "on_part_begin": begin,
        "on_header_field": collect("name"),
        "on_header_value": collect("value"),
        "on_header_end": end_header,
        "on_headers_finished": end_headers,
        "on_part_data": lambda data, start, end: files[-1][0].extend(data[start:end]),
        "on_end": lambda: ended.append(True),
    }
    if not boundary:
        raise Refusal(400, "the form's Content-Type must name the `boundary` between its parts")
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
    except FormParserError as error:
        raise Refusal(400, f"the form cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not ended:
        raise Refusal(400, "the form is cut off: its last boundary is missing")
    if not files:
        raise Refusal(400, "the form must have at least one file, called image")
    return [bytes(content) for content, _ in files]


def _row_form(instances, specs):
    if type(instances) is not list or not instances:
        raise Refusal(400, "'instances' must be a list of at least one element")
    if not _is_object(instances[0]):
        return {_only(specs, "instances"): instances}
    for number, instance in enumerate(instances):
        if not _is_object(instance) or set(instance) != set(specs):
            raise Refusal(400, f"element {number} of 'instances' must be an object with the keys: {', '.join(specs)}")
    return {name: [instance[name] for instance in instances] for name in specs}


def _column_form(inputs, specs):
    if not _is_object(inputs):
        inputs = {_only(specs, "inputs"): inputs}
    if set(inputs) != set(specs):
        raise Refusal(400, f"'inputs' must be an object with the keys: {', '.join(specs)}")
    for name, values in inputs.items():
        if type(values) is not list:
            raise Refusal(400, f"input {name} must be a list, one value for each row")
    return inputs


def _is_object(value):
    return type(value) is dict and not (set(value) == {"b64"} and type(value["b64"]) is str)


def _only(specs, key):
    if len(specs) > 1:
        raise Refusal(400, f"'{key}' must name each input: {', '.join(specs)}")
    return next(iter(specs))


def _numbers(values, name, spec):
    """Nested lists as an array [rows, …] of exactly the wanted shape and type."""
    shape = [len(values)]
    for depth, wanted in enumerate(spec.shape, 1):
        if set(map(type, values)) != {list}:
            raise Refusal(400, f"input {name}: a row must be nested lists of the shape {_shape(spec)}")
        size = len(values[0]) if wanted is None else wanted
        if size == 0 or set(map(len, values)) != {size}:
            raise Refusal(400, f"input {name}: a row must have the shape {_shape(spec)}. Differs at depth {depth}")
        shape.append(size)
        if None in spec.shape and depth == 2 and shape[1] * size > MAX_RAW_PIXELS:
            raise Refusal(400, f"input {name}: an image must have at most {MAX_RAW_PIXELS} pixels")
        values = list(chain.from_iterable(values))
    kinds = set(map(type, values))
    if not kinds <= ({int} if spec.kind == "uint8" else {int, float}):
        raise Refusal(400, f"input {name}: every value must be of type {spec.kind}")
    numbers = np.array(values, "float64")
    if spec.kind == "uint8":
        fits = numbers.min() >= 0 and numbers.max() <= 255
    else:
        fits = np.abs(numbers).max() <= np.finfo("float32").max
    if not fits:
        raise Refusal(400, f"input {name}: a value is out of the range of {spec.kind}")
    return numbers.astype(spec.kind).reshape(shape)


def _shape(spec):
    return [-1 if size is None else size for size in spec.shape]


def _image(value, name):
    """The bytes of an image in base64."""
    if type(value) is not dict or set(value) != {"b64"} or type(value["b64"]) is not str:
        raise Refusal(400, f'input {name}: an image must be {{"b64": "…"}}, the file in base64')
    with _refused(name):
        return decode_base64(value["b64"])


def decode_base64(text):
    """The bytes that a text means, in base64 as people send it.

    Both alphabets will do, as will a `data:` prefix, line breaks, and padding that is missing.

    Raises:
        ValueError: one line that names what is wrong.
    """
    try:
        return base64.b64decode(text, validate=True)  # as it nearly always is
    except ValueError:
        pass
    head, comma, rest = text.partition(",")
    if head[:5].lower() == "data:":
        if not comma or not head.lower().endswith(";base64"):
            raise ValueError("unable to base64 decode: a data: URL must go on with `;base64,`")
        text = rest
    text = "".join(line.strip() for line in re.split(r"[\r\n]+", text))
    data = text.rstrip("=")
    if wrong := re.search(r"[^A-Za-z0-9+/_-]", data):
        notes = {" ": ", what a form makes of +,", "%": ", as an address has it,", "=": ", which belongs to the end,"}
        place = f"{wrong[0]!r}{notes.get(wrong[0], '')} stands at place {wrong.start()}"
        raise ValueError(f"unable to base64 decode: {place}")
    if re.search(r"[+/]", data) and re.search(r"[_-]", data):
        raise ValueError("unable to base64 decode: + or / of one alphabet is mixed with - or _ of the other")
    padding = "=" * (-len(data) % 4)
    if len(padding) == 3 or text[len(data) :] not in ("", padding):
        raise ValueError(f"unable to base64 decode: {len(text)} characters make no whole bytes: is it cut off?")
    return base64.b64decode(data + padding, altchars="-_" if re.search(r"[_-]", data) else None)


def _decodable(columns, max_pixels, reading):
    """`{input: image files}` that may be decoded, as files that are decoded to the pixels that training sees.

    What headers announce is added up over the whole request before any image is re-coded.
    """
    headers = {
        name: [_header(content, _called(name, files, place), max_pixels) for place, content in enumerate(files)]
        for name, files in columns.items()
    }
    total = sum(header.height * header.width for found in headers.values() for header in found)
    if total > (most := LARGEST_IMAGES * max_pixels):
        raise Refusal(400, f"the images of a request must have at most {most:,} pixels together. Received: {total:,}")
    found = {}
    for name, files in columns.items():
        found[name] = list(files)
        for place, (content, header) in enumerate(zip(files, headers[name], strict=True)):
            if not a_graph_decodes(content, header):
                with _refused(_called(name, files, place)):
                    found[name][place] = as_png(content, **reading or {})
    return found


def _called(name, files, place):
    """An input, and which of its images, if there are several."""
    return name if len(files) == 1 else f"{name}, image {place + 1} of {len(files)}"


def _header(content, name, max_pixels):
    with _refused(name):
        header = read_header(content, max_pixels)
        if header.format == "JPEG" and _scans(content) > MAX_SCANS:
            raise ValueError(f"a JPEG must have at most {MAX_SCANS} scans")
        return header


def _scans(content):
    """How many scans a JPEG has; data behind its end, such as a phone's film, are not looked at."""
    place, count = 2, 0
    while (marker := MARKER.search(content, place)) and marker[1] != b"\xd9":
        count += marker[1] == b"\xda"
        place = marker.end() + max(2, int.from_bytes(content[marker.end() : marker.end() + 2]))
    return count


@contextmanager
def _refused(name):
    """A context in which what is wrong with a value of an input is a `Refusal` that names the input."""
    try:
        yield
    except ValueError as error:
        raise Refusal(400, f"input {name}: {error}") from None


def write_predict(rows, row_form):
    """The body of the answer to a `:predict` request, as bytes of JSON.

    Args:
        rows: for each row the outputs of its batch and its place there: `({output: array [batch, …]}, index)`.
        row_form: whether the request had `instances`; then outputs come row by row, else output by output.
    """
    rows = [{name: _plain(name, values[index]) for name, values in outputs.items()} for outputs, index in rows]
    single = next(iter(rows[0])) if len(rows[0]) == 1 else None
    if row_form:
        answer = {"predictions": [row[single] for row in rows] if single else rows}
    else:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        answer = {"outputs": columns[single] if single else columns}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(name, value):
    """What JSON takes: numbers stay arrays, bytes become text, or base64 where the name ends in `_bytes`."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return np.ascontiguousarray(value)
    if isinstance(value, np.ndarray):
        return [_plain(name, item) for item in value]
    if isinstance(value, bytes):
        encoded = name.endswith("_bytes")
        return {"b64": base64.b64encode(value).decode()} if encoded else value.decode("utf-8", "replace")
    return value
