"""Options that several commands have, and what is made of them."""

import os
from argparse import ArgumentTypeError
from contextlib import contextmanager

from nasnet_keras.checks import check_integer, check_range
from nasnet_keras.commands.terminal import tell, without_greetings
from nasnet_keras.data.augmentation import AUGMENTATIONS, PLACES, check_mixing_place
from nasnet_keras.data.columns import Columns
from nasnet_keras.data.loading import SHARES
from nasnet_keras.genotype import load_genotype
from nasnet_keras.program.architecture import Architecture
from nasnet_keras.training import recipes
from nasnet_keras.weights.zoo import known_grey_range

DATA_HELP = (
    "digits (built in), a folder root/<class>/* or root/{train,test}/<class>/*, a table of files and labels "
    "(.csv, .tsv, .jsonl, .parquet), or tfds:NAME"
)
MIXING = ("rand_augment", "erasing", "mixup", "cutmix")  # of a recipe, that `add_mixing` adds options for
MOST_EPOCHS = 1000  # with `--hours`, where the time decides
SMALL, LARGE = 64, 128  # pixels: up to which the stem cifar is meant, and beyond which it is remarked on
MODEL_HELP = "a directory that `train` or `finetune` wrote, a Keras file, or a name of the zoo"


def add_data(
    parser,
    limit="use at most this many images for training and validation",
    seed="everything random comes from it",
):
    """Add the options of the data, with help for two of them."""
    parser.add_argument("--data", default="digits", help=DATA_HELP)
    parser.add_argument("--limit", type=int, help=limit)
    help_text = (
        "resize images to this many pixels, or HEIGHTxWIDTH (default: their own, if all are alike and of at most 256, "
        "else 224; a model's are what it was made for)"
    )
    parser.add_argument("--image-size", type=image_size, help=help_text)
    add_division(parser, seed)


def add_division(parser, seed):
    """Add the options of how data are divided and greys are read, with help for the seed."""
    held = SHARES["validation"]
    parser.add_argument("--validation", type=float, default=held, help="share of the training images that is held out")
    help_text = "likewise, where there are no test images"
    parser.add_argument("--test", type=float, default=SHARES["test"], metavar="SHARE", help=help_text)
    help_text = "refuse a folder or a table of which something would be left out"
    parser.add_argument("--strict", action="store_true", help=help_text)
    parser.add_argument("--seed", type=int, default=0, help=seed)
    parser.add_argument(
        "--grey-range",
        metavar="LOW:HIGH",
        help="black and white of greys of more than 8 bits, such as 0:4095, or --grey-range=-1024:3071 (default: the "
        "model's, else all 16 bits)",
    )
    add_columns(parser)


def add_columns(parser):
    """Add the options that say what the columns of a table mean."""
    parser.add_argument("--file-column", metavar="NAME", help="the images' paths (default: file, path, image, …)")
    help_text = "the labels (default: label, class, …); several names: columns of 0 and 1, a label each"
    parser.add_argument("--label-column", metavar="NAME", nargs="+", help=help_text)
    help_text = "train, validation or test (default: split, or what else names parts); none: no column"
    parser.add_argument("--split-column", metavar="NAME", help=help_text)
    help_text = "between the labels of an image that may have several, such as '|'"
    parser.add_argument("--separator", metavar="TEXT", help=help_text)
    parser.add_argument("--file-root", metavar="DIR", help="what paths are relative to (default: the table's folder)")
    parser.add_argument("--outside", action="store_true", help="allow paths that lead out of that folder")


TABLE = ("file_column", "label_column", "split_column", "separator", "file_root", "outside")


def given_columns(options):
    """The `columns.Columns` that the options name."""
    file, labels, *others = given(options, *TABLE).values()
    return Columns(file, labels and tuple(labels), *others)


def add_mixing(parser):
    """Add the options of how training images are changed and mixed beyond a recipe's crops and flips, see `MIXING`."""
    parser.add_argument(
        "--rand-augment",
        type=float,
        metavar="MAGNITUDE",
        help="RandAugment, 0 to 10, such as 9 (default: the recipe's)",
    )
    parser.add_argument(
        "--erasing", type=float, metavar="SHARE", help="share of images with a part erased (default: the recipe's)"
    )
    parser.add_argument(
        "--mixup", type=float, metavar="ALPHA", help="mix images and labels, such as 0.2 (default: the recipe's)"
    )
    parser.add_argument(
        "--cutmix", type=float, metavar="ALPHA", help="cut images into each other, such as 1 (default: the recipe's)"
    )


def image_size(text):
    """The size that a text names: `"96"` is a number of pixels, `"96x160"` a (height, width).

    Raises:
        argparse.ArgumentTypeError: it names none.
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ArgumentTypeError(f"must be a number of pixels or HEIGHTxWIDTH, such as 96x160. Received: {text!r}")
    return int(parts[0]) if len(parts) == 1 else tuple(map(int, parts))


def add_size(parser, repeats, filters, stem="cifar", notes=None):
    """Add the options of a network's size, with defaults, and what to add to the help of some."""
    notes = notes or {}

    def add(name, what, **kwargs):
        parser.add_argument(f"--{name}", help=what + notes.get(name, ""), **kwargs)

    add("repeats", "Normal cells in each of the three stacks", type=int, default=repeats)
    add("filters", "filters of the first stack", type=int, default=filters)
    add(
        "stem",
        f"cifar for images up to {SMALL} pixels, imagenet for larger ones",
        choices=("cifar", "imagenet"),
        default=stem,
    )


def add_recipe(parser, recipe, further=""):
    """Add the options of how a network is trained, with the default of the recipe and what to add to its help."""
    parser.add_argument("--recipe", default=recipe, help=f"{', '.join(recipes.RECIPES)}{further}")
    parser.add_argument("--batch-size", type=int, help="images a step (default: the recipe's)")
    parser.add_argument("--learning-rate", type=float, help="peak learning rate (default: the recipe's)")
    names = ", ".join(recipes.OPTIMIZERS)
    text = (
        f"{names} (default: the recipe's; all but the first two learn at {recipes.KERAS_RATE:g} if not told otherwise)"
    )
    parser.add_argument("--optimizer", metavar="NAME", help=text)
    text = "share of kernels taken off a step, times the learning rate, as in AdamW (default: the optimizer's)"
    parser.add_argument("--decoupled-decay", type=float, metavar="SHARE", help=text)
    parser.add_argument("--warmup-epochs", type=float, help="epochs over which the rate rises (default: the recipe's)")
    text = "decay of averaged weights, 0: none (default: the recipe's)"
    parser.add_argument("--moving-average", type=float, help=text)
    text = "steps whose mean gradient makes one update (default: 1)"
    parser.add_argument("--gradient-accumulation", type=int, metavar="STEPS", help=text)
    parser.add_argument("--label-smoothing", type=float, help="target's share for all classes (default: recipe's)")
    text = "look ahead along the momentum of SGD (default: the recipe's)"
    parser.add_argument("--nesterov", action="store_true", default=None, help=text)
    text = f"{', '.join(AUGMENTATIONS)} (default: the recipe's)"
    parser.add_argument("--augmentation", help=text)
    parser.add_argument("--cutout", type=int, help="side of the square cut out of images (default: the recipe's)")
    add_mixing(parser)
    text = "keep the state after so many steps, too, and go on from there (default: after epochs)"
    parser.add_argument("--checkpoint-every", type=int, metavar="STEPS", help=text)
    text = "keep less in memory and compute it a second time for gradients: longer steps, the same result"
    parser.add_argument("--remat", action="store_true", help=text)
    text = "where images are erased and mixed; device: on JAX only"
    parser.add_argument("--mixing", choices=PLACES, default=PLACES[0], help=text)


def add_hours(parser):
    """Add the option of how long a training may take."""
    text = f"time for all epochs: after the first it is settled how many fit, --epochs at most (then {MOST_EPOCHS})"
    parser.add_argument("--hours", type=float, help=text)


def add_devices(parser, hosts=False):
    """Add the option of how many devices share each batch, and that of several hosts where they can train together."""
    help_text = "how many devices share each batch, or all (default: one)"
    parser.add_argument("--devices", type=_devices, metavar="N|all", help=help_text)
    if hosts:
        help_text = "train with other processes, on JAX: auto (SLURM, MPI), or ADDRESS:PORT,COUNT,NUMBER of this one"
        parser.add_argument("--hosts", type=_hosts, metavar="auto|…", help=help_text)


def join(options):
    """Let this process be one of several hosts, where the options say so."""
    if options.hosts:
        with without_greetings():
            from nasnet_keras.training import devices

        def missing():
            tell(f"`hosts` must all be there within {devices.WAIT} s. Received: {options.hosts}, and some are not")
            os._exit(2)  # this is not the main thread, which JAX keeps

        devices.join(options.hosts, missing)


def _devices(text):
    """`"all"` or a number from 1."""
    if text != "all" and not (text.isascii() and text.isdigit() and int(text)):
        raise ArgumentTypeError(f"must be a number from 1, or all. Received: {text!r}")
    return text if text == "all" else int(text)


def _hosts(text):
    """`"auto"`, or (address and port of the first process, how many there are, the number of this one)."""
    address, *numbers = text.split(",")
    if text == "auto":
        return text
    if ":" not in address or len(numbers) != 2 or not all(part.isascii() and part.isdigit() for part in numbers):
        raise ArgumentTypeError(
            f"must be auto or ADDRESS:PORT,COUNT,NUMBER, such as 10.0.0.1:1234,2,0. Received: {text!r}"
        )
    count, number = map(int, numbers)
    if number >= count:
        raise ArgumentTypeError(f"must number the {count} processes from 0. Received: {text!r}")
    return address, count, number


def add_dtype(parser):
    """Add the option of the computation's type."""
    types = ("float32", "mixed_bfloat16", "mixed_float16")
    parser.add_argument("--dtype", choices=types, default="float32", help="of the computation")


def given_grey_range(options):
    """`(low, high)` as the options give it, else that of the model that they name, or None; raises `ValueError`."""
    text, model = options.grey_range, getattr(options, "model", None)
    if text is None:
        return None if model is None else known_grey_range(model)
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"`grey_range` must be LOW:HIGH, such as 0:4095. Received: {text!r}") from None
    check_range("grey_range", (low, high))
    return low, high


@contextmanager
def named(**options):
    """A context whose errors name the option for the argument that it becomes: `named(body="max_body")`."""
    try:
        yield
    except ValueError as error:
        for argument, option in options.items():
            if str(error).startswith(f"`{argument}`"):
                raise ValueError(str(error).replace(f"`{argument}`", f"`{option}`", 1)) from None
        raise


def given(options, *names):
    """{name: value} of some options."""
    return {name: getattr(options, name) for name in names}


VARIED = ("augmentation", "cutout", *MIXING)  # of a recipe: how images are changed
RECIPE = (
    *("batch_size", "learning_rate", "optimizer", "nesterov", "decoupled_decay", "warmup_epochs"),
    *("moving_average", "gradient_accumulation", "label_smoothing", *VARIED),
)


def given_recipe(options):
    """The `Recipe` that the options of `add_recipe` name, with the changes that they make."""
    check_integer("checkpoint_every", options.checkpoint_every, least=1, optional=True)
    check_mixing_place(options.mixing, getattr(options, "backend", "tensorflow"))  # that `cli.main` has found
    return recipes.recipe(options.recipe, **given(options, *RECIPE))


def check_network(genotype=None, **arguments):
    """The `Architecture` of a network, to refuse one that cannot be built.

    Args:
        genotype: a `Genotype`; None stands for any.
        **arguments: those of `Architecture`.

    Raises:
        ValueError: naming the argument at fault.
    """
    return Architecture(genotype or load_genotype("nasnet_a"), **arguments)


def remark_on_stem(stem, shape):
    """Say it where a stem for small images meets large ones: all cells are computed at their whole size.

    Args:
        stem: the network's.
        shape: (height, width, channels) of the images.
    """
    height, width, _ = shape
    if stem == "cifar" and min(height, width) > LARGE:
        tell(
            f"the stem cifar computes cells at {height}x{width} pixels, the stem imagenet at an eighth of "
            "the sides: --stem imagenet or a smaller --image-size needs far less time and memory"
        )
