"""A network as a SavedModel that TF Serving takes as it is: images in, names of classes out."""

import json
import logging
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from nasnet_keras.checks import check_order, names_of
from nasnet_keras.data.decoding import decode
from nasnet_keras.export import heat_maps
from nasnet_keras.export.folders import check_backend, check_saved_model
from nasnet_keras.export.serving_files import batching_params, models_config, write_warmup
from nasnet_keras.files import expanded, write_atomically, writing
from nasnet_keras.models import answers
from nasnet_keras.models.answers import output_kind, outputs_of
from nasnet_keras.models.functions import Run, compute
from nasnet_keras.models.inference import inference_program
from nasnet_keras.models.nesting import layers_within
from nasnet_keras.models.network import NASNet

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of the largest logit, between the network and what was exported; ten times that in a probability
# From so many bytes of all weights on, those above the second number are variables: loading copies constants many
# times, which takes seconds then. A lighter network keeps constants: oneDNN rearranges a variable at every call.
HEAVY, LARGE = 100_000_000, 100_000
MIXED_TOLERANCE = 5e-2  # the same where the network computes in half precision, and the export does not


def export_saved_model(
    model,
    path,
    version=None,
    *,
    class_names=None,
    top=5,
    image_dtype="float32",
    explain=False,
    name=None,
    accept=None,
):
    """Write `path/<version>/`, a SavedModel with two signatures, and what TF Serving wants beside it.

    `serving_default` takes `image` [batch, height, width, channels] in 0–255; `image_bytes` takes `image_bytes`
    [batch], encoded files of any size, decoded to the pixels that training sees (`data.decoding`; a network for other
    than 1 or 3 channels has no such signature, since no file says what they are). Both give `probabilities` [batch,
    classes], `top_classes` and `top_scores` [batch, k], the best first. A model with `thresholds`, whose images may
    have several labels, also gives `labels` and `label_scores` [batch, classes]: those that reach their thresholds, the
    most likely first, then the scores of the others, whose names are empty. Preprocessing and class names are inside,
    batch norms are folded into the convolutions. The version appears in one step, after it was read back and has given
    the network's own numbers for another batch.

    Args:
        model: a `NASNet` with its classifier, which ends in softmax, sigmoid or logits; or any other Keras classifier
            of images, such as a network under a head of one's own or behind other layers (`input_tensor`), which is
            written as it computes, nothing folded.
        path: the model's folder; its last name is the model's name for TF Serving.
        version: an integer above 0; None for the next free one.
        class_names: a name for each class; by default those that the model's `class_names` are, of a `NASNet` with 1000
            classes ImageNet's, else numbers.
        top: k, or the number of classes if that is less.
        image_dtype: `"float32"` or `"uint8"`, the type of `image`.
        explain: whether there is a third signature, `explain`, which takes what `image_bytes` takes and also gives
            `heat_map_bytes` [batch], PNG pictures of where the network looked for the class that it names first, as
            `nasnet_keras.explain` draws them.
        name: the model's name in `models.config` and in the warm-up requests; by default the folder's.
        accept: as for `export.export_target`.

    Returns:
        The path of the version.

    Raises:
        ValueError: an argument out of range, a version that exists, a network that cannot be exported.
        RuntimeError: what was written does not compute what the network computes; nothing is left behind.

    Examples:
        >>> from nasnet_keras import NASNet, export_saved_model
        >>> model = NASNet("tiny", repeats=1, filters=4, stem="cifar", classes=3)
        >>> export_saved_model(model, "served/mine").name
        '1'
    """
    check_backend("saved_model")
    path = Path(expanded(path))
    version = check_saved_model(path, version, top, image_dtype)
    served = Served(model, class_names, top, image_dtype, explain)
    name = name or path.resolve().name
    path.mkdir(parents=True, exist_ok=True)
    with new_folder(path / str(version)) as folder:
        tf.saved_model.save(served, str(folder), signatures=served.signatures())
        extra = folder / "assets.extra"
        extra.mkdir()
        write_warmup(extra / "tf_serving_warmup_requests", name, served.examples())
        signatures = tf.saved_model.load(str(folder)).signatures
        runs = {
            "serving_default": lambda pixels: signatures["serving_default"](image=tf.constant(pixels, image_dtype)),
            "image_bytes": lambda pixels: signatures["image_bytes"](image_bytes=tf.constant(_encoded(pixels))),
            "explain": lambda pixels: signatures["explain"](image_bytes=tf.constant(_encoded(pixels))),
        }
        runs = {key: run for key, run in runs.items() if key in signatures}
        runs = {key: lambda pixels, run=run: run(pixels)["probabilities"] for key, run in runs.items()}
        check_export(model, served, runs)
        if accept is not None:
            accept(lambda pixels: runs["serving_default"](pixels).numpy())
        texts = {"batching_params.pbtxt": batching_params(), "models.config": models_config(name, f"/models/{name}")}
        for file, text in texts.items():  # before the version is there: a server may take it up at once
            if not (path / file).exists():  # what somebody has tuned stays as it is
                write_atomically(path / file, text.encode())
    _tell_of_another_name(path / "models.config", name)
    return path / str(version)


def _tell_of_another_name(config, name):
    """Say it where a `models.config` that was there, and stays, has other names than what was exported now."""
    with suppress(OSError):
        found = re.findall(r'\bname\s*:\s*"(.*?)"', config.read_text(encoding="utf-8", errors="replace"))
        if found and not {name, json.dumps(name)[1:-1]} & set(found):
            what = "stays as it is, though the warm-up requests have another name"
            logger.warning("%s %s: %s, not %s", config, what, name, ", ".join(found))


class Served(tf.Module):
    """What is exported: the folded network behind the signatures; large weights of a heavy one are variables."""

    def __init__(self, model, class_names, top, image_dtype, explain=False):
        super().__init__()
        # Such a model has no program of its own: it is exported as it computes.
        self.whole = whole = not (isinstance(model, NASNet) and model.stands_alone)
        *sides, self.channels = answers.input_shape(model) if whole else model.input.shape[1:]
        self.sides = tuple(sides)
        self.size = answers.image_size(model)  # that of decoded images
        grey_range = answers.grey_range(model)
        self.image_dtype = image_dtype
        self.decodes = self.channels in (1, 3)
        self.explains = explain
        if explain and not self.decodes:
            raise ValueError(f"`explain` must be left out but for images of 1 or 3 channels. Received: {self.channels}")
        # For a server that re-codes what the graph does not decode.
        self.image_size = tf.Variable(self.size, trainable=False, dtype=tf.int32)
        if grey_range is not None:
            self.grey_range = tf.Variable(grey_range, trainable=False, dtype=tf.float64)
        self._decoding = {"channels": self.channels, "grey_range": grey_range}
        answered, count = (self._whole if whole else self._folded)(model)
        kind = output_kind(model)
        spec = tf.TensorSpec((None, *self.sides, self.channels), tf.float32)
        self._answered = tf.function(answered, input_signature=[spec], autograph=False)
        # A network that ends in logits serves probabilities all the same.
        self.activation = tf.identity if whole else _activation(kind, count)
        # What a file says of itself.
        self.told = {"grey_range": None if grey_range is None else list(grey_range)}
        self.told["inside"] = "the model's own" if whole and answers.takes_pixels(model) else "image / 127.5 - 1"
        self.names = _class_names(model, class_names, max(count, 2))
        top, cuts = min(top, len(self.names)), answers.thresholds(model)
        if cuts is not None and len(cuts) != len(self.names):
            raise ValueError(f"`thresholds` must be {len(self.names)}, one for each class. Received: {len(cuts)}")
        self.thresholds = None if cuts is None else cuts.tolist()

        def outputs(pixels):
            logits, *heats = self._answered(pixels / 127.5 - 1.0)
            scores = self.activation(logits)
            best, indices = tf.math.top_k(scores, top)
            several = {} if cuts is None else self._labels(scores, cuts)
            return {
                "probabilities": scores,
                "top_classes": tf.gather(tf.constant(self.names), indices),
                "top_scores": best,
                **several,
            }, heats

        self._outputs = outputs

    def logits(self, images):
        """The numbers before the activation, of images in [-1, 1]; of a `whole` model its probabilities."""
        return self._answered(images)[0]

    def _labels(self, scores, cuts):
        """`labels` and `label_scores` of probabilities [batch, classes] with a threshold for each."""
        order = tf.argsort(scores, direction="DESCENDING", stable=True)
        present = tf.gather(scores >= cuts, order, batch_dims=1)
        first = tf.argsort(tf.cast(~present, tf.int32), stable=True)  # among them the order stays
        order, present = tf.gather(order, first, batch_dims=1), tf.gather(present, first, batch_dims=1)
        names = tf.gather(tf.constant(self.names), order)
        return {"labels": tf.where(present, names, ""), "label_scores": tf.gather(scores, order, batch_dims=1)}

    def _folded(self, model):
        """A network's function from images in [-1, 1] to [logits], batch norms folded, and the number of classes.

        To [logits, heat maps], where they are wanted.
        """
        program, weights = inference_program(model)
        *_, mean, last = program.steps
        wanted = [last.result, *mean.reads] if self.explains else [last.result]
        least = LARGE if sum(weight.nbytes for weight in weights) >= HEAVY else float("inf")
        self.large = [tf.Variable(weight, trainable=False) for weight in weights if weight.nbytes >= least]

        def answered(images):
            large = iter(self.large)
            tensors = [next(large).read_value() if one.nbytes >= least else tf.constant(one) for one in weights]
            logits, *maps = compute(program, [images], tensors, Run(), wanted)
            kernel, _ = tensors[-2:]
            return [logits, *(heat_maps.heat(one, kernel, logits) for one in maps)]

        return answered, last.result.channels

    def _whole(self, model):
        """Any model's function from images in [-1, 1] to [probabilities] or [probabilities, heat maps], likewise."""
        kind = output_kind(model)
        self.large = [variable.value for variable in model.variables]
        pixels = answers.takes_pixels(model)
        shown = np.zeros((1, *self.size, self.channels), "float32")
        count = outputs_of(model, model(shown, training=False)).shape[-1]

        def answered(images):
            images = (images + 1.0) * 127.5 if pixels else images
            outputs = tf.cast(outputs_of(model, model(images, training=False)), tf.float32)
            if kind == "logits":
                outputs = tf.nn.sigmoid(outputs) if count == 1 else tf.nn.softmax(outputs)
            outputs = tf.concat([1.0 - outputs, outputs], 1) if count == 1 else outputs
            return [outputs, *([heat_maps.heat_by_gradient(model, images, kind)] if self.explains else [])]

        return answered, count

    def signatures(self):
        """{name: function} of the contract's two signatures, and of the one that explains."""
        image = tf.TensorSpec((None, *self.sides, self.channels), self.image_dtype, name="image")
        encoded = tf.TensorSpec((None,), tf.string, name="image_bytes")
        pixels = tf.TensorSpec((*self.size, self.channels), tf.float32)

        @tf.function(input_signature=[image], autograph=False)
        def serving_default(image):
            return self._outputs(tf.cast(image, tf.float32))[0]

        @tf.function(input_signature=[encoded], autograph=False)
        def image_bytes(image_bytes):
            return self._outputs(tf.map_fn(self._decoded, image_bytes, fn_output_signature=pixels))[0]

        @tf.function(input_signature=[encoded], autograph=False)
        def explain(image_bytes):
            images = tf.map_fn(self._decoded, image_bytes, fn_output_signature=pixels)
            outputs, (heats,) = self._outputs(images)
            return {**outputs, "heat_map_bytes": heat_maps.pictures(images, heats)}

        signatures = {"serving_default": serving_default}
        signatures |= {"image_bytes": image_bytes} if self.decodes else {}
        return signatures | ({"explain": explain} if self.explains else {})

    def function(self, batch=None):
        """The network alone, without strings: `image` to `{"probabilities": …}`, for other runtimes."""
        image = tf.TensorSpec((batch, *self.sides, self.channels), tf.float32, name="image")

        @tf.function(input_signature=[image], autograph=False)
        def function(image):
            return {"probabilities": self.activation(self.logits(image / 127.5 - 1.0))}

        return function

    def _decoded(self, content):
        """One encoded image as pixels in 0–255."""
        return tf.cast(decode(content, self.size, **self._decoding), tf.float32)

    def examples(self):
        """(signature, inputs) pairs: a request for each signature, as warm-up and as a first test."""
        pixels = np.random.default_rng(0).integers(0, 256, (1, *self.size, self.channels), dtype=np.uint8)
        yield "serving_default", {"image": pixels.astype(self.image_dtype)}
        if self.decodes:
            yield "image_bytes", {"image_bytes": _encoded(pixels)}
        if self.explains:
            yield "explain", {"image_bytes": _encoded(pixels)}


@contextmanager
def new_folder(path):
    """A temporary folder that becomes `path` in one step, or vanishes when the block fails."""
    temporary = Path(tempfile.mkdtemp(prefix=".export-", dir=path.parent))
    try:
        with writing(path):
            yield temporary
            temporary.chmod(0o755)
            os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def check_export(model, served, runs, quantized=None, count=3):
    """Compare what was written with the network, on a batch of another size than the warm-up's.

    Args:
        model: the network.
        served: its `Served`.
        runs: {name: function from pixels in 0–255, float32, to probabilities}.
        quantized: how far answers may lie apart in an export of less than float32, see `_distance`; None in float32.
        count: images of the batch.

    Raises:
        RuntimeError: they differ by more than rounding.
    """
    shape = (count, *served.size, served.channels)
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype("float32")
    scaled = pixels / np.float32(127.5) - np.float32(1)
    kind = output_kind(model)
    tolerance = MIXED_TOLERANCE if _is_mixed(model) else TOLERANCE  # one layer in half precision is enough
    if not served.whole:
        layers = [model.get_layer(name).output for name in ("logits", "predictions")]
        images = pixels if model.architecture.include_preprocessing else scaled
        logits, outputs = map(np.asarray, keras.Model(model.input, layers)(images, training=False))
        # Probabilities near 0 and 1 hide a difference, so the numbers before them are compared as well.
        _compare("logits", served.logits(scaled), logits, tolerance * np.abs(logits).max())
        tolerance *= 10
    else:
        shown = pixels if answers.takes_pixels(model) else scaled
        outputs = np.asarray(outputs_of(model, model(shown, training=False)), "float32")
        tolerance = max(tolerance, 10 * TOLERANCE)
        _compare("model", served.logits(scaled), answers.as_probabilities(outputs, kind), tolerance)
    expected = answers.as_probabilities(outputs, kind)
    for name, run in runs.items():
        result = np.asarray(run(pixels))
        if quantized is None:
            _compare(f"`{name}`", result, expected, tolerance)
        elif not _distance(result, expected, kind) <= quantized:
            raise RuntimeError(f"quantised, `{name}` is too far from the network: give more, and typical, images")


def _distance(result, expected, kind):
    """How far probabilities lie apart in the mean over images, 0 to 1, whatever the number of classes.

    Of classes it is the share that lies elsewhere (total variation), of labels the greatest difference of one.
    """
    difference = np.abs(result - expected)
    return difference.mean(0).max() if kind == "sigmoid" else difference.sum(-1).mean() / 2


def _activation(kind, count):
    """From a network's logits to probabilities; one unit speaks for the second of two classes."""
    if count > 1:
        return tf.nn.sigmoid if kind == "sigmoid" else tf.nn.softmax
    return lambda logits: tf.concat([tf.nn.sigmoid(-logits), tf.nn.sigmoid(logits)], 1)


def _is_mixed(model):
    layers = [one for one in layers_within(model) if not isinstance(one, keras.Model | keras.layers.InputLayer)]
    return any(layer.compute_dtype not in ("float32", None) for layer in layers)  # a model's own says nothing


def _encoded(pixels):
    return [tf.io.encode_png(tf.cast(image, tf.uint8)).numpy() for image in pixels]


def _compare(what, result, expected, tolerance):
    difference = np.abs(np.asarray(result) - expected).max()
    if not difference <= tolerance:
        raise RuntimeError(
            f"the export's {what} differ from the network's by {difference:.2g}, and at most {tolerance:.2g} is "
            "rounding, so nothing was written"
        )


def remark_on_names(model, count):
    """One line where a model's classes get numbers for names though they may be ImageNet's; else None."""
    if count != 1000 or answers.class_names(model) or answers.labels_of(model, count) is None:
        return None
    told = "`class_names`: the model names none of its 1000 classes, which get numbers"
    return f"{told}; give names, or set `class_names` of the model"


def _class_names(model, class_names, count):
    own, names = answers.class_names(model), class_names
    if names is None:
        names = answers.full_names(model, count)
        if told := remark_on_names(model, count):
            logger.warning("%s", told)
    names = names_of("class_names", names)
    if len(names) != count:
        raise ValueError(f"`class_names` must be {count} names. Received: {len(names)}")
    check_order("class_names", names, own, "the model's own order")
    if told := answers.remark_on_order(model, names):
        logger.warning("%s", told)
    return list(names)
