"""How networks are trained, as values: recipes, and the parts of a training."""

import math
from dataclasses import dataclass, replace

from nasnet_keras.checks import (
    as_integer,
    check_integer,
    check_one_of,
    check_positive,
    check_rate,
    check_share,
    is_number,
)
from nasnet_keras.data.augmentation import check_augmentation, crops
from nasnet_keras.data.images import LONGEST_SIDE

# Keras' optimisers: the name in a recipe, and the class. Not FTRL: it sets weights anew from the sum of all gradients,
# so that trained ones are lost at the first step, and in proportion to a rate that falls to 0.
OPTIMIZERS = {
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "Nadam",
    "adamax": "Adamax",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "adafactor": "Adafactor",
    "lion": "Lion",
}
OWN_SETTINGS = ("sgd", "rmsprop")  # whose rate, momentum and epsilon are the recipe's
KERAS_RATE = 0.001  # the default learning rate of all of Keras' adaptive optimisers


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: everything but the network and the data.

    Args:
        optimizer: `"sgd"` (with momentum), `"rmsprop"` (decay 0.9, with momentum), or another name from `OPTIMIZERS`:
            Keras' optimiser with its own defaults for all but what stands here.
        learning_rate: peak learning rate.
        momentum: momentum of SGD and RMSProp.
        epsilon: RMSProp's epsilon.
        schedule: `"cosine"` to zero over all steps, or `"exponential"`: × 0.97 every 2.4 epochs.
        warmup_epochs: epochs over which the rate rises linearly from 0.
        clip_norm: limit on the global norm of the gradient, None or 0 for none.
        batch_size: images a step.
        label_smoothing: share of the target spread over all classes.
        auxiliary_weight: weight of the auxiliary head's loss, where the network has one.
        augmentation: a name from `augmentation.AUGMENTATIONS`.
        cutout: side of the square cut out of training images, 0 for none.
        moving_average: decay of the averaged weights, which are validated and are the result; None or 0 for none.
        rand_augment: magnitude of RandAugment after `augmentation`, 0 to 10, 0 for none.
        erasing: share of training images of which a rectangle is replaced by noise.
        mixup, cutmix: parameter of the beta distribution by which images are mixed in pairs, with their labels, or cut
            into each other; 0 for neither. With both, each batch is mixed in one of the two ways.
        gradient_accumulation: steps whose mean gradient makes one update: batches larger than memory holds. Batch norms
            go by each step's own batch.
        mean_square: what RMSProp's mean squares of the gradients begin with: 0 as Keras' do, or 1 as TensorFlow 1's and
            so the released code's do, whose first steps are the shorter for it.
        nesterov: whether SGD looks ahead along its momentum.
        decoupled_decay: share of each kernel that is taken off it a step, times the learning rate (AdamW's weight
            decay); None: the optimiser's own default. The L2 of the loss is the network's `weight_decay`.

    Raises:
        ValueError: naming the argument at fault.

    Examples:
        >>> from nasnet_keras import Recipe
        >>> Recipe(optimizer="adamw", learning_rate=0.001, augmentation="photo").batch_size
        32
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.025
    momentum: float = 0.9
    epsilon: float = 1.0
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    clip_norm: float | None = 5.0
    batch_size: int = 32
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.4
    augmentation: str = "none"
    cutout: int = 0
    moving_average: float | None = None
    rand_augment: float = 0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    gradient_accumulation: int = 1
    mean_square: float = 0.0
    decoupled_decay: float | None = None
    nesterov: bool = False

    def __post_init__(self):
        for label in ("clip_norm", "moving_average"):
            if getattr(self, label) == 0:  # as a change of a recipe says it, where None is no change
                object.__setattr__(self, label, None)
        check_positive("learning_rate", self.learning_rate, finite=True)
        check_positive("epsilon", self.epsilon, finite=True)
        check_positive("clip_norm", self.clip_norm, optional=True, finite=True)
        check_rate("momentum", self.momentum)
        check_rate("label_smoothing", self.label_smoothing)
        for label in ("warmup_epochs", "auxiliary_weight"):
            value = getattr(self, label)
            if not is_number(value) or not 0 <= value < math.inf:
                raise ValueError(f"`{label}` must be a finite number from 0. Received: {value!r}")
        for name in ("batch_size", "gradient_accumulation", "cutout"):
            object.__setattr__(self, name, as_integer(getattr(self, name)))
        check_integer("batch_size", self.batch_size, least=1)
        check_augmentation(self.augmentation, self.cutout, self.rand_augment)
        for label in ("erasing", "mixup", "cutmix"):
            check_share(label, getattr(self, label))
        average = self.moving_average
        if average is not None and not (is_number(average) and 0 < average < 1):
            raise ValueError(f"`moving_average` must be from 0 to below 1. Received: {average!r}")
        check_integer("gradient_accumulation", self.gradient_accumulation, least=1)
        check_one_of("optimizer", self.optimizer, OPTIMIZERS)
        check_one_of("mean_square", self.mean_square, (0, 1))
        check_rate("decoupled_decay", self.decoupled_decay, optional=True)
        for name in ("momentum", "epsilon"):
            value = getattr(self, name)
            if self.optimizer not in OWN_SETTINGS and value != getattr(type(self), name):
                raise ValueError(f"`{name}` is for {' and '.join(OWN_SETTINGS)}. Received: {value!r}, {self.optimizer}")
        if self.mean_square and self.optimizer != "rmsprop":
            raise ValueError(f"`mean_square` is for rmsprop. Received: {self.mean_square!r}, {self.optimizer}")
        check_one_of("nesterov", self.nesterov, (False, True))
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"`nesterov` is for sgd. Received: {self.nesterov!r}, {self.optimizer}")
        check_one_of("schedule", self.schedule, ("cosine", "exponential"))

    @property
    def is_plain(self):
        """Whether it is plain gradient descent, which is all that the children of a search know."""
        plain = self.optimizer == "sgd" and self.schedule == "cosine"
        plain = plain and self.gradient_accumulation == 1 and not self.decoupled_decay
        return plain and not (self.warmup_epochs or self.label_smoothing or self.moving_average or self.mixes)

    @property
    def mixes(self):
        """Whether images are mixed in pairs, so that an image has several labels."""
        return bool(self.mixup or self.cutmix)

    @property
    def varies(self):
        """Whether an image is another one in each epoch."""
        return bool(self.augmentation != "none" or self.cutout or self.rand_augment or self.erasing or self.mixes)

    @property
    def crops(self):
        """Whether training images are cropped, which is done to all of a file's pixels."""
        return crops(self.augmentation)


# `cifar` and `imagenet` are the paper's (appendix A.1, A.6 and the released code); `scans` suits small
# grey images such as the embedded digits, `photos` natural photographs when a network is fine-tuned; `micro` is for
# children that see a few dozen batches, `short` for small networks on CIFAR-10 and a few dozen epochs.
RECIPES = {
    "micro": Recipe(learning_rate=0.05),
    "scans": Recipe(learning_rate=0.05, augmentation="digits"),
    "photos": Recipe(learning_rate=0.05, label_smoothing=0.1, augmentation="photo"),
    "cifar": Recipe(augmentation="cifar", cutout=16),
    "short": Recipe(learning_rate=0.1, batch_size=128, augmentation="shifts"),
    "imagenet": Recipe(
        optimizer="rmsprop",
        learning_rate=0.04,
        mean_square=1.0,
        schedule="exponential",
        warmup_epochs=5.0,
        clip_norm=10.0,
        label_smoothing=0.1,
        augmentation="photo",
        moving_average=0.9999,
    ),
}


def recipe(name, **changes):
    """A `Recipe` by name, with some of its fields changed; a change to None is no change, and 0 is for none.

    With one of Keras' adaptive optimisers the learning rate is Keras' own default, 0.001, unless it is given: the
    recipes' are for SGD and RMSProp.

    Raises:
        ValueError: an unknown name.
    """
    check_one_of("recipe", name, RECIPES)
    changes = {key: value for key, value in changes.items() if value is not None}
    optimizer = changes.get("optimizer", RECIPES[name].optimizer)
    if optimizer not in OWN_SETTINGS:
        changes = {"learning_rate": KERAS_RATE, **changes}
    if optimizer != "rmsprop":
        changes = {"mean_square": 0.0, **changes}
    return replace(RECIPES[name], **changes)


def stages(epochs, sizes=None, first=0):
    """The parts of a training in which images have different sizes.

    Args:
        epochs: epochs in all.
        sizes: sizes in pixels, each for an equal part of the epochs; None leaves images as they are.
        first: epochs that another training has done before, which count among `epochs`.

    Returns:
        A list of (its last epoch, image size or None).

    Raises:
        ValueError: no epochs, a size of no pixels, or more sizes than epochs.
    """
    check_integer("epochs", epochs, least=first + 1)
    if sizes is None:
        return [(epochs, None)]
    fit = all(type(size) is int and 1 <= size <= LONGEST_SIDE for size in sizes)
    if not fit or not len(sizes):
        raise ValueError(f"`sizes` must be None or numbers of pixels from 1 to {LONGEST_SIDE}. Received: {sizes!r}")
    if len(sizes) > epochs - first:
        rule = f"no more than there are epochs, here {epochs - first}: each size has an equal part of them"
        raise ValueError(f"`sizes` must be {rule}. Received: {sizes!r}")
    count = len(sizes)
    return [(first + (epochs - first) * (index + 1) // count, size) for index, size in enumerate(sizes)]


def phases(
    trained, epochs, *, head_epochs=None, unfreeze="all", rate_factor=0.3, layer_decay=1.0, batch_norm=0.9, patience=5
):
    """The phases of a fine-tuning.

    Args:
        trained: whether the network begins with trained weights.
        epochs, head_epochs, …: as for `transfer.fine_tune`.

    Returns:
        A list of (name, its last epoch, the lowest layer that learns, factor on the learning rate); the layer is
        `"all"`, `"head"`, or the name of one.

    Raises:
        ValueError: naming the argument at fault.
    """
    check_integer("epochs", epochs, least=1)
    check_integer("patience", patience, least=1, optional=True)
    for label, value in (("rate_factor", rate_factor), ("layer_decay", layer_decay)):
        if not is_number(value) or not 0 < value <= 1:
            raise ValueError(f"`{label}` must be above 0 and at most 1. Received: {value!r}")
    if batch_norm not in (None, "frozen") and not (is_number(batch_norm) and 0 <= batch_norm < 1):
        raise ValueError(f"`batch_norm` must be a momentum from 0 to below 1, or 'frozen'. Received: {batch_norm!r}")
    if not trained:
        if head_epochs or unfreeze != "all" or rate_factor != 0.3 or batch_norm == "frozen":
            options = "`head_epochs`, `unfreeze`, `rate_factor` and a frozen `batch_norm`"
            raise ValueError(f"{options} need trained weights. Received: none")
        return [("all", epochs, "all", 1.0)]
    if head_epochs is None:
        head_epochs = epochs if unfreeze == "head" else max(1, round(epochs / 4))
    check_integer("head_epochs", head_epochs, most=epochs)
    second = head_epochs < epochs
    unused = [] if second else [("unfreeze", unfreeze, ("all", "head")), ("rate_factor", rate_factor, (0.3,))]
    for label, value, usual in unused:
        if value not in usual:
            rule = f"is for epochs in which the cells learn, and all {epochs} are the head's: leave it out"
            more = "" if unfreeze == "head" else ", or give more `epochs`"
            raise ValueError(f"`{label}` {rule}{more}. Received: {value!r}")
    first = [("head", head_epochs, "head", 1.0)] * bool(head_epochs)
    return first + [("cells", epochs, unfreeze, rate_factor)] * second


def remarks_on(plan, unfreeze="all", layer_decay=1.0, batch_norm=0.9, drop_path=0.0, remat=False):
    """What of a fine-tuning does not take place, or not yet, a line each.

    Args:
        plan: what `phases` gives.
        unfreeze, layer_decay, batch_norm: as for `transfer.fine_tune`.
        drop_path: that of the network.
        remat: as for `transfer.fine_tune`.
    """
    name, epochs, *_ = plan[-1]
    lines = []
    if name == "head" and unfreeze != "head":
        lines.append(f"the cells do not learn: all {epochs} epochs are the head's")
    if any(lowest != "head" for _, _, lowest, _ in plan):
        return lines
    if drop_path:
        lines.append(f"`drop_path` {drop_path:g} is not used: cells that do not learn drop no paths")
    # They may stand there for a second phase, which goes on in the same directory.
    cells = (("layer_decay", layer_decay, 1), ("batch_norm", batch_norm, 0.9), ("remat", remat, False))
    for label, value, usual in cells:
        if value != usual:
            lines.append(f"`{label}` {value} is not used: it is for cells that learn")
    return lines


def shares(hours, phases):
    """The hours of each phase of a fine-tuning: of two the first one has a quarter. None each, where `hours` is."""
    parts = (1.0,) if len(phases) == 1 else (0.25, 0.75)
    return [None if hours is None else part * hours for part in parts]


def check_head_views(views, plan, recipe, auxiliary_head=False, devices=None, hours=None):
    """Raise `ValueError` unless a fine-tuning's head may learn from features that are computed once.

    Args:
        views: how many views of each image; None for none.
        plan: what `phases` gives.
        recipe: a `Recipe`.
        auxiliary_head, devices, hours: as for `transfer.fine_tune`.
    """
    check_integer("head_views", views, least=1, optional=True)
    if views is None:
        return
    reasons = {
        "a phase of the head alone: trained weights, and `head_epochs` above 0": plan[0][0] == "head",
        "`mixup` and `cutmix` to be 0: what is mixed is another image each time": not recipe.mixes,
        "`auxiliary_head` to be False: that head reads whole maps": not auxiliary_head,
        "`devices` to be left out: one computes the features": devices in (None, 1),
        "`hours` to be left out: its first epoch does not tell how long others take": hours is None,
    }
    for rule, holds in reasons.items():
        if not holds:
            raise ValueError(f"`head_views` needs {rule}. Received: {views!r}")


def check_hours(hours, sizes=None):
    """Raise `ValueError` unless `hours` may decide on the epochs of a training with images of these sizes."""
    check_positive("hours", hours, optional=True, finite=True)
    if hours is not None and sizes is not None:
        raise ValueError(
            f"`sizes` must be None with `hours`: they divide epochs that are not known. Received: {sizes!r}"
        )


def check_devices(value, batch_size=None, images=None):
    """Raise unless `devices` is None, `"all"` or a number that divides the batch, if its size is given.

    Fewer `images` than that, if their number is given, are one batch.
    """
    if value is None or value == "all":
        return
    if type(value) is not int or value < 1:
        raise ValueError(f"`devices` must be None, 'all' or an integer from 1. Received: {value!r}")
    batch = batch_size if images is None else min(batch_size, images)
    if batch is not None and batch % value:
        most = "" if batch == batch_size else f" up to {images}, the number of images for training"
        raise ValueError(f"`batch_size` must be a multiple of the {value} `devices`{most}. Received: {batch_size}")


def check_updates(recipe, steps, epochs):
    """Raise `ValueError` if a training of so many steps an epoch ends before gradients have made an update."""
    if recipe.gradient_accumulation > steps * epochs:
        rule = f"at most {steps * epochs:,}, the steps of this training (or of a phase of it)"
        raise ValueError(f"`gradient_accumulation` must be {rule}. Received: {recipe.gradient_accumulation:,}")


def remarks(recipe, steps, epochs, architecture=None):
    """What does not have its effect in a training of so many steps, a line each.

    Args:
        recipe: a `Recipe`.
        steps: of an epoch.
        epochs: of the training.
        architecture: an `Architecture`, or None.
    """
    lines, total = [], steps * epochs
    if left := total % recipe.gradient_accumulation:
        lines.append(
            f"the last {left:,} of {total:,} steps make no update: `gradient_accumulation` is "
            f"{recipe.gradient_accumulation:,}"
        )
    if recipe.warmup_epochs >= epochs:
        lines.append(
            f"the learning rate rises over {recipe.warmup_epochs:g} epochs, and the training has {epochs}: it does not "
            "come to its peak"
        )
    decays = [("moving_average", recipe.moving_average, recipe.gradient_accumulation, 0)]  # it moves with each update
    if architecture is not None:  # statistics of a short trial are of no interest
        decays.append(("batch_norm_momentum", architecture.batch_norm_momentum, 1, 100))
    for name, decay, every, least in decays:
        if decay and (reach := every / (1 - decay)) > max(total, least):
            lines.append(
                f"a `{name}` of {decay:g} averages over some {reach:,.0f} steps, and the training has {total:,}: "
                "what it began with still counts at the end"
            )
    return lines
