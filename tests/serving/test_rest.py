"""TF Serving's JSON in both forms, and what is refused before the model sees it."""

import base64
import json

import numpy as np
import pixels
import pytest
from images_of_all_kinds import KINDS, announce, bomb, encode, noise
from servers import form

from nasnet_keras.data.images import read_image
from nasnet_keras.serving import rest
from nasnet_keras.serving.rest import Refusal, Sent, Spec, decode_base64, read_predict, sent_as, write_predict

SIGNATURES = {
    "serving_default": {"image": Spec("float32", (2, 2, 3))},
    "raw": {"image": Spec("uint8", (None, None, 3))},
    "image_bytes": {"image_bytes": Spec("string", ())},
    "two": {"a": Spec("float32", (1,)), "b": Spec("uint8", ())},
}


def read(body, max_pixels=1_000_000, max_rows=4):
    return read_predict(json.dumps(body).encode(), SIGNATURES, max_pixels, max_rows)


def b64(content):
    return {"b64": base64.b64encode(content).decode()}


def refused(body, words, code=400):
    with pytest.raises(Refusal, match=words) as caught:
        read(body) if isinstance(body, dict) else read_predict(body, SIGNATURES, 1_000_000, 4)
    assert caught.value.code == code and len(str(caught.value)) < 600


def test_four_ways_to_say_the_same(rng):
    images = rng.integers(0, 256, (3, 2, 2, 3)).tolist()
    bodies = (
        {"instances": images},
        {"instances": [{"image": image} for image in images]},
        {"inputs": images},
        {"inputs": {"image": images}, "signature_name": ""},
    )
    for body in bodies:
        name, rows, row_form = read(body)
        assert name == "serving_default" and row_form == ("instances" in body)
        assert [row["image"].dtype for row in rows] == [np.float32] * 3
        np.testing.assert_array_equal([row["image"] for row in rows], images)


@pytest.mark.parametrize("kind", KINDS)
def test_encoded_images(kind, rng):
    pixels = noise(rng)
    content = encode(pixels, kind)
    for body in (
        {"instances": [{"image_bytes": b64(content)}]},
        {"instances": [b64(content)]},
        {"inputs": [b64(content)]},
        {"inputs": {"image_bytes": [b64(content)]}},
    ):
        ((row,), name) = (read({**body, "signature_name": "image_bytes"})[1], "image_bytes")
        if kind in ("JPEG", "PNG"):
            assert row[name] == content
        else:  # what a graph does not decode, or with more effort
            assert row[name].startswith(b"\x89PNG")
            np.testing.assert_array_equal(read_image(row[name]), read_image(content))


@pytest.mark.parametrize("name", [name for name, kind in pixels.KINDS.items() if not kind.in_graph])
def test_what_a_graph_does_not_decode_is_recoded(name):
    kind = pixels.KINDS[name]
    content = kind.write(pixels.drawn(1, (20, 14))[0])
    body = json.dumps({"instances": [b64(content)], "signature_name": "image_bytes"}).encode()
    _, (row,), _ = read_predict(body, SIGNATURES, 1000, 4, {"grey_range": kind.grey_range})
    assert row["image_bytes"].startswith(b"\x89PNG")
    expected = read_image(content, grey_range=kind.grey_range)
    np.testing.assert_array_equal(read_image(row["image_bytes"]), expected)
    if "float" in name:  # without the network's range nobody knows what is black
        refused(json.loads(body), "no agreed range")


def test_inks_without_a_mark_are_recoded():
    content = pixels.KINDS["JPEG CMYK"].write(pixels.drawn(1, (20, 14))[0])
    request = {"signature_name": "image_bytes"}
    assert read({"instances": [b64(content)], **request})[1][0]["image_bytes"] == content
    place = content.index(b"\xff\xee")
    bare = content[:place] + content[place + 16 :]
    (row,) = read({"instances": [b64(bare)], **request})[1]
    np.testing.assert_array_equal(read_image(row["image_bytes"]), read_image(bare))
    for note in (b"Adobe", b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\0\0"):  # in a comment, as in profiles and thumbnails
        mentions = bare[:2] + b"\xff\xfe" + (len(note) + 2).to_bytes(2) + note + bare[2:]
        (row,) = read({"instances": [b64(mentions)], **request})[1]
        assert row["image_bytes"].startswith(b"\x89PNG")
        np.testing.assert_array_equal(read_image(row["image_bytes"]), read_image(bare))
    behind = content[:2] + b"\xff\xfe\0\7Adobe" + content[2:]  # the mark is no less one behind another segment
    assert read({"instances": [b64(behind)], **request})[1][0]["image_bytes"] == behind


@pytest.mark.parametrize("name", [*(name for name, kind in pixels.KINDS.items() if not kind.in_graph), "no mark"])
def test_what_is_recoded_is_reduced_as_in_training(name):
    """A large JPEG while it is decoded, which no resizing of its pixels equals."""
    content = pixels.KINDS["JPEG CMYK" if name == "no mark" else name].write(pixels.drawn(1, (150, 131))[0])
    if name == "no mark":
        place = content.index(b"\xff\xee")
        content = content[:place] + content[place + 16 :]
    reading = {"image_size": (16, 20), "grey_range": None if name == "no mark" else pixels.KINDS[name].grey_range}
    body = json.dumps({"instances": [b64(content)], "signature_name": "image_bytes"}).encode()
    _, (row,), _ = read_predict(body, SIGNATURES, 100_000, 4, reading)
    np.testing.assert_array_equal(read_image(row["image_bytes"]), read_image(content, **reading))


def test_several_inputs_and_free_sizes():
    _, rows, _ = read({"signature_name": "two", "instances": [{"a": [0.5], "b": 255}, {"b": 0, "a": [1]}]})
    assert [(row["a"].tolist(), row["b"].tolist()) for row in rows] == [([0.5], 255), ([1.0], 0)]
    _, rows, _ = read({"signature_name": "raw", "instances": [[[[1, 2, 3]] * 5]]})
    assert rows[0]["image"].shape == (1, 5, 3) and rows[0]["image"].dtype == np.uint8


GOOD = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [0, 0, 0]]]
BAD = [
    (b"", "JSON Parse error"),
    (b'{"instances": [', "JSON Parse error"),
    (b"[" * 100_000, "JSON Parse error"),
    (b'{"instances": [NaN]}', "JSON Parse error"),
    (b"\xff\xfe", "JSON Parse error"),
    (b"[1]", "is not an object"),
    ({}, "either 'instances'"),
    ({"instances": [GOOD], "inputs": [GOOD]}, "either 'instances'"),
    ({"instances": [GOOD], "signature_name": "x" * 1000}, 'Serving signature name: "xxx'),
    ({"instances": [GOOD], "signature_name": 3}, "must be a string"),
    ({"instances": []}, "at least one"),
    ({"instances": GOOD[0][0][0]}, "at least one"),
    ({"instances": [GOOD] * 5}, "between 1 and 4 rows"),
    ({"inputs": []}, "between 1 and 4 rows"),
    ({"inputs": {"image": 3}}, "must be a list"),
    ({"inputs": {"picture": [GOOD]}}, "the keys: image"),
    ({"instances": [{"picture": GOOD}]}, "element 0 .* the keys: image"),
    ({"instances": [{"image": GOOD}, GOOD]}, "element 1 .* the keys: image"),
    ({"instances": [GOOD, {"image": GOOD}]}, "nested lists"),
    ({"instances": [GOOD[:1]]}, "Differs at depth 1"),
    ({"instances": [[GOOD[0], GOOD[0][:1]]]}, "Differs at depth 2"),
    ({"instances": [[GOOD[0], [[1, 2, 3], [4, 5]]]]}, "Differs at depth 3"),
    ({"instances": [[GOOD[0], [[1, 2, 3], 4]]]}, "nested lists"),
    ({"instances": [[GOOD[0], [[1, 2, 3], "abc"]]]}, "nested lists"),
    ({"instances": [[GOOD[0], [[1, 2, 3], [1, 2, [3]]]]]}, "of type float32"),
    ({"instances": [[GOOD[0], [[1, 2, 3], [1, 2, "3"]]]]}, "of type float32"),
    ({"instances": [[GOOD[0], [[1, 2, 3], [1, 2, True]]]]}, "of type float32"),
    ({"instances": [[GOOD[0], [[1, 2, 3], [1, 2, None]]]]}, "of type float32"),
    ({"instances": [[GOOD[0], [[1, 2, 3], [1, 2, 1e300]]]]}, "out of the range"),
    ({"instances": [b64(b"x")]}, "nested lists"),
    ({"instances": [[[[1, 2, 300]]]], "signature_name": "raw"}, "out of the range"),
    ({"instances": [[[[1, 2, -1]]]], "signature_name": "raw"}, "out of the range"),
    ({"instances": [[[[1, 2, 0.5]]]], "signature_name": "raw"}, "of type uint8"),
    ({"instances": [[]], "signature_name": "raw"}, "Differs at depth 1"),
    ({"instances": [[[]]], "signature_name": "raw"}, "Differs at depth 2"),
    ({"instances": [[1.0]], "signature_name": "two"}, "must name each input"),
    ({"inputs": {"a": [[1.0]], "b": [1, 2]}, "signature_name": "two"}, "same number of rows"),
    ({"instances": ["x"], "signature_name": "image_bytes"}, "in base64"),
    ({"instances": [3], "signature_name": "image_bytes"}, "in base64"),
    ({"instances": [{"b64": "x", "c": 1}], "signature_name": "image_bytes"}, "the keys: image_bytes"),
    ({"instances": [{"image_bytes": {"b64": 3}}], "signature_name": "image_bytes"}, "in base64"),
    (
        {"instances": [{"b64": "????"}], "signature_name": "image_bytes"},
        "unable to base64 decode: '.' stands at place 0",
    ),
    ({"instances": [{"b64": "ä"}], "signature_name": "image_bytes"}, "unable to base64 decode"),
    ({"instances": [b64(b"RIFF0000WEBP")], "signature_name": "image_bytes"}, "not a JPEG"),
]


@pytest.mark.parametrize(("body", "words"), BAD, ids=[words[:20] + str(n) for n, (_, words) in enumerate(BAD)])
def test_what_is_refused(body, words):
    refused(body, words)


WAYS = {
    "as it is": lambda text: text,
    "URL-safe": lambda text: text.replace("+", "-").replace("/", "_"),
    "a data: URL": lambda text: f"data:image/png;charset=utf-8;base64,{text}",
    "lines": lambda text: "\r\n".join(text[place : place + 76] for place in range(0, len(text), 76)) + "\n",
    "indented lines": lambda text: "\n".join(f"  {text[place : place + 64]}" for place in range(0, len(text), 64)),
    "without padding": lambda text: text.rstrip("="),
    "URL-safe in lines without padding": lambda text: WAYS["lines"](WAYS["URL-safe"](text.rstrip("="))),
    "a URL-safe data: URL": lambda text: WAYS["a data: URL"](WAYS["URL-safe"](text)),
}


@pytest.mark.parametrize("way", WAYS)
def test_base64_as_people_send_it(way, rng):
    for size in (*range(12), 300, 301, 302):
        content = rng.bytes(size)
        assert decode_base64(WAYS[way](base64.b64encode(content).decode())) == content


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AAAA AAAA", r"' ', what a form makes of \+, stands at place 4"),
        ("AAAA%2BAA", "'%', as an address has it, stands at place 4"),
        ("AA==AAAA", "'=', which belongs to the end, stands at place 2"),
        ("AA!A", "'!' stands at place 2"),
        ("AAÄA", "'Ä' stands at place 2"),
        ("AA+A-A", r"\+ or / of one alphabet is mixed with - or _ of the other"),
        ("AAAAA", "5 characters make no whole bytes: is it cut off"),
        ("AAA==", "5 characters make no whole bytes"),
        ("data:image/png,AAAA", "a data: URL must go on with `;base64,`"),
        ("data:AAAA", "a data: URL must go on with"),
        ("a" + " " * 1_000_000 + "a", "' ', what a form makes of"),  # at once: nothing is tried again and again
    ],
)
def test_what_is_no_base64_says_why(text, words):
    refused({"instances": [{"b64": text}], "signature_name": "image_bytes"}, words)


@pytest.mark.parametrize(
    ("content_type", "body", "kind"),
    [
        ("application/json", b"\xff\xd8\xff", "json"),
        ("application/json; charset=utf-8", b"{}", "json"),
        ("", b" {}", "json"),
        ("text/plain;charset=UTF-8", b"{}", "json"),
        ("application/x-www-form-urlencoded", b"{}", "json"),
        ("application/x-www-form-urlencoded", b"\xff\xd8\xff\xe0", "image"),
        ("", b"\x89PNG\r\n\x1a\n", "image"),
        ("", b"RIFF\n\0\0\0WEBPVP8 ", "image"),
        ("", b"\0\0\0\x1cftypheic", "image"),
        ("image/jpeg", b"{}", "image"),
        ("IMAGE/x; a=b", b"", "image"),
        ("application/octet-stream", b"{}", "image"),
        ('Multipart/Form-Data; boundary="a b"', b"", "form"),
    ],
)
def test_how_a_body_was_sent(content_type, body, kind):
    assert sent_as(body, content_type).kind == kind


def read_sent(content_type, body):
    return read_predict(body, SIGNATURES, 1000, 4, sent=sent_as(body, content_type))


@pytest.mark.parametrize("name", pixels.KINDS)
def test_files_as_they_are(name):
    """The same rows as of base64 in JSON, of every kind of file."""
    kind = pixels.KINDS[name]
    content = kind.write(pixels.drawn(1, (20, 14))[0])
    body = json.dumps({"instances": [b64(content)] * 2, "signature_name": "image_bytes"}).encode()
    reading = {"grey_range": kind.grey_range}
    expected = read_predict(body, SIGNATURES, 25_000_000, 4, reading)
    content_type, body = form(content, content)
    assert read_predict(body, SIGNATURES, 25_000_000, 4, reading, sent_as(body, content_type)) == expected
    for content_type in ("image/anything", "application/octet-stream", "application/x-www-form-urlencoded"):
        row = read_predict(content, SIGNATURES, 25_000_000, 4, reading, sent_as(content, content_type))
        assert row == ("image_bytes", expected[1][:1], True)


HEAD = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (form(*[b"a"] * 5, boundary="x")[1], "at most 4 files"),
        (form(*[b""] * 100_000, boundary="x")[1], "at most 4 files"),
        (form(b"a", name="photo", boundary="x")[1], "must be called image: .*Received: 'photo'"),
        (b"--x--\r\n", "the form"),
        (b"", "cut off"),
        (HEAD + b"\r\nabc", "cut off"),
        (HEAD + b"\r\nabc\r\n--x\r\n", "cut off"),
        (b"abc", "the form"),
        (b"--y" + HEAD[3:] + b"\r\nabc\r\n--y--\r\n", "the form"),
        (HEAD + b"Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--x--\r\n", "Content-Transfer-Encoding .*'base64'"),
        (HEAD + b"a: b\r\n" * 1000 + b"\r\n\r\n--x--\r\n", "cannot be read: Maximum header count"),
        (HEAD + b"a: " + b"b" * 100_000 + b"\r\n\r\n\r\n--x--\r\n", "cannot be read: Maximum header size"),
        (b"--x\r\n\r\nabc\r\n--x--\r\n", "must be called image: .*Received: ''"),
        (form(b"no image", boundary="x")[1], "cannot read the image of 8 bytes: it is not a JPEG"),
    ],
)
def test_forms_that_are_refused(body, words):
    with pytest.raises(Refusal, match=words) as caught:
        read_sent("multipart/form-data; boundary=x", body)
    assert caught.value.code == 400 and len(str(caught.value)) < 300


@pytest.mark.parametrize("encoding", [b"binary", b"8bit", b"7bit", b" Binary "])
def test_a_form_may_say_that_its_files_stand_there_as_they_are(encoding, rng):
    content = encode(noise(rng), "PNG")
    body = HEAD + b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + content + b"\r\n--x--\r\n"
    plain = form(content, boundary="x")
    assert read_sent("multipart/form-data; boundary=x", body) == read_sent(*plain)


def test_files_that_are_refused(rng):
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""'):
        with pytest.raises(Refusal, match="must name the `boundary`"):
            read_sent(content_type, form(b"a")[1])
    with pytest.raises(Refusal, match="form cannot be read"):
        read_sent(f"multipart/form-data; boundary={'x' * 10_000}", b"a")
    content = encode(noise(rng, 40, 40), "JPEG")
    lost = content.translate(None, b"\r\n\0")  # what curl's -d leaves of a file
    with pytest.raises(Refusal, match="lost its line ends and zero bytes: send it by curl's --data-binary, not by -d"):
        read_sent("application/x-www-form-urlencoded", lost)
    with pytest.raises(Refusal, match="JSON Parse error: .*nor is it an image file"):
        read_sent("application/x-www-form-urlencoded", b"image=@photo.jpg")
    with pytest.raises(Refusal, match="takes no image files: send pixels, as JSON"):
        read_predict(content, {"serving_default": SIGNATURES["serving_default"]}, 1000, 4, sent=Sent("image"))


def test_raw_images_of_any_size_are_not_of_every_size(monkeypatch):
    monkeypatch.setattr(rest, "MAX_RAW_PIXELS", 6)
    image = [[[1, 2, 3]] * 3] * 2
    assert read({"signature_name": "raw", "instances": [image]})[1][0]["image"].shape == (2, 3, 3)
    refused({"signature_name": "raw", "instances": [[*image, image[0]]]}, "at most 6 pixels")


def test_a_bomb_is_never_decoded(rng, monkeypatch):
    contents = [announce(encode(noise(rng), kind), kind, 60_000, 60_000) for kind in KINDS]
    monkeypatch.setattr("nasnet_keras.serving.rest.as_png", None)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    for content in [*contents, bomb()]:
        request = {"instances": [b64(content)], "signature_name": "image_bytes"}
        refused(request, "cannot read the image of .* it has more than 1,000,000 pixels")


@pytest.mark.parametrize("kind", KINDS)
def test_what_all_images_of_a_request_announce_is_limited(kind, rng, monkeypatch):
    """Sixteen of the greatest size, and not one of them is decoded before it is known."""
    monkeypatch.setattr(rest, "as_png", lambda content, **reading: content)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    content = announce(encode(noise(rng), kind), kind, 1000, 1000)

    def ways(count):
        body = json.dumps({"signature_name": "image_bytes", "inputs": [b64(content)] * count}).encode()
        content_type, files = form(*[content] * count)
        return (body, None), (files, sent_as(files, content_type))

    for body, sent in ways(16):
        assert len(read_predict(body, SIGNATURES, 1_000_000, 256, sent=sent)[1]) == 16
    monkeypatch.setattr(rest, "as_png", None)
    for body, sent in ways(17):
        with pytest.raises(Refusal, match="at most 16,000,000 pixels together. Received: 17,000,000") as caught:
            read_predict(body, SIGNATURES, 1_000_000, 256, sent=sent)
        assert caught.value.code == 400


def test_rows_are_admitted_before_they_are_read():
    def admit(rows):
        raise Refusal(503, f"{rows} rows")

    content_type, files = form(b"no image", b"nor this")
    for body, sent, words in (
        ({"instances": ["x", "y"], "signature_name": "image_bytes"}, None, "2 rows"),
        ({"instances": ["x"]}, None, "1 rows"),
        (files, sent_as(files, content_type), "2 rows"),
        (b"no image", Sent("image"), "1 rows"),
    ):
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        with pytest.raises(Refusal, match=words) as caught:
            read_predict(body, SIGNATURES, 1000, 4, sent=sent, admit=admit)
        assert caught.value.code == 503


def test_broken_headers_and_endless_scans(rng):
    def refuse(content, words):
        refused({"instances": [b64(content)], "signature_name": "image_bytes"}, words)

    for kind in KINDS:
        content = encode(noise(rng), kind)
        for size in (2, 3, 4, 6, 8, 12, 16, 20):
            refuse(content[:size], "cannot read the image of")
    content = encode(noise(rng), "JPEG")
    scan = content.index(b"\xff\xda")
    refuse(content[:scan] + content[scan:-2] * 101 + content[-2:], "at most 100 scans")
    film = content + b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\x02" * 200  # as phones put it behind a photograph
    rows = read({"instances": [b64(film)], "signature_name": "image_bytes"})
    assert rows and rest._scans(film) == rest._scans(content) == 1
    noted = content[:2] + b"\xff\xe1\0\x0a\xff\xda\xff\xd9\xff\xda\xff\xd9" + content[2:]  # an Exif thumbnail, say
    assert rest._scans(noted) == 1 and rest._scans(noted[:-2] + content[scan:]) == 2
    assert rest._scans(content[:-2] + b"\xff" * 10_000_000) == 1  # at once
    hidden = content[:-2] + b"\xff\x02\xff\xff" + content[scan:-2] * 101 + content[-2:]
    assert rest._scans(hidden) == 102  # no decoder passes over what is no segment
    body = {"instances": [b64(content), b64(content[:20])], "signature_name": "image_bytes"}
    refused(body, "input image_bytes, image 2 of 2: cannot read the image of 20 bytes")
    gif = encode(noise(rng, 40, 40), "GIF")
    refuse(gif[: len(gif) // 2 + 400], "cannot read the image of")


def test_answers_in_both_forms():
    outputs = {
        "scores": np.float32([[0.1, 0.9], [0.25, 0.75]]),
        "names": np.array([[b"a", "ä".encode()], [b"c", b"d"]], object),
        "raw_bytes": np.array([b"\xff", b"\x00"], object),
    }
    rows = [(outputs, 0), (outputs, 1)]
    names, raw = [["a", "ä"], ["c", "d"]], [{"b64": "/w=="}, {"b64": "AA=="}]
    assert json.loads(write_predict(rows, True)) == {
        "predictions": [
            {"scores": [0.1, 0.9], "names": names[0], "raw_bytes": raw[0]},
            {"scores": [0.25, 0.75], "names": names[1], "raw_bytes": raw[1]},
        ]
    }
    assert json.loads(write_predict(rows, False)) == {
        "outputs": {"scores": [[0.1, 0.9], [0.25, 0.75]], "names": names, "raw_bytes": raw}
    }
    single = [({"scores": outputs["scores"]}, 1)]
    assert json.loads(write_predict(single, True)) == {"predictions": [[0.25, 0.75]]}
    assert json.loads(write_predict(single, False)) == {"outputs": [[0.25, 0.75]]}
    counts = [({"count": np.float32([3, 4])}, 0)]
    assert json.loads(write_predict(counts, True)) == {"predictions": [3.0]}
