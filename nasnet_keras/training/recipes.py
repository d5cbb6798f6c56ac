"""How networks are trained, as values: recipes, and the parts of a training."""

import math
from dataclasses import dataclass, replace

from nasnet_keras.checks import check_integer, check_one_of, check_positive, check_rate, check_share, is_number
from nasnet_keras.data.augmentation import check_augmentation, crops
from nasnet_keras.data.images import LONGEST_SIDE


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: everything but the network and the data.

    Args:
        optimizer: `"sgd"` (with momentum) or `"rmsprop"` (decay 0.9, with momentum).
        learning_rate: peak learning rate.
        momentum: momentum of either optimiser.
        epsilon: RMSProp's epsilon.
        schedule: `"cosine"` to zero over all steps, or `"exponential"`: × 0.97 every 2.4 epochs.
        warmup_epochs: epochs over which the rate rises linearly from 0.
        clip_norm: limit on the global norm of the gradient, None for none.
        batch_size: images a step.
        label_smoothing: share of the target spread over all classes.
        auxiliary_weight: weight of the auxiliary head's loss, where the network has one.
        augmentation: a name from `augmentation.AUGMENTATIONS`.
        cutout: side of the square cut out of training images, 0 for none.
        moving_average: decay of the averaged weights used for evaluation, None for none.
        rand_augment: magnitude of RandAugment after `augmentation`, 0 to 10, 0 for none.
        erasing: share of training images of which a rectangle is replaced by noise.
        mixup, cutmix: parameter of the beta distribution by which images are mixed in pairs, with their labels, or cut
            into each other; 0 for neither. With both, each batch is mixed in one of the two ways.

    Raises:
        ValueError: naming the argument at fault.
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

    def __post_init__(self):
        check_positive("learning_rate", self.learning_rate, finite=True)
        check_positive("epsilon", self.epsilon, finite=True)
        check_positive("clip_norm", self.clip_norm, optional=True)
        check_rate("momentum", self.momentum)
        check_rate("label_smoothing", self.label_smoothing)
        if not is_number(self.warmup_epochs) or not 0 <= self.warmup_epochs < math.inf:
            raise ValueError(f"`warmup_epochs` must be a number from 0. Received: {self.warmup_epochs!r}")
        check_integer("batch_size", self.batch_size, least=1)
        check_augmentation(self.augmentation, self.cutout, self.rand_augment)
        for label in ("erasing", "mixup", "cutmix"):
            check_share(label, getattr(self, label))
        if self.moving_average is not None and not 0 < self.moving_average < 1:
            raise ValueError(f"`moving_average` must be above 0 and below 1. Received: {self.moving_average!r}")
        check_one_of("optimizer", self.optimizer, ("sgd", "rmsprop"))
        check_one_of("schedule", self.schedule, ("cosine", "exponential"))

    @property
    def is_plain(self):
        """Whether it is plain gradient descent, which is all that the children of a search know."""
        plain = self.optimizer == "sgd" and self.schedule == "cosine"
        return plain and not (self.warmup_epochs or self.label_smoothing or self.moving_average or self.mixes)

    @property
    def mixes(self):
        """Whether images are mixed in pairs, so that an image has several labels."""
        return bool(self.mixup or self.cutmix)

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
        schedule="exponential",
        clip_norm=10.0,
        label_smoothing=0.1,
        augmentation="photo",
        moving_average=0.9999,
    ),
}


def recipe(name, **changes):
    """A `Recipe` by name, with some of its fields changed; a change to None is no change.

    Raises:
        ValueError: an unknown name.
    """
    check_one_of("recipe", name, RECIPES)
    return replace(RECIPES[name], **{key: value for key, value in changes.items() if value is not None})


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
    if not fit or not 1 <= len(sizes) <= epochs - first:
        rule = f"1 to {epochs - first} numbers of pixels up to {LONGEST_SIDE}, at most one for each epoch"
        raise ValueError(f"`sizes` must be None or {rule}. Received: {sizes!r}")
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
        if head_epochs or unfreeze != "all" or batch_norm == "frozen":
            raise ValueError("`head_epochs`, `unfreeze` and a frozen `batch_norm` need trained weights. Received: none")
        return [("all", epochs, "all", 1.0)]
    if head_epochs is None:
        head_epochs = epochs if unfreeze == "head" else max(1, round(epochs / 4))
    check_integer("head_epochs", head_epochs, most=epochs)
    first = [("head", head_epochs, "head", 1.0)] * bool(head_epochs)
    return first + [("cells", epochs, unfreeze, rate_factor)] * (head_epochs < epochs)
