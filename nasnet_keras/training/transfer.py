"""Fine-tuning: a trained network's cells under a new classifier.

First the new head learns on top of cells that stand still, then the cells from a chosen one upwards
learn too, at a lower rate.
"""

import hashlib
import logging
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras

from nasnet_keras.checks import as_integer
from nasnet_keras.data.arrays import UNSAID, data_of_parts, in_one_order, read_as
from nasnet_keras.data.records import write_record
from nasnet_keras.files import alone_in, expanded
from nasnet_keras.models.answers import output_kind
from nasnet_keras.models.applications import FACTORIES, load_model
from nasnet_keras.models.network import NASNet
from nasnet_keras.models.seeds import drawn_from
from nasnet_keras.training import devices as several
from nasnet_keras.training import features, fitting, recipes
from nasnet_keras.training.card import write_card
from nasnet_keras.training.identity import (
    PHASES,
    VIEWS,
    check_place,
    check_resumption,
    is_used,
    known_as_they_are,
    passed,
    settled_head_epochs,
)
from nasnet_keras.training.recipes import check_head_views, check_hours, phases, remarks_on, shares
from nasnet_keras.weights import index as weight_index
from nasnet_keras.weights import loading as weight_files
from nasnet_keras.weights.keras_files import layers_in
from nasnet_keras.weights.loading import HEADS, copy_cells, network_in, parts, tell_of_others
from nasnet_keras.weights.zoo import paths_of, saved_kinds, starting_weights, tell_of_namesake, zoo_name

logger = logging.getLogger(__name__)

# The arguments of a network that make it a classifier.
HEAD = {"include_top": True, "pooling": None, "feature_pyramid": False}


def fine_tune(
    model_or_name,
    train,
    validation,
    classes,
    *,
    weights="auto",
    recipe="photos",
    epochs=10,
    head_epochs=None,
    unfreeze="all",
    rate_factor=0.3,
    layer_decay=1.0,
    batch_norm=0.9,
    class_weights=None,
    patience=5,
    seed=0,
    directory=None,
    tensorboard=False,
    callbacks=(),
    checkpoint_every=None,
    hours=None,
    devices=None,
    remat=False,
    mixing="processor",
    head_views=None,
    progress=None,
    **options,
):
    """Train a network on classes of one's own, starting from what another one has learnt.

    Phase one trains the new classifier alone: the cells are a fixed function, none of their weights or
    statistics moves. Phase two trains the cells from `unfreeze` upwards as well, at `rate_factor` times
    the rate. Without trained weights there is a single phase, in which everything learns at the full rate.

    Args:
        model_or_name: a `NASNet`, the name of a factory such as `"NASNetMobile"`, a directory that `train` or
            `fine_tune` wrote, or a `.keras` file. What goes on in a `directory` must begin with the same weights.
        train: a `Split`; a pair of images [n, height, width, channels] in 0–255 and labels, integers [n] or 0 and 1
            [n, classes] (classes, if each row has one 1, else several labels an image); a `tf.data.Dataset`, a Keras
            `PyDataset`, or whatever has `len` and `[i]` for (image, label), see `objects.read_object_data`. The network
            is built for images of this size and number of channels; from weights for three it gets the first kernel
            summed (one channel), or repeated and scaled by 3 / n.
        validation: likewise; what early stopping looks at. None: none, and all epochs.
        classes: a name for each label; or their number, and the data's own names are the model's, if they have any.
        weights: `"auto"`, the model's own or the factory's default; a name of the index such as `"imagenet"`;
            `"none"`, to start from scratch; or a file or model directory that fits the cells.
        recipe: a name from `recipes.RECIPES` or a `Recipe`: `"photos"` for natural photographs (crops, mirror
            images, colours), `"scans"` for scans and writing (small shifts).
        epochs: epochs of both phases together.
        head_epochs: epochs of phase one; None for a quarter, at least one.
        unfreeze: `"all"`, `"head"` for no phase two, or the lowest layer that learns in it: `"stem"`,
            `"stem_cell_0"`, `"cell_3"`, `"reduction_cell_1"`, …
        rate_factor: phase two's learning rate as a share of phase one's.
        layer_decay: in phase two, each cell's rate as a share of that of the cell above it.
        batch_norm: how batch norms behave in cells that learn: a momentum, and they learn from the batch (0.9
            follows new images within some 30 steps, the released 0.9997 within ten thousand), or
            `"frozen"`, and they go by the statistics that they have; `batch_norm_momentum` is for this alone.
        class_weights: None, `"balanced"` for folders of unequal size, or a factor for each class, in an array or by its
            number or name in a mapping; of several labels an image, for the loss where it has the label.
        patience: a phase ends after this many epochs without a better validation accuracy (of several labels an image,
            a lower validation loss), and goes back to its best epoch. None: all epochs, and the last one counts.
        seed: seed of the head's weights, the order of images, augmentation and dropout.
        directory: where the model goes, with the state from which the same call goes on after an
            interruption, also for more epochs: what was trained stays, and they go to the last phase. Beside the model
            lie a card, `README.md`, and its learning curves. None for nowhere.
        tensorboard: whether to write logs for TensorBoard into `directory/tensorboard`.
        callbacks: further Keras callbacks. Epochs are counted through both phases.
        checkpoint_every: steps after which the state is kept within an epoch, too.
        hours: how long the training may take, as for `fitting.fit`: of two phases a quarter is the first one's, and the
            epochs of each are settled after the first of it, `epochs` and `head_epochs` at most.
        devices: how many devices share each batch, or `"all"`; None: one. As for `fitting.fit`.
        remat: whether cells that learn keep less in memory and take longer, as for `fitting.fit`.
        mixing: where images are erased and mixed, as for `Batches`.
        head_views: None, or how many views of each training image the head learns from in phase one. Cells that stand
            still make the same of the same view, so it is computed once and kept on disk, in `directory`, until the
            phase is over; see `features`. One view without augmentation, or as many as epochs, change nothing.
        progress: None, or a function called with the number of views that are computed, and of all that are missing.
        **options: further arguments of `NASNet`: `dropout`, `drop_path`, `weight_decay`, `dtype` (for example
            `"mixed_bfloat16"`), `classifier_activation` (softmax, sigmoid, or None for logits: the loss follows), …;
            for a factory also `repeats` and `filters`.

    Returns:
        A `NASNet` that knows its `class_names` and expects images as `preprocess_input` gives them. Of several labels
        an image it ends in sigmoid, and has the `thresholds` of the best F1 of each label on the validation images,
        unless they are given.

    Raises:
        ValueError: naming the argument at fault, or another training is at work in `directory`.
        FloatingPointError: the loss is not finite; with a lower rate the same call goes on before that.
        OSError: `directory` is full; the state of the epoch before stays.

    Examples:
        >>> import numpy as np
        >>> from nasnet_keras import NASNet, fine_tune
        >>> images, labels = np.zeros((32, 8, 8, 3), "uint8"), np.arange(32) % 2
        >>> base = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3))  # or "NASNetMobile"
        >>> fine_tune(base, (images, labels), None, ["cat", "dog"], unfreeze="head", epochs=1).class_names
        ('cat', 'dog')
    """
    epochs, head_epochs, patience, seed, head_views = map(as_integer, (epochs, head_epochs, patience, seed, head_views))
    directory = None if directory is None else Path(expanded(directory))
    check_place(directory, PHASES, paths_of(model_or_name, weights))  # before anything is read
    data = data_of_parts(train, validation, classes, options.get("grey_range", UNSAID))
    # An earlier version kept the order in which a data set came.
    known, sources = known_as_they_are(directory, data), {"train": train, "validation": validation}
    data = in_one_order(data, {part: source for part, source in sources.items() if part not in known})
    validation = validation if len(data.validation) else None
    for name in ("include_top", "pooling", "feature_pyramid"):
        if options.get(name, HEAD[name]) != HEAD[name]:
            raise ValueError(f"`{name}` must be left out: the network gets a classifier. Received: {options[name]!r}")
    settings = {"recipe": recipe} if isinstance(recipe, str) else {}
    settings["seed"] = seed
    if dtype := options.get("dtype"):
        settings["dtype"] = getattr(dtype, "name", dtype)
    recipe = recipes.recipe(recipe) if isinstance(recipe, str) else recipe
    check_hours(hours)
    if tensorboard and directory is None:
        raise ValueError("`tensorboard` needs a `directory`. Received: None")
    with drawn_from(seed):
        source, trained = load_source(model_or_name, weights, **_architecture(options))
        if trained:
            head_epochs = settled_head_epochs(directory, epochs, head_epochs, unfreeze, hours)
        plan = phases(
            trained,
            epochs,
            head_epochs=head_epochs,
            unfreeze=unfreeze,
            rate_factor=rate_factor,
            layer_decay=layer_decay,
            batch_norm=batch_norm,
            patience=None if validation is None else patience,
        )
        number = "all" if several.hosts() > 1 else devices
        over = passed(directory, [name for name, *_ in plan])
        views = None if "head" in over else head_views  # of a phase that is over nothing is computed any more
        check_head_views(views, plan, recipe, options.get("auxiliary_head", False), number, hours)
        check_place(directory, [name for name, *_ in plan])
        if hours is None:
            _check_updates(recipe, data, [last for name, last, *_ in plan], len(over))
        model = with_new_head(source, data, batch_norm=batch_norm, **options)
        start = None if directory is None or not trained else _digest(source)
    recomputed = bool(remat) and not model.architecture.auxiliary_head  # a head that learns in any case
    for line in remarks_on(plan, unfreeze, layer_decay, batch_norm, model.architecture.drop_path, recomputed):
        logger.warning(line)
    if trained:
        # The usual random head is drawn for many classes: with few of them its first gradients would be huge.
        head = model.get_layer("logits")
        head.set_weights([0.0 * value for value in head.get_weights()])
    _upwards(model, unfreeze)  # a name that there is not is refused before anything is trained
    activation = "classifier_activation" if "classifier_activation" in options else "model_or_name"
    if output_kind(model, label=activation) != "sigmoid" and data.several:  # likewise
        raise ValueError(f"`{activation}` must be sigmoid where an image may have several labels")
    first_host = several.host() == 0
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    with several.only_first(nullcontext() if directory is None else alone_in("directory", directory)):
        if first_host and directory is not None and not is_used(directory):  # else it is there, or an old rule holds
            write_record(directory, data)
        first = 0
        for (phase, last, lowest, factor), share in zip(plan, shares(hours, plan), strict=True):
            place = None if directory is None else directory / phase
            if phase in over:
                check_resumption(place, {VIEWS: head_views})
                features.clear(place)
                first = last
                continue  # it is over, and the next one has its own state
            _freeze(model, _upwards(model, lowest), batch_norm == "frozen" and trained)
            logs = [_tensorboard(directory, phase)] if tensorboard and first_host else []
            fit = fitting.fit
            if head_views and phase == "head":
                fit = partial(features.fit_head, views=head_views, progress=progress)
            history = fit(
                model,
                data,
                replace(recipe, learning_rate=recipe.learning_rate * factor),
                epochs=last,
                first=first,
                seed=seed,
                directory=place,
                callbacks=[*callbacks, *logs],
                validate=validation is not None,
                patience=None if validation is None else patience,
                class_weights=class_weights,
                rates=None if layer_decay == 1 or lowest == "head" else _rates(model, layer_decay),
                checkpoint_every=checkpoint_every,
                hours=share,
                devices=devices,
                remat=remat,
                mixing=mixing,
                start=start,
            )
            first = last if hours is None else first + len(history)
        _freeze(model, parts(model), False)
        if data.several and options.get("thresholds") is None:
            model.thresholds = fitting.chosen_thresholds(model, data.validation)
        if first_host and directory is not None:
            fitting.save_model(model, directory)
            write_card(directory, model, data, recipe, settings, patience=None if validation is None else patience)
    return model


def _check_updates(recipe, data, ends, over):
    """Raise `ValueError` where a phase is too short for an update; so many are over."""
    steps = len(fitting.training_batches(data, recipe, 0))
    for first, last in list(zip([0, *ends], ends, strict=False))[over:]:
        recipes.check_updates(recipe, steps, last - first)


def _architecture(options):
    """Takes out of `options` what only makes sense when a factory builds the network."""
    return {
        name: options.pop(name)
        for name in ("repeats", "filters", "penultimate_filters", "stem_filters", "skip_reduction")
        if name in options
    }


def _upwards(model, lowest):
    """The layers that learn, from the lowest one upwards."""
    layers = parts(model)
    names = [layer.name for layer in layers if layer.name not in HEADS]
    if lowest not in ("all", "head", *names):
        raise ValueError(f"`unfreeze` must be all, head, or one of {', '.join(names)}. Received: {lowest!r}")
    return layers[0 if lowest == "all" else len(names) if lowest == "head" else names.index(lowest) :]


def _freeze(model, learning, frozen_statistics):
    """Let only some layers learn; batch norms of theirs may keep their statistics."""
    for layer in parts(model):
        layer.trainable = layer in learning
        if layer.name not in HEADS:
            layer.frozen_statistics = frozen_statistics


def _digest(source):
    """What a network's cells are known by, their weights and statistics."""
    digest = hashlib.blake2b(digest_size=16)
    for weight in (weight for layer in parts(source) if layer.name not in HEADS for weight in layer.weights):
        digest.update(keras.ops.convert_to_numpy(weight).tobytes())
    return digest.hexdigest()


def _rates(model, decay):
    """A factor on the learning rate of each trainable weight: 1 for the head, less the deeper its layer lies."""
    layers = [layer for layer in parts(model) if layer.name not in HEADS]
    depths = {id(weight): len(layers) - place for place, layer in enumerate(layers) for weight in layer.weights}
    return [decay ** depths.get(id(weight), 0) for weight in model.trainable_variables]


def _tensorboard(directory, phase):
    return keras.callbacks.TensorBoard(str(Path(directory) / "tensorboard" / phase), write_graph=False)


def load_source(model_or_name, weights="auto", **architecture):
    """A network whose cells are to be used again.

    Args:
        model_or_name, weights: as for `fine_tune`.
        **architecture: `repeats`, `filters` and the like, for a factory.

    Returns:
        (a `NASNet`, whether its weights are trained ones).

    Raises:
        ValueError: naming the argument at fault.
    """
    weights = starting_weights(model_or_name, weights, architecture)
    file = None if isinstance(weights, str) and not weight_index.is_file(weights) else weights
    if zoo_name(model_or_name):
        tell_of_namesake(model_or_name)
        name = None if file is not None or weights == "none" else weights
        kinds = {} if file is None else saved_kinds(file)  # as it was trained
        source = FACTORIES[model_or_name](weights=name, include_top=False, **architecture, **kinds)
    else:
        source = model_or_name if isinstance(model_or_name, keras.Model) else load_model(model_or_name)
        given = source.name
        if not isinstance(source, NASNet):
            source, others = network_in(source)
            tell_of_others(given, others if isinstance(source, NASNet) else ())
        if not isinstance(source, NASNet) or not source.stands_alone:
            rule = "a NASNet on an input of its own, or hold one; as `weights` of a factory's a file of it will do, too"
            raise ValueError(f"`model_or_name` must be {rule}. Received: {given!r}")
        if weights != "auto":
            source = source.alike(include_top=False, auxiliary_head=False, feature_pyramid=False)
    if file is not None:
        _fill(source, file)
    return source, weights != "none"


def with_new_head(source, data, *, batch_norm=0.9, **options):
    """A network with the cells of another one, weights included, and a new classifier.

    Args:
        source: a `NASNet`.
        data: a `Data`; it says which classes there are, and how large images are.
        batch_norm: momentum of batch norms; `"frozen"` or None for the old one's.
        **options: other arguments of `NASNet` that change; `batch_norm_momentum` only where `batch_norm` says none.

    Raises:
        ValueError: naming the argument at fault.
    """
    if batch_norm not in (None, "frozen"):
        if (given := options.get("batch_norm_momentum")) is not None:
            raise ValueError(f"`batch_norm_momentum` must be left out: `batch_norm` says it. Received: {given!r}")
        options["batch_norm_momentum"] = batch_norm
    head = {
        "input_shape": data.image_shape,
        **HEAD,
        "auxiliary_head": False,
        "include_preprocessing": False,
        "classifier_activation": "sigmoid" if data.several else "softmax",
        "thresholds": None,
        "classes": len(data.class_names),
        "class_names": data.class_names,
        "grey_range": read_as(data.train, source.grey_range),
    }
    model = source.alike(**{**head, **options})
    copy_cells(source, model, free=("bounded_activations", "pooling_compatibility"))  # to which what learns on adapts
    return model


def _fill(source, file):
    path = Path(expanded(file))
    if path.is_dir() or (path.suffix == ".keras" and "stem_conv1" not in layers_in(path)):
        network, others = network_in(load_model(path))
        copy_cells(network, source)
        tell_of_others(path, others)
    else:
        weight_files.load(source, path)
