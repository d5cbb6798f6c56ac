"""What all parts of one network share."""

from dataclasses import asdict, dataclass
from math import inf

from nasnet_keras.checks import take_numbers

BOUND = 6.0


@dataclass(frozen=True)
class Options:
    """What all layers of one network share.

    Args:
        batch_norm_momentum: share of the old moving statistics kept at each step.
        batch_norm_epsilon: added to the variance.
        weight_decay: L2 factor as TF-slim and the paper state it: the loss grows by
            `weight_decay / 2` times the sum of squares of every kernel.
        bounded_activations: keep activations within ±6, for quantised inference: ReLU6
            everywhere, a clip after each operation, ReLU6 after each addition.
        pooling_compatibility: `"keras"` pads strided pools with counted zeros, which is wrong at
            the borders but is what keras.applications' NASNet does; None does it right.

    Raises:
        ValueError: a value out of range.
    """

    batch_norm_momentum: float = 0.9997
    batch_norm_epsilon: float = 1e-3
    weight_decay: float = 0.0
    bounded_activations: bool = False
    pooling_compatibility: str | None = None

    def __post_init__(self):
        take_numbers(self, "batch_norm_momentum", "batch_norm_epsilon", "weight_decay")  # of NumPy, say
        object.__setattr__(self, "bounded_activations", bool(self.bounded_activations))
        if not 0 <= self.batch_norm_momentum < 1:
            raise ValueError(f"`batch_norm_momentum` must be in [0, 1). Received: {self.batch_norm_momentum}")
        if not 0 < self.batch_norm_epsilon < inf:
            raise ValueError(f"`batch_norm_epsilon` must be a number above 0. Received: {self.batch_norm_epsilon}")
        if not 0 <= self.weight_decay < inf:
            raise ValueError(f"`weight_decay` must be a number from 0. Received: {self.weight_decay}")
        if self.pooling_compatibility not in (None, "keras"):
            raise ValueError(
                f"`pooling_compatibility` must be None or 'keras'. Received: {self.pooling_compatibility!r}"
            )

    @classmethod
    def of(cls, value):
        """An `Options` from None, a dict of some of its fields, or one already."""
        return value if isinstance(value, cls) else cls(**(value or {}))

    def to_dict(self):
        """The options as JSON-able data."""
        return asdict(self)
