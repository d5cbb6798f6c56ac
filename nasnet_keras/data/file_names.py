"""Files that are meant by names as tables have them: without their suffix, or in other letters."""

import os

from nasnet_keras.data.folders import HEIF_SUFFIXES, MAX_DEPTH, SUFFIXES
from nasnet_keras.data.left_out import shown
from nasnet_keras.files import composed

CASE = "other letters, upper or lower, than"


class FileNames:
    """Finds the one file that a name which is not there means; each folder is listed once.

    Args:
        root: the folder in which those of folders may be written in other letters, too.
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
        listed = self._listed(folder)
        # As it stands before in any case, and the whole name before the one without a suffix.
        for key in (("stem", composed(name)), ("any name", _fold(name)), ("any stem", _fold(name))):
            if files := listed.get(key):
                return files[0] if len(files) == 1 else None
        return None

    def _listed(self, folder):
        """{("stem", "any name" or "any stem"; what stands there, in any case or not): the paths of the files}."""
        if folder in self.listed:
            return self.listed[folder]
        self.listed[folder] = found = {}
        try:
            names = os.listdir(folder)
        except (OSError, ValueError):  # of a byte 0 in it
            below = folder.removeprefix(self.start)
            if below != folder and below.count("/") < MAX_DEPTH and (other := self._meant(folder)):
                self.listed[folder] = found = self._listed(other)
            return found
        for name in names:
            path, (stem, suffix) = os.path.join(folder, name), os.path.splitext(name)
            keys = [("any name", _fold(name))]
            if suffix.lower() in SUFFIXES or suffix.lower() in HEIF_SUFFIXES:
                keys += [("stem", composed(stem)), ("any stem", _fold(stem))]
            for key in keys:
                found.setdefault(key, []).append(path)
        return found


def _fold(name):
    return composed(name.casefold())
