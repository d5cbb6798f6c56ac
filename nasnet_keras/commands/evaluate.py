"""The command `evaluate`: how good a model is, class by class, and what it confuses."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasnet_keras.checks import check_integer
from nasnet_keras.commands.datasets import Told, decode, find
from nasnet_keras.commands.options import MODEL_HELP, add_data, add_devices
from nasnet_keras.commands.terminal import finish, percent, tell, without_greetings
from nasnet_keras.data import left_out
from nasnet_keras.data.images import as_size
from nasnet_keras.data.records import read_record
from nasnet_keras.data.sides import PARTS
from nasnet_keras.data.splits import Split, check_classes
from nasnet_keras.files import check_file, write_atomically
from nasnet_keras.training.identity import known_seed
from nasnet_keras.weights.zoo import known_classes

SUMMARY = "measure a model, class by class, and draw what it confuses"
EXAMPLE = "evaluate --model net --data photos"
SHOWN = 40  # classes in the table


def add_options(parser):
    """Add the options."""
    parser.add_argument("--model", required=True, help=MODEL_HELP)
    parser.add_argument("--output", help="the picture, an SVG file (default: confusion.svg in the model's directory)")
    add_data(parser, limit="evaluate at most this many images", seed="that of the training (default: the model's)")
    parser.set_defaults(seed=None)
    help_text = "the images used; all: of a folder that the model has not seen"
    parser.add_argument("--split", choices=("train", "validation", "test", "all"), default="test", help=help_text)
    add_devices(parser)


def check(options):
    """The data, not decoded yet, because the model says in which size; and where the picture goes."""
    names, model = known_classes(options.model), Path(options.model)
    own = model / "confusion.svg" if model.is_dir() else Path(f"{model.stem}-confusion.svg")
    output = Path(options.output or own)
    if options.output:
        check_file("output", output, ".svg")
    check_integer("limit", options.limit, least=1, optional=True)
    if options.seed is None:  # the images that the training did not see follow from its seed
        options.seed = known_seed(model) or 0
    data = find(options)
    if names:
        check_classes(names, data.class_names)
    parts = {name: getattr(data, name) for name in PARTS}
    split = Split.joined(list(parts.values())) if options.split == "all" else parts[options.split]
    if not len(split):
        have = ", ".join(f"{len(one):,} for {name}" for name, one in parts.items())
        raise ValueError(f"`split` must be one that has images. Received: {options.split}, where there are {have}")
    _tell_of_division(options, data)
    split = split if options.limit is None else split.take(options.limit, options.seed)
    part = "test" if options.split == "all" else options.split
    empty = {name: one.select([]) for name, one in parts.items()}
    return {"data": replace(data, **{**empty, part: split}), "output": output, "part": part}


def _tell_of_division(options, data):
    """Say it where the images are not those of the training, or are what was learnt from."""
    record = read_record(options.model) if Path(options.model).is_dir() else None
    if record is None or record.digest is None or data.digest is None:
        return
    same = record.digest == data.digest
    if same and options.split == "all":
        tell(f"most of these images are those that {options.model} was trained on")
    elif not same and options.split == "test":
        every = f"{sum(len(getattr(data, name)) for name in PARTS):,}"
        changed = f"{left_out.shown(data.name)} is not as it was when {options.model} was trained"
        tell(f"{changed}: {len(data.test):,} of {every} images are tested; --split all takes all")


def run(options, data, output, part):
    """Print a model's accuracy, overall and class by class, and draw what it confuses."""
    with without_greetings():
        from nasnet_keras.models import answers
        from nasnet_keras.models.applications import load_model
        from nasnet_keras.pictures.confusion import confusion_svg, most_confused
        from nasnet_keras.training import fitting
        from nasnet_keras.training.evaluation import evaluate_classes
    model = load_model(options.model)
    own = answers.input_shape(model)[:2]
    if options.image_size is not None and None not in own and own != as_size(options.image_size):
        raise ValueError(f"`image_size` must be left out, as the model's is {own}. Received: {options.image_size}")
    data = decode(options, data, model)
    split = fitting.match_classes(model, data, getattr(data, part))
    names, count = answers.class_names(model), answers.units(model)
    if names is None:
        names = data.class_names
        tell(f"{options.model} does not name its classes: they are taken to be, in this order, {', '.join(names[:20])}")
    if count is not None and max(count, 2) != len(names):
        raise ValueError(f"`data` must have the model's {max(count, 2)} classes. Received: {len(names)}")
    figures = evaluate_classes(model, split, names, devices=options.devices)
    Told(data).tell()
    print(f"accuracy {percent(figures['accuracy'])}, loss {figures['loss']:.4f} on {figures['images']} images")
    shown = most_confused(figures["confusion"], SHOWN)
    title = f"The {SHOWN} of {len(names)} classes with the most wrong images" if len(shown) < len(names) else None
    table = Table("class", "images", "precision", "recall", title=title)
    for row in (figures["classes"][index] for index in shown):
        table.add_row(row["name"], f"{row['images']:,}", percent(row["precision"]), percent(row["recall"]))
    Console().print(table)
    name, accuracy = left_out.shown(data.name), percent(figures["accuracy"])
    title = f"{options.split} images of {name}: {accuracy} of {figures['images']:,} right"
    picture = confusion_svg(figures["confusion"], names, title).encode()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, picture)
        print(f"What is taken for what: {output}")
    except OSError as error:
        tell(f"the picture {output} cannot be written: {error.strerror or error}")
        output = None
    described = {"model": options.model, "data": data.name, "split": options.split, "output": output and str(output)}
    finish(options, {**described, **figures})
