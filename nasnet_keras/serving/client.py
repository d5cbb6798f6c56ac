"""A client for what serves an exported model: `nasnet-keras serve` and TensorFlow Serving, by their common REST.

It needs nothing but Python's standard library, so this file may also be copied to where the package is not installed.

    >>> client = Client("http://localhost:8501", "net")                          # doctest: +SKIP
    >>> for answer in client.predict(["cat.jpg", "dog.png"]):                    # doctest: +SKIP
    ...     print(answer["top_classes"][0], answer["top_scores"][0])
"""

import base64
import http.client
import json
import os
import random
import re
import ssl
import time
import urllib.parse
from itertools import islice

WAITS = 0.1, 10.0  # seconds before the first try again, and at most; they double
LONGEST = 3600  # seconds, of what a server may ask for
MOST = 24_000_000  # bytes of a request with several images; `nasnet-keras serve` takes 32 MiB


class ServerError(Exception):
    """An answer that is no prediction.

    Attributes:
        code: the HTTP status, or None where no answer came.
        reason: what the server says.
    """

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}" if code else message)
        self.code, self.reason = code, message


class Client:
    """Asks a server for predictions, over one connection; for several threads make several.

    Args:
        server: its address, `http://HOST:PORT` or `https://…`, with a proxy's path if there is one.
        model: the model's name.
        key: what the server or its proxy asks for, text or bytes, sent as `Authorization: Bearer KEY`; None for
            nothing.
        certificate: a file in PEM that holds the certificate of an authority to be trusted beside the system's, or
            the server's own.
        batch: images of a request, at most; fewer of large ones, so that it has about 24 MB, and where the server finds
            that too large (413).
        tries: how often a request is sent before it is given up, where the server is busy or loading (503), or no
            connection holds. In between waits what the server asks for, at most an hour, else 0.1 s, then twice as long
            each time, up to 10 s.
        timeout: seconds that an answer may take.

    Raises:
        ValueError: naming the argument at fault.
    """

    def __init__(
        self,
        server="http://localhost:8501",
        model="net",
        *,
        key=None,
        certificate=None,
        batch=16,
        tries=8,
        timeout=60.0,
    ):
        parts, port = _address(server)
        for name, value in (("batch", batch), ("tries", tries)):
            if type(value) is not int or value < 1:
                raise ValueError(f"`{name}` must be an integer from 1. Received: {value!r}")
        self._path = f"{parts.path.rstrip('/')}/v1/models/{urllib.parse.quote(model)}"
        self._headers = {
            "content-type": "application/json",
            **({"authorization": f"Bearer {_key(key)}"} if key is not None else {}),
        }
        self._batch, self._most, self._tries, self._chance = batch, MOST, tries, random.Random()
        if parts.scheme == "https":
            context = ssl.create_default_context()
            if certificate is not None:
                _trust(context, certificate)
            connection = http.client.HTTPSConnection(parts.hostname, port, timeout=timeout, context=context)
        elif certificate is not None:
            raise ValueError(f"`certificate` means nothing for a `server` without https. Received: {server!r}")
        else:
            connection = http.client.HTTPConnection(parts.hostname, port, timeout=timeout)
        self._connection = connection

    def predict(self, images, version=None):
        """Yield an answer for each image, in their order; a batch is asked for when its first answer is wanted.

        Args:
            images: an iterable of encoded image files, by path or as `bytes`; or of pixels in 0–255 [height, width,
                channels], as arrays or nested lists. Not both.
            version: that of the model; None for whichever is served.

        Yields:
            dicts of the model's outputs: `probabilities` [classes], `top_classes` [k], `top_scores` [k].

        Raises:
            ServerError: the server refuses an image, which is named, or does not answer.
            OSError: a file cannot be read.
            ValueError: files and pixels are mixed, it is one image, neither files nor numbers, or pixels in 0–1 or
                [-1, 1].
        """
        if isinstance(images, str | bytes | os.PathLike):
            raise ValueError("`images` must be several, such as a list of one. Received: one")
        if not hasattr(images, "__iter__") and not hasattr(images, "__getitem__"):
            raise _refusal(images)
        path = self._path + ("" if version is None else f"/versions/{version}") + ":predict"
        images, number = iter(images), 0
        while batch := list(islice(images, self._batch)):
            files = {isinstance(image, str | bytes | os.PathLike) for image in batch}
            if len(files) > 1:
                raise ValueError("`images` must be files or pixels, not both")
            (are_files,) = files
            signature = '"signature_name": "image_bytes", ' if are_files else ""
            names = [_name(image, number + place) for place, image in enumerate(batch)]
            texts = map(_file, batch) if are_files else map(_image, _pixels(batch))
            for part in self._parts(zip(names, texts, strict=True)):
                yield from self._answers(path, signature, part)
            number += len(batch)

    def _parts(self, rows):
        """Lists of (name, text) pairs that together have so many bytes as a request may, at least one each."""
        part, size = [], 0
        for row in rows:
            if part and size + len(row[1]) > self._most:
                yield part
                part, size = [], 0
            part.append(row)
            size += len(row[1])
        if part:
            yield part

    def _answers(self, path, signature, rows):
        """The answers to images, (name, text) pairs, in halves where the server takes not all of them together."""
        body = f'{{{signature}"instances": [{", ".join(text for _, text in rows)}]}}'
        try:
            answers = self._ask("POST", path, body.encode(), _predictions(len(rows)))
        except ServerError as error:
            if error.code not in (400, 413):
                raise
            if len(rows) == 1:
                raise ServerError(error.code, f"{rows[0][0]}: {error.reason}") from None
            if error.code == 413:
                self._most = min(self._most, len(body) // 2)  # so that not each batch is sent in vain
        else:
            yield from answers
            return
        half = len(rows) // 2
        yield from self._answers(path, signature, rows[:half])
        yield from self._answers(path, signature, rows[half:])

    def versions(self):
        """{version: state} of the model, such as `{1: "AVAILABLE"}`; raises `ServerError`."""
        return self._ask("GET", self._path, None, _versions)

    def close(self):
        """Close the connection; the next request opens another one."""
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _ask(self, method, path, content, read):
        """What `read` makes of the JSON of an answer, after as many tries as it takes."""
        wait = WAITS[0]
        for number in range(1, self._tries + 1):
            # Clients that were refused together do not come back together.
            pause = min(wait * self._chance.uniform(0.5, 1.5), WAITS[1])
            try:
                self._connection.request(method, path, content, self._headers)
                answer = self._connection.getresponse()
                text = answer.read()
            except ssl.SSLCertVerificationError as error:
                self._connection.close()
                raise ServerError(None, f"the server's certificate is not trusted: {error.verify_message}") from None
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                problem = ServerError(None, f"the server does not answer: {str(error) or type(error).__name__}")
            else:
                if answer.status == 200:
                    try:
                        return read(json.loads(text))
                    except (ValueError, KeyError, TypeError, RecursionError):  # of a proxy, or another server
                        raise ServerError(200, f"no {read.__name__.strip('_')}: {_beginning(text)}") from None
                problem = ServerError(answer.status, _reason(text))
                if answer.status != 503:
                    raise problem
                asked = answer.headers.get("retry-after", "")
                pause = max(pause, min(float(asked), LONGEST)) if asked.isdecimal() else pause
            if number == self._tries:
                raise problem
            time.sleep(pause)
            wait *= 2


def _address(server):
    """A server's address in parts, and its port; raises `ValueError` for one that is none."""
    try:
        parts = urllib.parse.urlsplit(server)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts, parts.port
    except (ValueError, AttributeError, TypeError):  # another port than a number, brackets, no text
        pass
    raise ValueError(f"`server` must be http://HOST:PORT or https://HOST:PORT. Received: {server!r}")


def _trust(context, certificate):
    """Trust the certificates in a file, too; raises `ValueError` for one that holds none."""
    try:
        context.load_verify_locations(certificate)
    except (OSError, TypeError, ValueError) as error:  # what SSL finds wrong is an OSError as well
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        received = f"{certificate!r}, {reason}"
        raise ValueError(f"`certificate` must be a file in PEM with a certificate. Received: {received}") from None


def _key(key):
    """A key as it stands in a header."""
    text = key.decode("latin-1") if isinstance(key, bytes) else key
    if not isinstance(text, str) or not re.fullmatch(r"[!-~]+", text.strip()):
        raise ValueError("`key` must be visible ASCII characters, for it stands in a header")
    return text.strip()


def _predictions(count):
    """A function that gives the predictions in an answer, which must be so many."""

    def predictions(answer):
        found = answer["predictions"]
        if not isinstance(found, list) or len(found) != count:
            raise ValueError
        return found

    return predictions


def _versions(answer):
    """{version: state} in an answer."""
    return {int(state["version"]): state["state"] for state in answer["model_version_status"]}


def _name(image, number):
    """What an image is called in an error: its path, or which one it is, counted from 0."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {number}"


def _file(image):
    """An encoded file as JSON text."""
    if not isinstance(image, bytes):
        with open(image, "rb") as file:
            image = file.read()
    return f'{{"image_bytes": {{"b64": "{base64.b64encode(image).decode()}"}}}}'


def _pixels(images):
    """Pixels as nested lists; raises `ValueError` for what is scaled already, of which the model would see black."""
    values = list(map(_listed, images))
    # Of pixels in 0–255 the first few decide, so this costs little.
    if not any(value > 1 for value in _numbers(values)) and any(value % 1 for value in _numbers(values)):
        received = f"{min(_numbers(values)):g} to {max(_numbers(values)):g}, with fractions"
        raise ValueError(f"`images` must have pixels in 0–255, not scaled to 0–1 or [-1, 1]. Received: {received}")
    return values


def _listed(values):
    """An array, or nested lists that may have arrays in them, as nested lists of numbers."""
    if hasattr(values, "tolist"):
        return values.tolist()
    if hasattr(values, "__array__"):
        return values.__array__().tolist()
    if not isinstance(values, list | tuple):
        raise _refusal(values)
    # Numbers one by one would take a while.
    return values if not values or isinstance(values[0], int | float) else list(map(_listed, values))


def _image(values):
    """Pixels, nested lists of numbers, as JSON text."""
    try:
        return json.dumps({"image": values})
    except TypeError:
        raise _refusal(values) from None


def _refusal(images):
    rule = "an iterable of paths, of `bytes`, or of pixels, arrays or nested lists of numbers [height, width, channels]"
    return ValueError(f"`images` must be {rule}. Received: {type(images).__name__}")


def _numbers(values):
    """The numbers in nested lists, one by one."""
    for value in values if isinstance(values, list | tuple) else [values]:
        if isinstance(value, list | tuple):
            yield from _numbers(value)
        elif isinstance(value, int | float):
            yield value


def _reason(text):
    """What an error says: TF Serving and ours have it in JSON, a proxy perhaps not."""
    try:
        return json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return _beginning(text) or "no reason given"


def _beginning(text):
    """The beginning of an answer, in one line."""
    return " ".join(text.decode("utf-8", "replace").split())[:200]
