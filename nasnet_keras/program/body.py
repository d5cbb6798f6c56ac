"""The body of a network: stem, stacks of Normal cells, Reduction cells between them, and who reads whom.

Zoph et al. 2018 (arXiv 1707.07012), figure 2 and appendix A.4, wired as the released code wires it.
"""

from nasnet_keras.program.cell import CellPlan


class Body:
    """Puts the stem and the cells of an architecture one after another, from an image to the last cell.

    What is put together is the caller's business: Keras layers on Keras tensors (`models.network`), or steps of a
    program on its values (`Architecture.program`).

    Args:
        architecture: an `Architecture`.
        image: what the stem reads, in [-1, 1].
        operation: function of (kind, value, filters, strides, name) that gives the operation's result.
        cell: function of (`CellPlan`, values of the states that it reads, name) that gives the list of values that
            the cell passes on: one for a genotype with two inputs.

    Attributes:
        current: the values that the last cell passes on.
        before_last_reduction: those that the last Reduction cell reads, which the auxiliary head reads too; None
            in a network of one stack.
        levels: {level: the values passed on last at that level}; a level has stride 2^level.
    """

    def __init__(self, architecture, image, operation, cell):
        self._architecture, self._cell = architecture, cell
        genotype, filters = architecture.genotype, architecture.filters
        stem, stem_cells = architecture.stem, 2 if architecture.stem == "imagenet" else 0
        self._total = stem_cells + sum(architecture.stacks) + len(architecture.stacks) - 1
        self._done = 0
        strides = 2 if stem == "imagenet" else 1
        value = operation(f"stem_{stem}", image, architecture.stem_filters, strides, "stem")
        self.current, self._previous = [value] * genotype.normal.inputs, None
        self._level = self._previous_level = strides - 1
        self.levels = {self._level: [value]}
        self.before_last_reduction = None
        for number in range(stem_cells):
            self._append(genotype.reduction, filters // (4, 2)[number], 2, f"stem_cell_{number}")
        normal_cells = 0
        for stack, count in enumerate(architecture.stacks):
            width = filters * 2**stack
            if stack:
                self.before_last_reduction = self.current
                name = f"reduction_cell_{stack - 1}"
                self._append(genotype.reduction, width, 2, name, keeps_previous=architecture.skip_reduction)
            for _ in range(count):
                self._append(genotype.normal, width, 1, f"cell_{normal_cells}")
                normal_cells += 1

    def _append(self, genotype, filters, strides, name, keeps_previous=False):
        states, adjust = self.current, ("project",) * genotype.inputs
        if genotype.inputs == 2:
            # h_{i-1} is a size larger where a reduction lies between it and h_i: the history of
            # strides tells, never the sizes, so that images of unknown size give the same layers.
            way = "match" if self._previous_level == self._level else "reduce"
            states, adjust = [self._previous, *self.current], (way, "project")
            if self._previous is None:
                states, adjust = [*self.current, *self.current], ("raw", "project")
        self._done += 1
        drop_path = self._architecture.drop_path * self._done / self._total
        plan = CellPlan(genotype, filters, strides, adjust, drop_path)
        result = self._cell(plan, [states[state] for state in plan.reads], name)
        if not keeps_previous:
            self._previous, self._previous_level = self.current[-1], self._level
        self.current = result
        self._level += strides - 1
        self.levels[self._level] = self.current
