"""The command `predict`: what is on images, of one or of a million."""

import csv
import io
import json
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np

from nasnet_keras.checks import check_integer, check_one_of, is_number
from nasnet_keras.commands.options import MODEL_HELP
from nasnet_keras.commands.progress import decoding
from nasnet_keras.commands.terminal import finish, percent, plain, tell, without_greetings
from nasnet_keras.data.asked import as_heat_map, asked_images
from nasnet_keras.data.greys import grey_note
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.images import called, luma, read_header, read_image
from nasnet_keras.data.left_out import as_text, shown
from nasnet_keras.data.splits import note_of_separator, separator_of
from nasnet_keras.data.tables import is_table
from nasnet_keras.files import Growing, check_file, check_folder, write_atomically
from nasnet_keras.weights.zoo import check_trained, known_grey_range, model_file

SUMMARY = "name what is on images"
EXAMPLE = "predict --model net photos --output answers.csv --explain heat"
INTERRUPTED = "interrupted: the images that were not looked at have no answers"
BATCH = 64  # images at a time, at most
FORMATS = (".csv", ".jsonl")
NO_NUMBERS = "what the model answers is no number"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would compute


def add_options(parser):
    """Add the options."""
    parser.add_argument("--model", required=True, help=MODEL_HELP)
    help_text = "image files, folders, patterns, .txt lists of files, or - for a list on stdin"
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=help_text)
    parser.add_argument("--top", type=int, default=5, help="classes named for each image")
    help_text = "name only classes of at least this probability (default: of several labels an image, the model's own)"
    parser.add_argument("--threshold", type=float, metavar="SHARE", help=help_text)
    parser.add_argument(
        "--output", metavar="FILE", help="a .csv or .jsonl file for the answers, instead of the terminal"
    )
    help_text = "write a heat map of each image there: where the model looked for the class it names first (Grad-CAM)"
    parser.add_argument("--explain", metavar="DIR", help=help_text)


def check(options):
    """The images that are asked about, of which at least one is none that cannot be read."""
    model_file(options.model)
    check_trained(options.model)
    check_integer("top", options.top, least=1)
    if options.threshold is not None and not (is_number(options.threshold) and 0 <= options.threshold <= 1):
        raise ValueError(f"`threshold` must be a share from 0 to 1. Received: {options.threshold}")
    if options.output:
        check_one_of("output", Path(options.output).suffix, FORMATS)
        check_file("output", options.output, Path(options.output).suffix)
    if options.explain is not None:
        check_folder("explain", Path(options.explain).absolute())
    paths, lines = asked_images(options.images, sys.stdin.buffer if "-" in options.images else None)
    for line in lines:
        tell(line)
    _require_an_image(paths, known_grey_range(options.model))
    return {"paths": paths}


def _require_an_image(paths, grey_range):
    """Raise `ValueError` if no file can be read, as far as headers tell; of a single one it is known for certain."""
    first, read = None, read_header if len(paths) > 1 else partial(read_image, grey_range=grey_range)
    for path in paths:
        try:
            read(path)
            return
        except ValueError as error:
            first = first or f"{error}{_way_to_names(path)}"
    if len(paths) == 1:
        raise ValueError(first)
    raise ValueError(f"none of the {len(paths):,} images can be read; the first: {first}")


def _way_to_names(path):
    """What to ask about in the place of a table, which is read as an image."""
    return "; a table is no list: name its folder, or a .txt file of paths" if is_table(path) else ""


def run(options, paths):
    """Print the best classes of each image, or write them to a file; the exit code."""
    with without_greetings():
        from nasnet_keras.models import answers
        from nasnet_keras.models.applications import load_model
    model = load_model(options.model)
    if note := grey_note(paths, answers.grey_range(model), where=", where the model is trained"):
        tell(note)
    most = min(options.top, max(answers.units(model) or options.top, 2))
    columns = ["labels"] * (answers.thresholds(model) is not None) + ["heat_map"] * (options.explain is not None)
    rows, failed, count, separator = [], [], 0, separator_of(())
    if "labels" in columns and options.output and Path(options.output).suffix == ".csv":
        separator = separator_of(answers.labels_of(model, len(answers.thresholds(model))) or ())
        if note := note_of_separator(separator):
            tell(note)
    kept = _File(options.output, most, columns, len(paths), separator) if options.output else nullcontext()
    with kept as file, decoding("look at images", least=2 * BATCH) as progress:
        for start, found, broken in _answered(model, paths, options):
            for index in sorted(broken):
                path, reason = paths[start + index], broken[index]
                failed.append({"image": path, "reason": reason})
                if len(paths) > 1:
                    tell(_why(failed[-1]))
            count += len(found)
            if file is not None:
                file.add(found)
            else:
                rows += found if options.json else []
                _print(found)
            progress(start + len(found) + len(broken), len(paths))
    if not count:
        unread = all(one["reason"] != NO_NUMBERS for one in failed)
        what = "can be read" if unread else f"has an answer; the first: {_why(failed[0])}"
        raise ValueError(_why(failed[0]) if len(paths) == 1 else f"none of the {len(paths):,} images {what}")
    figures = {"model": options.model, "predictions": rows, "failed": failed}
    if file is not None:
        figures |= {"predictions": count, "output": options.output}
    finish(options, figures)
    return 1 if failed else 0


def _why(failed):
    """Why an image has no answer, in one line."""
    verb = "answer to" if failed["reason"] == NO_NUMBERS else "read"
    return f"cannot {verb} the image {called(failed['image'])}: {failed['reason']}{_way_to_names(failed['image'])}"


def _print(rows):
    """Say what is on images."""
    for row in rows:
        print(f"{shown(row['image'])}: {_best(row)}")
        if "heat_map" in row:
            print(f"  what it looked at: {shown(row['heat_map'])}")


def _answered(model, paths, options):
    """Of each batch the index of its first image, the answers, and {index: the reason} of what has none."""
    from nasnet_keras.data.loading import normalize
    from nasnet_keras.models import answers
    from nasnet_keras.training.fitting import images_at_a_time

    channels = answers.input_shape(model)[-1]
    if channels not in (1, 3):
        raise ValueError(f"`model` must take images of 3 channels or 1. Received: {channels}")
    prepare = (lambda pixels: pixels.astype("float32")) if answers.takes_pixels(model) else normalize
    files = ImageFiles(paths, size := answers.image_size(model), answers.grey_range(model))
    thresholds = answers.thresholds(model)
    for start, images, broken in files.pieces(images_at_a_time(size, BATCH)):
        good = np.delete(np.arange(len(images)), list(broken))
        rows = []
        if len(good):
            images = luma(images[good]) if channels == 1 else images[good]
            scores = answers.probabilities(model, model.predict_on_batch(prepare(images)))
            names = answers.full_names(model, scores.shape[1])
            cuts = thresholds if options.threshold is None else np.full(scores.shape[1], options.threshold)
            for index, row in zip(good.tolist(), scores, strict=True):
                if np.isnan(row).any():
                    broken = {**broken, index: NO_NUMBERS}
                    continue
                order = np.argsort(-row, kind="stable")
                told = order if cuts is None else order[row[order] >= cuts[order]]
                found = {"image": paths[start + index]}
                if thresholds is not None:
                    found["labels"], told = _named(names, row, told), order
                found["classes"] = _named(names, row, told[: options.top])
                if options.explain is not None:
                    found["heat_map"] = _explain(model, paths[start + index], Path(options.explain), start + index + 1)
                rows.append(found)
        yield start, rows, broken


def _named(names, scores, places):
    return [{"name": str(names[place]), "score": float(scores[place])} for place in places.tolist()]


def _best(row):
    """An answer in one line."""
    named, present = (
        [f"{as_text(one['name'])} {percent(one['score'])}" for one in row.get(what, ())]
        for what in ("classes", "labels")
    )
    if "labels" in row:
        more = len(present) - len(named)  # than `--top`
        parts = [*present[: len(named)], *[f"and {more:,} more"] * (more > 0)]
        return "   ".join(parts) or f"no label reaches its threshold (the most likely: {named[0]})"
    return "   ".join(named) or "no class is that probable"


class _File:
    """A file of answers: JSON lines, or a CSV that a spreadsheet takes for nothing but text and numbers.

    A context: however it ends, by Ctrl-C or on a full disk, the batches that are whole are put where they go; those of
    a run that did not come to its end go beside a file that lies there already, which may be whole.
    """

    def __init__(self, name, most, columns, total, separator):
        self.name, self.most, self.columns, self.total, self.count = name, most, columns, total, 0
        self.separator = separator
        self.is_table = Path(name).suffix == ".csv"

    def __enter__(self):
        Path(self.name).absolute().parent.mkdir(parents=True, exist_ok=True)
        self.file = Growing(self.name)
        return self

    def __exit__(self, error, *_):
        if not self.count:
            self.file.drop()
            return
        path = self.file.path
        if error is not None and path.exists():
            path = path.with_suffix(f".partial{path.suffix}")
        self.file.put(path)
        print(f"{self.count:,} of {self.total:,} images: {path}")

    def add(self, rows):
        """Take the answers of a batch."""
        rows = plain(rows)
        if self.is_table:
            writer = csv.writer(text := io.StringIO(), lineterminator="\n")
            if not self.count:
                kinds = ("class_", "probability_")
                numbers = [f"{kind}{number}" for number in range(1, self.most + 1) for kind in kinds]
                writer.writerow(["file", *self.columns, *numbers])
            writer.writerows(map(self._cells, rows))
            text = text.getvalue()
        else:
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
        if rows:
            self.file.add(text.encode())
            self.count += len(rows)

    def _cells(self, row):
        own = {**row, "labels": self.separator.join(one["name"] for one in row.get("labels", ()))}
        cells = [_harmless(own[name]) for name in ("image", *self.columns)]
        for one in row["classes"]:
            cells += [_harmless(one["name"]), f"{one['score']:.6g}"]
        return cells + [""] * (2 * (self.most - len(row["classes"])))


def _harmless(cell):
    """A text that no spreadsheet computes: one that would begin a formula has an apostrophe before it."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _explain(model, name, folder, number):
    """Write the heat map of an image; returns its path."""
    from nasnet_keras.training.explanations import explain

    path = folder / f"{number:03d}-{Path(name).stem[:60]}.png"  # images of several folders may have one name
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, as_heat_map(explain(model, name).png()))
    return str(path)
