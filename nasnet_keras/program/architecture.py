"""The value in the middle: a network, described completely.

A network is made from one and keeps it (`models.network.NASNet.architecture`), its config is its dict, and its program
is what predictions, exports and children compute. Sizes and wiring: Zoph et al. 2018 (arXiv 1707.07012), section 3.1,
figure 2 and appendix A.4.
"""

import math
from dataclasses import KW_ONLY, InitVar, dataclass, fields, replace
from functools import cached_property

from nasnet_keras.checks import (
    as_integer,
    as_numbers,
    check_range,
    is_number,
    names_of,
    take_integers,
    take_numbers,
)
from nasnet_keras.genotype import Genotype
from nasnet_keras.program.body import Body
from nasnet_keras.program.operations import write_operation
from nasnet_keras.program.options import Options
from nasnet_keras.program.program import Program

LEAST_FILTERS = {"cifar": 1, "imagenet": 4}  # whose stem cells have a quarter and half as many
# What a stem implies: the default image side, and batch norm's momentum and epsilon.
STEMS = {"imagenet": (224, 0.9997, 1e-3), "cifar": (32, 0.9, 1e-5)}
# The arguments that are numbers and need be no integers, and those that are true or false.
RATES = ("dropout", "drop_path", "batch_norm_momentum", "batch_norm_epsilon", "weight_decay")
FLAGS = ("skip_reduction", "include_top", "auxiliary_head", "feature_pyramid", "include_preprocessing")
FLAGS += ("bounded_activations",)
# What decides, beside their shapes, what weights compute: cells may differ in pools and inputs alone.
WIRING = ("genotype", "repeats", "stem", "skip_reduction", "batch_norm_epsilon", "bounded_activations")
WIRING += ("pooling_compatibility",)


@dataclass(frozen=True)
class Architecture:
    """A network as a value: frozen, hashable, JSON-able, with nothing left open.

    The arguments are those of `NASNet` and mean the same; what may be left out there is filled in here, so that two
    ways to say the same network give equal values.

    Args:
        genotype: a `Genotype`.
        repeats: Normal cells in each of three stacks, or a tuple with one number for each stack.
        filters: F of the first stack.
        penultimate_filters: may be given instead of `filters`.
        stem, …, thresholds: as for `NASNet`.

    Attributes:
        repeats: a tuple with a number for each stack.
        filters, stem_filters, input_shape, batch_norm_momentum, batch_norm_epsilon: what they are, never None; a height
            or width of the input is None where any is taken.

    Raises:
        ValueError: naming the first argument that makes no sense.

    Examples:
        `Architecture(load_genotype("nasnet_a"), repeats=4, filters=44).program().multiply_adds((224, 224))`
    """

    genotype: Genotype
    _: KW_ONLY
    repeats: int | tuple[int, ...]
    filters: int | None = None
    penultimate_filters: InitVar[int | None] = None
    stem: str = "imagenet"
    stem_filters: int | None = None
    skip_reduction: bool = False
    input_shape: tuple | None = None
    include_top: bool = True
    classes: int = 1000
    classifier_activation: str | None = "softmax"
    pooling: str | None = None
    dropout: float = 0.0
    drop_path: float = 0.0
    auxiliary_head: bool = False
    feature_pyramid: bool = False
    include_preprocessing: bool = False
    batch_norm_momentum: float | None = None
    batch_norm_epsilon: float | None = None
    weight_decay: float = 0.0
    bounded_activations: bool = False
    pooling_compatibility: str | None = None
    class_names: tuple[str, ...] | None = None
    grey_range: tuple[float, float] | None = None
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self, penultimate_filters):
        def require(name, rule, fine, value=None):
            if not fine:
                received = getattr(self, name) if value is None else value
                raise ValueError(f"`{name}` must be {rule}. Received: {received!r}")

        penultimate_filters = as_integer(penultimate_filters)
        take_integers(self, "repeats", "filters", "stem_filters", "input_shape", "classes")  # of NumPy, say
        take_numbers(self, *RATES)
        for name in FLAGS:
            self._set(name, bool(getattr(self, name)))
        for name in ("grey_range", "thresholds"):
            self._set(name, as_numbers(getattr(self, name)))
        if not isinstance(self.genotype, Genotype):
            raise ValueError(f"`genotype` must be a Genotype. Received: {self.genotype!r}")
        repeats = self.repeats
        many = isinstance(repeats, list | tuple) and len(repeats) and all(_whole(count, 1) for count in repeats)
        require("repeats", "an integer above 0, or a tuple of them, one for each stack", _whole(repeats, 1) or many)
        self._set("repeats", tuple(repeats) if many else (repeats,) * 3)
        if (self.filters is None) == (penultimate_filters is None):
            received = "none of them" if self.filters is None else f"both, {self.filters} and {penultimate_filters}"
            raise ValueError(f"either `filters` or `penultimate_filters` must be given. Received: {received}")
        for name, value in (("penultimate_filters", penultimate_filters), ("stem_filters", self.stem_filters)):
            require(name, "an integer above 0", value is None or _whole(value, 1), value)
        require("stem", f"one of {', '.join(STEMS)}", isinstance(self.stem, str) and self.stem in STEMS)
        least = 32 if self.stem == "imagenet" else 1
        shape = self.input_shape
        if shape is not None:
            sizes = isinstance(shape, list | tuple) and len(shape) == 3 and _whole(shape[2], 1)
            sizes = sizes and all(length is None or _whole(length, least) for length in shape[:2])
            require("input_shape", f"(height, width, channels) with sizes from {least}, or None for any size", sizes)
        require("classes", "an integer above 0", _whole(self.classes, 1))
        if self.class_names is not None:
            self._set("class_names", names_of("class_names", self.class_names))
        names, told = self.class_names, max(self.classes, 2)  # one unit tells the second of two classes from the first
        require("class_names", f"None or {told} names", names is None or len(names) == told)
        check_range("grey_range", self.grey_range, optional=True)
        given = self.thresholds
        fine = given is None or (_many(given, told) and all(is_number(x) and 0 <= x <= 1 for x in given))
        require("thresholds", f"None or {told} probabilities", fine)
        require("pooling", "None, 'avg' or 'max'", self.pooling in (None, "avg", "max"))
        for name in ("dropout", "drop_path"):
            rate = getattr(self, name)
            require(name, "a rate in [0, 1)", isinstance(rate, int | float) and 0 <= rate < 1)
        fits = self.include_top and not self.feature_pyramid and len(self.repeats) > 1
        rule = "False without `include_top`, with `feature_pyramid`, and with a single stack"
        require("auxiliary_head", rule, fits or not self.auxiliary_head)
        side, *norm = STEMS[self.stem]
        for name, value in zip(("batch_norm_momentum", "batch_norm_epsilon"), norm, strict=True):
            given = getattr(self, name)
            if given is None or (is_number(given) and _close(given, value)):
                self._set(name, value)
        Options(**self._options())  # raises
        self._set("filters", self._first_filters(penultimate_filters))
        self._set("stem_filters", self.stem_filters or self._usual_stem_filters())
        self._set("input_shape", (side, side, 3) if shape is None else tuple(shape))

    @property
    def stacks(self):
        """Normal cells in each stack, a tuple: the same as `repeats`."""
        return self.repeats

    @cached_property
    def options(self):
        """The `Options` that all layers share."""
        return Options(**self._options())

    def program(self):
        """The `Program` from images in [-1, 1] to the logits: stem, cells, classifier.

        What only training needs is not in it: drop path, dropout, the auxiliary head.
        """
        program = Program((self.input_shape[-1],), self.options)

        def operation(kind, value, filters, strides, name):
            with program.scope(name):
                return write_operation(program, kind, value, filters, strides)

        def cell(plan, values, name):
            with program.scope(name):
                return replace(plan, drop_path=0.0).write(program, values)

        body = Body(self, *program.inputs, operation, cell)
        features = program.relu(program.concat(body.current))
        program.dense(program.mean(features), self.classes, "logits")
        return program.without_dead_layers()

    def to_dict(self):
        """The value as JSON-able data, the arguments of `NASNet`: what follows from the stem anyway is None."""
        data = {**self.arguments(), "genotype": self.genotype.to_dict()}
        for name in ("grey_range", "thresholds"):
            if data[name] is None:  # earlier versions, which do not know it, can go on reading the others
                del data[name]
        return data

    def changed(self, **changes):
        """The same but for these arguments; what followed from those before follows from the new ones.

        The size of images stays what it is, since weights may depend on it. Names of classes, and their
        thresholds, go with their number.

        Raises:
            ValueError: naming the argument at fault.
        """
        arguments = self.arguments() | changes
        if changes.get("penultimate_filters") is not None and "filters" not in changes:
            arguments["filters"] = None
        if changes.get("classes", self.classes) != self.classes:
            arguments |= {name: None for name in ("class_names", "thresholds") if name not in changes}
        for name in set(changes) - set(self.arguments()):
            raise ValueError(f"`{name}` is no argument of NASNet. Received: {changes[name]!r}")
        return Architecture(**arguments)

    def check_weights_of(self, trained):
        """Raise `ValueError` unless weights that were trained in another network compute the same in this one.

        Args:
            trained: the `Architecture` of the other one, or a dict with what a saved model says of it.
        """
        if isinstance(trained, dict):
            names = ("filters", "penultimate_filters", *WIRING)  # of which earlier versions kept the one that was given
            said = {name: trained[name] for name in names if name in trained}
            said.setdefault("pooling_compatibility", self.pooling_compatibility)  # of others' weights it may be any
            trained = Architecture.from_dict(said)
        for name in WIRING:
            asked, known = (getattr(one, name) for one in (self, trained))
            if name == "genotype":
                asked, known = asked.digest, known.digest
            if not (_close(asked, known) if name == "batch_norm_epsilon" else asked == known):
                raise ValueError(
                    f"`weights` do not fit the network: `{name}` must be that which they were trained with, {known}. "
                    f"Received: {asked}"
                )

    def arguments(self):
        """The shortest arguments that give this value; the size of its images always stands among them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)} | {"penultimate_filters": None}
        if self.repeats == self.repeats[:1] * 3:
            values["repeats"] = self.repeats[0]
        implied = dict(zip(("batch_norm_momentum", "batch_norm_epsilon"), STEMS[self.stem][1:], strict=True))
        implied["stem_filters"] = self._usual_stem_filters()
        return values | {name: None for name, value in implied.items() if values[name] == value}

    @classmethod
    def from_dict(cls, data):
        """The inverse of `to_dict`; raises `ValueError` naming the argument at fault."""
        known = {field.name for field in fields(cls)} | {"penultimate_filters"}
        for name in set(data) - known:
            raise ValueError(f"an architecture has no `{name}`; it has {', '.join(sorted(known))}")
        return cls(**{**data, "genotype": Genotype.from_dict(data["genotype"])})

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def _options(self):
        return {field.name: getattr(self, field.name) for field in fields(Options)}

    def _usual_stem_filters(self):
        return 32 if self.stem == "imagenet" else 3 * self.filters

    def _first_filters(self, penultimate_filters):
        filters = self.filters
        if penultimate_filters is not None:
            last = len(self.genotype.normal.concat) * 2 ** (len(self.repeats) - 1)
            if penultimate_filters % last:
                raise ValueError(
                    f"`penultimate_filters` must be a multiple of {last}: 2^(stacks - 1) times the number of states "
                    f"that the normal cell concatenates. Received: {penultimate_filters}"
                )
            filters = penultimate_filters // last
        least = LEAST_FILTERS[self.stem]
        if penultimate_filters is not None and filters < least:
            raise ValueError(
                f"`penultimate_filters` must be at least {least * last} with the {self.stem} stem and this genotype. "
                f"Received: {penultimate_filters}"
            )
        if not _whole(filters, least):
            raise ValueError(
                f"`filters` must be an integer from {least} with the {self.stem} stem. Received: {filters!r}"
            )
        return filters


def _close(one, other):
    """Whether two numbers are the same: a float32 of NumPy is not quite the number that it was written as."""
    return math.isclose(one, other, rel_tol=1e-6)


def _many(values, count):
    return isinstance(values, tuple) and len(values) == count


def _whole(value, least):
    return type(value) is int and value >= least
