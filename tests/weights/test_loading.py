"""Files that are fetched: into a cache, by their hash."""

import hashlib
import threading
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nasnet_keras.weights import loading
from nasnet_keras.weights.index import entries

GOOD = b"the weights" * 1000


@pytest.fixture
def site():
    """A server of what `site.content` holds, and the entry of its file."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked += 1
            self.send_response(200 if self.server.content else 404)
            self.send_header("Content-Length", str(len(self.server.content)))
            self.end_headers()
            self.wfile.write(self.server.content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.asked = GOOD, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def entry(site, monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(loading, "keras_home", lambda: str(tmp_path))
    some = next(one for one in entries() if one.url)
    url = f"http://127.0.0.1:{site.server_address[1]}/some.h5"
    return replace(some, file=None, url=url, hash=f"sha256:{hashlib.sha256(GOOD).hexdigest()}")


def test_a_file_is_fetched_once(site, entry, tmp_path):
    assert loading.fetch(entry) == tmp_path / "models" / "some.h5"
    asked = site.asked
    assert loading.fetch(entry).read_bytes() == GOOD and site.asked == asked > 0


def test_a_damaged_file_is_fetched_anew(site, entry, tmp_path):
    loading.fetch(entry).write_bytes(GOOD[:-1])
    assert loading.fetch(entry).read_bytes() == GOOD


def test_a_damaged_download_is_refused_and_the_next_one_taken(site, entry, tmp_path):
    site.content = GOOD[:-1]
    with pytest.raises(ValueError, match="cannot download http.*Put the file at") as error:
        loading.fetch(entry)
    assert "\n" not in str(error.value)
    site.content = GOOD
    assert loading.fetch(entry).read_bytes() == GOOD


def test_what_is_whole_needs_no_network(site, entry, tmp_path):
    loading.fetch(entry)
    assert loading.fetch(replace(entry, url="http://127.0.0.1:9/some.h5")).read_bytes() == GOOD


def test_what_the_server_does_not_have_is_one_line(site, entry):
    site.content = b""
    with pytest.raises(ValueError, match="cannot download .*Not Found.*Put the file at .*some.h5") as error:
        loading.fetch(entry)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mishap", [TimeoutError(), ConnectionResetError("gone")])
def test_a_mishap_without_words_has_its_name(entry, monkeypatch, mishap):
    def urlopen(*_, timeout):
        assert timeout == loading.CONNECT_SECONDS
        raise mishap

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(ValueError, match=r"cannot download .*\((TimeoutError|gone)\)\. Put the file at"):
        loading.fetch(entry)


def test_a_cache_that_is_not_to_be_written_is_left_alone(site, entry, monkeypatch, tmp_path):
    """Keras then keeps files elsewhere, and says where."""
    elsewhere = tmp_path / "elsewhere.h5"
    elsewhere.write_bytes(GOOD)
    monkeypatch.setattr(loading.keras.utils, "get_file", lambda *_, **__: str(elsewhere))
    assert loading.fetch(entry) == elsewhere
