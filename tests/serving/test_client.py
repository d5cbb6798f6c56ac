"""The client: against a server of a few lines that answers as it is told, and against the real one's reading."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from images_of_all_kinds import encode, noise
from PIL import Image

from nasnet_keras.serving import client as clients
from nasnet_keras.serving.client import Client, ServerError
from nasnet_keras.serving.rest import Spec, read_predict

SIGNATURES = {
    "serving_default": {"image": Spec("float32", (9, 11, 3))},
    "image_bytes": {"image_bytes": Spec("string", ())},
}


@pytest.fixture
def server(monkeypatch):
    """A server that answers with what stands in `answers`, then with the digest of each row; keeps the requests."""
    pauses = []
    monkeypatch.setattr(clients.time, "sleep", pauses.append)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer(200, {"model_version_status": [{"version": "3", "state": "AVAILABLE"}]})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            requests.append((self.path, dict(self.headers), body))
            code, headers, content = answers.pop(0) if answers else (200, {}, None)
            if code is None:
                self.close_connection = True
                return
            _, rows, _ = read_predict(body, SIGNATURES, 10**6, 100)
            self.answer(code, content or {"predictions": [{"sum": digest(row)} for row in rows]}, headers)

        def answer(self, code, content, headers=()):
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(code)
            for name, value in {"content-length": len(content), **dict(headers)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    requests, answers = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.url, server.requests, server.answers, server.pauses = (
        f"http://127.0.0.1:{server.server_port}",
        requests,
        answers,
        pauses,
    )
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def digest(row):
    (value,) = row.values()
    return len(value) if isinstance(value, bytes) else float(value.sum())


def test_files_and_pixels_in_batches(server, rng, tmp_path):
    files = [encode(noise(rng, 9, 11), "PNG") for _ in range(7)]
    (tmp_path / "a.png").write_bytes(files[0])
    with Client(server.url, "a net", batch=3, key="secret\n") as client:
        answers = list(client.predict([tmp_path / "a.png", *files[1:]]))
        assert [answer["sum"] for answer in answers] == [len(file) for file in files]
        path, headers, body = server.requests[0]
        assert path == "/v1/models/a%20net:predict" and headers["authorization"] == "Bearer secret"
        assert [len(json.loads(body)["instances"]) for _, _, body in server.requests] == [3, 3, 1]
        assert json.loads(body)["instances"][1] == {"image_bytes": {"b64": base64.b64encode(files[1]).decode()}}
        pixels = rng.integers(0, 256, (2, 9, 11, 3))
        for images in (pixels, pixels.tolist(), (image.astype("float32") for image in pixels)):
            (first, second) = client.predict(images, version=2)
            np.testing.assert_allclose([first["sum"], second["sum"]], pixels.sum((1, 2, 3)))
        assert server.requests[-1][0] == "/v1/models/a%20net/versions/2:predict"
        assert client.versions() == {3: "AVAILABLE"} and list(client.predict([])) == []


def photo(size):
    """A file that a server reads, of so many bytes."""
    return encode(np.zeros((2, 2, 3), "uint8"), "PNG").ljust(size, b"\0")


def counts(server):
    return [len(json.loads(body)["instances"]) for _, _, body in server.requests]


def test_large_images_make_smaller_batches(server, rng, monkeypatch):
    """Sixteen photographs have more than the 32 MiB that `nasnet-keras serve` takes."""
    photos = list(map(photo, (3_000_000, 2_000_000, 6_000_000, 9_000_000, 25_000_000, 500, 600)))
    with Client(server.url) as client:
        answers = client.predict(photos)
        assert next(answers)["sum"] == 3_000_000 and len(server.requests) == 1
        assert [answer["sum"] for answer in answers] == [len(photo) for photo in photos[1:]]
        assert counts(server) == [3, 1, 1, 2]
        assert all(len(body) <= 24_100_000 or len(json.loads(body)["instances"]) == 1 for *_, body in server.requests)
        server.requests.clear()
        monkeypatch.setattr(client, "_most", 5000)
        pixels = rng.integers(0, 256, (5, 9, 11, 3)).astype("float32")  # about 2,000 bytes each
        found = [answer["sum"] for answer in client.predict(pixels)]
        np.testing.assert_allclose(found, pixels.sum((1, 2, 3)))
        assert counts(server) == [2, 2, 1]


def test_a_broken_image_of_many_is_named_and_those_before_it_are_answered(server, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(photo(500))
    refusal = (400, {}, {"error": "cannot be read"})
    # Of four together, of the second two, and of the third by itself.
    server.answers += [refusal, (200, {}, None), refusal, refusal]
    with Client(server.url) as client:
        answers = client.predict([photo(300), photo(301), tmp_path / "broken.jpg", photo(302)])
        assert [next(answers)["sum"], next(answers)["sum"]] == [300, 301]
        with pytest.raises(ServerError, match=f"^400: {tmp_path / 'broken.jpg'}: cannot be read$"):
            next(answers)
        assert counts(server) == [4, 2, 2, 1] and client._most == clients.MOST


def test_a_batch_that_is_too_large_goes_in_halves(server, tmp_path):
    """As a proxy in front may take less; which image is too large by itself is said."""
    refusal = (413, {}, {"error": "at most 1 MB"})
    server.answers += [refusal, refusal]
    with Client(server.url, batch=5) as client:
        assert [answer["sum"] for answer in client.predict(map(photo, range(300, 310)))] == [*range(300, 310)]
        assert counts(server)[:5] == [5, 2, 1, 1, 3] and sum(counts(server)[2:]) == 10
        assert max(counts(server)[5:]) < 5  # none is sent in vain again
    (tmp_path / "large.jpg").write_bytes(photo(500))
    with Client(server.url) as client:
        for image, name in ((tmp_path / "large.jpg", str(tmp_path / "large.jpg")), (photo(500), "image 2")):
            server.answers += [refusal, (200, {}, None), refusal, (200, {}, None), refusal]
            answers = client.predict([photo(300), photo(301), image])
            assert [next(answers)["sum"], next(answers)["sum"]] == [300, 301]
            with pytest.raises(ServerError, match=f"^413: {name}: at most 1 MB$"):
                next(answers)
            client._most = clients.MOST


def test_a_batch_is_asked_for_when_it_is_wanted(server):
    with Client(server.url, batch=2) as client:
        answers = client.predict(np.zeros((9, 11, 3)) for _ in iter(int, 1))  # endless
        assert [next(answers)["sum"] for _ in range(3)] == [0, 0, 0] and len(server.requests) == 2


def test_tries(server, rng):
    image = encode(noise(rng), "PNG")
    server.answers += [
        (503, {"retry-after": "2"}, {"error": "busy"}),
        (None, {}, b""),
        (503, {}, b"<html>no backend</html>"),
    ]
    with Client(server.url) as client:
        (answer,) = client.predict([image])
    assert answer["sum"] == len(image) and len(server.requests) == 4
    first, second, third = server.pauses
    assert first == 2 and 0.1 <= second <= 0.3 and 0.2 <= third <= 0.6
    del server.pauses[:], server.requests[:]
    server.answers += [(503, {}, {"error": "the queue is full"})] * 9
    with Client(server.url, tries=9) as client, pytest.raises(ServerError, match="503: the queue is full") as caught:
        list(client.predict([image]))
    assert caught.value.code == 503 and len(server.requests) == 9 and len(server.pauses) == 8
    assert max(server.pauses) <= 10
    del server.pauses[:]
    server.answers += [(503, {"retry-after": asked}, {"error": "busy"}) for asked in ("60", "9" * 400, "\xb2", "soon")]
    with Client(server.url) as client:
        assert len(list(client.predict([image]))) == 1
    assert server.pauses[:2] == [60, 3600] and max(server.pauses[2:]) <= 1.2


@pytest.mark.parametrize(
    ("code", "content", "words"),
    [
        (400, {"error": "unlucky"}, "400: .*: unlucky"),
        (401, {"error": "the key must come"}, "401: the key must come"),
        (502, b"<html>\n bad \xff gateway</html>", "502: <html> bad . gateway</html>"),
        (500, b"[1]", r"500: \[1\]"),
    ],
)
def test_a_refusal_is_not_tried_again(server, rng, code, content, words):
    server.answers.append((code, {}, content))
    with Client(server.url) as client, pytest.raises(ServerError, match=words) as caught:
        list(client.predict([encode(noise(rng), "PNG")]))
    assert caught.value.code == code and len(server.requests) == 1 and server.pauses == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>\n log in</html>", "200: no predictions: <html> log in</html>"),
        ({"outputs": [1]}, "200: no predictions: .*outputs"),
        ({"predictions": []}, "200: no predictions: .*predictions"),  # which would be taken for another image's
        ({"predictions": 5}, "200: no predictions"),
        (b"[1]", "200: no predictions"),
    ],
)
def test_a_200_that_is_no_prediction(server, rng, content, words):
    server.answers.append((200, {}, content))
    with Client(server.url) as client, pytest.raises(ServerError, match=words) as caught:
        list(client.predict([encode(noise(rng), "PNG")]))
    assert caught.value.code == 200 and len(server.requests) == 1


@pytest.mark.parametrize("states", [{}, {"model_version_status": [{"state": "AVAILABLE"}]}])
def test_a_200_without_versions(states, monkeypatch):
    answer = type("Answer", (), {"status": 200, "read": lambda _: json.dumps(states).encode()})
    connection = {"request": lambda *_: None, "getresponse": lambda *_: answer(), "close": lambda *_: None}
    client = Client()
    client._connection = type("Connection", (), connection)()
    with pytest.raises(ServerError, match="200: no versions: "):
        client.versions()


def test_a_key_in_bytes_is_the_same_key(server, rng):
    with Client(server.url, key=b"secret\n") as client:
        list(client.predict([encode(noise(rng), "PNG")]))
    assert server.requests[0][1]["authorization"] == "Bearer secret"


def test_nobody_is_there(monkeypatch):
    pauses = []
    monkeypatch.setattr(clients.time, "sleep", pauses.append)
    with pytest.raises(ServerError, match="the server does not answer: .*refused") as caught:
        Client("http://127.0.0.1:9", tries=2).versions()
    assert caught.value.code is None and len(pauses) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"server": "localhost:8501"}, "`server` must be http://HOST:PORT"),
        ({"server": "ftp://localhost"}, "`server` must be http://HOST:PORT"),
        ({"server": "http://localhost:abc"}, "`server` must be http://HOST:PORT.*Received: 'http://localhost:abc'"),
        ({"server": "http://localhost:99999"}, "`server` must be http://HOST:PORT"),
        ({"server": "http://[::1"}, "`server` must be http://HOST:PORT"),
        ({"server": 8501}, "`server` must be http://HOST:PORT"),
        ({"key": "two words"}, "`key` must be visible ASCII characters"),
        ({"key": b"\xff"}, "`key` must be visible ASCII characters"),
        ({"key": 5}, "`key` must be visible ASCII characters"),
        ({"key": ""}, "`key` must be visible ASCII characters"),
        ({"key": b""}, "`key` must be visible ASCII characters"),
        ({"batch": 0}, "`batch` must be an integer from 1. Received: 0"),
        ({"tries": 1.5}, "`tries` must be an integer from 1"),
        ({"certificate": "ca.pem"}, "`certificate` means nothing for a `server` without https"),
        ({"certificate": ""}, "`certificate` means nothing for a `server` without https"),
        (
            {"server": "https://a", "certificate": "no.pem"},
            "`certificate` must be a file in PEM.* 'no.pem', No such file",
        ),
        (
            {"server": "https://a", "certificate": __file__},
            "`certificate` must be a file in PEM.* Received: .*test_client",
        ),
        ({"server": "https://a", "certificate": 5}, "`certificate` must be a file in PEM"),
    ],
)
def test_arguments_that_make_no_sense(arguments, words):
    with pytest.raises(ValueError, match=words):
        Client(**arguments)


def test_images_that_make_no_sense(rng):
    with pytest.raises(ValueError, match="`images` must be several"):
        list(Client().predict("photo.jpg"))
    with pytest.raises(ValueError, match="`images` must be files or pixels, not both"):
        list(Client().predict(["photo.jpg", np.zeros((1, 1, 3))]))
    for images, received in (
        ([Image.new("RGB", (2, 2))], "Image"),
        ([object()], "object"),
        ([[[[1, 2, 3], [1, "2", None, object()]]]], "list"),
        ([{"image": [[[1, 2, 3]]]}], "dict"),
        ([None], "NoneType"),
        (Image.new("RGB", (2, 2)), "Image"),
        (5, "int"),
    ):
        with pytest.raises(ValueError, match=f"`images` must be an iterable of paths.* Received: {received}$"):
            list(Client().predict(images))


def test_pixels_of_any_make(server, rng):
    class Tensor:
        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            return self.values

    pixels = rng.integers(0, 256, (9, 11, 3)).astype("float32")
    with Client(server.url) as client:
        for image in (
            Tensor(pixels),
            list(pixels),
            [tuple(row) for row in pixels.tolist()],
            [list(row) for row in pixels],
        ):
            (answer,) = client.predict([image])
            np.testing.assert_allclose(answer["sum"], pixels.sum(), rtol=1e-6)


def test_pixels_that_are_scaled_already_are_refused(server, rng):
    unit = rng.random((9, 11, 3)).astype("float32")
    with Client(server.url) as client:
        for images in ([unit], [unit.tolist()], [unit * 2 - 1], [np.zeros((9, 11, 3)), unit]):
            with pytest.raises(ValueError, match="`images` must have pixels in 0–255, not scaled .* Received: "):
                list(client.predict(images))
        assert not server.requests
        black_and_white = rng.integers(0, 2, (9, 11, 3))  # nearly black, and yet pixels
        assert len(list(client.predict([unit, unit * 255]))) == 2  # one of them is dark
        for image in (black_and_white, black_and_white.astype("float32"), unit * 255):
            (answer,) = client.predict([image])
            np.testing.assert_allclose(answer["sum"], image.sum(), rtol=1e-5)
