"""The server as a process: what it answers, what it survives, how it takes over and how it ends."""

import base64
import contextlib
import http.client
import json
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
from images_of_all_kinds import encode, noise
from servers import KEY, NEW, OLD, PREDICT, Server, certificate, export_versions, form, image_request, key_file

from nasnet_keras.cli import main
from nasnet_keras.export.saved_model import export_saved_model
from nasnet_keras.models.network import NASNet
from nasnet_keras.serving.client import Client, ServerError

SECONDS = 2  # that a client may take


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Two versions that differ in their weights and in the names of their classes."""
    return export_versions(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def server(exports, tmp_path_factory):
    """A running server with the first version; ends as it should."""
    folder = tmp_path_factory.mktemp("served") / "net"
    shutil.copytree(exports[0], folder / "1")
    running = Server(folder, "--timeout", str(SECONDS), "--max-body", "4", "--max-pixels", "1")
    running.folder = folder
    yield running
    assert running.end(signal.SIGTERM) == 0


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


def test_grpc_as_the_documentation_has_it(exports, rng, tmp_path):
    """Against TF Serving's own service, behind which the SavedModel answers."""
    services = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictResponse

    signatures = tf.saved_model.load(str(exports[0])).signatures

    class Service(services.PredictionServiceServicer):
        def Predict(self, request, context):
            inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
            assert request.model_spec.name == "net"
            outputs = signatures[request.model_spec.signature_name](**inputs)
            return PredictResponse(outputs={name: tf.make_tensor_proto(value) for name, value in outputs.items()})

    server = grpc.server(ThreadPoolExecutor(1))
    services.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "import grpc" in code]
    content = encode(noise(rng, 30, 40), "PNG")
    (tmp_path / "photo.png").write_bytes(content)
    command = [sys.executable, "-c", code.replace("localhost:8500", f"127.0.0.1:{port}"), "photo.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    server.stop(None)
    best = signatures["image_bytes"](image_bytes=tf.constant([content]))
    name, score = best["top_classes"].numpy()[0, 0].decode(), best["top_scores"].numpy()[0, 0]
    assert done.stdout == f"photo.png: {name} {score:.1%}\n", done.stderr


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
    assert done.stderr.startswith(f"400: {__file__}: input image_bytes: cannot read the image of ")
    assert done.stderr.endswith(" bytes: it is not a JPEG, PNG, GIF, BMP, WEBP, TIFF, PPM or AVIF image\n")


# --- people ---


def test_the_page_in_a_browser(server, rng, tmp_path):
    (tmp_path / "photo.png").write_bytes(encode(noise(rng, 40, 60), "PNG"))
    (tmp_path / "other.jpg").write_bytes(encode(noise(rng, 30, 20), "JPEG"))
    for name, kind in (("scan.tif", "TIFF"), ("plain.ppm", "PPM")):  # which browsers do not show
        (tmp_path / name).write_bytes(encode(noise(rng, 20, 30), kind))
    (tmp_path / "notes.png").write_text("no image")
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(f"{server.url}/")
        browser.wait("document.querySelector('#model').textContent === 'Model net, version 1'")
        seen = []
        for name in ("photo.png", "other.jpg", "scan.tif", "plain.ppm"):
            act, selector = (browser.choose, "#file") if name == "photo.png" else (browser.drop, "#drop")
            act(selector, tmp_path / name)
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


@pytest.mark.long
def test_the_page_shows_several_labels_as_what_they_are(rng, tmp_path):
    """Independent probabilities, first the labels that reach their thresholds, which need not be the likeliest."""
    browser = Browser(tmp_path / "profile")
    try:
        model = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=3,
                       classifier_activation="sigmoid", class_names=OLD)  # fmt: skip
        randomize(model, 3)
        images = [noise(rng, 8, 8) for _ in range(2)]
        one, other = model.predict(np.stack(images) / np.float32(127.5) - 1, verbose=0)
        label = int(np.argmax(np.abs(one - other)))  # the only label that any of them has
        first = int(other[label] > one[label])
        cuts = np.maximum(one, other) / 2 + 0.5
        cuts[label] = (one[label] + other[label]) / 2
        model.thresholds = tuple(map(float, cuts))
        export_saved_model(model, tmp_path / "net")
        for name, number in (("has.png", first), ("has not.png", 1 - first)):
            (tmp_path / name).write_bytes(encode(images[number], "PNG"))
        running = Server(tmp_path / "net")
        try:
            browser.open(f"{running.url}/")
            browser.wait("document.querySelector('#model').textContent === 'Model net, version 1'")
            for name, chances in (("has.png", (one, other)[first]), ("has not.png", (other, one)[first])):
                order = sorted(range(3), key=lambda place: (name == "has not.png" or place != label, -chances[place]))
                browser.choose("#file", tmp_path / name)
                browser.wait(f"document.querySelector('#preview').alt.includes('{name}')")
                browser.wait("document.querySelectorAll('#classes li').length === 3")
                seen = browser.evaluate(
                    "[...document.querySelectorAll('#classes li')].map(e => [e.querySelector('.name').textContent,"
                    "e.querySelector('.score').textContent, e.classList.contains('absent')])"
                )
                assert [one[0] for one in seen] == [OLD[place] for place in order]
                np.testing.assert_allclose([float(one[1].strip("<%")) for one in seen], 100 * chances[order], atol=0.11)
                assert [one[2] for one in seen] == [name == "has not.png", True, True]
                status = browser.evaluate("document.querySelector('#status').textContent")
                assert status == ("" if name == "has.png" else "No label is likely enough; the nearest:")
            assert browser.complaints == []
        finally:
            assert running.end(signal.SIGTERM) == 0
    finally:
        browser.close()


# --- a key, a certificate, files as they are ---


@pytest.fixture(scope="module")
def guarded(exports, tmp_path_factory):
    """A running server with a key and a certificate, whose log is JSON."""
    folder = tmp_path_factory.mktemp("guarded")
    files = certificate(folder)
    options = ["--key-file", key_file(folder), "--certificate", files[0], "--private-key", files[1], "--log", "json"]
    running = Server(exports[0].parent, *options, "--open", "metrics", key=KEY)
    running.certificate = files[0]
    yield running
    assert running.end(signal.SIGTERM) == 0


def test_a_key_and_a_certificate(guarded, rng):
    assert guarded.url.startswith("https://127.0.0.1:")
    image = encode(noise(rng, 40, 40), "JPEG")
    code, answer = guarded.ask("POST", PREDICT, image, headers={"x-request-id": "mine-1"})
    assert code == 200 and sorted(answer["predictions"][0]["top_classes"]) == sorted(OLD)
    wrong = {"authorization": f"Bearer {KEY}x"}
    for method, path in (("POST", PREDICT), ("GET", "/healthz"), ("GET", "/openapi.json"), ("GET", "/v1/models/net")):
        code, answer = guarded.ask(method, path, headers=wrong)
        assert code == 401 and answer["error"].endswith("Received: another one")
    end = time.monotonic() + 10
    while not any("mine-1" in line for line in guarded.log) and time.monotonic() < end:
        time.sleep(0.01)
    lines = [json.loads(line) for line in guarded.log if line.startswith("{")]
    (line,) = [line for line in lines if line.get("request_id") == "mine-1"]
    assert (line["method"], line["path"], line["status"], line["level"]) == ("POST", PREDICT, 200, "info")
    assert line["bytes"] > 50 and line["milliseconds"] > 0
    assert KEY not in "".join(guarded.log)


def test_the_client_with_a_key_and_a_certificate(guarded, rng, tmp_path):
    content = encode(noise(rng, 40, 40), "JPEG")
    url = guarded.url.replace("127.0.0.1", "localhost")
    expected = guarded.ask("POST", PREDICT, content)[1]["predictions"][0]
    with Client(url, key=KEY, certificate=guarded.certificate, batch=2) as client:
        assert list(client.predict([content] * 3)) == [expected] * 3 and client.versions() == {1: "AVAILABLE"}
        assert next(client.predict([noise(rng, 8, 8)]))["top_classes"]
    with pytest.raises(ServerError, match="the server's certificate is not trusted: self-signed certificate"):
        Client(url, key=KEY).versions()
    with Client(url, certificate=guarded.certificate) as client, pytest.raises(ServerError, match="401: the key must"):
        client.versions()


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_files_by_curl(server, rng, tmp_path):
    content = encode(noise(rng, 300, 400), "JPEG")
    (tmp_path / "photo.jpg").write_bytes(content)

    def curl(*arguments):
        done = subprocess.run(["curl", "-s", *arguments, server.url + PREDICT], cwd=tmp_path, capture_output=True)
        return json.loads(done.stdout)

    (row,) = server.ask("POST", PREDICT, image_request(content))[1]["predictions"]
    assert curl("-F", "image=@photo.jpg", "-F", "image=@photo.jpg") == {"predictions": [row, row]}
    assert curl("--data-binary", "@photo.jpg") == {"predictions": [row]}
    assert curl("--data-binary", "@photo.jpg", "-H", "Content-Type: image/jpeg") == {"predictions": [row]}
    assert "--data-binary, not by -d" in curl("-d", "@photo.jpg")["error"]
    assert "must be called image" in curl("-F", "photo=@photo.jpg")["error"]


def test_the_description_is_true(server, rng):
    """What it allows is answered as it says, and what it does not is refused."""
    validator = pytest.importorskip("openapi_spec_validator")
    from jsonschema import Draft202012Validator

    code, document = server.ask("GET", "/openapi.json")
    assert code == 200
    validator.validate(document)

    def schema(part):
        return Draft202012Validator({**part, "components": document["components"]})

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "get" and path != "/metrics":
                code, answer = server.ask("GET", path)
                schema(operation["responses"][str(code)]["content"]["application/json"]["schema"]).validate(answer)
    operation = document["paths"][PREDICT]["post"]
    body = schema(operation["requestBody"]["content"]["application/json"]["schema"])
    image, pixels = encode(noise(rng, 9, 9), "PNG"), noise(rng, 8, 8).tolist()
    encoded, named = {"b64": base64.b64encode(image).decode()}, {"signature_name": "image_bytes"}
    for request, right in (
        ({"instances": [pixels]}, True),
        ({"instances": [{"image": pixels}] * 2, "signature_name": "serving_default"}, True),
        ({"inputs": [pixels]}, True),
        ({"inputs": {"image": [pixels]}}, True),
        ({"instances": [encoded, encoded], **named}, True),
        ({"instances": [{"image_bytes": encoded}], **named}, True),
        ({"inputs": {"image_bytes": [encoded]}, **named}, True),
        ({"instances": [pixels[:7]]}, False),
        ({"instances": []}, False),
        ({"instances": [encoded]}, False),
        ({"instances": [pixels], **named}, False),
        ({"instances": [{"picture": pixels}]}, False),
        ({"inputs": {}}, False),
        ({}, False),
    ):
        code, answer = server.ask("POST", PREDICT, json.dumps(request))
        assert body.is_valid(request) == (code == 200) == right, (request, answer)
        schema(operation["responses"][str(code)]["content"]["application/json"]["schema"]).validate(answer)
    for kind, content in (form(image, image), ("image/png", image), ("application/octet-stream", image)):
        code, answer = server.ask("POST", PREDICT, content, headers={"content-type": kind})
        schema(operation["responses"][str(code)]["content"]["application/json"]["schema"]).validate(answer)
        assert code == 200


def test_the_page_asks_for_the_key(guarded, rng, tmp_path):
    (tmp_path / "photo.png").write_bytes(encode(noise(rng, 40, 60), "PNG"))
    browser = Browser(tmp_path / "profile", "--ignore-certificate-errors")

    def give(key):
        browser.evaluate(f"document.querySelector('#secret').value = '{key}'")
        browser.evaluate("document.querySelector('#key button').click()")

    try:
        browser.open(f"{guarded.url}/")
        browser.wait("!document.querySelector('#key').hidden")
        browser.choose("#file", tmp_path / "photo.png")
        browser.wait("document.querySelector('#status.wrong') !== null")
        give("no key of this server")
        browser.wait("!document.querySelector('#key').hidden && document.querySelector('#status.wrong') !== null")
        give(KEY)
        browser.wait("document.querySelector('#model').textContent === 'Model net, version 1'")
        browser.wait("document.querySelectorAll('#classes li').length === 3")  # of the image that was refused before
        assert browser.evaluate("document.querySelector('#key').hidden")
        assert "Authorization: Bearer $KEY" in browser.evaluate("document.querySelector('#curl').textContent")
    finally:
        browser.close()


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
        connection.sendall(
            f"POST {PREDICT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        )
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
    arguments = ["--host", "0.0.0.0", "--open", "all", "--port", str(port), "--name", "other", "--json"]
    arguments += ["--host-name", "models.example.org"]  # which keeps nobody away
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
    (tmp_path / "short").write_text("abc")
    (tmp_path / "words").write_text("a key of several words")
    (tmp_path / "other").mkdir()
    files, other, keyed = certificate(tmp_path), certificate(tmp_path / "other"), ["--key-file", key_file(tmp_path)]
    locked = str(tmp_path / "locked.pem")
    command = ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", files[1], "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
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
        (["--model", good, "--max-batch", "1000000"], "`max_batch` must be an integer from 1 to 128"),
        (
            ["--model", good, "--host", "0.0.0.0"],
            "so it needs a key, on the command line --key-file FILE; or --open all",
        ),
        (["--model", good, "--key-file", str(tmp_path / "no")], "`key_file` must be a file that can be read: No such"),
        (["--model", good, "--key-file", str(tmp_path / "short")], "`key_file` must be a file of 16 to 256 characters"),
        (["--model", good, "--key-file", str(tmp_path / "words")], "`key_file` must be visible ASCII characters"),
        (["--model", good, "--open", "health"], "`open` must only be all without a key. Received: health"),
        (["--model", good, "--open", "all", *keyed], "`open` must not be all where there is a key"),
        (["--model", good, "--certificate", files[0]], "`certificate` and `private_key` must be given together"),
        (
            ["--model", good, "--certificate", files[0], "--private-key", str(tmp_path / "no")],
            "`private_key` must be a",
        ),
        (
            ["--model", good, "--certificate", *files[:1], "--private-key", files[0]],
            "must be PEM files that belong tog",
        ),
        (["--model", good, "--certificate", files[0], "--private-key", other[1]], "key values mismatch"),
        (
            ["--model", good, "--certificate", files[0], "--private-key", locked],
            "`private_key` must not need a password",
        ),
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
