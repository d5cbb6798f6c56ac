"""The command `train`: a network of a genotype, left as a model directory."""

from argparse import BooleanOptionalAction
from pathlib import Path

from nasnet_keras.commands.datasets import Told, decode, find, require_validation, size_identity
from nasnet_keras.commands.options import (
    MOST_EPOCHS,
    add_data,
    add_devices,
    add_dtype,
    add_hours,
    add_recipe,
    add_size,
    check_network,
    given,
    given_recipe,
    join,
    remark_on_stem,
)
from nasnet_keras.commands.progress import epoch_progress
from nasnet_keras.commands.terminal import GO_ON, finish, judgement, tell, without_greetings
from nasnet_keras.files import check_folder, check_free
from nasnet_keras.genotype import load_genotype
from nasnet_keras.training import recipes
from nasnet_keras.training.identity import check_place, check_resumption, known_epochs, training_identity

SUMMARY = "train a network of a genotype"
INTERRUPTED = GO_ON
# What is not given, in general and with the recipe `imagenet`: there it is what the released NASNet-A (Mobile) was
# trained with. Its 250,000 steps of 50 machines with 32 images each are 312 epochs.
DEFAULTS = {
    "repeats": 2,
    "filters": 16,
    "stem": "cifar",
    "epochs": 20,
    "dropout": 0.0,
    "weight_decay": 0.0,
    # The released 0.9997 is for ImageNet's million steps: after some thousand it evaluates by its initial statistics.
    "batch_norm_momentum": 0.9,
    "auxiliary_head": False,
    "image_size": None,
}
IMAGENET = {
    "repeats": 4,
    "filters": 44,
    "stem": "imagenet",
    "epochs": 312,
    "dropout": 0.5,
    "weight_decay": 4e-5,
    "batch_norm_momentum": 0.9997,
    "auxiliary_head": True,
    "image_size": 224,
}
NOTES = {name: f" (default: {value}; with the recipe imagenet {IMAGENET[name]})" for name, value in DEFAULTS.items()}
EXAMPLE = "train --genotype nasnet_a --data photos --image-size 64 --recipe photos --epochs 20 --directory net"


def add_options(parser):
    """Add the options."""
    parser.add_argument("--genotype", default="nasnet_a", help="a stored name (see `list`) or a JSON file")
    add_data(parser)
    add_size(parser, None, None, None, NOTES)
    parser.add_argument("--epochs", type=int, help="epochs in all" + NOTES["epochs"])
    add_hours(parser)
    parser.add_argument("--directory", required=True, help="where the model and its state go; run again to go on")
    further = "; imagenet also sets a network of the paper's size, image size, dropout, weight decay and auxiliary head"
    add_recipe(parser, "scans", further)
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="PIXELS", help="image sizes, each for an equal part of the epochs"
    )
    parser.add_argument("--drop-path", type=float, default=0.0, help="rate of the last cell at the end of the schedule")
    parser.add_argument("--dropout", type=float, help="rate before the classifier" + NOTES["dropout"])
    text = "L2 factor as the paper states it" + NOTES["weight_decay"]
    parser.add_argument("--weight-decay", type=float, help=text)
    text = "of the moving statistics" + NOTES["batch_norm_momentum"]
    parser.add_argument("--batch-norm-momentum", type=float, help=text)
    text = "train with the auxiliary classifier" + NOTES["auxiliary_head"]
    parser.add_argument("--auxiliary-head", action=BooleanOptionalAction, help=text)
    text = "keep activations within ±6, from which int8 loses less"
    parser.add_argument("--bounded-activations", action="store_true", help=text)
    add_dtype(parser)
    add_devices(parser, hosts=True)


def check(options):
    """The recipe, the network's architecture, and the data."""
    genotype = load_genotype(options.genotype)
    recipe = given_recipe(options)
    recipes.check_devices(options.devices, recipe.batch_size)
    _settle(options)
    if options.sizes and options.auxiliary_head:
        rule = "left out with an auxiliary head, which reads maps of one size, or take --no-auxiliary-head"
        raise ValueError(f"`sizes` must be {rule}. Received: {' '.join(map(str, options.sizes))}")
    recipes.check_hours(options.hours, options.sizes)
    recipes.stages(options.epochs, options.sizes)
    names = ("repeats", "filters", "stem", "drop_path", "dropout", "weight_decay", "batch_norm_momentum")
    network = given(options, *names, "auxiliary_head", "bounded_activations")
    check_network(genotype, **network)
    check_folder("directory", options.directory)
    check_place(options.directory)
    join(options)
    data = find(options)
    recipes.check_devices(options.devices, recipe.batch_size, len(data.train))
    if not options.hosts:  # one of them writes there
        check_free("directory", options.directory)
    identity = training_identity(data, recipe, options.seed, options.sizes) | size_identity(options)
    options.epochs = known_epochs(options.directory, options.epochs, options.hours)
    check_resumption(options.directory, identity, options.epochs)
    data = decode(options, data, as_files=recipe.crops)
    require_validation(options, len(data.validation))
    remark_on_stem(network["stem"], data.image_shape)
    if options.sizes and min(data.image_shape[:2]) != (last := options.sizes[-1]):
        height, width, _ = data.image_shape
        tell(
            f"it learns last from images of {last} pixels, and is tested and kept for {height}x{width}: "
            f"--image-size {last} makes it a model for the former"
        )
    network["input_shape"] = data.image_shape if options.sizes is None else (None, None, 3)
    network |= {"classes": len(data.class_names), "class_names": data.class_names, "grey_range": data.grey_range}
    network |= {"classifier_activation": "sigmoid"} if data.several else {}
    return {"recipe": recipe, "architecture": check_network(genotype, **network), "data": data}


def _settle(options):
    """Give what was not given its default."""
    defaults = {**DEFAULTS, **(IMAGENET if options.recipe == "imagenet" else {})}
    if options.hours is not None:
        defaults["epochs"] = MOST_EPOCHS
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)


def run(options, recipe, architecture, data):
    """Train a network of a genotype and leave it as a model directory."""
    with without_greetings():
        from nasnet_keras.models.network import NASNet
        from nasnet_keras.models.seeds import drawn_from
        from nasnet_keras.training import devices, fitting
        from nasnet_keras.training.card import write_card
    directory = Path(options.directory)
    with drawn_from(options.seed):
        model = NASNet.of(architecture, dtype=options.dtype)
    first = devices.host() == 0
    teller = Told(data, directory if first else None)
    title = f"train {architecture.genotype.name or options.genotype}"
    with epoch_progress(title, lambda: known_epochs(directory, options.epochs, options.hours)) as progress:
        fitting.fit(
            model,
            data,
            recipe,
            epochs=options.epochs,
            seed=options.seed,
            directory=directory,
            callbacks=[progress, teller.callback()],
            sizes=options.sizes,
            checkpoint_every=options.checkpoint_every,
            hours=options.hours,
            devices=options.devices,
            remat=options.remat,
            mixing=options.mixing,
        )
    if data.several:
        model.thresholds = fitting.chosen_thresholds(model, data.validation)
    if first:
        fitting.save_model(model, directory, input_shape=data.image_shape)
    figures = {"directory": str(directory), "parameters": model.count_params()}
    figures |= fitting.evaluate(model, data.test, devices=options.devices)
    if first:
        settings = given(options, "recipe", "seed", "dtype")
        write_card(directory, model, data, recipe, settings, figures={"test": figures}, words=options.words)
        teller.tell()
        print(f"test {judgement(figures)} on {figures['images']} images; the model is in {directory}")
        finish(options, figures)
    devices.leave()
