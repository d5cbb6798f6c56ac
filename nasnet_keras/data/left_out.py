"""What of a folder or a table is not used, and why."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

# In the order of the summary: a reason, and what one or several things are called that have it.
KINDS = {
    "type": ("file of unknown type", "files of unknown type"),
    "broken": ("broken file", "broken files"),
    "label": ("image without a label", "images without labels"),
    "class": ("image of a class that there is not in training", "images of classes that there are not in training"),
    "sibling": ("image in a folder that is no part", "images in folders that are no parts"),
    "outside": ("image outside of the class folders", "images outside of the class folders"),
    "hidden": ("hidden file", "hidden files"),
    "foreign": ("foreign folder", "foreign folders"),
    "empty": ("folder without images", "folders without images"),
    "deep": ("folder that lies too deep", "folders that lie too deep"),
    "again": ("link to a folder that was read already", "links to folders that were read already"),
    "unreadable": ("entry that cannot be read", "entries that cannot be read"),
    "special": ("entry that is no file", "entries that are no files"),
    "missing": ("file that is not there", "files that are not there"),
    "twice": ("row that is there twice", "rows that are there twice"),
    "part": ("row of another part", "rows of other parts"),
    "unnamed": ("row without a file", "rows without a file"),
}
SHOWN = 3  # details of each kind
SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class LeftOut(Mapping):
    """Names that are not used, each with the reason in words; names of folders end in a slash.

    Args:
        root: the folder that the names are relative to.
        entries: {name: (a key of `KINDS`, a detail or "")}.
    """

    root: str = ""
    entries: dict = field(default_factory=dict)

    def __getitem__(self, name):
        kind, detail = self.entries[name]
        return f"{KINDS[kind][0]}{detail and ': '}{detail}"

    def __iter__(self):
        return iter(self.entries)

    def __len__(self):
        return len(self.entries)

    def with_broken(self, reasons):
        """The same and some broken files: {path: the reason}."""
        found = {self.name_of(path): ("broken", reason) for path, reason in reasons.items()}
        return replace(self, entries={**self.entries, **found}) if found else self

    def name_of(self, path):
        """A path relative to the root; of an image in memory, what it is."""
        if isinstance(path, bytes):
            return f"an image of {len(path)} bytes"
        return path.removeprefix(os.path.join(self.root, ""))

    def by_reason(self):
        """{reason: names}, JSON-able."""
        reasons = {}
        for name in self.entries:
            reasons.setdefault(self[name], []).append(name)
        return reasons

    def summary(self):
        """All in one line, counted by reason; empty if nothing is left out."""
        return "; ".join(text for kind in KINDS if (text := self._counted(kind)))

    def _counted(self, kind):
        of_kind = {name: detail for name, (own, detail) in self.entries.items() if own == kind}
        if not of_kind:
            return ""
        if kind == "broken":
            details = [f"{shown(name)} ({detail})" for name, detail in list(of_kind.items())[:SHOWN]]
            more = len(of_kind) > SHOWN
        else:
            counts = Counter(filter(None, of_kind.values()))
            details, more = [detail for detail, _ in counts.most_common(SHOWN)], len(counts) > SHOWN
        text = f"{len(of_kind):,} {KINDS[kind][len(of_kind) != 1]}"
        return text + ": " * bool(details) + ", ".join([*details, *["…"] * more])


def shown(name):
    """A file's name as text of one line, whatever bytes it has: what cannot be printed is escaped."""
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in as_utf8(name))


def as_utf8(name):
    """A name as text that UTF-8 can hold: bytes of a file's name that are none stand as `\\xff`."""
    return SURROGATES.sub(lambda found: _escaped(ord(found[0])), name)


def _escaped(code):
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"  # as `os.fsdecode` gives bytes


def as_text(name):
    """A class's name as text that JSON, XML and a terminal may have: what is none is escaped as `shown` does it.

    That are control characters and line breaks, bytes that are no UTF-8, and what turns the direction of other text.
    Blanks of any kind, joiners and letters that Python does not know yet stay.
    """
    return "".join(shown(letter) if _is_no_text(letter) else letter for letter in name)


def _is_no_text(letter):
    turns = unicodedata.bidirectional(letter) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    no_character = ord(letter) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(letter) <= 0xFDEF
    return turns or no_character or unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")


def few(names):
    """Some names in one line, those beyond the fifth as an ellipsis."""
    names = list(names)
    return ", ".join([*map(shown, names[:5]), *["…"] * (len(names) > 5)])
