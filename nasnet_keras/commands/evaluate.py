"""The command `evaluate`: how good a model is, class by class, and what it confuses."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from nasnet_keras.checks import check_integer
from nasnet_keras.commands.datasets import (
    Told,
    count_of_all,
    counted_as,
    decode,
    find,
    for_judging,
    tell_of_change,
    tell_of_seed,
)
from nasnet_keras.commands.options import MODEL_HELP, add_data, add_devices
from nasnet_keras.commands.terminal import finish, judgement, percent, print_table, tell, without_greetings
from nasnet_keras.data import left_out
from nasnet_keras.data.images import as_size, called
from nasnet_keras.data.records import read_record
from nasnet_keras.data.sides import PARTS
from nasnet_keras.data.splits import Split
from nasnet_keras.files import check_file, check_folder, write_atomically
from nasnet_keras.training.identity import directory_of, is_used, known_of, known_seed
from nasnet_keras.weights.zoo import check_trained, model_file

SUMMARY = "measure a model, class by class, and draw what it confuses"
EXAMPLE = "evaluate --model net --data photos"
INTERRUPTED = "interrupted: nothing is kept of it, and it begins anew next time"
SHOWN, DRAWN = 40, 10  # classes in the table, and curves in the picture
WORST = 60  # images on the contact sheet
SIDE = 224  # pixels of them, at most


def add_options(parser):
    """Add the options."""
    parser.add_argument("--model", required=True, help=MODEL_HELP)
    help_text = (
        "the picture of what is confused, an SVG file; that of the probabilities goes beside it "
        "(default: confusion.svg, of several labels an image precision_recall.svg, in the model's directory; "
        "of a file or a name of the zoo MODEL-confusion.svg here)"
    )
    parser.add_argument("--output", help=help_text)
    parser.add_argument("--matrix", action="store_true", help="with --json: the whole confusion matrix, or the curves")
    add_data(parser, limit="evaluate at most this many images", seed="that of the training (default: the model's)")
    parser.set_defaults(seed=None)
    help_text = "write worst.html there: the most wrong images, what they are and what they were taken for"
    parser.add_argument("--worst", metavar="DIR", help=help_text)
    help_text = "the images used; all: of a folder that the model has not seen"
    parser.add_argument("--split", choices=("train", "validation", "test", "all"), default="test", help=help_text)
    help_text = (
        "also the accuracy of the mean answer to six views of each image, shifted and mirrored; six times as slow"
    )
    parser.add_argument("--tta", action="store_true", help=help_text)
    add_devices(parser)


def check(options):
    """The data, not decoded yet, because the model says in which size."""
    check_trained(options.model)
    if options.matrix and not options.json:
        raise ValueError("`matrix` means nothing without `json`: leave it out")
    model_file(options.model)
    if options.output:
        check_file("output", options.output, ".svg")
    if options.worst is not None:
        check_folder("worst", Path(options.worst).absolute())
    check_integer("limit", options.limit, least=1, optional=True)
    check_integer("seed", options.seed, most=2**32 - 1, optional=True)
    chosen, known = options.seed, known_seed(directory_of(options.model))
    if known is not None:  # the images that the training did not see follow from its seed, whichever is given
        options.seed = known
    options.seed = options.seed or 0
    data = counted_as(options.model, find(options))
    parts = {name: getattr(data, name) for name in PARTS}
    split = Split.joined(list(parts.values())) if options.split == "all" else parts[options.split]
    if not len(split):
        have = ", ".join(f"{len(one):,} for {name}" for name, one in parts.items())
        way = [f"--split all takes all {count_of_all(data):,}"] if options.split == "test" else []
        received = "; ".join([f"{options.split}, where there are {have}", *way, *data.notes])
        raise ValueError(f"`split` must be one that has images. Received: {received}")
    _tell_of_division(options, data)
    if options.limit is not None:
        split = split.take(options.limit, options.seed if chosen is None else chosen)
    elif chosen not in (None, options.seed):
        tell(f"--seed {chosen} is not used: data are divided as when {options.model} was trained; it is for --limit")
    part = "test" if options.split == "all" else options.split
    empty = {name: one.select([]) for name, one in parts.items()}
    return {"data": replace(data, **{**empty, part: split}), "part": part}


def _pictures(options, figures):
    """Where the two pictures go, by what the first one is of."""
    model = Path(options.model)
    in_folder = model_file(options.model) is not None and model.is_dir()
    what = "precision_recall" if "curves" in figures else "confusion"
    own = model / f"{what}.svg" if in_folder else Path(f"{model.stem}-{what}.svg")
    output = Path(options.output or own)
    beside = f"{output.stem}-reliability.svg" if options.output or not in_folder else "reliability.svg"
    return output, output.with_name(beside)


def _tell_of_division(options, data):
    """Say it where the images are not those of the training, or are what was learnt from."""
    place = directory_of(options.model)
    record = read_record(place) if is_used(place) else None
    if record is not None and record.tells_nothing and options.split in ("test", "all"):
        tell_of_seed(options.model, record, data)
    if record is None or record.digest is None or data.digest is None:
        return
    same, had = record.digest == data.digest, known_of(place, "number of training images")
    if options.split in ("train", "validation") and had and had < len(data.train):
        which = f"{had:,} of {len(data.train):,} images on its side"
        tell(f"{options.model} learnt from {which}: by its `limit`, or others have come since")
    if same and options.split == "all":
        tell(f"most of these images are those that {options.model} was trained on")
    elif not same and options.split == "test":
        tell_of_change(options.model, data, len(data.test), "; --split all takes all")


def run(options, data, part):
    """Print a model's accuracy, overall and class by class, the worst first, and draw what it confuses."""
    with without_greetings():
        from nasnet_keras.models import answers
        from nasnet_keras.models.applications import load_model
        from nasnet_keras.training.evaluation import evaluate_classes
    model = load_model(options.model)
    own = answers.input_shape(model)[:2]
    if options.image_size is not None and None not in own and own != as_size(options.image_size):
        raise ValueError(f"`image_size` must be left out, as the model's is {own}. Received: {options.image_size}")
    # Of the worst images the files are named, so they stay files.
    data = decode(options, data, model, **({} if options.worst is None else {"memory_limit": 0}))
    split, names = for_judging(model, data, part, options.model)
    worst = WORST if options.worst is not None else 0
    figures = evaluate_classes(model, split, names, worst=worst, devices=options.devices, tta=options.tta)
    Told(data).tell()
    if not figures["images"]:
        raise ValueError(f"`data` must have images that can be read. Received: {left_out.shown(data.name)}")
    _print(figures)
    name = left_out.shown(data.name)
    title = f"{options.split} images of {name}: {judgement(figures)} on {figures['images']:,}"
    output = _draw(figures, names, title, _pictures(options, figures))
    if options.worst is not None:
        figures["worst"] = _show_worst(options, split, figures)
    described = {"model": options.model, "data": data.name, "split": options.split, "output": output and str(output)}
    large = () if options.matrix else ("confusion", "curves")
    finish(options, {**described, **{key: value for key, value in figures.items() if key not in large}})


def _print(figures):
    several = "exact" in figures
    further = [f"all labels right {percent(figures['exact'])}"] if several else []
    if "top_5_accuracy" in figures:
        further.append(f"top-5 {percent(figures['top_5_accuracy'])}")
    further.append(f"loss {figures['loss']:.4f}")
    print(f"{judgement(figures)}, {', '.join(further)} on {figures['images']} images")
    if "tta" in figures:
        print(f"with the mean of {figures['tta']['views']} views of each image: {judgement(figures['tta'])}")
    error = figures["calibration"]["error"]
    what = "labels are" if several else "answers are"
    print(f"calibration: {what} as likely as their probabilities say within {percent(error)} in the mean")
    rows = sorted(figures["classes"], key=lambda row: -row["wrong"])
    title = f"The {SHOWN} of {len(rows)} classes with the most wrong images" if len(rows) > SHOWN else None
    columns = (
        ["label", "images", "wrong", "average precision", "threshold"] if several else ["class", "images", "wrong"]
    )
    cells = []
    for row in rows[:SHOWN]:
        own = [percent(row["average_precision"]), f"{row['threshold']:.3f}"] if several else []
        shares = (percent(row["precision"]), percent(row["recall"]))
        cells.append([row["name"], f"{row['images']:,}", f"{row['wrong']:,}", *own, *shares])
    print_table((*columns, "precision", "recall"), cells, title=title)


def _draw(figures, names, title, pictures):
    """Where the first picture lies, None where none can be written."""
    from nasnet_keras.pictures.confusion import confusion_svg
    from nasnet_keras.pictures.shares import precision_recall_svg, reliability_svg

    if "curves" in figures:
        worst = sorted(figures["classes"], key=lambda row: -row["wrong"])
        drawn = [(row["name"], figures["curves"][row["name"]]) for row in worst if row["name"] in figures["curves"]]
        order = "with the most wrong images"
        what = "Precision over recall"
        what += f" of the {DRAWN} of {len(drawn)} labels {order}" if len(drawn) > DRAWN else ""
        first = (what, precision_recall_svg(drawn, title, order))
    else:
        first = ("What is taken for what", confusion_svg(figures["confusion"], names, title))
    output, beside = pictures
    second = ("Whether probabilities hold", reliability_svg(figures["calibration"]["bins"], title))
    for path, (what, picture) in ((output, first), (beside, second)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, picture.encode())
            print(f"{what}: {path}")
        except OSError as error:
            tell(f"the picture {path} cannot be written: {error.strerror or error}")
            if path == output:
                return None
    return output


def _show_worst(options, split, figures):
    """Write the contact sheet of the most wrong images; returns what is on it, with the names of files."""
    from PIL import Image

    from nasnet_keras.pictures.contact_sheet import contact_sheet

    shown = []
    for row in figures["worst"]:
        image = Image.fromarray(np.asarray(split.images[row["index"]]).squeeze()).convert("RGB")
        image.thumbnail((SIDE, SIDE))
        image.save(content := io.BytesIO(), "JPEG", quality=90)
        caption = f"{row['class']}, taken for {row['taken_for']} ({percent(row['score'])})"
        shown.append((caption, content.getvalue()))
    right = figures["exact"] if split.several else figures["accuracy"]
    wrong = figures["images"] - round(right * figures["images"])
    title = f"The most wrong of {figures['images']:,} images of {left_out.shown(options.data)}"
    labels = {"images": f"{figures['images']:,}", "wrong": f"{wrong:,}", "right": percent(right)}
    note = "Sorted by loss: on top the model was surest of something else. Look for wrong labels among them."
    path = Path(options.worst) / "worst.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, contact_sheet(title, labels, [("Most wrong first", note, shown)]).encode())
    print(f"The most wrong images: {path}")
    names = getattr(split.images, "name", None)
    return [{**row, "image": called(names(row["index"]))} if names else row for row in figures["worst"]]
