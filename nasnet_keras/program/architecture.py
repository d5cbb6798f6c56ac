"""What describes a network beside its genotype, checked and completed: sizes, stacks, what a stem implies."""

from dataclasses import dataclass

from nasnet_keras.program.options import Options

# What a stem implies: the default image side, and batch norm's momentum and epsilon.
STEMS = {"imagenet": (224, 0.9997, 1e-3), "cifar": (32, 0.9, 1e-5)}


@dataclass(frozen=True)
class Architecture:
    """The arguments of a network with nothing left open.

    Args:
        stacks: Normal cells in each stack.
        filters: F of the first stack.
        input_shape: (height, width, channels), None for any height or width.
        options: what all layers share.
    """

    stacks: tuple[int, ...]
    filters: int
    input_shape: tuple
    options: Options


def architecture(
    genotype,
    *,
    repeats,
    filters=None,
    penultimate_filters=None,
    stem="imagenet",
    stem_filters=None,
    input_shape=None,
    include_top=True,
    classes=1000,
    pooling=None,
    dropout=0.0,
    drop_path=0.0,
    auxiliary_head=False,
    feature_pyramid=False,
    batch_norm_momentum=None,
    batch_norm_epsilon=None,
    weight_decay=0.0,
    bounded_activations=False,
    pooling_compatibility=None,
    class_names=None,
    **others,
):
    """The `Architecture` that arguments of `network.NASNet` describe.

    Args:
        genotype: a `Genotype`.
        repeats, filters, …: as for `NASNet`; `others` are those of which nothing follows.

    Raises:
        ValueError: naming the first argument that makes no sense.
    """
    given = locals()

    def require(name, rule, fine):
        if not fine:
            raise ValueError(f"`{name}` must be {rule}. Received: {given[name]!r}")

    many = isinstance(repeats, list | tuple) and len(repeats) and all(_whole(count, 1) for count in repeats)
    require("repeats", "an integer above 0, or a tuple of them, one for each stack", _whole(repeats, 1) or many)
    stacks = tuple(repeats) if many else (repeats,) * 3
    if (filters is None) == (penultimate_filters is None):
        raise ValueError("either `filters` or `penultimate_filters` must be given. Received: both or none")
    for name in ("penultimate_filters", "stem_filters"):
        require(name, "an integer above 0", given[name] is None or _whole(given[name], 1))
    require("stem", f"one of {', '.join(STEMS)}", stem in STEMS)
    side, momentum, epsilon = STEMS[stem]
    least = 32 if stem == "imagenet" else 1
    if input_shape is not None:
        sizes = isinstance(input_shape, list | tuple) and len(input_shape) == 3 and _whole(input_shape[2], 1)
        sizes = sizes and all(length is None or _whole(length, least) for length in input_shape[:2])
        require("input_shape", f"(height, width, channels) with sizes from {least}, or None for any size", sizes)
    require("classes", "an integer above 0", _whole(classes, 1))
    require("class_names", f"None or {classes} names", class_names is None or len(class_names) == classes)
    require("pooling", "None, 'avg' or 'max'", pooling in (None, "avg", "max"))
    for name in ("dropout", "drop_path"):
        require(name, "a rate in [0, 1)", isinstance(given[name], int | float) and 0 <= given[name] < 1)
    fits = include_top and not feature_pyramid and len(stacks) > 1
    rule = "False without `include_top`, with `feature_pyramid`, and with a single stack"
    require("auxiliary_head", rule, fits or not auxiliary_head)
    options = Options(
        batch_norm_momentum=momentum if batch_norm_momentum is None else batch_norm_momentum,
        batch_norm_epsilon=epsilon if batch_norm_epsilon is None else batch_norm_epsilon,
        weight_decay=weight_decay,
        bounded_activations=bounded_activations,
        pooling_compatibility=pooling_compatibility,
    )
    filters = _first_filters(filters, penultimate_filters, len(stacks), genotype, stem)
    shape = (side, side, 3) if input_shape is None else tuple(input_shape)
    return Architecture(stacks, filters, shape, options)


def _first_filters(filters, penultimate_filters, stacks, genotype, stem):
    if penultimate_filters is not None:
        last = len(genotype.normal.concat) * 2 ** (stacks - 1)
        if penultimate_filters % last:
            raise ValueError(
                f"`penultimate_filters` must be a multiple of {last}: 2^(stacks - 1) times the number of states "
                f"that the normal cell concatenates. Received: {penultimate_filters}"
            )
        filters = penultimate_filters // last
    least = 4 if stem == "imagenet" else 1
    if not _whole(filters, least):
        raise ValueError(f"`filters` must be an integer from {least} with the {stem} stem. Received: {filters!r}")
    return filters


def _whole(value, least):
    return type(value) is int and value >= least
