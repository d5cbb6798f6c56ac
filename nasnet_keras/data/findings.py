"""What was found out about the files of a folder, kept between starts, so that none is looked into twice.

A finding is known by what its file is: its path below the folder, its size, and when it was changed. So a file that is
new or another one is looked into, and the others are not. They are kept in the user's cache, a file for each folder.
That a file cannot be read is never kept: it may be for want of memory or of a decoder.
"""

import base64
import hashlib
import json
import logging
import os
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import PIL

from nasnet_keras.files import expanded, parse_object, write_atomically

PLACE = "~/.cache/nasnet_keras/findings"
FORMAT = "nasnet-findings/3"  # another one where files are read in another way than before
KEY = 8  # bytes of the digest that a file is known by
SETTLED = 2  # seconds: what was changed later than that may change again without another time
MOST = 200_000  # findings of a kind, unless one start makes more
FOLDERS = 200  # that findings are kept of

logger = logging.getLogger(__name__)


class Findings:
    """What is known of a folder's files.

    Args:
        root: the folder; paths of its files begin with it.
        place: the folder of the cache.
    """

    def __init__(self, root, place=None):
        root = os.path.abspath(os.fspath(root))
        self._start = os.path.join(root, "")
        name = hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=16).hexdigest()
        self.path = Path(expanded(place or PLACE)) / f"{name}.json"
        # Another version may see other pixels, or none where this one does.
        self._by = [PIL.__version__, find_spec("pillow_heif") is not None]
        self._before, self._now, self._changed = self._read(), {}, False

    def about(self, kind, path, find, status=None):
        """What a function finds out about a file, which is asked only if it has not been before.

        Args:
            kind: what is asked, a word.
            path: of the file.
            find: a function of the path, which gives what JSON has; None is not kept, nor what it raises.
            status: what `os.stat` says of the file, if that is known.
        """
        try:
            status = status or os.stat(path)
        except OSError:
            return find(path)
        what = b"%s\0%d\0%d" % (os.fsencode(path.removeprefix(self._start)), status.st_size, status.st_mtime_ns)
        key = hashlib.blake2b(what, digest_size=KEY).digest()
        now = self._now.setdefault(kind, {})
        for known in (now, self._before.get(kind, {})):
            if key in known:
                return now.setdefault(key, known[key])
        value = find(path)
        if value is not None and _is_settled(status):
            now[key], self._changed = value, True
        return value

    def save(self):
        """Keep what is new, if it can be kept."""
        if not self._changed:
            return
        kept = {**self._before}
        for kind, now in self._now.items():
            before = self._before.get(kind, {})
            kept[kind] = {**before, **now} if len(before) + len(now) <= MOST else now
        content = {"format": FORMAT, "by": self._by, "found": {kind: _packed(known) for kind, known in kept.items()}}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps(content, separators=(",", ":")).encode())
            others = sorted(self.path.parent.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
            for old in others[:-FOLDERS]:
                old.unlink(missing_ok=True)
        except OSError as error:
            logger.info("what was found out cannot be kept in %s (%s)", self.path, error.strerror)
        self._before, self._changed = kept, False

    def _read(self):
        """{kind: {key: value}} as it was kept; nothing of a file that is damaged or of other decoders."""
        try:
            content = parse_object(self.path.read_bytes(), self.path)
            if content["format"] != FORMAT or content["by"] != self._by:
                return {}
            return {kind: _unpacked(packed) for kind, packed in content["found"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.info("%s cannot be read (%s) and is made anew", self.path, error)
            return {}


def look(kind, source, find, findings=None, status=None):
    """What a function finds out about an image, as `Findings.about` does where there are findings and it is a file."""
    if findings is None or not isinstance(source, str):
        return find(source)
    return findings.about(kind, source, find, status)


def readable_ones(kind, sources, find, findings=None):
    """What `look` finds out about some images, one after another; those that raise `ValueError` are passed over."""
    for source in sources:
        with suppress(ValueError):
            yield look(kind, source, find, findings)


def _is_settled(status):
    return time.time() - status.st_mtime > SETTLED


def _packed(known):
    """{value as JSON: all keys that have it}: most files are like many others."""
    keys = {}
    for key, value in known.items():
        keys.setdefault(json.dumps(value, separators=(",", ":")), []).append(key)
    return {text: base64.b64encode(b"".join(same)).decode() for text, same in keys.items()}


def _unpacked(packed):
    known = {}
    for text, same in packed.items():
        value, keys = json.loads(text), base64.b64decode(same, validate=True)
        known.update(dict.fromkeys((keys[start : start + KEY] for start in range(0, len(keys), KEY)), value))
    return known
