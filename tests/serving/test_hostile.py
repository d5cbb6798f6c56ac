"""Hostile requests, thousands of them: each is refused in one line, and the server is as it was before."""

import base64
import gzip
import json
import random
import re
import runpy
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from images_of_all_kinds import KINDS, announce, bomb, encode, noise
from servers import KEY, PREDICT, UNCHECKED, Server, certificate, export_versions, form, image_request, key_file, raw

SECONDS = 2  # that a client may take
HEAD = f"POST {PREDICT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n"
# Addresses that lead out of where they seem to lead, or nowhere.
TRICKS = (
    "/../../etc/passwd",
    "/..%2f..%2fetc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/page.js/..%2f..%2fservice.py",
    "/page.css/",
    "/v1/models/net/../net:predict",
    "/v1/models/net%00:predict",
    "/v1/models/net%0d%0aset-cookie:a:predict",
    "/v1/models/%ff%fe:predict",
    "//evil.example.org/v1/models/net:predict",
    "/v1//models/net",
    "/v1/models/net/versions/99999999999999999999999",
    "/v1/models/net/versions/1e9",
    "/v1/models/" + "a/" * 5000,
    "/v1/models/net:predict:predict",
    "/v1",
    "/.git/config",
    "/healthz/",
    "/metrics%2f",
    "/openapi.json/..",
)


@pytest.fixture(scope="module", params=["http", pytest.param("https", marks=pytest.mark.long)])
def server(request, tmp_path_factory):
    """A running server with a key."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(export_versions(folder)[0], folder / "net" / "1")
    files = certificate(folder) if request.param == "https" else []
    options = ["--key-file", key_file(folder), *sum(zip(("--certificate", "--private-key"), files, strict=False), ())]
    limits = ["--timeout", str(SECONDS), "--max-body", "16", "--max-pixels", "1", "--log", "none"]
    running = Server(folder / "net", *options, *limits, key=KEY)
    yield running
    assert running.end(signal.SIGTERM) == 0


def mutations(rng):
    """A function from a `random.Random` to (method, path, body, headers) of a request that must be refused."""
    pixels = noise(rng, 8, 8).tolist()
    images = {kind: encode(noise(rng, 40, 40), kind) for kind in KINDS}
    good = image_request(images["PNG"])
    black = bomb()

    def spoil_nested(chance, value):
        spoilt = json.loads(json.dumps(pixels))
        row, column = chance.randrange(8), chance.randrange(8)
        place = chance.randrange(3)
        if place == 0:
            spoilt[row][column][chance.randrange(3)] = value
        elif place == 1:
            spoilt[row][column] = value
        else:
            spoilt[row] = value
        return json.dumps({"instances": [spoilt] if chance.random() < 0.5 else [{"image": spoilt}]})

    def wrong_shape(chance):
        spoilt = json.loads(json.dumps(pixels))
        row = chance.choice([spoilt, spoilt[chance.randrange(8)], spoilt[chance.randrange(8)][chance.randrange(8)]])
        if chance.random() < 0.5:
            row.pop()
        else:
            row.append(row[0])
        return json.dumps({chance.choice(["instances", "inputs"]): [spoilt]})

    def wrong_base64(chance):
        text = base64.b64encode(images["PNG"]).decode()
        place = chance.randrange(1, len(text) - 4)
        return good.replace(text.encode(), (text[:place] + chance.choice("!*-_ äß\\u0000") + text[place:]).encode())

    def wrong_address(chance):
        return chance.choice(
            ["/v1/models/other:predict", "/v1/models/net/versions/9:predict", "/v1/models/net:guess", "/v1/models/net"]
        )

    def truncated(chance):
        kind = chance.choice(KINDS)
        return image_request(images[kind][: int(chance.uniform(0, 0.7) * len(images[kind]))])

    bodies = [
        lambda chance: good[: chance.randrange(len(good))],
        lambda chance: good.replace(chance.choice([b":", b"{", b'"']), chance.choice([b"", b";", b"\x00", b"\xff"]), 1),
        lambda chance: chance.randbytes(chance.randrange(200)),
        lambda chance: chance.choice([b"[", b'{"instances":', b'{"a":']) * chance.randrange(1, 50_000),
        wrong_base64,
        truncated,
        lambda chance: image_request(chance.randbytes(chance.randrange(300))),
        lambda chance: image_request(
            announce(images[kind := chance.choice(KINDS)], kind, chance.randrange(1001, 65_000), 1000)
        ),
        lambda chance: image_request(black),
        lambda chance: spoil_nested(
            chance, chance.choice(["a", None, True, {}, [], "0", {"b64": "AAAA"}, 1e200, [[1]]])
        ),
        wrong_shape,
        lambda chance: good.replace(b'"image_bytes"', chance.choice([b'"x"', b"3", b'"serving_default"', b"[]"]), 1),
        lambda chance: good.replace(b"instances", chance.choice([b"instance", b"inputs", b""])),
        lambda chance: json.dumps({"instances": [pixels] * chance.randrange(257, 300)}),
    ]

    parts = form(*[b""] * 100_000)

    def file_as_it_is(chance):
        """A wrong image, or a good one in a wrong form."""
        kind = chance.choice(KINDS)
        wrong = (
            images[kind][: int(chance.uniform(0, 0.7) * len(images[kind]))],
            chance.randbytes(chance.randrange(300)),
            announce(images[kind], kind, chance.randrange(1001, 65_000), 1000),
            black,
        )
        choice = chance.randrange(8)
        if choice < 3:
            return chance.choice(["image/png", "application/octet-stream"]), chance.choice(wrong)
        if choice == 3:
            return form(*[images["PNG"]] * chance.randrange(3), chance.choice(wrong))
        if choice == 4:
            return form(images["PNG"], name=chance.choice(["", "photo", "image[]", "ä"]))
        content_type, body = form(images["PNG"], images["JPEG"])
        if choice == 5:
            return content_type, body[: chance.randrange(len(body) - 4)]
        if choice == 6:
            return chance.choice(["multipart/form-data", "multipart/form-data; boundary=x"]), body
        flood = chance.choice([b"a: b\r\n" * 1000, b"a: " + b"b" * 50_000 + b"\r\n", b"\0\r\n", b"\xff: \xff\r\n"])
        return content_type, body.replace(b"Content-Disposition", flood + b"Content-Disposition", 1)

    def mutate(chance):
        kind = chance.random()
        if kind < 0.05:
            return "POST", wrong_address(chance), good, {}
        if kind < 0.07:
            return chance.choice(["PUT", "DELETE", "PATCH", "GET"]), PREDICT, None, {}
        if kind < 0.15:
            return chance.choice(["GET", "POST"]), chance.choice(TRICKS), None, {}
        if kind < 0.30:
            key = chance.choice(["", KEY, f"Basic {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}\xff", "Bearer " * 500])
            method, path = chance.choice([("POST", PREDICT), ("GET", "/v1/models/net"), ("GET", "/metrics")])
            return method, path, good if method == "POST" else None, {"authorization": key.encode("latin-1")}
        if kind < 0.33:
            return "POST", PREDICT, good, {"host": chance.choice(["evil.example.org", "localhost:1:2", "", "a" * 5000])}
        if kind < 0.34:
            return "POST", PREDICT, parts[1], {"content-type": parts[0]}
        if kind < 0.60:
            content_type, body = file_as_it_is(chance)
            return "POST", PREDICT, body, {"content-type": content_type}
        return "POST", PREDICT, chance.choice(bodies)(chance), {}

    return mutate


def attack(server, mutate, seed, count):
    """Send hostile requests over one connection; returns why they were refused."""
    chance, connection, kinds = random.Random(seed), server.connect(), set()
    for _ in range(count):
        method, path, body, headers = mutate(chance)
        code, answer = server.ask(method, path, body, connection, headers)
        assert 400 <= code < 500 and list(answer) == ["error"] and answer["error"], (code, answer, path, headers)
        assert "\n" not in answer["error"] and len(answer["error"]) < 600
        kinds.add((code, re.sub(r"[^a-zA-Z ]+", "", answer["error"])[:40]))
    connection.close()
    return kinds


def slow(server):
    """A body in small pieces."""
    return raw(server, f"{HEAD}content-length: 1000\r\n\r\n".encode(), [b"{"] * 30, pause=SECONDS / 20)


def endless(server):
    """A body that never ends."""
    return raw(
        server, f"{HEAD}transfer-encoding: chunked\r\n\r\n".encode(), [b"10000\r\n" + b" " * 65_536 + b"\r\n"] * 400
    )


def huge(server):
    """A body that says that it is large, and is."""
    return server.ask("POST", PREDICT, bytes(200_000_000))


def gone(server):
    """A client that leaves in the middle."""
    with server.open() as connection:
        connection.sendall(f"{HEAD}content-length: 1000\r\n\r\n{{".encode())


def silent(server):
    """The head of a request that never ends."""
    start = time.monotonic()
    assert raw(server, b"POST /") == (None, b"")
    assert SECONDS < time.monotonic() - start < SECONDS + 20


def test_slow_endless_and_silent_clients(server):
    with ThreadPoolExecutor(9) as pool:
        unanswered = [pool.submit(what, server) for what in (silent, gone, gone, gone)]
        others = [
            (pool.submit(what, server), code) for what, code in ((slow, 408), (slow, 408), (endless, 413), (huge, 413))
        ]
        for one in unanswered:
            one.result()
        for answer, code in others:
            got, content = answer.result()
            content = content if isinstance(content, dict) else json.loads(content)
            assert got == code and list(content) == ["error"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        HEAD.encode() + b"".join(b"a%d: b\r\n" % number for number in range(20_000)) + b"\r\n",
        HEAD.encode() + b"a: " + b"b" * 100_000 + b"\r\n\r\n",
        HEAD.encode() + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        HEAD.encode() + b"content-length: 1e3\r\n\r\nab",
        HEAD.encode() + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\r\n" * 10 + b"\0\r\n\r\n",
    ],
)
def test_what_is_no_http(server, garbage):
    code, content = raw(server, garbage)
    assert code == 400 and list(json.loads(content)) == ["error"]


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_hostile_requests(server, rng, count):
    image = image_request(encode(noise(rng, 40, 40), "JPEG"))
    before = server.ask("POST", PREDICT, image)
    mutate = mutations(rng)
    with ThreadPoolExecutor(4) as pool:
        attack(server, mutate, 99, 100)
        memory = [server.memory()]
        for _ in range(4):  # in rounds, to see whether memory grows from one to the next
            seeds = [len(memory) * 10 + number for number in range(4)]
            kinds = set().union(*pool.map(lambda seed: attack(server, mutate, seed, count // 16), seeds))
            assert len(kinds) >= 12 or count < 1_000  # they were refused for many reasons
            memory.append(server.memory())
    assert server.ask("POST", PREDICT, image) == before and before[0] == 200
    assert server.ask("GET", "/healthz")[0] == 200
    print(f"{count} requests, resident megabytes: {memory}")
    assert memory[-1] < 1.05 * memory[1] + 20
    assert not any("Traceback" in line for line in server.log)


def test_broken_handshakes(server, rng):
    """Nobody else is kept waiting, and the server is right afterwards."""
    if not server.url.startswith("https"):
        pytest.skip("speaks no TLS")
    image = image_request(encode(noise(rng, 40, 40), "JPEG"))
    hello = _hello()

    def broken(chance):
        with socket.create_connection(server.address, timeout=20) as connection:
            what = chance.choice(
                [hello[: chance.randrange(len(hello))], chance.randbytes(300), b"GET / HTTP/1.1\r\n\r\n"]
            )
            connection.sendall(what)
            if chance.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
                connection.recv(100)

    chance = random.Random(1)
    for _ in range(500):
        broken(chance)
    assert server.ask("POST", PREDICT, image)[0] == 200
    assert not any("Traceback" in line for line in server.log)


def _hello():
    """The first bytes of a handshake."""
    import ssl

    sent, received = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        UNCHECKED.wrap_bio(received, sent).do_handshake()
    return sent.read()


def test_what_fuzzing_has_tried_is_answered_or_refused():
    """Inputs by which ten minutes of fuzzing came to all places of the readers, and what it found faults with."""
    fuzz = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "fuzz_readers.py"))
    inputs = json.loads(gzip.decompress((Path(__file__).parent / "corpus.json.gz").read_bytes()))
    readers = fuzz["readers"]()
    assert len(inputs) >= 300
    for content in map(base64.b64decode, inputs):
        fuzz["check"](content, readers)
