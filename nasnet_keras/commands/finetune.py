"""The command `finetune`: a network learns new classes, from what it has learnt on others."""

from dataclasses import replace
from pathlib import Path

from nasnet_keras.commands.datasets import Told, decode, find, require_validation, size_identity
from nasnet_keras.commands.options import (
    MODEL_HELP,
    MOST_EPOCHS,
    VARIED,
    add_data,
    add_devices,
    add_dtype,
    add_hours,
    add_recipe,
    check_network,
    given,
    given_recipe,
    join,
    named,
    remark_on_stem,
)
from nasnet_keras.commands.progress import epoch_progress
from nasnet_keras.commands.terminal import GO_ON, finish, judgement, without_greetings
from nasnet_keras.files import check_folder, check_free
from nasnet_keras.genotype import load_genotype
from nasnet_keras.training import recipes
from nasnet_keras.training.identity import (
    PHASES,
    RATE,
    VIEWS,
    begun_as,
    check_place,
    check_resumption,
    known_epochs,
    passed,
    settled_head_epochs,
    trained_epochs,
    training_identity,
)
from nasnet_keras.weights.zoo import model_file, paths_of, starting_weights

SUMMARY = "train a network on new classes, from what it has learnt on others"
INTERRUPTED = GO_ON
EPOCHS = 10
ONE_VIEW = (
    "while the cells stand still the head learns from one view of each image, which is computed once; "
    "--head-views 0: from another one in each epoch"
)
MOST_KEPT = 100_000  # images of which features are kept unasked: 0.4 GB of NASNetMobile's, 1.6 of NASNetLarge's
EXAMPLE = "finetune --model NASNetMobile --weights imagenet --data photos --epochs 10 --directory mine"


def add_options(parser):
    """Add the options."""
    parser.add_argument("--model", help=MODEL_HELP)
    parser.add_argument("--genotype", help="instead of a model: a network of this genotype (a name or a JSON file)")
    parser.add_argument(
        "--weights", default="auto", help="imagenet, cifar10, none (from scratch), or a file; auto: the model's own"
    )
    add_data(parser)
    text = f"epochs of both phases together (default: {EPOCHS})"
    parser.add_argument("--epochs", type=int, help=text)
    add_hours(parser)
    parser.add_argument("--directory", required=True, help="where the model and its state go; run again to go on")
    parser.add_argument("--head-epochs", type=int, help="epochs with the cells frozen (default: a quarter)")
    text = (
        "compute once what the frozen cells make of so many views of each image, and keep it until they are unfrozen; "
    )
    text += "0: of another view in each epoch (default: 1 for several epochs, unless an option says how images change)"
    parser.add_argument("--head-views", type=int, metavar="K", help=text)
    parser.add_argument(
        "--unfreeze", default="all", help="what learns after that: all, head, or from a layer upwards, such as cell_3"
    )
    parser.add_argument("--rate-factor", type=float, default=0.3, help="rate after unfreezing, as a share of that")
    parser.add_argument("--layer-decay", type=float, default=1.0, help="a cell's rate as a share of the next one's")
    parser.add_argument(
        "--batch-norm", default="0.9", help="momentum of batch norms that learn, or frozen: they keep their statistics"
    )
    parser.add_argument("--class-weights", choices=("none", "balanced"), default="none", help="for unequal folders")
    parser.add_argument("--patience", type=int, default=5, help="epochs without a better validation; 0: never stop")
    add_recipe(parser, "photos", "; the learning rate is the head's")
    parser.add_argument(
        "--repeats", type=int, help="Normal cells a stack: of a genotype (default: 2), or the zoo's resized"
    )
    parser.add_argument("--filters", type=int, help="filters of the first stack, likewise (default: 16)")
    parser.add_argument("--stem", choices=("cifar", "imagenet"), help="of a genotype's network (default: cifar)")
    parser.add_argument("--drop-path", type=float, default=0.0, help="final rate of the last cell")
    parser.add_argument("--dropout", type=float, default=0.0, help="rate before the classifier")
    parser.add_argument("--weight-decay", type=float, default=0.0, help="L2 factor as the paper states it")
    add_dtype(parser)
    add_devices(parser, hosts=True)
    parser.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard into DIR/tensorboard")


def check(options):
    """The recipe, where the cells come from, the settings of the phases, and the data, not decoded yet."""
    if (options.model is None) == (options.genotype is None):
        received = "none" if options.model is None else "both"
        raise ValueError(f"either `model` or `genotype` must be given. Received: {received}")
    sources = paths_of(options.model, options.weights)
    check_place(options.directory, PHASES, sources)  # before those are looked at
    recipe = given_recipe(options)
    recipes.check_devices(options.devices, recipe.batch_size)
    size = {name: value for name, value in given(options, "repeats", "filters").items() if value is not None}
    further = given(options, "dropout", "drop_path", "weight_decay")
    if options.genotype is not None:
        source, weights = load_genotype(options.genotype), "none" if options.weights == "auto" else options.weights
        size = {"repeats": 2, "filters": 16, **size, "stem": options.stem or "cifar"}
        check_network(source, **size, **further)
        starting_weights(source, weights)
    elif options.stem:
        raise ValueError("`stem` is for a network of a `genotype`. Received: a `model`, which has its own")
    else:
        source = options.model
        model_file(source)
        weights = starting_weights(source, options.weights, size)
        # Its own sizes are not known here: what was not given stands for any.
        check_network(**{"repeats": 1, "filters": 4, "stem": "cifar", **size, **further})
    recipes.check_hours(options.hours)
    if options.epochs is None:
        options.epochs = EPOCHS if options.hours is None else MOST_EPOCHS
    settings = given(options, "epochs", "head_epochs", "unfreeze", "rate_factor", "layer_decay", "hours")
    settings |= {"batch_norm": _number(options.batch_norm), "patience": options.patience or None}
    check_folder("directory", options.directory)
    if not options.hosts:  # one of them writes there
        check_free("directory", options.directory)
    if weights != "none":
        wanted = given(options, "epochs", "head_epochs", "unfreeze", "hours")
        settings["head_epochs"] = settled_head_epochs(options.directory, **wanted)
    phases = recipes.phases(weights != "none", **{name: settings[name] for name in settings if name != "hours"})
    devices = "all" if options.hosts else options.devices
    check_place(options.directory, [name for name, *_ in phases])
    recipes.check_head_views(options.head_views or None, phases, recipe, devices=devices, hours=options.hours)
    join(options)
    data = find(options)
    recipes.check_devices(options.devices, recipe.batch_size, len(data.train))
    views = _head_views(options, phases, recipe, data)
    ends, over = _ends(options, phases), passed(options.directory, [name for name, *_ in phases])
    if views and not options.head_views and "head" not in over:
        _check_views_begun(options)
    for (name, *_, factor), last in zip(phases, ends, strict=True):
        scaled, place = replace(recipe, learning_rate=recipe.learning_rate * factor), Path(options.directory) / name
        kept = views if name == "head" else None
        identity = training_identity(data, scaled, options.seed, head_views=kept) | size_identity(options)
        if name in over:
            identity.pop(RATE)
        check_resumption(place, identity, last, settings["patience"])
    start = {"source": source, "weights": weights, "size": size}
    settings |= further
    return {"recipe": recipe, **start, "settings": settings, "data": data, "phases": phases, "views": views}


def _head_views(options, phases, recipe, data):
    """The views of each image that are kept: as asked for, as it was begun here, or one where that saves time."""
    if options.head_views is not None:
        return options.head_views or None
    if begun := begun_as(Path(options.directory) / "head"):
        return begun.get(VIEWS)
    name, epochs, *_ = phases[0]
    apart = recipe.mixes or options.hours is not None or options.hosts or options.devices not in (None, 1)
    asked = [value for value in given(options, *VARIED).values() if value not in (None, "none", 0)]
    if name != "head" or epochs < 2 or apart or asked or len(data.train) + len(data.validation) > MOST_KEPT:
        return None
    return 1


def _check_views_begun(options):
    """Raise `ValueError` where the head has begun with features that are kept and cannot go on with these options."""
    for name, chosen in (("devices", options.devices not in (None, 1)), ("hours", options.hours is not None)):
        if chosen:
            rule = "left out until the phase of the head is over, which has begun with features that are kept"
            raise ValueError(f"`{name}` must be {rule} in {options.directory}. Received: {getattr(options, name)}")


def _ends(options, phases):
    """The last epoch of each phase, as far as the time has decided on them."""
    ends, over = [0], passed(options.directory, [name for name, *_ in phases])
    for (name, last, *_), hours in zip(phases, recipes.shares(options.hours, phases), strict=True):
        place = Path(options.directory) / name
        ended = hours is not None and name in over  # sooner than there was time, perhaps
        ends.append(ends[-1] + trained_epochs(place) if ended else known_epochs(place, last, hours, ends[-1]))
    return ends[1:]


def run(options, recipe, source, weights, size, settings, data, phases, views):
    """Train a network on new classes, starting from what it has learnt on others."""
    with without_greetings():
        from nasnet_keras.models.network import NASNet
        from nasnet_keras.training import devices, fitting
        from nasnet_keras.training.card import write_card
        from nasnet_keras.training.transfer import fine_tune, load_source
    if options.genotype:
        source, size = NASNet(source, **size), {}
    with named(model_or_name="model"):
        source, trained = load_source(source, weights, **size)
    data = decode(options, data, None if options.genotype else source, as_files=recipe.crops)
    if options.genotype:
        remark_on_stem(source.architecture.stem, data.image_shape)
    require_validation(options, len(data.validation))
    first = devices.host() == 0
    begins = not begun_as(Path(options.directory) / "head")
    unasked = begins and options.head_views is None and views and recipe.varies
    teller = Told(data, options.directory if first else None, [ONE_VIEW] * bool(unasked))
    with epoch_progress("finetune", lambda: _ends(options, phases)[-1]) as progress, named(model_or_name="model"):
        model = fine_tune(
            source,
            data.train,
            data.validation,
            data.class_names,
            weights="auto" if trained else "none",
            recipe=recipe,
            class_weights=None if options.class_weights == "none" else options.class_weights,
            seed=options.seed,
            directory=options.directory,
            tensorboard=options.tensorboard,
            checkpoint_every=options.checkpoint_every,
            callbacks=[progress, teller.callback()],
            dtype=options.dtype,
            grey_range=data.grey_range,
            devices=options.devices,
            remat=options.remat,
            mixing=options.mixing,
            head_views=views,
            progress=progress.features,
            **settings,
        )
    figures = {"directory": options.directory, "parameters": model.count_params()}
    figures |= fitting.evaluate(model, data.test, devices=options.devices)
    if first:
        rest = {"figures": {"test": figures}, "patience": settings["patience"], "words": options.words}
        write_card(options.directory, model, data, recipe, given(options, "recipe", "seed", "dtype"), **rest)
        teller.tell()
        print(f"test {judgement(figures)} on {figures['images']} images; the model is in {options.directory}")
        finish(options, figures)
    devices.leave()


def _number(text):
    """A number where the text is one; other texts are for those to judge who know the words."""
    try:
        return float(text)
    except ValueError:
        return text
