"""NASNet: a stem, stacks of Normal cells with Reduction cells between them, and heads.

Zoph et al. 2018 (arXiv 1707.07012), section 3.1, figure 2 and appendix A.4, wired as the released
code wires it.
"""

from dataclasses import fields, replace
from functools import wraps

import keras
import numpy as np
from rich.console import Console

from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.models.drop_path import DropPathSchedule
from nasnet_keras.models.functions import variables_at_once
from nasnet_keras.models.heads import AuxiliaryHead, TwoHeaded, classifier
from nasnet_keras.models.inference import METHODS, Predictor, changes_of, fits, state_of, tell_of_pixels
from nasnet_keras.models.layers import Cell, Operation, ProgramLayer
from nasnet_keras.models.nesting import set_called
from nasnet_keras.models.policies import described, described_now, give_heads, own_policy, types_of, without_types
from nasnet_keras.models.states import (
    STATES,
    activation_name,
    check_activation,
    check_channels_last,
    give_states,
    input_of,
    named_activation,
    states_of,
)
from nasnet_keras.program.architecture import Architecture
from nasnet_keras.program.body import Body
from nasnet_keras.program.options import BOUND
from nasnet_keras.weights import loading
from nasnet_keras.weights.keras_files import check_archive
from nasnet_keras.weights.zoo import KEPT

COUNTED = ("activation", "dropout", "drop_path")  # names of layers that Keras gives by itself, too
NOTE = (
    "A cell is one layer, its batch norms and convolutions inside. "
    "To freeze: nasnet_keras.freeze(model, up_to={cell!r}). The last map before the head is the output of {last!r}."
)


def or_from_graph(init):
    """A constructor that also takes what Keras' `clone_model` gives it: `NASNet(inputs, outputs, name=…)`."""

    @wraps(init)
    def made(self, *args, **kwargs):
        if len(args) > 1:
            self._become_clone(*args, **kwargs)
        else:
            init(self, *args, **kwargs)
        for taken in COUNTED:  # a layer that is made later must not get a name that stands here already
            keras.backend.get_uid(taken)

    return made


@keras.saving.register_keras_serializable(package="nasnet_keras")
class NASNet(TwoHeaded):
    """A network of any size from a genotype. Images [batch, height, width, 3] in [-1, 1] go in.

    With `include_top` the output is [batch, classes]; without, it is the last cell's output after ReLU,
    [batch, h, w, channels], or [batch, channels] with `pooling`. With `auxiliary_head` it is
    `{"predictions": …, "auxiliary": …}`. With `feature_pyramid` it is `{"P1": …, …}`: level k has stride 2^k
    and is the untouched output of the last cell at that stride; no other head is built then.
    Intermediate results are layers named `stem`, `stem_cell_0`, `stem_cell_1`, `cell_<i>`,
    `reduction_cell_<k>`, `global_pool`, `logits`, `predictions` and `auxiliary`; the last map is that of `activation`.

    A cell is one layer with its convolutions and batch norms inside: loops over `model.layers` that look for
    `BatchNormalization` or `Conv2D` find none. `models.freezing.freeze` freezes what such loops mean to.

    With an auxiliary head, plain labels, one loss (the auxiliary one weighs 0.4) and a list of metrics will do.

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
        input_tensor: a Keras tensor [batch, height, width, channels] to use as the image input, whatever Keras' global
            format of images is; the name, type and batch size of an `Input` are saved.
        include_top: whether to end in a classifier.
        classes: number of classes.
        classifier_activation: `"softmax"`, None for logits, or another activation.
        pooling: without top: None, `"avg"` or `"max"`.
        dropout: dropout rate before the classifier (1 - the paper's keep probability).
        drop_path: drop-path rate of the last cell (1 - the paper's keep probability); earlier cells have less,
            in proportion to their depth. See `drop_path.ScheduledDropPath`.
        auxiliary_head: whether to add a classifier after the last cell before the last Reduction cell.
        feature_pyramid: whether to return the levels that detectors and segmenters use.
        include_preprocessing: whether the network takes images in 0–255 and scales them itself.
        batch_norm_momentum: by default the stem's: 0.9997 (imagenet), 0.9 (cifar).
        batch_norm_epsilon: by default the stem's: 1e-3 (imagenet), 1e-5 (cifar).
        weight_decay: L2 factor as TF-slim states it; the value of Keras' `L2` is half of it.
        bounded_activations: keep activations within ±6, for quantised inference.
        pooling_compatibility: None, or `"keras"` to pool at borders as keras.applications does.
        weights: None, a file, or a name from the weight index (a saved model has its own). Weights for three
            channels also fit another number of them, see `weights.loading.for_channels`.
        class_names: a name for each class, kept and saved with the model.
        grey_range: None, or `(low, high)`: how images with greys of more than 8 bits were read, as for
            `data.read_image`; kept and saved with the model, so that it goes on seeing them so.
        thresholds: None, or a probability for each class: an image has every label that reaches its own, so it may have
            several; kept and saved with the model.
        dtype: dtype policy, by default the global one; heads stay float32 unless a map names them.
        name: name of the model.

    Raises:
        ValueError: naming the argument at fault.

    Examples:
        >>> from nasnet_keras import NASNet
        >>> NASNet("nasnet_a", repeats=2, filters=8, stem="cifar", classes=3).output_shape
        (None, 3)
    """

    @or_from_graph
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
        grey_range=None,
        thresholds=None,
        dtype=None,
        name="nasnet",
    ):
        given = dict(locals())
        description = {field.name: given[field.name] for field in fields(Architecture)}
        description |= {"genotype": load_genotype(genotype), "penultimate_filters": penultimate_filters}
        if input_tensor is not None:
            shape = tuple(input_tensor.shape[1:])
            if input_shape is not None and tuple(input_shape) != shape:
                rule = f"left out or be that of `input_tensor`, {shape}"
                raise ValueError(f"`input_shape` must be {rule}. Received: {input_shape!r}")
            description["input_shape"] = shape
        check_activation(classifier_activation)
        description["classifier_activation"] = named_activation(classifier_activation)
        architecture = Architecture(**description)
        if input_tensor is None:
            check_channels_last(architecture.input_shape)
        image = keras.Input(architecture.input_shape, name="image") if input_tensor is None else input_tensor
        policy = own_policy(dtype)
        sources = [image] if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
        outputs = _outputs(architecture, image, policy)
        super().__init__(inputs=sources[0] if len(sources) == 1 else sources, outputs=outputs, name=name)
        self.architecture = architecture
        self.stands_alone = any(source is image for source in sources)
        give_heads(self, policy)
        self._policy, self._types = described(policy), types_of(self)
        self._as_built, self._predictor = state_of(self), None
        if weights is not None:
            loading.load(self, weights)

    def _run_through_graph(self, inputs, *args, **kwargs):
        """As Keras' own; what comes out says from whose graph it is, for `clone_model`."""
        outputs = super()._run_through_graph(inputs, *args, **kwargs)
        for tensor in keras.tree.flatten(outputs):
            if isinstance(tensor, keras.KerasTensor):
                tensor.network = self
        return outputs

    def _become_clone(self, inputs, outputs, *others, name=None):
        """Take a graph that `clone_model` has made of another network's; it may have changed layers on the way."""
        tensors = [one for one in keras.tree.flatten(outputs) if isinstance(one, keras.KerasTensor)]
        original = next((vars(one).pop("network", None) for one in tensors), None)
        if original is None or others:
            raise ValueError("`NASNet` takes keywords beside `genotype`, such as `repeats`; a graph: `keras.Model`")
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        self.architecture, self._policy = original.architecture, original._policy_now()
        self._types = types_of(self)
        if [one.shape[-1] for one in self.outputs] != [one.shape[-1] for one in original.outputs]:
            self.architecture = replace(self.architecture, class_names=None, thresholds=None)
        # Its layers are made from the other ones as they are now: what was changed there is no change here.
        same = not original.changes_within() and without_types(_graph(self)) == without_types(_graph(original))
        self.stands_alone = original.stands_alone and same
        self._as_built, self._predictor = state_of(self), None

    @property
    def genotype(self):
        """The network's `Genotype`."""
        return self.architecture.genotype

    @property
    def class_names(self):
        """A name for each class, a tuple, or None; others may be given at any time, and are saved."""
        return self.architecture.class_names

    @class_names.setter
    def class_names(self, names):
        """Take other names, one for each class, or None; raises `ValueError` for another number of them."""
        self.architecture = replace(self.architecture, class_names=names)

    @property
    def grey_range(self):
        """`(low, high)` of greys of more than 8 bits, or None; another may be given at any time, and is saved."""
        return self.architecture.grey_range

    @grey_range.setter
    def grey_range(self, value):
        """Take another one, or None; raises `ValueError` for what is no range."""
        self.architecture = replace(self.architecture, grey_range=value)

    @property
    def thresholds(self):
        """The least probability of each class that an image has, or None; others may be given, and are saved."""
        return self.architecture.thresholds

    @thresholds.setter
    def thresholds(self, values):
        """Take others, or None; raises `ValueError` for another number of them, or no probabilities."""
        self.architecture = replace(self.architecture, thresholds=values)

    def named_weights(self):
        """{place, for example `"cell_0/block_0/left/conv/kernel"`: variable} of all weights.

        The places are those of the weights of its program (`Architecture.program`).
        """
        named = {}
        for layer in self.layers:
            inside = layer.named_weights() if isinstance(layer, ProgramLayer) else {w.name: w for w in layer.weights}
            named.update({f"{layer.name}/{place}": variable for place, variable in inside.items()})
        return named

    def changes(self):
        """What of this network is not as it was built, a list of texts: then nothing follows from its architecture.

        Values of weights may change, and what only concerns training. A method of one's own, another attribute of a
        layer or another layer in its place is a change: `["predictions.activation"]`.
        """
        return changes_of(self, self._as_built, NASNet)

    def changes_within(self):
        """The `changes` of layers that its arguments cannot tell: not of activations, nor by LoRA or quantisation."""
        ends = ("predictions.activation", "auxiliary.activation")
        found = [change for change in self.changes() if change not in (*METHODS, *ends)]
        return [change for change in found if not change.partition(".")[2].startswith(("lora", "quantization"))]

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """As Keras' `predict`; an array of images goes through one lean function, without a data pipeline.

        There is no progress bar for a single batch, unless `verbose` asks for one.
        """
        tell_of_pixels(self, x)
        size = batch_size or 32
        quiet = not verbose or (verbose == "auto" and isinstance(x, np.ndarray) and len(x) <= size)
        if not quiet or not fits(self, x, steps, callbacks):
            return super().predict(x, batch_size, verbose, steps, callbacks)
        activation = self.get_layer("predictions").activation
        if self._predictor is None or self._predictor.activation is not activation:
            self._predictor = Predictor(self, activation)
        set_called(self)
        return self._predictor(x, size)

    def predict_on_batch(self, x):
        """As Keras' `predict_on_batch`; an array of images goes through the same lean function as in `predict`."""
        tell_of_pixels(self, x)
        return self.predict(x, len(x), verbose=0) if fits(self, x, None, None) else super().predict_on_batch(x)

    def train_step(self, *args):
        """As Keras' `train_step`, which need not be traced twice."""
        with variables_at_once():
            return super().train_step(*args)

    def test_step(self, *args):
        """As Keras' `test_step`, likewise."""
        with variables_at_once():
            return super().test_step(*args)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """As Keras' `load_weights`; what that passes over, other cells and another answer, is a `ValueError`.

        But with `skip_mismatch` or `by_name`. A network without names of its classes gets those of a file's model.
        """
        check_archive(filepath)
        if skip_mismatch or kwargs.get("by_name"):
            return super().load_weights(filepath, skip_mismatch, **kwargs)
        loading.check_file(self, filepath)
        super().load_weights(filepath, **kwargs)
        loading.take_names(self, filepath)

    def summary(self, *args, print_fn=None, **kwargs):
        """As Keras' `summary`, and a line on what is inside a cell."""
        super().summary(*args, print_fn=print_fn, **kwargs)
        cells = [layer.name for layer in self.layers if isinstance(layer, Cell)]
        last = "activation" if "activation" in {layer.name for layer in self.layers} else cells[-1]
        note = NOTE.format(cell=cells[len(cells) // 2], last=last)
        if print_fn is None:
            Console(soft_wrap=True).print(note, markup=False, highlight=False)
        else:
            print_fn(note)

    @classmethod
    def of(cls, architecture, *, weights=None, dtype=None, name="nasnet", **changes):
        """The network of an `Architecture`.

        Args:
            architecture: an `Architecture`.
            weights, dtype, name: as for the class.
            **changes: what is to be different in it, as in `Architecture.changed`.

        Raises:
            ValueError: naming the argument at fault.
        """
        if not isinstance(architecture, Architecture):
            raise ValueError(f"`architecture` must be an Architecture. Received: {architecture!r}")
        arguments = (architecture.changed(**changes) if changes else architecture).arguments()
        return cls(**arguments, weights=weights, dtype=dtype, name=name)

    def _policy_now(self):
        """What `policies.described` says of its data types, those of layers that were set later, too."""
        return described_now(self, self._policy, self._types)

    def alike(self, **changes):
        """A network of this one's architecture, data type and name with weights of its own.

        Args:
            **changes: as for `of`.
        """
        return NASNet.of(self.architecture, **{"dtype": self._policy_now(), "name": self.name, **changes})

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
        try:
            return cls(genotype, repeats=int(repeats), penultimate_filters=int(penultimate), **kwargs)
        except ValueError as error:
            for part, name in (("N", "repeats"), ("P", "penultimate_filters")):
                if str(error).startswith(f"`{name}`"):
                    raise ValueError(f"`notation` {notation!r} is wrong: its {part}, as {error}") from None
            raise

    def get_config(self):
        """The constructor's arguments; of a network on a foreign graph, or with changed layers, the whole graph."""
        if not self.stands_alone or self.changes_within():
            return {**_graph(self), **_kept(self)}
        # Weights have files of their own, and a tensor is nothing that a file could hold.
        own = {"input_tensor": None, "weights": None, "dtype": self._policy_now(), "name": self.name}
        if "predictions" in {layer.name for layer in self.layers}:  # as it ends now, whatever it was built with
            own["classifier_activation"] = activation_name(self.get_layer("predictions"))
            own["dropout"] = next((layer.rate for layer in self.layers if layer.name == "dropout"), 0.0)
        return {**self.architecture.to_dict(), **own, **states_of(self)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The inverse of `get_config`."""
        if "layers" in config:
            graph = {name: value for name, value in config.items() if name != "kept"}
            kept = {name: tuple(value) for name, value in config.get("kept", {}).items()}
            model = keras.Model.from_config(graph, custom_objects)
            model = NamedGraph(model.input, model.output, name=model.name) if kept else model
            for name, value in kept.items():
                setattr(model, name, value)
            return model
        arguments = {name: value for name, value in config.items() if name not in STATES}
        if arguments.get("classes") == 1:  # one unit had one name once, which nothing could use
            arguments |= {name: None for name in ("class_names", "thresholds") if len(arguments.get(name) or ()) == 1}
        arguments["input_tensor"] = input_of(config)
        model = cls(**{**arguments, "genotype": Genotype.from_dict(config["genotype"])})
        give_states(model, config)
        return model


# A legacy `.h5` file calls a whole model by the bare name of its class.
keras.saving.get_custom_objects().setdefault("NASNet", NASNet)


def _outputs(architecture, image, policy):
    """The layers of a network on an image tensor; what comes out of the last ones."""
    options, progress = architecture.options, []
    if architecture.drop_path:
        progress = [DropPathSchedule(name="drop_path", dtype="float32")(image)]

    def operation(kind, value, filters, strides, name):
        return Operation(kind, filters, strides, options=options, name=name, dtype=policy)(value)

    def cell(plan, values, name):
        place = (plan.strides, plan.adjust, plan.drop_path)
        layer = Cell(plan.genotype, plan.filters, *place, options=options, name=name, dtype=policy)
        results = layer(values, *progress)
        return list(results) if layer.many else [results]

    x = image
    if architecture.include_preprocessing:
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocessing", dtype=policy)(x)
    body = Body(architecture, x, operation, cell)
    if architecture.feature_pyramid:
        return {f"P{level}": _joined(states, f"P{level}", policy) for level, states in body.levels.items()}
    features = _joined(body.current, "states", policy)
    bound = BOUND if architecture.bounded_activations else None
    features = keras.layers.ReLU(max_value=bound, name="activation", dtype=policy)(features)
    if not architecture.include_top:
        if architecture.pooling is None:
            return features
        kinds = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
        # Every layer here has its channels last, whatever Keras' global format says.
        pool = kinds[architecture.pooling](data_format="channels_last", name="global_pool", dtype="float32")
        return pool(features)
    predictions = classifier(features, architecture)
    if not architecture.auxiliary_head:
        return predictions
    head = AuxiliaryHead(
        architecture.classes, architecture.classifier_activation, options=options, name="auxiliary", dtype=policy
    )
    states = _joined(body.before_last_reduction, "auxiliary_states", policy)
    return {"predictions": predictions, "auxiliary": head(states)}


def _joined(states, name, dtype):
    """One tensor from the states that a cell passes on: normally there is just one."""
    return states[0] if len(states) == 1 else keras.layers.Concatenate(name=name, dtype=dtype)(states)


@keras.saving.register_keras_serializable(package="nasnet_keras")
class NamedGraph(keras.Model):
    """The graph of a network that is none of its architecture's any more, with what it knows of classes and greys."""

    def get_config(self):
        """The graph, and what is kept beside it."""
        return {**_graph(self), **_kept(self)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The inverse of `get_config`."""
        return NASNet.from_config(config, custom_objects)


def _kept(model):
    """What is kept beside a graph."""
    own = {name: getattr(model, name, None) for name in KEPT}
    own = {name: value for name, value in own.items() if value is not None}
    return {"kept": own} if own else {}


def _graph(model):
    """Keras' description of a model's layers and of how they are joined."""
    return keras.Model(model.input, model.output, name=model.name).get_config()
