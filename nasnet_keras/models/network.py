"""NASNet: a stem, stacks of Normal cells with Reduction cells between them, and heads.

Zoph et al. 2018 (arXiv 1707.07012), section 3.1, figure 2 and appendix A.4, wired as the released
code wires it.
"""

from math import prod

import keras
import numpy as np

from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.models.heads import AuxiliaryHead, classifier
from nasnet_keras.models.inference import Predictor, fits
from nasnet_keras.models.layers import ProgramLayer
from nasnet_keras.program.architecture import architecture
from nasnet_keras.program.body import Body
from nasnet_keras.program.options import BOUND
from nasnet_keras.weights import loading as weight_files


@keras.saving.register_keras_serializable(package="nasnet_keras")
class NASNet(keras.Model):
    """A network of any size from a genotype. Images [batch, height, width, 3] in [-1, 1] go in.

    With `include_top` the output is [batch, classes]; without, it is the last cell's output after ReLU,
    [batch, h, w, channels], or [batch, channels] with `pooling`. With `auxiliary_head` it is
    `{"predictions": …, "auxiliary": …}`. With `feature_pyramid` it is `{"P1": …, …}`: level k has stride 2^k
    and is the untouched output of the last cell at that stride; no other head is built then.
    Intermediate results are layers named `stem`, `stem_cell_0`, `stem_cell_1`, `cell_<i>`,
    `reduction_cell_<k>`, `global_pool`, `logits`, `predictions` and `auxiliary`.

    Args:
        genotype: a `Genotype`, a stored name, or the path of a JSON file.
        repeats: Normal cells in each of three stacks, or a tuple with one number for each stack.
        filters: F of the first stack; it doubles from stack to stack.
        penultimate_filters: may be given instead of `filters`: P = F · 2^(stacks - 1) · len(normal concat).
        stem: `"imagenet"`, a strided 3×3 convolution and two Reduction cells (stride 8 in all), or
            `"cifar"`, a 3×3 convolution.
        stem_filters: channels of the stem's convolution; by default 32 (imagenet) or 3F (cifar).
        skip_reduction: whether the cell after a Reduction cell takes as its h_{i-1} what the Reduction
            cell took (NASNet-A Large), and not the Reduction cell's own input.
        input_shape: (height, width, channels), None for any height or width. By default the stem's, 224 or 32.
        input_tensor: a Keras tensor to use as the image input.
        include_top: whether to end in a classifier.
        classes: number of classes.
        classifier_activation: `"softmax"`, None for logits, or another activation.
        pooling: without top: None, `"avg"` or `"max"`.
        dropout: dropout rate before the classifier (1 - the paper's keep probability).
        drop_path: drop-path rate of the last cell (1 - the paper's keep probability); earlier cells have less,
            in proportion to their depth. See `training.ScheduledDropPath`.
        auxiliary_head: whether to add a classifier after the last cell before the last Reduction cell.
        feature_pyramid: whether to return the levels that detectors and segmenters use.
        include_preprocessing: whether the network takes images in 0–255 and scales them itself.
        batch_norm_momentum: by default the stem's: 0.9997 (imagenet), 0.9 (cifar).
        batch_norm_epsilon: by default the stem's: 1e-3 (imagenet), 1e-5 (cifar).
        weight_decay: L2 factor as TF-slim states it; the value of Keras' `L2` is half of it.
        bounded_activations: keep activations within ±6, for quantised inference.
        pooling_compatibility: None, or `"keras"` to pool at borders as keras.applications does.
        weights: None, a file, or a name from the weight index (a saved model has its own).
        class_names: a name for each class, kept and saved with the model.
        dtype: dtype policy, by default the global one; heads stay float32 under mixed precision.
        name: name of the model.

    Raises:
        ValueError: naming the argument at fault.
    """

    def __init__(
        self,
        genotype="nasnet_a",
        *,
        repeats,
        filters=None,
        penultimate_filters=None,
        stem="imagenet",
        stem_filters=None,
        skip_reduction=False,
        input_shape=None,
        input_tensor=None,
        include_top=True,
        classes=1000,
        classifier_activation="softmax",
        pooling=None,
        dropout=0.0,
        drop_path=0.0,
        auxiliary_head=False,
        feature_pyramid=False,
        include_preprocessing=False,
        batch_norm_momentum=None,
        batch_norm_epsilon=None,
        weight_decay=0.0,
        bounded_activations=False,
        pooling_compatibility=None,
        weights=None,
        class_names=None,
        dtype=None,
        name="nasnet",
    ):
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        genotype = load_genotype(genotype)
        described = architecture(**{**config, "genotype": genotype})
        options = described.options
        image = keras.Input(described.input_shape, name="image") if input_tensor is None else input_tensor
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())

        x = image
        if include_preprocessing:
            x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocessing", dtype=policy)(x)
        body = Body(genotype, described.stacks, skip_reduction, drop_path, options, policy, image)
        body.assemble(x, stem, stem_filters, described.filters)

        if feature_pyramid:
            outputs = {f"P{level}": _joined(states, f"P{level}", policy) for level, states in body.levels.items()}
        else:
            features = _joined(body.current, "states", policy)
            bound = BOUND if bounded_activations else None
            features = keras.layers.ReLU(max_value=bound, name="activation", dtype=policy)(features)
            if include_top:
                outputs = classifier(features, classes, classifier_activation, dropout, weight_decay)
            elif pooling:
                pool = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}[pooling]
                outputs = pool(name="global_pool", dtype="float32")(features)
            else:
                outputs = features
        if auxiliary_head:
            head = AuxiliaryHead(
                classes, classifier_activation, options=options.to_dict(), name="auxiliary", dtype=policy
            )
            outputs = {
                "predictions": outputs,
                "auxiliary": head(_joined(body.before_last_reduction, "auxiliary_states", policy)),
            }

        sources = [image] if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
        super().__init__(inputs=sources[0] if len(sources) == 1 else sources, outputs=outputs, name=name)
        self.genotype = genotype
        self._predictor = None
        self.class_names = None if class_names is None else tuple(class_names)
        # Weights have files of their own, and a tensor is nothing that a file could hold.
        kept = {"genotype": genotype.to_dict(), "input_shape": tuple(image.shape[1:]), "dtype": policy.name}
        self._arguments = {**config, **kept, "input_tensor": None, "weights": None}
        self._stands_alone = any(source is image for source in sources)
        if weights is not None:
            weight_files.load(self, weights)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """As Keras' `predict`; an array of images goes through one lean function, without a data pipeline.

        There is no progress bar for a single batch, unless `verbose` asks for one.
        """
        size = batch_size or 32
        quiet = not verbose or (verbose == "auto" and isinstance(x, np.ndarray) and len(x) <= size)
        if not quiet or not fits(self, x, steps, callbacks):
            return super().predict(x, batch_size, verbose, steps, callbacks)
        if self._predictor is None:
            self._predictor = Predictor(self)
        return self._predictor(x, size)

    @classmethod
    def from_notation(cls, notation, genotype="nasnet_a", **kwargs):
        """A network named as in the paper: `"6@768"` has 6 Normal cells a stack and 768 penultimate filters.

        Args:
            notation: N@P.
            genotype: as for the class.
            **kwargs: the class's other arguments.

        Raises:
            ValueError: another notation, or a P that no F gives.
        """
        repeats, at, penultimate = str(notation).partition("@")
        if not (at and repeats.isdigit() and penultimate.isdigit()):
            raise ValueError(f"`notation` must be N@P, for example '6@768'. Received: {notation!r}")
        return cls(genotype, repeats=int(repeats), penultimate_filters=int(penultimate), **kwargs)

    def get_config(self):
        """The constructor's arguments; for a network on a foreign graph, that of the whole graph."""
        if not self._stands_alone:
            return keras.Model(self.input, self.output, name=self.name).get_config()
        return dict(self._arguments)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The inverse of `get_config`."""
        if "layers" in config:
            return keras.Model.from_config(config, custom_objects)
        return cls(**{**config, "genotype": Genotype.from_dict(config["genotype"])})


def _joined(states, name, dtype):
    """One tensor from the states that a cell passes on: normally there is just one."""
    return states[0] if len(states) == 1 else keras.layers.Concatenate(name=name, dtype=dtype)(states)


def multiply_adds(model):
    """Multiply-adds of convolutions and dense layers for one image, an int.

    Args:
        model: a built functional Keras model whose image size is known.

    Raises:
        ValueError: a model for images of any size.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer, keras.Model):
            total += multiply_adds(layer)
            continue
        shapes = [tuple(tensor.shape) for tensor in keras.tree.flatten(layer.input) if len(tensor.shape)]
        if any(None in shape[1:] for shape in shapes):
            raise ValueError("`model` must have a known image size: build it with an `input_shape` without None")
        if isinstance(layer, ProgramLayer):
            total += layer.multiply_adds(shapes)
            continue
        kernels = [getattr(layer, name, None) for name in ("kernel", "depthwise_kernel", "pointwise_kernel")]
        total += sum(prod(layer.output.shape[1:-1]) * prod(kernel.shape) for kernel in kernels if kernel is not None)
    return total
