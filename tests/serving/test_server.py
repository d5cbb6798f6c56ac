"""The server as a process: what it answers, what it survives, how it takes over and how it ends."""

import base64
import contextlib
import http.client
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from browser import Browser
from checks import randomize
from house import ROOT
from images_of_all_kinds import KINDS, announce, bomb, encode, noise

from nasnet_keras.cli import main
from nasnet_keras.export.saved_model import export_saved_model
from nasnet_keras.models.network import NASNet

OLD, NEW = ("ant", "bee", "cat"), ("alder", "birch", "cedar")
SECONDS = 2  # that a client may take


class Server:
    """`nasnet-keras serve` in a process of its own, on any free port."""

    def __init__(self, folder, *arguments):
        command = [sys.executable, "-m", "nasnet_keras.cli", "serve", "--model", str(folder), "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.log = []
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self._reader.start()
        self.greeting = self.process.stdout.readline()
        assert self.greeting, self.log
        self.url = re.search(r"http://\S+", self.greeting)[0]
        self.address = ("127.0.0.1", int(self.url.rsplit(":", 1)[1]))

    def connect(self):
        """A connection that can be used again and again."""
        return http.client.HTTPConnection(*self.address, timeout=30)

    def ask(self, method, path, body=None, connection=None, headers=()):
        """The code and the JSON of an answer."""
        own = connection or self.connect()
        own.request(method, path, body, dict(headers))
        answer = own.getresponse()
        content = answer.read()
        if connection is None:
            own.close()
        return answer.status, json.loads(content) if content else None

    def end(self, number):
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join()
            self.process.stdout.close()
            self.process.stderr.close()

    def memory(self):
        """Resident megabytes."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1000


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Two versions that differ in their weights and in the names of their classes."""
    folders = []
    for seed, names in enumerate((OLD, NEW)):
        model = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=3)
        randomize(model, seed)
        folders.append(export_saved_model(model, tmp_path_factory.mktemp("export") / "net", class_names=names))
    return folders


@pytest.fixture(scope="module")
def server(exports, tmp_path_factory):
    """A running server with the first version; ends as it should."""
    folder = tmp_path_factory.mktemp("served") / "net"
    shutil.copytree(exports[0], folder / "1")
    running = Server(folder, "--timeout", str(SECONDS), "--max-body", "4", "--max-pixels", "1")
    running.folder = folder
    yield running
    assert running.end(signal.SIGTERM) == 0


def image_request(content, row_form=True):
    encoded = {"b64": base64.b64encode(content).decode()}
    rows = {"instances": [{"image_bytes": encoded}]} if row_form else {"inputs": {"image_bytes": [encoded]}}
    return json.dumps({"signature_name": "image_bytes", **rows}).encode()


PREDICT = "/v1/models/net:predict"


def test_the_same_image_in_every_form(server, rng):
    assert server.greeting.startswith("version 1 is ready: http://127.0.0.1:")
    pixels = noise(rng, 8, 8)
    image = encode(pixels, "PNG")
    answers = [
        server.ask("POST", PREDICT, image_request(image)),
        server.ask("POST", PREDICT, json.dumps({"instances": [pixels.tolist()]})),
        server.ask(
            "POST", "/v1/models/net/versions/1:predict", json.dumps({"instances": [{"image": pixels.tolist()}]})
        ),
    ]
    assert [code for code, _ in answers] == [200] * 3
    first, *others = (answer["predictions"][0] for _, answer in answers)
    assert sorted(first["top_classes"]) == sorted(OLD) and abs(sum(first["probabilities"]) - 1) < 1e-5
    for other in others:
        np.testing.assert_allclose(first["probabilities"], other["probabilities"], atol=1e-5)
    code, answer = server.ask("POST", PREDICT, image_request(image, row_form=False))
    assert code == 200 and answer["outputs"] == {name: [value] for name, value in first.items()}


def test_the_official_messages_read_the_status(server):
    messages = pytest.importorskip("tensorflow_serving.apis.get_model_status_pb2")
    from google.protobuf.json_format import ParseDict

    _, answer = server.ask("GET", "/v1/models/net")
    (state,) = ParseDict(answer, messages.GetModelStatusResponse()).model_version_status
    assert (state.version, state.State.Name(state.state), state.status.error_code) == (1, "AVAILABLE", 0)


@pytest.mark.parametrize("language", ["bash", "python"])
def test_the_clients_of_the_documentation(server, language, rng, tmp_path):
    """As they stand there, but for the port."""
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8").split("## Clients")[1]
    code = re.search(rf"```{language}\n(.*?)```", page, re.S)[1].replace("http://localhost:8501", server.url)
    content = encode(noise(rng, 300, 400), "PNG")  # more than a command line holds
    (tmp_path / "photo.jpg").write_bytes(content)
    if language == "bash" and not shutil.which("curl"):
        pytest.skip("needs curl")
    command = ["bash", "-c", code] if language == "bash" else [sys.executable, "-c", code, "photo.jpg"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    _, answer = server.ask("POST", PREDICT, image_request(content))
    (row,) = answer["predictions"]
    if language == "bash":
        assert json.loads(done.stdout)["predictions"][0]["top_classes"] == row["top_classes"]
        return
    assert done.stdout == f"photo.jpg: {row['top_classes'][0]} {row['top_scores'][0]:.1%}\n"
    done = subprocess.run([*command[:-1], __file__], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("400: input image_bytes: cannot read the image of ")
    assert done.stderr.endswith(" bytes: it is not a JPEG, PNG, GIF, BMP, WEBP, TIFF, PPM or AVIF image\n")


# --- people ---


def test_the_page_in_a_browser(server, rng, tmp_path):
    (tmp_path / "photo.png").write_bytes(encode(noise(rng, 40, 60), "PNG"))
    (tmp_path / "other.jpg").write_bytes(encode(noise(rng, 30, 20), "JPEG"))
    (tmp_path / "notes.png").write_text("no image")
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(f"{server.url}/")
        browser.wait("document.querySelector('#model').textContent === 'Model net, version 1'")
        seen = []
        for act, name in ((browser.choose, "photo.png"), (browser.drop, "other.jpg")):
            act("#file" if act == browser.choose else "#drop", tmp_path / name)
            browser.wait(f"document.querySelector('#preview').alt.includes('{name}')")
            browser.wait("document.querySelectorAll('#classes li').length === 3")
            seen = browser.evaluate("[...document.querySelectorAll('#classes .name')].map(e => e.textContent)")
            _, answer = server.ask("POST", PREDICT, image_request((tmp_path / name).read_bytes()))
            assert seen == answer["predictions"][0]["top_classes"]
            percent = browser.evaluate("document.querySelector('#classes .score').textContent")
            width = browser.evaluate("parseFloat(document.querySelector('#classes .bar').style.width)")
            score = 100 * answer["predictions"][0]["top_scores"][0]
            assert percent == f"{score:.1f}%" and abs(width - score) < 0.1
        assert browser.complaints == []
        browser.drop("#drop", tmp_path / "notes.png")
        browser.wait("document.querySelector('#status.wrong')?.textContent.includes('not a JPEG')")
        assert browser.evaluate("document.querySelectorAll('#classes li').length") == 0
        assert browser.evaluate("document.querySelector('label[for=file]') !== null")
    finally:
        browser.close()


# --- strangers ---


def mutations(rng):
    """Functions of a `random.Random` that give (method, path, body) of a request that must be refused."""
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

    def mutate(chance):
        if chance.random() < 0.05:
            return "POST", wrong_address(chance), good
        if chance.random() < 0.02:
            return chance.choice(["PUT", "DELETE", "PATCH", "GET"]), PREDICT, None
        return "POST", PREDICT, chance.choice(bodies)(chance)

    return mutate


def raw(server, head, chunks=(), pause=0.0):
    """Speak HTTP by hand; returns the code and what came."""
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(head)
        for chunk in chunks:
            try:
                connection.sendall(chunk)
            except OSError:
                break
            time.sleep(pause)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
            if b"}" in answer:
                break
    return int(answer.split()[1]) if answer else None, answer.rpartition(b"\r\n\r\n")[2]


def test_a_thousand_hostile_requests(server, rng):
    image = image_request(encode(noise(rng, 40, 40), "JPEG"))
    before = server.ask("POST", PREDICT, image)
    mutate = mutations(rng)

    def attack(seed):
        chance, connection, kinds = random.Random(seed), server.connect(), set()
        for _ in range(250):
            method, path, body = mutate(chance)
            code, answer = server.ask(method, path, body, connection)
            assert 400 <= code < 500 and list(answer) == ["error"] and answer["error"], (code, answer, path, body[:200])
            kinds.add((code, re.sub(r"[^a-zA-Z ]+", "", answer["error"])[:40]))
        connection.close()
        return kinds

    def slow(_):
        head = f"POST {PREDICT} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n".encode()
        return raw(server, head, [b"{"] * 30, pause=SECONDS / 20)

    def endless(_):
        head = f"POST {PREDICT} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        return raw(server, head, [b"10000\r\n" + b" " * 65_536 + b"\r\n"] * 100)

    def gone():
        with socket.create_connection(server.address, timeout=20) as connection:
            connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{{".encode())

    def silent():
        start = time.monotonic()
        assert raw(server, b"POST /") == (None, b"")  # the head of a request that never ends
        assert SECONDS < time.monotonic() - start < SECONDS + 10

    def huge(_):
        return server.ask("POST", PREDICT, bytes(200_000_000))

    with ThreadPoolExecutor(12) as pool:
        unanswered = [pool.submit(what) for what in (silent, gone, gone, gone)]
        others = [
            (pool.submit(what, None), code) for what, code in ((slow, 408), (slow, 408), (endless, 413), (huge, 413))
        ]
        attacks = list(pool.map(attack, range(4)))
        for one in unanswered:
            one.result()
        for answer, code in others:
            got, content = answer.result()
            content = content if isinstance(content, dict) else json.loads(content)
            assert got == code and list(content) == ["error"]
    assert len(set.union(*attacks)) >= 12  # they were refused for many reasons
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"):
        code, content = raw(server, garbage)
        assert code == 400 and list(json.loads(content)) == ["error"]
    assert server.ask("POST", PREDICT, image) == before and before[0] == 200
    assert server.ask("GET", "/healthz")[0] == 200
    assert server.memory() < 2500 and not any("Traceback" in line for line in server.log)


# --- new versions ---


def test_a_new_version_takes_over_under_load(server, exports, rng):
    image = image_request(encode(noise(rng, 40, 40), "JPEG"))
    stop, seen = threading.Event(), []

    def client(number):
        connection = server.connect()
        while not stop.is_set():
            code, answer = server.ask("POST", PREDICT, image, connection if number % 2 else None)
            seen.append((code, frozenset(answer["predictions"][0]["top_classes"])) if code == 200 else (code, answer))
        connection.close()

    (server.folder / "3").mkdir()
    (server.folder / "3" / "saved_model.pb").write_bytes(b"broken")
    with ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(client, number) for number in range(6)]
        try:
            shutil.copytree(exports[1], server.folder / ".new")
            (server.folder / ".new").rename(server.folder / "2")
            end = time.monotonic() + 30
            while server.ask("GET", "/healthz")[1]["version"] != 2:
                assert time.monotonic() < end
                time.sleep(0.05)
            time.sleep(0.3)
        finally:
            stop.set()
        for one in clients:
            one.result()
    assert {code for code, _ in seen} == {200}
    assert {names for _, names in seen} == {frozenset(OLD), frozenset(NEW)} and len(seen) > 50
    assert seen[-1][1] == frozenset(NEW)
    states = server.ask("GET", "/v1/models/net")[1]["model_version_status"]
    assert [(state["version"], state["state"]) for state in states] == [("3", "END"), ("2", "AVAILABLE")]
    assert server.ask("POST", "/v1/models/net/versions/1:predict", image)[0] == 404
    assert sum("version 3 cannot be served and is ignored" in line for line in server.log) == 1
    assert any("version 2 is served, in place of 1" in line for line in server.log)


# --- the end; the server of the tests above is used up by it ---


def test_sigterm_answers_what_has_come_and_refuses_the_rest(server, rng):
    body = image_request(encode(noise(rng, 40, 40), "JPEG"))
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        connection.sendall(body[:100])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 10
        with pytest.raises(ConnectionRefusedError):
            while time.monotonic() < end:
                socket.create_connection(server.address, timeout=1).close()
                time.sleep(0.02)
        connection.sendall(body[100:])
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200") and len(json.loads(answer.rpartition(b"\r\n\r\n")[2])["predictions"]) == 1
    assert server.process.wait(20) == 0


def test_ctrl_c_and_a_warning_for_other_hosts(exports, tmp_path, capfd, caplog):
    """In this process: a thread presses Ctrl-C as soon as the server is ready."""
    shutil.copytree(exports[0], tmp_path / "1")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "saved_model.pb").write_bytes(b"broken")  # from the start: the older one is served
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def press():
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                # Closed whatever happens: the port can be open before anybody answers.
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                    connection.request("GET", "/healthz")
                    codes.append(connection.getresponse().status)
                if codes[-1] == 200:
                    break
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    codes = []
    threading.Thread(target=press).start()
    arguments = ["--host", "0.0.0.0", "--port", str(port), "--name", "other", "--json"]
    assert main(["serve", "--model", str(tmp_path), *arguments]) == 130
    assert set(codes) <= {200, 503} and codes[-1] == 200
    out, err = capfd.readouterr()
    first, second = out.splitlines()
    assert first == f"version 1 is ready: http://0.0.0.0:{port} (Ctrl-C stops)"
    assert json.loads(second) == {"url": f"http://0.0.0.0:{port}", "version": 1}
    assert "can be reached from other machines" in caplog.text and "version 2 cannot be served" in caplog.text
    assert "nasnet-keras: stopped" in err and "Traceback" not in err


def test_bad_input_is_one_line_and_code_2(exports, tmp_path, capsys, monkeypatch, request):
    (tmp_path / "empty").mkdir()
    taken = socket.create_server(("127.0.0.1", 0))
    request.addfinalizer(taken.close)
    good = str(exports[0].parent)
    for arguments, words in (
        (["--model", str(tmp_path / "missing")], "missing: no such folder"),
        (["--model", str(tmp_path / "empty")], "empty: there is none in it"),
        (["--model", f"{good}/1"], "give the folder above"),
        (
            ["--model", good, "--port", str(taken.getsockname()[1])],
            "`port` cannot be listened on: Address already in use",
        ),
        (["--model", good, "--port", "70000"], "`port` must be in 0 to 65535"),
        (["--model", good, "--host", "256.0.0.1"], "`host` cannot be listened on"),
        (["--model", good, "--name", "a/b"], "`name` must go into an address"),
        (["--model", good, "--max-batch", "0"], "`max_batch` must be above 0"),
    ):
        assert main(["serve", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and words in err and err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "nasnet_keras.serving.server")
    assert main(["serve", "--model", good]) == 2
    assert "`uvicorn` is not installed: pip install nasnet_keras[serve]" in capsys.readouterr().err


def test_no_version_that_loads(tmp_path, capfd):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"broken")
    assert main(["serve", "--model", str(tmp_path), "--port", "0"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and "`model` must hold a version that can be served" in err.splitlines()[-1]
