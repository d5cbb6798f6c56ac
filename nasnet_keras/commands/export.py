"""The command `export`: a model as a SavedModel, or in another runtime's format, and what that costs in accuracy."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from nasnet_keras.checks import is_number
from nasnet_keras.commands.datasets import counted_as, for_judging, tell_of, tell_of_change, tell_of_seed
from nasnet_keras.commands.options import MODEL_HELP, TABLE, add_columns, given, given_columns, named
from nasnet_keras.commands.progress import decoding
from nasnet_keras.commands.terminal import finish, one_line, percent, print_table, tell, without_greetings
from nasnet_keras.data.images import luma
from nasnet_keras.data.loading import decoded, open_data, open_images
from nasnet_keras.data.records import division, knows, read_record
from nasnet_keras.data.splits import Split
from nasnet_keras.data.tables import is_table
from nasnet_keras.export.comparison import LIMIT, Comparison, LossError
from nasnet_keras.export.folders import (
    IO,
    LAYOUTS,
    PRECISIONS,
    TARGETS,
    check_backend,
    check_installed,
    check_saved_model,
    check_target,
)
from nasnet_keras.files import expanded, write_atomically
from nasnet_keras.training.identity import directory_of, is_from_training, is_used, known_seed
from nasnet_keras.weights.zoo import check_trained, known_grey_range, model_file

SUMMARY = "write a SavedModel for TF Serving, or another format"
EXAMPLE = "export --model net --output served/net"
INTERRUPTED = "interrupted: what no line above names was not written"
CALIBRATION = 200  # images


def add_options(parser):
    """Add the options."""
    parser.add_argument("--model", required=True, help=MODEL_HELP)
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="the model's folder, with a version below; for other formats a new folder",
    )
    parser.add_argument("--format", choices=("saved_model", *TARGETS), default="saved_model")
    parser.add_argument("--calibration", metavar="DATA", help="typical images, on which ranges of int8 are measured")
    parser.add_argument(
        "--batch", type=int, help="images of every call of another format; 1 is faster in openvino (default: any)"
    )
    parser.add_argument("--version", type=int, help="an integer that is not there yet (default: the next free one)")
    parser.add_argument("--top", type=int, help="classes named in a SavedModel's answer (default: 5)")
    parser.add_argument(
        "--image-dtype", choices=("float32", "uint8"), help="a SavedModel's raw pixels (default: float32)"
    )
    help_text = "a third signature, which draws where the network looked: the page of `serve` shows it"
    parser.add_argument("--explain", action="store_true", default=None, help=help_text)
    precisions = tuple(dict.fromkeys(name for names in PRECISIONS.values() for name in names))
    help_text = "of another format; several: a folder for each (default: int8 with --calibration, else float32)"
    parser.add_argument("--precision", nargs="+", choices=precisions, help=help_text)
    parser.add_argument(
        "--io", choices=IO, help="of litert in int8: what image and probabilities are (default: float32)"
    )
    parser.add_argument("--layout", choices=LAYOUTS, help="of onnx: nchw has the channels before the pixels (nhwc)")
    help_text = "labelled images: measure the model's accuracy and the file's, and one image's time"
    parser.add_argument("--evaluate", metavar="DATA", help=help_text)
    add_columns(parser)
    help_text = f"write nothing that loses more accuracy than this (default: say it beyond {LIMIT:g})"
    parser.add_argument("--max-drop", type=float, metavar="POINTS", help=help_text)


def check(options):
    """What is written, with its arguments; the calibration images and those to evaluate, not decoded yet, or None."""
    saved_model = options.format == "saved_model"
    versioned = ("version", "top", "image_dtype", "explain")
    other = ("calibration", "batch", "precision", "io", "layout")
    for name in other if saved_model else versioned:
        if getattr(options, name) is not None:
            raise ValueError(f"`{name}` means nothing for the format {options.format}: leave it out")
    if options.max_drop is not None and options.evaluate is None:
        raise ValueError("`max_drop` means nothing without `evaluate`: leave it out")
    if options.max_drop is not None and not (is_number(options.max_drop) and options.max_drop >= 0):
        raise ValueError(f"`max_drop` must be a number of points from 0. Received: {options.max_drop}")
    model_file(options.model)
    check_trained(options.model)
    if saved_model:
        settings = {name: value for name, value in given(options, *versioned).items() if value is not None}
        checked = {name: value for name, value in settings.items() if name != "explain"}
        check_saved_model(options.output, **checked, label="output")
        variants = {options.output: settings}
    else:
        variants = _variants(options)
    _check_columns(options)
    wanted = options.calibration is not None and any(one.get("precision") == "int8" for one in variants.values())
    with named(data="calibration"):
        images = _typical(options) if wanted else None
    with named(data="evaluate"):
        labelled = _unseen(options) if options.evaluate is not None else None
    return {"variants": variants, "calibration": images, "labelled": labelled}


def _variants(options):
    """{folder: arguments of `export_target`} of each precision that is asked for."""
    precisions = options.precision or ["float32" if options.calibration is None else "int8"]
    settings = {name: value for name, value in given(options, "io", "layout").items() if value is not None}
    if options.calibration is not None and "int8" not in precisions:
        raise ValueError(f"`calibration` must be left out but for int8. Received: precision {' '.join(precisions)}")
    variants = {}
    for precision in precisions:
        folder = options.output if len(precisions) == 1 else str(Path(options.output) / precision)
        if len(precisions) > 1 and os.path.lexists(expanded(folder)):  # the same command was interrupted, perhaps
            tell(f"{folder} is there already, and stays as it is")
            continue
        measured = precision == "int8" and options.calibration is not None
        check_target(folder, options.format, options.batch, measured, "output", precision=precision, **settings)
        variants[folder] = {"precision": precision, "batch": options.batch, **settings}
    if not variants:
        raise ValueError(f"`output` must lack the folder of a precision. Received: {options.output}, with all of them")
    for settings in variants.values():
        check_installed(options.format, settings["precision"])
    return variants


def _typical(options):
    """The images that int8 is measured on, not decoded yet: a `Data`, some of each class in its train part.

    Labels do not count, so a folder need not have folders of classes, nor a table labels.
    """
    where, ways = expanded(options.calibration), _ways(options, options.calibration)
    try:
        data = open_data(options.calibration, validation=0, test=0, **ways)
    except ValueError:
        asked = ways["columns"] and ways["columns"].label and not _is_table(options.evaluate)
        if not os.path.isdir(where) and (not is_table(where) or asked):
            raise
        data = open_images(where, ways["grey_range"], ways["columns"])
    none = data.train.select([])
    return replace(data, train=data.train.take(CALIBRATION, 0), validation=none, test=none)


def _ways(options, where):
    """How images and labels are read; the columns are those of whichever data are a table."""
    columns = given_columns(options) if is_table(expanded(where)) else None
    return {"grey_range": known_grey_range(options.model), "range_given": False, "columns": columns}


def _is_table(where):
    return where is not None and is_table(expanded(where))


def _check_columns(options):
    """Raise `ValueError` where an option is for a table and no data are one."""
    data = [expanded(where) for where in (options.evaluate, options.calibration) if where is not None]
    if given_columns(options) and not any(map(is_table, data)):
        first = next(name for name, value in given(options, *TABLE).items() if value)
        received = ", ".join(map(str, data)) or "neither"
        rule = "means nothing without a table for `evaluate` or `calibration`: leave it out"
        raise ValueError(f"`{first}` {rule}. Received: {received}")


def _unseen(options):
    """The labelled images that the model has not seen, not decoded yet: a `Data`, all of them in its test part.

    All of a folder; of one with parts its test part; and of what the model was trained on what was held out.
    """
    where, place = options.evaluate, directory_of(options.model)
    common = {**_ways(options, where), "least_classes": 1}
    whole = open_data(where, validation=0, test=0, **common)
    record = read_record(place) if is_used(place) else None
    known = knows(record, whole)
    if known or not whole.record.is_listed:
        seed = known_seed(place)
        whole = open_data(where, seed=seed or 0, **common, **division(place, is_used(place), is_from_training(place)))
        test = whole.test
    else:
        test = whole.test if len(whole.test) else Split.joined([whole.train, whole.validation])
    if not len(test):
        raise ValueError(f"`evaluate` must have images that the model has not seen. Received: {where}")
    if known and record.digest != whole.digest:
        tell_of_change(options.model, whole, len(test))
    elif is_used(place) and whole.digest is not None:
        tell_of_seed(options.model, record, whole)
    none = whole.train.select([])
    return counted_as(options.model, replace(whole, train=none, validation=none, test=test))


def run(options, variants, calibration, labelled):
    """Write a SavedModel with its class names and preprocessing inside, or another runtime's file."""
    with without_greetings():
        check_backend(options.format)
        from nasnet_keras.export.saved_model import remark_on_names
        from nasnet_keras.models.answers import image_size, input_shape, units
        from nasnet_keras.models.applications import load_model
    model = load_model(options.model)
    size = image_size(model)
    images = None
    if calibration is not None:
        with named(data="calibration"):
            calibration = decoded(calibration, size)
        tell_of(calibration)
        images, _ = calibration.train.in_memory()
        images = luma(images) if input_shape(model)[2] == 1 else images
    if options.format != "saved_model" and (told := remark_on_names(model, units(model))):
        tell(told)  # which the runtimes' silence would swallow
    evaluation = None
    if labelled:
        evaluation = _compared(model, labelled, size, options.max_drop, options.batch, options.model)
    written, refused = {}, []
    # Of several the others may be right, and lose less, whatever a runtime's converter raises.
    failures = Exception if len(variants) > 1 else (LossError, RuntimeError, OSError)
    try:
        for folder, settings in variants.items():
            name = " ".join([options.format, settings.get("precision", "float32"), settings.get("io", "")]).strip()
            if evaluation:
                settings = {**settings, "accept": lambda run, name=name: evaluation.add(name, run)}
            try:
                path = _write(options, model, folder, settings, images)
            except failures as error:
                if evaluation:
                    evaluation.give_up(name)
                reason = one_line(error)
                says = len(variants) == 1 or name in reason or repr(model.name) in reason  # which of them it is
                refused.append(reason if says else f"{name}: {reason}")
                continue
            written[path] = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            print(f"{path}: {written[path] / 1e6:.1f} MB, run and compared with the network")
            if evaluation:
                evaluation.rows[-1]["bytes"] = written[path]
    finally:  # what was measured took its time, however this ends
        _tell_figures(options, written, evaluation)
    if refused:
        raise ValueError("; ".join(refused))


def _tell_figures(options, written, evaluation):
    """Print and draw what was measured, and the JSON of it; `written` are the sizes of the paths that there are."""
    single = len(written) == 1 and len(options.precision or ()) < 2
    figures = {"output": str(*written) if single else options.output, "bytes": sum(written.values())}
    if not single:
        figures["written"] = [str(path) for path in written]  # what was there already is not among them
    if evaluation and len(evaluation.rows) > 1:
        _print(evaluation)
        if written:
            _draw(evaluation, Path(options.output))
        figures["evaluation"] = {
            "data": options.evaluate,
            "images": evaluation.images,
            "batch": evaluation.batch,
            "files": evaluation.rows,
        }
    if written:
        finish(options, figures)


def _write(options, model, folder, settings, images):
    """Write one file, and return where it lies."""
    if options.format == "saved_model":
        from nasnet_keras.export.saved_model import export_saved_model

        return export_saved_model(model, folder, **settings)
    from nasnet_keras.export.targets import export_target

    with without_greetings():  # of the runtimes
        calibration = images if settings["precision"] == "int8" else None
        return export_target(model, folder, options.format, calibration=calibration, **settings)


def _compared(model, data, size, most=None, batch=None, called="the model"):
    """An `export.comparison.Comparison` that has measured the model.

    Args:
        model: the model.
        data: a `Data` whose test images count, not decoded yet.
        size: that of the images.
        most: points of accuracy that may be lost, None: any, and it is said.
        batch: images of a call, which is timed; None: one.
        called: what the user calls the model.
    """
    from nasnet_keras.models import answers
    from nasnet_keras.training.evaluation import check_numbers
    from nasnet_keras.training.figures import MEASURES, mean_average_precision
    from nasnet_keras.training.fitting import answers_to

    with decoding() as progress:
        data = decoded(data, size, progress=progress)
    tell_of(data)
    with named(data="evaluate"):
        split, _ = for_judging(model, data, "test", called)
    outputs, labels, kind = answers_to(model, split)
    if not len(labels):
        raise ValueError(f"`evaluate` must have images that can be read. Received: {data.name}")

    def score(probabilities):
        if split.several:
            return mean_average_precision(labels, probabilities)
        return float(np.mean(probabilities.argmax(-1) == labels))

    measure = "mean_average_precision" if split.several else "accuracy"
    places = np.flatnonzero(split.readable)
    comparison = Comparison(split.images, places, score, measure, MEASURES[measure], most, batch or 1)
    images = np.zeros((comparison.batch, *size, answers.input_shape(model)[2]), "float32")
    # Not by `predict`, which takes longer to begin than a small network to answer.
    probabilities = check_numbers(answers.as_probabilities(outputs, kind))
    comparison.begin(probabilities, lambda: model.predict_on_batch(images))
    if comparison.rows[0][measure] is None:
        raise ValueError(f"`evaluate` must have images that have a label. Received: {data.name}")
    return comparison


def _draw(comparison, folder):
    """The rows of a comparison as a picture, beside what was written."""
    from nasnet_keras.pictures.comparison import comparison_svg

    title = f"{comparison.called.capitalize()} on {comparison.images:,} images"
    path = folder / "evaluation.svg"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, comparison_svg(comparison.rows, title, comparison.measure).encode())
        print(f"Size, time and {comparison.called}: {path}")
    except OSError as error:
        tell(f"the picture {path} cannot be written: {error.strerror or error}")


def _print(comparison):
    """The same as a table, and what is to be said of it."""
    one = "one image" if comparison.batch == 1 else f"one image of {comparison.batch}"
    names = ("file", "MB", one, comparison.called, "points lost")
    rows = []
    for number, row in enumerate(comparison.rows):
        size = "" if row["bytes"] is None else f"{row['bytes'] / 1e6:.2f}"
        lost = f"{row['drop']:.2f}" if number else ""
        rows.append((row["name"], size, f"{row['milliseconds']:.1f} ms", percent(row[comparison.measure]), lost))
    print_table(names, rows, title=f"On {comparison.images:,} images")
    for note in comparison.notes:  # nothing could be said while runtimes were kept from greeting
        tell(note)
