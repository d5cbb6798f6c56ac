"""The command line: `nasnet-keras COMMAND …`. What the commands do stands in `commands`.

A command prints its result on stdout and its progress on stderr. Exit code 0 means done, 2 bad
input (one line says what to do), 130 interrupted (the state is saved, and the line says how to go on).
"""

import argparse
import logging
import os
import sys
from contextlib import contextmanager

from nasnet_keras.search_options import add_search

DATA_HELP = "digits (built in), a folder root/<class>/* or root/{train,test}/<class>/*, or tfds:NAME"


def main(arguments=None):
    """Run a command; returns the exit code."""
    options = parser().parse_args(arguments)
    options.words = sys.argv[1:] if arguments is None else list(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _without_greetings():
        from nasnet_keras import commands

    try:
        getattr(commands, f"run_{options.command}")(options)
        return 0
    except KeyboardInterrupt:
        again = " ".join(["nasnet-keras", *options.words])
        print(f"nasnet-keras: interrupted. To go on, run the same command again: {again}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"nasnet-keras: {_one_line(error)}", file=sys.stderr)
        return 2


@contextmanager
def _without_greetings():
    """TensorFlow's libraries greet on the bare stderr while they are loaded, whatever one sets."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _one_line(error):
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage in front of it."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help\n")


def parser():
    """The argument parser of all commands."""
    top = _Parser(prog="nasnet-keras", description="Search for NASNet cells, train, use and serve them.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, text, example):
        sub = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: nasnet-keras {example}",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        sub.add_argument("--json", action="store_true", help="print one JSON object as the last line")
        return sub

    add_search(command, _data, _network)

    train = command(
        "train", "train a network of a genotype", "train --genotype nasnet_a --data photos --epochs 20 --directory net"
    )
    train.add_argument("--genotype", default="nasnet_a", help="a stored name (see `list`) or a JSON file")
    _data(train, "digits")
    _network(train, repeats=2, filters=16)
    train.add_argument("--epochs", type=int, default=20, help="epochs in all")
    train.add_argument("--directory", required=True, help="where the model and its state go; run again to go on")
    train.add_argument("--recipe", default="scans", help="scans, cifar, imagenet or micro")
    train.add_argument("--batch-size", type=int, help="images a step (default: the recipe's)")
    train.add_argument("--learning-rate", type=float, help="peak learning rate (default: the recipe's)")
    train.add_argument("--cutout", type=int, help="side of the square cut out of images (default: the recipe's)")
    train.add_argument("--moving-average", type=float, help="decay of averaged weights (default: the recipe's)")
    train.add_argument("--drop-path", type=float, default=0.0, help="rate of the last cell at the end of the schedule")
    train.add_argument("--dropout", type=float, default=0.0, help="rate before the classifier")
    train.add_argument("--weight-decay", type=float, default=0.0, help="L2 factor as the paper states it")
    train.add_argument("--auxiliary-head", action="store_true", help="train with the auxiliary classifier")
    train.add_argument("--dtype", default="float32", help="float32, mixed_bfloat16 or mixed_float16")

    evaluate = command("evaluate", "measure a model's accuracy", "evaluate --model net --data photos")
    evaluate.add_argument("--model", required=True, help="a directory that `train` wrote, or a name of the zoo")
    _data(evaluate, "digits")
    evaluate.add_argument("--split", choices=("train", "validation", "test"), default="test", help="the images used")

    predict = command("predict", "name what is on images", "predict --model net photo.jpg")
    predict.add_argument("--model", required=True, help="a directory that `train` wrote, or a name of the zoo")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    predict.add_argument("--top", type=int, default=5, help="classes named for each image")

    export = command(
        "export", "write a SavedModel for TF Serving, or another format", "export --model net --output served/net"
    )
    export.add_argument("--model", required=True, help="a directory that `train` wrote, or a name of the zoo")
    export.add_argument("--output", required=True, metavar="DIR", help="the model's folder; versions go below it")
    export.add_argument("--format", choices=("saved_model", "onnx", "litert", "openvino"), default="saved_model")
    export.add_argument(
        "--calibration", metavar="DATA", help="images that litert's int8 is measured on (default: float32)"
    )
    export.add_argument("--version", type=int, help="an integer that is not there yet (default: the next free one)")
    export.add_argument("--top", type=int, help="classes named in a SavedModel's answer (default: 5)")
    export.add_argument(
        "--image-dtype", choices=("float32", "uint8"), help="a SavedModel's raw pixels (default: float32)"
    )

    plot = command("plot", "draw the cells of a genotype as SVG", "plot nasnet_a --output cells.svg")
    plot.add_argument("genotype", metavar="GENOTYPE", help="a stored name (see `list`) or a JSON file")
    plot.add_argument("--output", help="the SVG file (default: <name>.svg)")

    report = command("report", "write a search's report, also while it runs", "report found")
    report.add_argument("directory", metavar="DIR", help="the search's directory")
    report.add_argument("--tensorboard", action="store_true", help="write scalars and HParams to DIR/tensorboard too")

    command("list", "list the stored genotypes and the models of the zoo", "list")
    return top


def _data(sub, default):
    sub.add_argument("--data", default=default, help=DATA_HELP)
    sub.add_argument("--limit", type=int, help="use at most this many images for training and validation")
    sub.add_argument("--image-size", type=int, help="resize images to this many pixels (default: their own size)")
    sub.add_argument("--seed", type=int, default=0, help="everything random comes from it")


def _network(sub, repeats, filters):
    sub.add_argument("--repeats", type=int, default=repeats, help="Normal cells in each of the three stacks")
    sub.add_argument("--filters", type=int, default=filters, help="filters of the first stack")
    sub.add_argument("--stem", choices=("cifar", "imagenet"), default="cifar", help="cifar for images below 64 pixels")


if __name__ == "__main__":
    sys.exit(main())
