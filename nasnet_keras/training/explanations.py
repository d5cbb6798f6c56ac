"""What in an image made a model answer as it did: Grad-CAM, as a heat map of the image's size.

Selvaraju et al. 2017 (arXiv 1610.02391), section 3.
"""

from dataclasses import dataclass

import keras
import numpy as np

from nasnet_keras.checks import as_integer, check_integer
from nasnet_keras.data.images import by_pillow, read_image, resize
from nasnet_keras.data.loading import normalize
from nasnet_keras.models import answers
from nasnet_keras.models.applications import decode_predictions
from nasnet_keras.models.maps import answering_logits, changed_results, layer_with_maps
from nasnet_keras.pictures.heat_maps import enlarged, heat_map_png, shown_size
from nasnet_keras.training.gradients import gradient


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a model looked; in a notebook it shows itself.

    Args:
        heat: float32 [height, width] in [0, 1], of the size that the model sees: 1 where the class's score depends
            most on what is there, and 0 everywhere if nothing spoke for the class.
        pixels: the image as the model sees it, uint8 [height, width, channels].
        index: number of the class that is explained.
        name: its name.
        score: its probability.

    Examples:
        >>> import numpy as np
        >>> from nasnet_keras import NASNetCIFAR, explain
        >>> explain(NASNetCIFAR(), np.zeros((32, 32, 3), "uint8"), index=3).name
        'cat'
    """

    heat: np.ndarray
    pixels: np.ndarray
    index: int
    name: str
    score: float

    def png(self):
        """The image, and beside it the image under the heat map, as a PNG file, bytes."""
        height, width = shown_size(self.heat.shape)
        pixels = self.pixels if self.pixels.shape[-1] == 3 else np.repeat(self.pixels[..., :1], 3, -1)
        pixels = by_pillow(pixels, lambda image: image.resize((width, height)))
        return heat_map_png(pixels, enlarged(self.heat, (height, width)))

    def _repr_png_(self):
        return self.png()


def explain(model, image, index=None, layer=None):
    """The heat map of a class: which places of an image a classifier's score for it depends on (Grad-CAM).

    The maps of the model's last layer that still has height and width are weighted with the mean gradient of the
    class's score before softmax or sigmoid, summed, and cut off at zero. A network of 224 pixels has 7 by 7 places.
    While it works the model answers otherwise: in no other thread should it be asked meanwhile.

    Args:
        model: a classifier: a `NASNet`, or any Keras model, with a head of one's own, with a network inside, in
            half precision, …
        image: a path or an encoded image as `bytes`, as for `read_image`; or uint8 [height, width, channels] in 0–255.
            Another size than the model's is brought to it, and the centre kept.
        index: number of the class; None for the one that the model answers.
        layer: name of the layer whose maps count, such as `"cell_3"`; None for the last one.

    Returns:
        An `Explanation`: `heat`, `pixels`, `index`, `name`, `score`, and `png()`.

    Raises:
        ValueError: naming the argument at fault; the model is no classifier, or has no such layer.

    Examples:
        >>> import numpy as np
        >>> from nasnet_keras import NASNetCIFAR, explain
        >>> explain(NASNetCIFAR(), np.zeros((32, 32, 3), "uint8")).heat.shape
        (32, 32)
    """
    pixels, tensor = _prepared(model, image)
    kind = answers.output_kind(model)
    place = layer_with_maps(model, layer)
    shape = {}

    def forward(change=None):
        """The model's outputs before their activation, [1, classes]; `change` is added to the maps of `place`."""

        def changed(value):
            shape.setdefault("maps", value)
            return value if change is None else value + keras.ops.cast(change, value.dtype)

        with answering_logits(model) as plain, changed_results(place, changed):
            outputs = model(tensor, training=False)
        outputs = answers.outputs_of(model, outputs)
        if kind != "logits" and not plain:
            outputs = keras.ops.log(keras.ops.maximum(outputs, 1e-30))
        return keras.ops.cast(outputs, "float32")

    forward()
    if "maps" not in shape or len(shape["maps"].shape) != 4:
        raise ValueError(f"`layer` must be one with maps [height, width, channels]. Received: {place.name!r}")
    maps = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(shape["maps"], "float32")))
    scores = answers.probabilities(model, _numbers(answers.outputs_of(model, model(tensor, training=False))))[0]
    index = as_integer(index)
    check_integer("index", index, least=0, most=len(scores) - 1, optional=True)
    index = int(scores.argmax()) if index is None else index

    def score(change):
        outputs = forward(change)[0]
        alone = outputs.shape[0] == 1  # one unit speaks for the second of two classes, and against the first
        # Times the number of places, so that gradients of one in half precision do not vanish.
        return (outputs[0] * (1.0 if index else -1.0) if alone else outputs[index]) * float(maps[0, ..., 0].size)

    slopes = gradient(score, np.zeros(maps.shape, "float32"))
    heat = np.maximum((maps[0] * slopes[0].mean((0, 1))).sum(-1), 0)
    heat = enlarged(heat / heat.max(), pixels.shape[:2]) if heat.max() > 0 else np.zeros(pixels.shape[:2], "float32")
    heat = heat / max(heat.max(), 1e-12)
    names = answers.labels_of(model, len(scores))
    (ranking,) = decode_predictions(scores[None], len(scores), names)
    name = ranking[int(np.flatnonzero(np.argsort(-scores, kind="stable") == index)[0])][1]
    return Explanation(heat, pixels, index, name, float(scores[index]))


def _prepared(model, image):
    """An image as the model sees it, uint8 [height, width, channels], and as it takes it, [1, …]."""
    *sides, channels = answers.input_shape(model)
    size = answers.image_size(model)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != channels:
            rule = f"a path, bytes, or uint8 of shape [height, width, {channels}]"
            raise ValueError(f"`image` must be {rule}. Received: {image.dtype} of shape {image.shape}")
        pixels = image if None in sides or image.shape[:2] == size else resize(image, size)
    else:
        pixels = read_image(image, size, grey_range=answers.grey_range(model), channels=channels)
    prepared = pixels.astype("float32") if answers.takes_pixels(model) else normalize(pixels)
    return pixels, keras.ops.convert_to_tensor(prepared[None])


def _numbers(outputs):
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32")))
