"""The body of a network: stem, stacks of Normal cells, Reduction cells between them, and who reads whom.

Zoph et al. 2018 (arXiv 1707.07012), figure 2 and appendix A.4, wired as the released code wires it.
"""

from nasnet_keras.models.drop_path import DropPathSchedule
from nasnet_keras.models.layers import Cell, Operation


class Body:
    """Puts cells one after another and keeps what later ones read.

    `operation` and `cell` make what is put together: Keras layers, or what stands in for them where a
    network is only planned.
    """

    def __init__(
        self, genotype, stacks, skip_reduction, drop_path, options, dtype, image, operation=Operation, cell=Cell
    ):
        self.make_operation, self.make_cell = operation, cell
        self.genotype, self.stacks, self.skip_reduction = genotype, stacks, skip_reduction
        self.drop_path, self.options, self.dtype = drop_path, options.to_dict(), dtype
        self.progress = [DropPathSchedule(name="drop_path", dtype="float32")(image)] if drop_path else []
        self.total = sum(stacks) + len(stacks) - 1
        self.done = self.normal_cells = self.reduction_cells = 0

    def assemble(self, image, stem, stem_filters, filters):
        """The whole body, from the image to the last cell."""
        self.stem(image, stem, stem_filters or (32 if stem == "imagenet" else 3 * filters), filters)
        for stack, count in enumerate(self.stacks):
            if stack:
                self.reduce(filters * 2**stack)
            for _ in range(count):
                self.normal(filters * 2**stack)

    def stem(self, image, kind, stem_filters, filters):
        """The first convolution, and on ImageNet the two reduction cells after it."""
        layer = self.make_operation(
            f"stem_{kind}",
            stem_filters,
            2 if kind == "imagenet" else 1,
            options=self.options,
            name="stem",
            dtype=self.dtype,
        )
        self.current = [layer(image)] * self.genotype.normal.inputs
        self.previous = None
        self.current_level = self.previous_level = 1 if kind == "imagenet" else 0
        self.levels = {self.current_level: self.current[:1]}
        if kind == "imagenet":
            self.total += 2
            for index, divisor in enumerate((4, 2)):
                self._append(self.genotype.reduction, filters // divisor, 2, f"stem_cell_{index}")

    def normal(self, filters):
        """A Normal cell."""
        self._append(self.genotype.normal, filters, 1, f"cell_{self.normal_cells}")
        self.normal_cells += 1

    def reduce(self, filters):
        """A Reduction cell."""
        self.before_last_reduction = self.current
        self._append(self.genotype.reduction, filters, 2, f"reduction_cell_{self.reduction_cells}", self.skip_reduction)
        self.reduction_cells += 1

    def _append(self, cell, filters, strides, name, keep_previous=False):
        states, adjust = self.current, ("project",) * cell.inputs
        if cell.inputs == 2:
            # h_{i-1} is a size larger where a reduction lies between it and h_i: the history of
            # strides tells, never the sizes, so that images of unknown size give the same layers.
            way = "match" if self.previous_level == self.current_level else "reduce"
            states, adjust = [self.previous, *self.current], (way, "project")
            if self.previous is None:
                states, adjust = [*self.current, *self.current], ("raw", "project")
        self.done += 1
        layer = self.make_cell(
            cell.to_dict(),
            filters,
            strides,
            adjust,
            drop_path=self.drop_path * self.done / self.total,
            options=self.options,
            name=name,
            dtype=self.dtype,
        )
        result = layer([states[state] for state in layer.reads], *self.progress)
        if not keep_previous:
            self.previous, self.previous_level = self.current[-1], self.current_level
        self.current = list(result) if isinstance(result, list | tuple) else [result]
        self.current_level += strides - 1
        self.levels[self.current_level] = self.current
