"""What is done to images of a batch together: random erasing, MixUp and CutMix, by Keras' own layers.

Their draws are functions of a seed and of nothing else: each call gives a layer a generator of its own. An integer
would make each of a layer's draws the same one.
"""

from contextlib import nullcontext

import keras
import numpy as np

from nasnet_keras.checks import check_integer, check_share


class Mixing:
    """Erases parts of images, and mixes the images of a batch in pairs, with their labels.

    Args:
        erasing: share of images of which a rectangle, of 2% to 33% of their area, is replaced by noise: Zhong et al.
            2020 (arXiv 1708.04896).
        mixup: 0, or the parameter of the beta distribution that weights are drawn from with which an image and its
            partner are added: Zhang et al. 2018 (arXiv 1710.09412).
        cutmix: 0, or likewise for the share of an image that a rectangle of its partner leaves: Yun et al. 2019
            (arXiv 1905.04899). With both, each batch is mixed in one of the two ways, in half of the cases each.
        classes: how many classes there are; needed to mix labels.
        place: "processor", or "device", where networks are trained, see `augmentation.check_mixing_place`: what is
            mixed then stays there.

    Raises:
        ValueError: naming the argument at fault.
    """

    def __init__(self, erasing=0.0, mixup=0.0, cutmix=0.0, classes=None, place="processor"):
        for label, value in (("erasing", erasing), ("mixup", mixup), ("cutmix", cutmix)):
            check_share(label, value)
        self.mixes = bool(mixup or cutmix)
        check_integer("classes", classes, least=2, optional=not self.mixes)
        self.classes, self.place = classes, place
        # A seed that they do not use: otherwise they would draw one from the caller's random numbers.
        shared = {"seed": 0, "dtype": "float32"}
        self._erasing, self._ways = None, []
        if erasing:
            self._erasing = keras.layers.RandomErasing(
                (erasing, erasing), value_range=(-1, 1), name="erasing", **shared
            )
        if mixup:
            self._ways.append(keras.layers.MixUp(mixup, name="mixup", **shared))
        if cutmix:
            self._ways.append(keras.layers.CutMix((cutmix, cutmix), name="cutmix", **shared))

    def __call__(self, images, labels, seed):
        """Erase and mix.

        Args:
            images: float32 [n, height, width, channels] in [-1, 1].
            labels: integers [n], or numbers [n, classes] of several labels an image.
            seed: a list of integers from 0, all that the draws depend on.

        Returns:
            (float32 images, labels), as tensors if they were made on the device; where images are mixed the labels are
            float32 [n, classes], of one label an image shares that sum to one.
        """
        way, *numbers = np.random.SeedSequence(seed).generate_state(3).tolist()
        labels = _as_shares(labels, self.classes) if self.mixes else labels
        is_here = self.place == "processor"
        with _processor() if is_here else nullcontext():
            if self._erasing:
                images, _ = _applied(self._erasing, images, None, numbers[0])
            if self.mixes:
                images, labels = _applied(self._ways[way % len(self._ways)], images, labels, numbers[1])
            if is_here:
                images = keras.ops.convert_to_numpy(images)
                labels = keras.ops.convert_to_numpy(labels) if self.mixes else labels
        return images, labels


def _processor():
    """A context in which is computed on the processor: of several hosts this one's, which is not JAX's first."""
    if keras.backend.backend() != "jax":
        return keras.device("cpu")
    import jax

    return keras.device(jax.local_devices(backend="cpu")[0])


def _as_shares(labels, classes):
    """Labels as float32 [n, classes]; of integers each row has a 1. A matrix of all classes would take gigabytes."""
    if labels.ndim > 1:
        return labels.astype("float32")
    shares = np.zeros((len(labels), classes), "float32")
    shares[np.arange(len(labels)), labels] = 1
    return shares


def _applied(layer, images, labels, number):
    drawn = _drawn(layer, images, number)
    images = layer.transform_images(images, drawn, training=True)
    return images, labels if labels is None else layer.transform_labels(labels, drawn, training=True)


def _drawn(layer, images, number):
    """What a layer does to these images: what its `get_random_transformation` gives."""
    if isinstance(layer, keras.layers.MixUp):  # which asks JAX for a type that it has not, with a warning each time
        generator, count = np.random.default_rng(number), len(images)
        weights = generator.beta(layer.alpha, layer.alpha, count).astype("float32")
        return {"mix_weight": weights, "permutation_order": generator.permutation(count).astype("int32")}
    seed = keras.random.SeedGenerator(number, name="mixing")
    drawn = layer.get_random_transformation({"images": images}, training=True, seed=seed)
    if "mix_weight" in drawn:  # a beta distribution of small parameters is 0 / 0 at times, in single precision
        weight = drawn["mix_weight"]
        drawn["mix_weight"] = keras.ops.where(keras.ops.isnan(weight), keras.ops.ones_like(weight), weight)
    return drawn
