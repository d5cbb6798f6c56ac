"""The command line: `nasnet-keras COMMAND …`. What the commands do stands in `commands`.

A command prints its result on stdout and its progress on stderr. Exit code 0 means done, 2 bad
input (one line says what to do), 130 interrupted (the state is saved, and the line says how to go on).
"""

import argparse
import importlib
import logging
import os
import shlex
import sys

from nasnet_keras.commands.search_options import add_search
from nasnet_keras.commands.speech import without_greetings

DATA_HELP = "digits (built in), a folder root/<class>/* or root/{train,test}/<class>/*, or tfds:NAME"
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")
# The module of `commands` that carries a command out.
MODULES = {
    "search": "searches",
    "train": "models",
    "finetune": "models",
    "evaluate": "models",
    "predict": "models",
    "export": "exports",
    "serve": "exports",
    "plot": "views",
    "report": "views",
    "list": "views",
}


def main(arguments=None):
    """Run a command; returns the exit code."""
    options = parser().parse_args(arguments)
    options.words = sys.argv[1:] if arguments is None else list(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if options.command == "search":
        # Small operations are slower on two threads than on one, and their sums would depend on the number of cores.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        _run(options)
        return 0
    except KeyboardInterrupt:
        again = f"interrupted. To go on, run the same command again: {shlex.join(['nasnet-keras', *options.words])}"
        print(f"nasnet-keras: {'stopped' if options.command == 'serve' else again}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (ValueError, ArithmeticError, OSError, MemoryError) as error:
        print(f"nasnet-keras: {_one_line(error)}", file=sys.stderr)
        return 2


def _run(options):
    """What is wrong with the options is said before TensorFlow is loaded, which takes seconds."""
    given = {}
    if MODULES[options.command] != "views":
        from nasnet_keras.commands import inputs

        given = getattr(inputs, f"read_{options.command}")(options)
    with without_greetings():
        module = importlib.import_module(f"nasnet_keras.commands.{MODULES[options.command]}")
    getattr(module, f"run_{options.command}")(options, **given)


def _one_line(error):
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not that an option without one is None."""

    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


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
            formatter_class=_Defaults,
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
    train.add_argument("--recipe", default="scans", help="scans, photos, cifar, short, imagenet or micro")
    train.add_argument(
        "--sizes", type=int, nargs="+", metavar="PIXELS", help="image sizes, each for an equal part of the epochs"
    )
    train.add_argument("--batch-size", type=int, help="images a step (default: the recipe's)")
    train.add_argument("--learning-rate", type=float, help="peak learning rate (default: the recipe's)")
    train.add_argument("--cutout", type=int, help="side of the square cut out of images (default: the recipe's)")
    train.add_argument("--moving-average", type=float, help="decay of averaged weights (default: the recipe's)")
    train.add_argument("--drop-path", type=float, default=0.0, help="rate of the last cell at the end of the schedule")
    train.add_argument("--dropout", type=float, default=0.0, help="rate before the classifier")
    train.add_argument("--weight-decay", type=float, default=0.0, help="L2 factor as the paper states it")
    # The released 0.9997 is for ImageNet's million steps: after some thousand it evaluates by its initial statistics.
    train.add_argument("--batch-norm-momentum", type=float, default=0.9, help="of the moving statistics")
    train.add_argument("--auxiliary-head", action="store_true", help="train with the auxiliary classifier")
    train.add_argument("--dtype", choices=DTYPES, default="float32", help="of the computation")

    finetune = command(
        "finetune",
        "train a network on new classes, from what it has learnt on others",
        "finetune --model NASNetMobile --weights imagenet --data photos --epochs 10 --directory mine",
    )
    finetune.add_argument("--model", help="a name of the zoo, or a directory that `train` or `finetune` wrote")
    finetune.add_argument("--genotype", help="instead of a model: a network of this genotype (a name or a JSON file)")
    finetune.add_argument(
        "--weights", default="auto", help="imagenet, cifar10, none (from scratch), or a file; auto: the model's own"
    )
    _data(finetune, "digits")
    finetune.add_argument("--epochs", type=int, default=10, help="epochs of both phases together")
    finetune.add_argument("--directory", required=True, help="where the model and its state go; run again to go on")
    finetune.add_argument("--recipe", default="photos", help="photos, scans, or another of `train`'s")
    finetune.add_argument("--head-epochs", type=int, help="epochs with the cells frozen (default: a quarter)")
    finetune.add_argument(
        "--unfreeze", default="all", help="what learns after that: all, head, or from a layer upwards, such as cell_3"
    )
    finetune.add_argument("--learning-rate", type=float, help="peak rate of the head (default: the recipe's)")
    finetune.add_argument("--rate-factor", type=float, default=0.3, help="rate after unfreezing, as a share of that")
    finetune.add_argument("--layer-decay", type=float, default=1.0, help="a cell's rate as a share of the next one's")
    finetune.add_argument(
        "--batch-norm", default="0.9", help="momentum of batch norms that learn, or frozen: they keep their statistics"
    )
    finetune.add_argument("--class-weights", choices=("none", "balanced"), default="none", help="for unequal folders")
    finetune.add_argument("--patience", type=int, default=5, help="epochs without a better validation; 0: never stop")
    finetune.add_argument("--label-smoothing", type=float, help="target's share for all classes (default: recipe's)")
    finetune.add_argument("--augmentation", help="photo, digits (for scans), cifar or none (default: the recipe's)")
    finetune.add_argument("--cutout", type=int, help="side of the square cut out of images (default: the recipe's)")
    finetune.add_argument("--batch-size", type=int, help="images a step (default: the recipe's)")
    finetune.add_argument("--repeats", type=int, help="Normal cells a stack: a genotype's, or the zoo's resized")
    finetune.add_argument("--filters", type=int, help="filters of the first stack, likewise")
    finetune.add_argument("--stem", choices=("cifar", "imagenet"), help="of a genotype's network (default: cifar)")
    finetune.add_argument("--drop-path", type=float, default=0.0, help="final rate of the last cell")
    finetune.add_argument("--dropout", type=float, default=0.0, help="rate before the classifier")
    finetune.add_argument("--weight-decay", type=float, default=0.0, help="L2 factor as the paper states it")
    finetune.add_argument("--dtype", choices=DTYPES, default="float32", help="of the computation")
    finetune.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard into DIR/tensorboard")

    evaluate = command(
        "evaluate", "measure a model, class by class, and draw what it confuses", "evaluate --model net --data photos"
    )
    evaluate.add_argument("--model", required=True, help="a directory that `train` wrote, or a name of the zoo")
    evaluate.add_argument("--output", help="the picture, an SVG file (default: confusion.svg in the model's directory)")
    _data(
        evaluate,
        "digits",
        limit="evaluate at most this many images",
        seed="that of the training (default: the model's)",
    )
    evaluate.set_defaults(seed=None)
    evaluate.add_argument("--split", choices=("train", "validation", "test"), default="test", help="the images used")

    predict = command("predict", "name what is on images", "predict --model net photo.jpg")
    predict.add_argument("--model", required=True, help="a directory that `train` wrote, or a name of the zoo")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    predict.add_argument("--top", type=int, default=5, help="classes named for each image")

    export = command(
        "export", "write a SavedModel for TF Serving, or another format", "export --model net --output served/net"
    )
    export.add_argument("--model", required=True, help="a directory that `train` wrote, or a name of the zoo")
    export.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="the model's folder, with a version below; for other formats a new folder",
    )
    export.add_argument("--format", choices=("saved_model", "onnx", "litert", "openvino"), default="saved_model")
    export.add_argument(
        "--calibration", metavar="DATA", help="images that litert's int8 is measured on (default: float32)"
    )
    export.add_argument(
        "--batch", type=int, help="images of every call of another format; 1 is faster in openvino (default: any)"
    )
    export.add_argument("--version", type=int, help="an integer that is not there yet (default: the next free one)")
    export.add_argument("--top", type=int, help="classes named in a SavedModel's answer (default: 5)")
    export.add_argument(
        "--image-dtype", choices=("float32", "uint8"), help="a SavedModel's raw pixels (default: float32)"
    )

    serve = command(
        "serve", "serve an exported model as TF Serving does, with a page to try it", "serve --model served/net"
    )
    serve.add_argument("--model", required=True, metavar="DIR", help="what `export` wrote: the folder of versions")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in")
    serve.add_argument("--port", type=int, default=8501, help="0 takes any that is free")
    serve.add_argument("--name", help="the model's name in addresses (default: the folder's)")
    serve.add_argument("--max-batch", type=int, default=16, help="images that are run together")
    serve.add_argument("--max-queue", type=int, default=256, help="images that wait; more are refused with 503")
    serve.add_argument("--max-body", type=int, default=32, metavar="MIB", help="greatest size of a request")
    serve.add_argument(
        "--max-pixels", type=float, default=25, metavar="MEGAPIXELS", help="greatest size of an encoded image"
    )
    serve.add_argument("--timeout", type=float, default=30, help="seconds that a client may take to send a request")

    plot = command("plot", "draw the cells of a genotype as SVG", "plot nasnet_a --output cells.svg")
    plot.add_argument("genotype", metavar="GENOTYPE", help="a stored name (see `list`) or a JSON file")
    plot.add_argument("--output", help="the SVG file (default: <name>.svg)")

    report = command("report", "write a search's report, also while it runs", "report found")
    report.add_argument("directory", metavar="DIR", help="the search's directory")
    report.add_argument("--tensorboard", action="store_true", help="write scalars and HParams to DIR/tensorboard too")

    command("list", "list the stored genotypes and the models of the zoo", "list")
    return top


def _data(
    sub,
    default,
    limit="use at most this many images for training and validation",
    seed="everything random comes from it",
):
    sub.add_argument("--data", default=default, help=DATA_HELP)
    sub.add_argument("--limit", type=int, help=limit)
    sub.add_argument("--validation", type=float, default=0.1, help="share of the training images that is held out")
    sub.add_argument("--image-size", type=int, help="resize images to this many pixels (default: their own size)")
    sub.add_argument("--seed", type=int, default=0, help=seed)


def _network(sub, repeats, filters):
    sub.add_argument("--repeats", type=int, default=repeats, help="Normal cells in each of the three stacks")
    sub.add_argument("--filters", type=int, default=filters, help="filters of the first stack")
    sub.add_argument("--stem", choices=("cifar", "imagenet"), default="cifar", help="cifar for images below 64 pixels")


if __name__ == "__main__":
    sys.exit(main())
