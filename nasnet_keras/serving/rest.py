"""TF Serving's JSON: a request's body as rows of inputs, and rows of outputs as an answer's body.

What a stranger sends is judged here, before the model sees it: types, shapes, base64, and how large an image
says it is. Whatever does not fit is a `Refusal` with the HTTP code that TF Serving gives. Images of kinds that training
takes and a graph does not decode are re-coded.
"""

import base64
import binascii
import reprlib
from dataclasses import dataclass
from itertools import chain

import numpy as np
import orjson

from nasnet_keras.data.images import as_png, read_header

# A progressive JPEG may ask for any number of passes over all its pixels; cameras and editors write about ten.
MAX_SCANS = 100
# Raw pixels of a model for images of any size: what the network itself has to hold.
MAX_RAW_PIXELS = 1_048_576


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


def read_predict(body, signatures, max_pixels, max_rows, grey_range=None):
    """Read the body of a `:predict` request.

    Args:
        body: bytes of JSON, with `instances` (row form) or `inputs` (column form) and perhaps `signature_name`.
        signatures: `{name: {input: Spec}}`.
        max_pixels: greatest height × width that an encoded image may announce.
        max_rows: greatest number of rows.
        grey_range: that of the network, see `data.read_image`.

    Returns:
        The signature's name, the rows as dicts `{input: bytes or array}`, and whether it was the row form.

    Raises:
        Refusal: it is no such request.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"JSON Parse error: {error}") from None
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
    columns = {
        key: [_image(value, key, max_pixels, grey_range) for value in values]
        if specs[key].kind == "string"
        else _numbers(values, key, specs[key])
        for key, values in columns.items()
    }
    return (
        name,
        [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        "instances" in request,
    )


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


def _image(value, name, max_pixels, grey_range):
    """The bytes of an encoded image that may be decoded, and is decoded to the pixels that training sees."""
    if type(value) is not dict or set(value) != {"b64"} or type(value["b64"]) is not str:
        raise Refusal(400, f'input {name}: an image must be {{"b64": "…"}}, the file in base64')
    try:
        content = base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"input {name}: unable to base64 decode") from None
    try:
        header = read_header(content, max_pixels)
        if header.format == "JPEG" and content.count(b"\xff\xda") > MAX_SCANS:
            raise ValueError(f"a JPEG must have at most {MAX_SCANS} scans")
        return content if _is_decoded(content, header) else as_png(content, grey_range)
    except ValueError as error:
        raise Refusal(400, f"input {name}: {error}") from None


def _is_decoded(content, header):
    """Whether `data.decoding` gives the pixels of an image without more ado.

    A GIF is none, although it would: TensorFlow decodes every frame, each of a size of its own, to use the first.
    """
    if header.format == "JPEG":
        return header.mode != "CMYK" or b"Adobe" in content
    return header.format == "PNG" and (header.mode != "RGB" or b"tRNS" not in content)


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
