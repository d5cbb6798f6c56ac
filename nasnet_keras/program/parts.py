"""A program cut into parts that come again: what brings the states to a cell's size, and the cell's blocks."""

from dataclasses import dataclass, replace
from itertools import groupby

from nasnet_keras.program.program import Value


@dataclass(frozen=True)
class Kind:
    """What a part computes, without its place: equal for equal parts of any cells.

    Args:
        channels: channels of each value that it reads.
        steps: its `Step`s without names, on values that are numbered as in a program of its own.
        results: the `Value`s among them that are wanted outside.
    """

    channels: tuple[int, ...]
    steps: tuple
    results: tuple[Value, ...]


@dataclass(frozen=True)
class Part:
    """Some steps of a program that follow one another.

    Args:
        kind: what they compute, a `Kind`.
        reads: numbers of the program's values that they read and do not make.
        makes: numbers of the program's values in the places of the kind's results.
        first: number of their first weight among the program's.
        rates: rates of their dropped paths, in the order of the steps; the kind has 1 in their places.
    """

    kind: Kind
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    first: int
    rates: tuple[float, ...]

    @property
    def weights(self):
        """Number of its weights."""
        return sum(len(step.weights) for step in self.kind.steps)


def parts_of(program, results):
    """The parts of a program, a list of `Part`s in an order in which they can be computed.

    Args:
        program: a `Program`.
        results: the `Value`s that are wanted of it.
    """
    groups = [list(steps) for _, steps in groupby(program.steps, _place)]
    read = [{value for step in group for value in step.reads} for group in groups]
    parts, first = [], 0
    for number, group in enumerate(groups):
        made = [step.result for step in group]
        outside = tuple(sorted(read[number].difference(made), key=lambda value: value.number))
        wanted = set(results).union(*read[number + 1 :])
        results_of_part = tuple(value for value in made if value in wanted)
        parts.append(_part(group, outside, results_of_part, first))
        first += parts[-1].weights
    return parts


def _place(step):
    """Every input state is brought to the cell's size in a part of its own; the rest belongs together."""
    place = step.name.split("/")[0]
    return place if place in ("previous", "current") or place.startswith("input_") else ""


def _part(group, reads, makes, first):
    now = {value: Value(number, value.channels) for number, value in enumerate(reads)}
    steps, rates = [], []
    for step in group:
        now[step.result] = Value(len(now), step.result.channels)
        primitive = step.primitive
        if primitive.kind == "drop_path":
            rates.append(primitive.rate)
            primitive = replace(primitive, settings=(("rate", 1.0),))
        weights = tuple(replace(weight, name="") for weight in step.weights)
        steps.append(
            replace(
                step,
                name="",
                primitive=primitive,
                reads=tuple(now[value] for value in step.reads),
                result=now[step.result],
                weights=weights,
            )
        )
    kind = Kind(tuple(value.channels for value in reads), tuple(steps), tuple(now[value] for value in makes))
    return Part(kind, tuple(v.number for v in reads), tuple(v.number for v in makes), first, tuple(rates))
