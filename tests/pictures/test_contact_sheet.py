"""Photographs on one page."""

import base64
import html.parser

from nasnet_keras.pictures.contact_sheet import contact_sheet


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.tags, self.text = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data):
        self.text.append(data)


def test_every_image_is_on_the_page_and_nothing_else_is_asked_for():
    page = Page(contact_sheet("Photos", {"classes": "2"}, [("cat", "a note", [("train", b"one"), ("test", b"two")])]))
    contents = [base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,")) for image in page.images]
    assert contents == [b"one", b"two"] and [image["alt"] for image in page.images] == ["train", "test"]
    assert {"Photos", "classes", "2", "cat", "a note"} <= set(page.text)
    assert not page.tags & {"script", "link", "iframe"}


def test_names_are_text():
    name = '<script>alert("1")</script>'
    page = Page(contact_sheet(name, {name: name}, [(name, name, [(name, b"")])], [name]))
    assert "script" not in page.tags and page.text.count(name) == 8 and page.images[0]["alt"] == name
