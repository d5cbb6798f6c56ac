"""Files that are meant by names as tables have them: without their suffix, or in other letters."""

import os
from contextlib import suppress

from nasnet_keras.data.folders import HEIF_SUFFIXES, SUFFIXES
from nasnet_keras.data.left_out import shown
from nasnet_keras.files import composed

CASE = "other letters, upper or lower, than"


class FileNames:
    """Finds the one file that a name which is not there means; each folder is listed once.

    Args:
        root: the folder that paths are relative to in what is told.
    """

    def __init__(self, root):
        self.start, self.listed = os.path.join(root, ""), {}
        self.found = {}  # the file by each path that was asked for

    def meant(self, path):
        """The path of the file whose name without its suffix is that of a path, or equal but for upper and lower case.

        None where there is no such file, or several.
        """
        found = self._meant(path)
        if found:
            self.found[path] = found
        return found

    def notes(self):
        """What was found, a line for each kind."""
        others = {path: file for path, file in self.found.items() if _fold(path) == _fold(file)}
        completed = {path: file for path, file in self.found.items() if path not in others}
        kinds = (completed, "is completed", "are completed", "by the suffix of"), (others, "has", "have", CASE)
        for found, one, several, how in kinds:
            if found:
                path, file = (shown(one.removeprefix(self.start)) for one in next(iter(found.items())))
                said = f"1 name {one} {how} its" if len(found) == 1 else f"{len(found):,} names {several} {how} their"
                yield f"{said} file: {path}, which is {file}"

    def _meant(self, path):
        folder, name = os.path.split(path)
        listed, whole = self._listed(folder), _fold(name)
        called = [one for one in _several(listed.get(_fold(os.path.splitext(name)[0]))) if _fold(one) == whole]
        stems = {one: os.path.splitext(one) for one in _several(listed.get(whole))}
        completed = [one for one, (_, suffix) in stems.items() if suffix.lower() in SUFFIXES | HEIF_SUFFIXES]
        as_it_stands = [one for one in completed if composed(stems[one][0]) == composed(name)]
        # As it stands before in any case, and the whole name before the one without a suffix.
        found = as_it_stands or called or completed
        return os.path.join(folder, found[0]) if len(found) == 1 else None

    def _listed(self, folder):
        """{the name of a file without its suffix, in any case: its name, or a list of those of several}."""
        if folder not in self.listed:
            self.listed[folder] = found = {}
            names = []
            with suppress(OSError, ValueError):  # it is not there, or has a byte 0 in its name
                names = os.listdir(folder)
            for name in names:  # of a million files: so no list for each
                stem = _fold(os.path.splitext(name)[0])
                found[stem] = [*_several(found[stem]), name] if stem in found else name
        return self.listed[folder]


def _several(names):
    """None, a name or a list of names as a list."""
    return names if isinstance(names, list) else [names] if names else []


def _fold(name):
    return composed(name.casefold())
