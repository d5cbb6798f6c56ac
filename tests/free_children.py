"""A search whose children cost nothing."""

from dataclasses import dataclass

from nasnet_keras.search import directory


def as_another_process():
    """From here on this process is none that has given trials out before: those are of one that was killed."""
    directory._given_out.clear()


class Data:
    """As much of a data set as a tuner asks for."""

    class_names, image_shape, train, digest = ["a", "b"], (8, 8, 1), range(10), None


@dataclass(frozen=True)
class Free:
    """A child that costs nothing; the seed is its reward."""

    def evaluate(self, genotype, data, seed):
        return {"reward": seed / 2**32}
