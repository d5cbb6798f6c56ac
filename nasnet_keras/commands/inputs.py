"""What the commands are given: read and checked without TensorFlow, which takes seconds to load (but `tfds:` needs it).

`read_…` takes the parsed options and returns what `run_…` is called with besides them. Data and genotypes are read
here; what only the trained network can tell, such as the names of its layers, is checked by those who load it.
"""

import os
import socket
from dataclasses import fields, replace
from pathlib import Path

from nasnet_keras.checks import check_integer, check_positive
from nasnet_keras.children.description import ChildDescription
from nasnet_keras.commands.datasets import decode, find
from nasnet_keras.commands.speech import needs
from nasnet_keras.data.images import read_image
from nasnet_keras.data.loading import open_data
from nasnet_keras.data.sources import check_source
from nasnet_keras.data.splits import check_classes
from nasnet_keras.export.folders import check_installed, check_saved_model, check_target, check_versions
from nasnet_keras.files import check_file, check_folder
from nasnet_keras.genotype import load_genotype
from nasnet_keras.program.architecture import architecture
from nasnet_keras.search.directory import compare_children, description
from nasnet_keras.search.distributed.roles import Role, current_role
from nasnet_keras.search.rules import FailurePenalty, Limits, MedianStop, Replay, SoftTarget
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.choice import make_strategy
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.trials.imported import read_imports
from nasnet_keras.search.trials.logs import check_identity, identify
from nasnet_keras.serving.address import check_address, check_name
from nasnet_keras.training import recipes
from nasnet_keras.training.resumption import check_phases, check_resumption, known_seed, training_identity
from nasnet_keras.weights.zoo import known_classes, model_file, starting_weights

CALIBRATION = 200  # images


def read_search(options):
    """The space, the description of the children, rules, settings, role, and the data, None for a worker."""
    child = ChildDescription(**_given(options, *(field.name for field in fields(ChildDescription))))
    space, rules = SearchSpace(blocks=options.blocks), _rules(options)
    settings, role = _settings(options), _role(options)
    for name, least in (("max_trials", 1), ("final_epochs", 1), ("retrain", 0), ("workers", 0)):
        check_integer(name, getattr(options, name), least)
    for name, unit in (("hours", ""), ("lease", "seconds"), ("patience", "seconds")):
        check_positive(name, getattr(options, name), unit, optional=name == "hours")
    given = {"space": space, "child": child, "rules": rules, "settings": settings, "role": role}
    size = _given(options, "repeats", "filters", "stem")
    architecture(None, **size)
    check_source(options.data)
    if role is not None and not role.is_chief:
        return {**given, "data": None}  # first it looks for its chief, which knows the rest
    if role is not None:
        check_address(role.host, role.port)
    directory = Path(options.directory).absolute()
    check_folder("directory", directory)
    strategy = make_strategy(options.controller, space, options.seed, settings)
    check_identity(directory, identify(strategy, "reward", "max", rules))
    compare_children(directory, description(child))
    if options.start_from and not (directory / "search.json").exists():
        read_imports(options.start_from, space)
    data = decode(options, find(options))
    architecture(None, **size, input_shape=data.image_shape)
    compare_children(directory, description(child, data))
    return {**given, "data": data}


def read_train(options):
    """The genotype, the recipe, the arguments of the network, and the data."""
    genotype = load_genotype(options.genotype)
    recipe = _recipe(options, "batch_size", "learning_rate", "cutout", "moving_average")
    recipes.stages(options.epochs, options.sizes)
    names = ("repeats", "filters", "stem", "drop_path", "dropout", "weight_decay", "batch_norm_momentum")
    network = _given(options, *names, "auxiliary_head")
    architecture(genotype, **network)
    check_folder("directory", options.directory)
    data = find(options)
    check_resumption(options.directory, training_identity(data, recipe, options.seed, options.sizes))
    data = decode(options, data)
    network["input_shape"] = data.image_shape if options.sizes is None else (None, None, 3)
    network |= {"classes": len(data.class_names), "class_names": data.class_names}
    architecture(genotype, **network)
    return {"genotype": genotype, "recipe": recipe, "network": network, "data": data}


def read_finetune(options):
    """The recipe, where the cells come from, the settings of the phases, and the data, not decoded yet."""
    if (options.model is None) == (options.genotype is None):
        received = "none" if options.model is None else "both"
        raise ValueError(f"either `model` or `genotype` must be given. Received: {received}")
    if options.model and Path(options.model).resolve() == Path(options.directory).resolve():
        raise ValueError(f"`directory` must be another one than the model's. Received: {options.directory!r}")
    recipe = _recipe(options, "batch_size", "learning_rate", "label_smoothing", "augmentation", "cutout")
    size = {name: value for name, value in _given(options, "repeats", "filters").items() if value is not None}
    further = _given(options, "dropout", "drop_path", "weight_decay")
    if options.genotype is not None:
        source, weights = load_genotype(options.genotype), "none" if options.weights == "auto" else options.weights
        size = {"repeats": 2, "filters": 16, **size, "stem": options.stem or "cifar"}
        architecture(source, **size, **further)
        starting_weights(source, weights)
    elif options.stem:
        raise ValueError("`stem` is for a network of a `genotype`. Received: a `model`, which has its own")
    else:
        source = options.model
        model_file(source)
        weights = starting_weights(source, options.weights, size)
        # Its own sizes are not known here: what was not given stands for any.
        architecture(None, **{"repeats": 1, "filters": 4, "stem": "cifar", **size, **further})
    settings = _given(options, "epochs", "head_epochs", "unfreeze", "rate_factor", "layer_decay")
    settings |= {"batch_norm": _number(options.batch_norm), "patience": options.patience or None}
    phases = recipes.phases(weights != "none", **settings)
    check_folder("directory", options.directory)
    data = find(options)
    check_phases(options.directory, [name for name, *_ in phases])
    for name, _, _, factor in phases:
        scaled = replace(recipe, learning_rate=recipe.learning_rate * factor)
        check_resumption(Path(options.directory) / name, training_identity(data, scaled, options.seed))
    start = {"source": source, "weights": weights, "size": size}
    return {"recipe": recipe, **start, "settings": {**settings, **further}, "data": data}


def read_evaluate(options):
    """The data, not decoded yet, because the model says in which size; and where the picture goes."""
    names, model = known_classes(options.model), Path(options.model)
    own = model / "confusion.svg" if model.is_dir() else Path(f"{model.stem}-confusion.svg")
    output = Path(options.output or own)
    check_file("output", output, ".svg")
    check_integer("limit", options.limit, least=1, optional=True)
    if options.seed is None:  # the images that the training did not see follow from its seed
        options.seed = known_seed(model) or 0
    data = find(options)
    if names:
        check_classes(names, data.class_names)
    empty = {name: getattr(data, name).select([]) for name in ("train", "validation", "test")}
    split = getattr(data, options.split)
    split = split if options.limit is None else split.take(options.limit, options.seed)
    return {"data": replace(data, **{**empty, options.split: split}), "output": output}


def read_predict(options):
    """Nothing; the images are looked at."""
    model_file(options.model)
    check_integer("top", options.top, least=1)
    for image in options.images:
        read_image(image)
    return {}


def read_export(options):
    """What is set of a SavedModel's settings, and the calibration images, not decoded yet, or None."""
    saved_model = options.format == "saved_model"
    settings = {
        name: value for name, value in _given(options, "version", "top", "image_dtype").items() if value is not None
    }
    foreign = [name for name in ("calibration", "batch") if getattr(options, name) is not None]
    for name in foreign if saved_model else settings:
        raise ValueError(f"`{name}` means nothing for the format {options.format}: leave it out")
    model_file(options.model)
    if saved_model:
        check_saved_model(options.output, **settings, label="output")
        return {"settings": settings, "calibration": None}
    check_target(options.output, options.format, options.batch, options.calibration is not None, "output")
    check_installed(options.format)
    images = open_data(options.calibration, limit=CALIBRATION) if options.calibration else None
    return {"settings": settings, "calibration": images}


def read_serve(options):
    """What requests may take."""
    with needs("serve"):
        from nasnet_keras.serving import limits
    for name, unit in (("max_pixels", "megapixels"), ("timeout", "seconds")):
        check_positive(name, getattr(options, name), unit, finite=True)
    allowed = limits.Limits(
        body=options.max_body * 2**20,
        pixels=round(options.max_pixels * 1e6),
        queue=options.max_queue,
        batch=options.max_batch,
        seconds=options.timeout,
    )
    check_versions(options.model)
    check_name(options.name or Path(options.model).resolve().name)
    check_address(options.host, options.port)
    return {"limits": allowed}


def _given(options, *names):
    return {name: getattr(options, name) for name in names}


def _recipe(options, *changes):
    return recipes.recipe(options.recipe, **_given(options, *changes))


def _number(text):
    """A number where the text is one; other texts are for those to judge who know the words."""
    try:
        return float(text)
    except ValueError:
        return text


def _settings(options):
    if options.controller != "rl":
        return None
    return ControllerSettings(
        batch_size=options.controller_batch,
        learning_rate=options.controller_rate,
        entropy_weight=options.controller_entropy,
        baseline_decay=options.controller_baseline,
    )


def _rules(options):
    rules = [] if options.no_replay else [Replay()]
    if options.max_parameters is not None or options.max_multiply_adds is not None:
        rules.append(Limits(options.max_parameters, options.max_multiply_adds))
    if options.target_parameters is not None and options.target_multiply_adds is not None:
        raise ValueError(
            "`target_parameters` must be left out where `target_multiply_adds` is given. "
            f"Received: {options.target_parameters} and {options.target_multiply_adds}"
        )
    for metric in ("parameters", "multiply_adds"):
        target = getattr(options, f"target_{metric}")
        if target is not None:
            rules.append(SoftTarget(target, metric, options.target_exponent))
    if options.median_stop:
        rules.append(MedianStop())
    if options.failure_reward is not None:
        rules.append(FailurePenalty(options.failure_reward))
    return tuple(rules)


def _role(options):
    """This process's `Role`, by the options or by KerasTuner's variables; None for a search of its own."""
    if options.workers and options.role == "worker":
        raise ValueError(f"`workers` must be left out of a worker. Received: {options.workers}")
    if options.role is None:
        return Role("chief", port=0) if options.workers else current_role()
    host, colon, port = options.address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()):
        raise ValueError(f"`address` must be HOST:PORT. Received: {options.address!r}")
    name = "chief" if options.role == "chief" else options.name or f"worker-{socket.gethostname()}-{os.getpid()}"
    if options.role == "worker" and "chief" in name:
        raise ValueError(f"`name` must not contain chief, which is KerasTuner's word for one. Received: {name!r}")
    return Role(name, host, int(port))
