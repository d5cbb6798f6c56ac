"""The page that `serve` shows: by keyboard, by name, in the dark, on a phone; and heat maps, also over HTTP."""

import base64
import io
import json
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from browser import Browser
from checks import randomize
from images_of_all_kinds import encode, noise
from PIL import Image
from pixels import png
from servers import PREDICT, Server, image_request

from nasnet_keras import NASNet, NASNetCIFAR, explain
from nasnet_keras.cli import main
from nasnet_keras.export.saved_model import export_saved_model
from nasnet_keras.pictures.heat_maps import GAP, shown_size

CLASSES = ("ant", "bee", "cat")


def network(seed=0, **options):
    size = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (32, 48, 3), "classes": 3}
    model = NASNet("tiny", class_names=CLASSES, **{**size, **options})
    randomize(model, seed)
    return model


def picture(content):
    return np.asarray(Image.open(io.BytesIO(content)), float)


def scene(rng, height=32, width=48):
    """A bright disc on a dim noisy ground."""
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - height / 3) ** 2 + (columns - width / 1.5) ** 2 < (height / 5) ** 2
    return np.where(disc[..., None], (250, 180, 40), noise(rng, height, width) // 3).astype("uint8")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="softmax", marks=pytest.mark.long),
        pytest.param(
            {"classifier_activation": "sigmoid", "thresholds": (0.4, 0.5, 0.6)}, id="labels", marks=pytest.mark.long
        ),
        pytest.param(
            {"classifier_activation": None, "auxiliary_head": True, "include_preprocessing": True},
            id="logits", marks=pytest.mark.long,
        ),
        pytest.param({"input_shape": (24, 24, 1)}, id="grey", marks=pytest.mark.long),
        pytest.param({"input_shape": (None, None, 3)}, id="any size", marks=pytest.mark.long),
    ],
)  # fmt: skip
def test_the_picture_is_that_of_explain(options, tmp_path, rng):
    model = network(**options)
    path = export_saved_model(model, tmp_path / "net", explain=True)
    signatures = tf.saved_model.load(str(path)).signatures
    side = (model.input_shape[1] or 32, model.input_shape[2] or 32)
    images = [scene(rng, *side) for _ in range(3)]
    images = [image[..., :1] if model.input_shape[-1] == 1 else image for image in images]
    files = [encode(image.squeeze(), "PNG") for image in images]
    answer = signatures["explain"](image_bytes=tf.constant(files))
    plain = signatures["image_bytes"](image_bytes=tf.constant(files))
    assert answer.keys() == {*plain, "heat_map_bytes"} and "heat_map_bytes" not in plain
    np.testing.assert_allclose(answer["probabilities"], plain["probabilities"], atol=1e-6)
    for image, content, best in zip(
        images, answer["heat_map_bytes"].numpy(), answer["top_classes"].numpy(), strict=True
    ):
        expected = explain(model, image)
        found, drawn = picture(content), picture(expected.png())
        height, width = shown_size(side)
        assert found.shape == drawn.shape == (height, 2 * width + GAP, 3) and expected.name == best[0].decode()
        assert np.abs(found - drawn).mean() < 1 and np.percentile(np.abs(found - drawn), 99) < 8
        other = explain(model, image, index=(expected.index + 1) % 3)
        assert np.abs(picture(other.png()) - drawn).mean() > 2  # another class has another picture


@pytest.mark.long
def test_a_network_whose_weights_are_variables(tmp_path, rng, monkeypatch):
    """As in a heavy one: the classifier's kernel is one of them."""
    monkeypatch.setattr("nasnet_keras.export.saved_model.HEAVY", 0)
    monkeypatch.setattr("nasnet_keras.export.saved_model.LARGE", 0)
    model, image = network(1), scene(rng)
    path = export_saved_model(model, tmp_path / "net", explain=True)
    run = tf.saved_model.load(str(path)).signatures["explain"]
    (content,) = run(image_bytes=tf.constant([encode(image, "PNG")]))["heat_map_bytes"].numpy()
    assert np.abs(picture(content) - picture(explain(model, image).png())).mean() < 1


@pytest.mark.parametrize(
    ("ends", "units"),
    [
        pytest.param(("softmax",), 3, marks=pytest.mark.long),
        pytest.param((), 3, marks=pytest.mark.long),
        pytest.param(("sigmoid",), 1, marks=pytest.mark.long),
    ],
)
def test_a_head_of_one_s_own(ends, units, tmp_path, rng):
    """Nothing is folded, and the gradient is in the graph."""
    size = {"genotype": "tiny", "weights": None, "repeats": 1, "filters": 4, "input_shape": (32, 48, 3)}
    base = NASNetCIFAR(include_top=False, pooling="avg", **size)
    randomize(base, 2)
    model = keras.Sequential([keras.Input((32, 48, 3)), base, keras.layers.Dense(units, *ends)])
    path = export_saved_model(model, tmp_path / "net", explain=True)
    images = [scene(rng), scene(rng)[::-1].copy()]
    run = tf.saved_model.load(str(path)).signatures["explain"]
    answer = run(image_bytes=tf.constant([encode(image, "PNG") for image in images]))
    for image, content in zip(images, answer["heat_map_bytes"].numpy(), strict=True):
        assert np.abs(picture(content) - picture(explain(model, image).png())).mean() < 1
    assert not any("call" in vars(layer) for layer in (*model.layers, *base.layers))


def test_what_cannot_be_done_is_one_line(tmp_path, capsys):
    network(input_shape=(32, 32, 4)).save(tmp_path / "four.keras")
    for name, more, words in (
        ("four", (), "`explain` must be left out but for images of 1 or 3 channels. Received: 4"),
        ("four", ("--format", "onnx"), "`explain` means nothing for the format onnx: leave it out"),
    ):
        words_given = [
            "export",
            "--model",
            str(tmp_path / f"{name}.keras"),
            "--output",
            str(tmp_path / "s"),
            "--explain",
        ]
        assert main([*words_given, *more]) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1 and not (tmp_path / "s" / "1").exists()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A running server of what `export --explain` wrote."""
    place = tmp_path_factory.mktemp("explaining")
    model = network()
    model.save(place / "m.keras")
    assert main(["export", "--model", str(place / "m.keras"), "--output", str(place / "net"), "--explain"]) == 0
    running = Server(place / "net", "--max-batch", "2")
    running.folder, running.model = place / "net", model
    yield running
    assert running.end(signal.SIGTERM) == 0


def test_over_http(server, rng):
    content = encode(scene(rng), "PNG")
    encoded = {"b64": base64.b64encode(content).decode()}
    code, answer = server.ask("POST", PREDICT, json.dumps({"signature_name": "explain", "instances": [encoded]}))
    assert code == 200
    (row,) = answer["predictions"]
    drawn = picture(base64.b64decode(row.pop("heat_map_bytes")["b64"]))
    assert np.abs(drawn - picture(explain(server.model, scene_of(content)).png())).mean() < 1
    for body in (image_request(content), content):  # who asks for classes alone gets no picture
        code, answer = server.ask("POST", PREDICT, body)
        assert code == 200 and answer["predictions"][0].keys() == row.keys()
        np.testing.assert_allclose(answer["predictions"][0]["probabilities"], row["probabilities"], atol=1e-6)
    broken = {"signature_name": "explain", "instances": [{"b64": base64.b64encode(content[:-20]).decode()}]}
    code, answer = server.ask("POST", PREDICT, json.dumps(broken))
    assert code == 400 and "PNG" in answer["error"]


def test_the_description_says_so(server, rng):
    jsonschema = pytest.importorskip("jsonschema")
    _, document = server.ask("GET", "/openapi.json")
    operation = document["paths"][PREDICT]["post"]
    encoded = {"b64": base64.b64encode(encode(scene(rng), "PNG")).decode()}
    request = {"signature_name": "explain", "instances": [encoded]}
    _, answer = server.ask("POST", PREDICT, json.dumps(request))
    for value, part in ((request, operation["requestBody"]), (answer, operation["responses"]["200"])):
        schema = {**part["content"]["application/json"]["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)
    assert "heat_map_bytes" in json.dumps(operation["responses"]["200"])


def scene_of(content):
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.fixture
def browser(server, rng, tmp_path):
    """A browser that shows the page; `photo.png` is there to be chosen."""
    (tmp_path / "photo.png").write_bytes(encode(scene(rng), "PNG"))
    shown = Browser(tmp_path / "profile")
    try:
        shown.open(f"{server.url}/")
        shown.wait("!document.querySelector('#where').hidden")
        yield shown
    finally:
        shown.close()


def test_by_keyboard_by_name_in_the_dark_and_on_a_phone(browser, tmp_path):
    seen = []
    for _ in range(3):
        browser.press("Tab")
        seen.append(browser.evaluate("document.activeElement.id || document.activeElement.tagName"))
        ringed = "document.activeElement" if seen[-1] != "file" else "document.querySelector('#drop')"
        assert browser.evaluate(f"getComputedStyle({ringed}).outlineStyle") != "none"
    assert seen == ["file", "explain", "SUMMARY"]
    browser.press("Enter")
    assert browser.evaluate("document.querySelector('details').open")
    browser.evaluate("document.querySelector('#explain').click()")
    browser.choose("#file", tmp_path / "photo.png")
    browser.wait("!document.querySelector('#looked').hidden")
    names = browser.names()
    assert {"Show where the model looked", "The same from a terminal"} <= set(names) and all(names)
    assert browser.evaluate("[...document.images].every(image => image.hidden || image.alt)")
    assert browser.evaluate("document.querySelector('[aria-live] #classes') !== null")
    for dark in (False, True):
        for width in (360, 1000):
            browser.screen(width, 900, dark)
            assert browser.pale() == []
            assert browser.evaluate("document.documentElement.scrollWidth") <= width


WATCH = "window.sent = [], window.plain = fetch, window.fetch = (path, options) => "
WATCH += "(options?.body && sent.push(options.body), plain(path, options))"


def test_a_file_goes_as_it_is_or_it_is_said(browser, tmp_path, rng):
    """Sixteen bits of a large scan arrive; only what the server finds too large is made smaller, if it is a JPEG."""

    def look(name):
        browser.choose("#file", tmp_path / name)
        browser.wait(f"document.querySelector('#preview').alt.includes('{name}')")
        browser.wait("document.querySelector('#status').textContent !== 'Looking…'")
        sent = "sent.map(one => [one.type, one.size])"
        return browser.evaluate(f"[document.querySelector('#status').textContent, {sent}]")

    browser.evaluate(WATCH + ", 1")
    (tmp_path / "scan.png").write_bytes(png(rng.integers(0, 4096, (1800, 1800, 1)).astype("uint16"), 0))
    size = (tmp_path / "scan.png").stat().st_size
    assert size > 4_000_000 and look("scan.png") == ["", [["image/png", size]]]
    (tmp_path / "wide.jpg").write_bytes(encode(np.full((5200, 5200, 3), 90, "uint8"), "JPEG"))  # 27 megapixels
    status, sent = look("wide.jpg")
    assert "made smaller before it was sent" in status
    assert [kind for kind, _ in sent[1:]] == ["image/jpeg", "image/png"] and sent[1][1] != sent[2][1]
    small = encode(scene(rng), "JPEG")
    (tmp_path / "heavy.jpg").write_bytes(small + bytes(24_000_001))
    status, sent = look("heavy.jpg")
    assert "made smaller before it was sent" in status and len(sent) == 4 and sent[3][0] == "image/png"
    (tmp_path / "heavy.png").write_bytes(encode(scene(rng), "PNG") + bytes(24_000_001))
    status, sent = look("heavy.png")
    assert "This file is too large" in status and len(sent) == 4


def test_the_box_on_the_page(server, browser, tmp_path):
    assert browser.evaluate("document.querySelector('#where').textContent.trim()") == "Show where the model looked"
    browser.choose("#file", tmp_path / "photo.png")
    browser.wait("document.querySelectorAll('#classes li').length === 3")
    assert browser.evaluate("document.querySelector('#looked').hidden")
    browser.evaluate("document.querySelector('#explain').focus()")
    browser.press(" ")
    browser.wait("!document.querySelector('#looked').hidden")
    width = shown_size((32, 48))[1]
    browser.wait(f"document.querySelector('#heat').naturalWidth === {2 * width + GAP}")
    best = browser.evaluate("document.querySelector('#classes .name').textContent")
    assert best in browser.evaluate("document.querySelector('#heat').alt")
    assert best in browser.evaluate("document.querySelector('#looked figcaption').textContent")
    assert browser.evaluate("document.querySelectorAll('#classes li').length") == 3
    browser.press(" ")
    browser.wait("document.querySelector('#looked').hidden && document.querySelectorAll('#classes li').length === 3")
    assert browser.complaints == []
    # A version without the signature has no box.
    export_saved_model(server.model, tmp_path / "plain")
    shutil.move(tmp_path / "plain" / "1", server.folder / "2")
    browser.wait("(async () => (await (await fetch('healthz')).json()).version === 2)()")
    browser.open(f"{server.url}/?again")
    browser.wait("document.querySelector('#model').textContent === 'Model net, version 2'")
    browser.choose("#file", tmp_path / "photo.png")
    browser.wait("document.querySelectorAll('#classes li').length === 3")
    assert browser.evaluate("document.querySelector('#where').hidden")
