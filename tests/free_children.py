"""A search whose children cost nothing."""

from dataclasses import dataclass


class Data:
    """As much of a data set as a tuner asks for."""

    class_names, image_shape, train, digest = ["a", "b"], (8, 8, 1), range(10), None


@dataclass(frozen=True)
class Free:
    """A child that costs nothing; the seed is its reward."""

    def evaluate(self, genotype, data, seed):
        return {"reward": seed / 2**32}
