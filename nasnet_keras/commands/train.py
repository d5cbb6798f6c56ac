"""The command `train`: a network of a genotype, left as a model directory."""

from pathlib import Path

from nasnet_keras.checks import check_devices
from nasnet_keras.commands.datasets import Told, decode, find
from nasnet_keras.commands.options import (
    add_data,
    add_devices,
    add_dtype,
    add_size,
    check_network,
    given,
    given_recipe,
    join,
)
from nasnet_keras.commands.progress import epoch_progress
from nasnet_keras.commands.terminal import finish, percent, tell, without_greetings
from nasnet_keras.files import check_folder, check_free
from nasnet_keras.genotype import load_genotype
from nasnet_keras.training import recipes
from nasnet_keras.training.identity import check_resumption, told, training_identity

SUMMARY = "train a network of a genotype"
EXAMPLE = "train --genotype nasnet_a --data photos --epochs 20 --directory net"


def add_options(parser):
    """Add the options."""
    parser.add_argument("--genotype", default="nasnet_a", help="a stored name (see `list`) or a JSON file")
    add_data(parser)
    add_size(parser, repeats=2, filters=16)
    parser.add_argument("--epochs", type=int, default=20, help="epochs in all")
    parser.add_argument("--directory", required=True, help="where the model and its state go; run again to go on")
    parser.add_argument("--recipe", default="scans", help="scans, photos, cifar, short, imagenet or micro")
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="PIXELS", help="image sizes, each for an equal part of the epochs"
    )
    parser.add_argument("--batch-size", type=int, help="images a step (default: the recipe's)")
    parser.add_argument("--learning-rate", type=float, help="peak learning rate (default: the recipe's)")
    parser.add_argument("--cutout", type=int, help="side of the square cut out of images (default: the recipe's)")
    parser.add_argument("--moving-average", type=float, help="decay of averaged weights (default: the recipe's)")
    parser.add_argument("--drop-path", type=float, default=0.0, help="rate of the last cell at the end of the schedule")
    parser.add_argument("--dropout", type=float, default=0.0, help="rate before the classifier")
    parser.add_argument("--weight-decay", type=float, default=0.0, help="L2 factor as the paper states it")
    # The released 0.9997 is for ImageNet's million steps: after some thousand it evaluates by its initial statistics.
    parser.add_argument("--batch-norm-momentum", type=float, default=0.9, help="of the moving statistics")
    parser.add_argument("--auxiliary-head", action="store_true", help="train with the auxiliary classifier")
    add_dtype(parser)
    add_devices(parser, hosts=True)


def check(options):
    """The recipe, the network's architecture, and the data."""
    genotype = load_genotype(options.genotype)
    recipe = given_recipe(options, "batch_size", "learning_rate", "cutout", "moving_average")
    check_devices(options.devices, recipe.batch_size)
    recipes.stages(options.epochs, options.sizes)
    names = ("repeats", "filters", "stem", "drop_path", "dropout", "weight_decay", "batch_norm_momentum")
    network = given(options, *names, "auxiliary_head")
    check_network(genotype, **network)
    check_folder("directory", options.directory)
    join(options)
    data = find(options)
    if not options.hosts:  # one of them writes there
        check_free("directory", options.directory)
    identity = training_identity(data, recipe, options.seed, options.sizes)
    changes = check_resumption(options.directory, identity, options.epochs)
    data = decode(options, data)
    network["input_shape"] = data.image_shape if options.sizes is None else (None, None, 3)
    network |= {"classes": len(data.class_names), "class_names": data.class_names, "grey_range": data.grey_range}
    return {"recipe": recipe, "architecture": check_network(genotype, **network), "data": data, "changes": changes}


def run(options, recipe, architecture, data, changes):
    """Train a network of a genotype and leave it as a model directory."""
    for line in told(options.directory, changes):
        tell(line)
    with without_greetings():
        from nasnet_keras.models.network import NASNet
        from nasnet_keras.models.seeds import drawn_from
        from nasnet_keras.training import devices, fitting
    directory = Path(options.directory)
    with drawn_from(options.seed):
        model = NASNet.of(architecture, dtype=options.dtype)
    first = devices.host() == 0
    teller = Told(data, directory if first else None)
    title = f"train {architecture.genotype.name or options.genotype}"
    with epoch_progress(title, options.epochs) as progress:
        fitting.fit(
            model,
            data,
            recipe,
            epochs=options.epochs,
            seed=options.seed,
            directory=directory,
            callbacks=[progress, teller.callback()],
            sizes=options.sizes,
            devices=options.devices,
        )
    if first:
        fitting.save_model(model, directory, input_shape=data.image_shape)
    figures = {"directory": str(directory), "parameters": model.count_params()}
    figures |= fitting.evaluate(model, data.test, devices=options.devices)
    if first:
        teller.tell()
        print(
            f"test accuracy {percent(figures['accuracy'])} on {figures['images']} images; the model is in {directory}"
        )
        finish(options, figures)
    devices.leave()
