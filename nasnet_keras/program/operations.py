"""The thirteen operations and the combinations, written as primitives from one table.

An operation is a short chain, written down once in `CHAINS`. The order inside it is ReLU,
convolution, batch normalisation, and a separable convolution is applied twice (Zoph et al. 2018,
arXiv 1707.07012, appendix A.4). Padding is SAME everywhere: an average leaves the padding out of its
count, a maximum pads with minus infinity.

Shapes are [batch, height, width, channels]; a stride of 2 gives ceil(size / 2).
"""


def _identity(program, value, filters, strides):
    if strides == 1 and value.channels == filters:
        return program.relu(value) if program.options.bounded_activations else value
    return _convolution(1)(program, value, filters, strides)


def _convolution(kernel):
    def write(program, value, filters, strides):
        value = program.conv(program.relu(value), filters, kernel, strides)
        return program.bounded(program.norm(value))

    return write


def _factored_convolution(length):
    def write(program, value, filters, strides):
        value = program.conv(program.relu(value), filters, (1, length), (1, strides), "conv_1")
        value = program.norm(value, "batch_norm_1")
        value = program.conv(program.relu(value), filters, (length, 1), (strides, 1), "conv_2")
        return program.bounded(program.norm(value, "batch_norm_2"))

    return write


def _dilated_convolution(kernel, rate):
    def write(program, value, filters, strides):
        value = program.relu(value)
        # With a stride equal to the rate the taps fall on every second pixel only: the same
        # result comes from a dense convolution of the thinned image.
        if strides == 1:
            value = program.conv(value, filters, kernel, dilation=rate)
        else:
            value = program.conv(program.subsample(value, strides), filters, kernel)
        return program.bounded(program.norm(value))

    return write


def _separable_convolution(kernel):
    def write(program, value, filters, strides):
        value = program.separable(program.relu(value), filters, kernel, strides, "separable_1")
        value = program.norm(value, "batch_norm_1")
        value = program.separable(program.relu(value), filters, kernel, 1, "separable_2")
        return program.bounded(program.norm(value, "batch_norm_2"))

    return write


def _pool(kind, size):
    def write(program, value, filters, strides):
        value = program.relu(value) if program.options.bounded_activations else value
        value = program.pool(value, kind, size, strides)
        if value.channels != filters:
            value = program.norm(program.conv(value, filters, 1))
        return program.bounded(value)

    return write


def _factorized_reduction(activate):
    """Half the size without dropping pixels: two strided 1×1 convolutions, one of them shifted.

    The first sees the even pixels, the second those one further down and right (zero beyond the
    border); they give F // 2 and F - F // 2 channels.
    """

    def write(program, value, filters, strides):
        value, half = program.relu(value) if activate else value, filters // 2
        paths = [program.conv(value, half, 1, 2, "reduce/path_1")] if half else []
        paths.append(program.conv(program.shift(value), filters - half, 1, 2, "reduce/path_2"))
        return program.norm(program.concat(paths))

    return write


def _plain_convolution(kernel, padding="SAME"):
    def write(program, value, filters, strides):
        return program.norm(program.conv(value, filters, kernel, strides, padding=padding))

    return write


# The search space's operations, and below them what joins cells: the stems, and the ways in which
# a state is brought to another shape. `output_…`, without ReLU, serve a cell's output.
CHAINS = {
    "identity": _identity,
    "conv_1x3_3x1": _factored_convolution(3),
    "conv_1x7_7x1": _factored_convolution(7),
    "dil_conv_3x3": _dilated_convolution(3, rate=2),
    "avg_pool_3x3": _pool("avg", 3),
    "max_pool_3x3": _pool("max", 3),
    "max_pool_5x5": _pool("max", 5),
    "max_pool_7x7": _pool("max", 7),
    "conv_1x1": _convolution(1),
    "conv_3x3": _convolution(3),
    "sep_conv_3x3": _separable_convolution(3),
    "sep_conv_5x5": _separable_convolution(5),
    "sep_conv_7x7": _separable_convolution(7),
    "factorized_reduction": _factorized_reduction(activate=True),
    "output_projection": _plain_convolution(1),
    "output_reduction": _factorized_reduction(activate=False),
    "stem_cifar": _plain_convolution(3),
    "stem_imagenet": _plain_convolution(3, padding="VALID"),
}


def write_operation(program, kind, value, filters, strides=1):
    """Append one operation of `CHAINS`.

    Args:
        program: a `program.Program`.
        kind: a name from `CHAINS`; the search space's are `genotype.OPERATIONS`.
        value: the state that it reads.
        filters: channels of the result.
        strides: 1, or 2 to halve height and width, rounded up.
    """
    return CHAINS[kind](program, value, filters, strides)


def write_combination(program, kind, left, right):
    """Append what joins a block's two results of F channels into one state of F channels.

    `add` sums them; `add_layer_norm` and `add_instance_norm` normalise the sum, over height, width
    and channels or over height and width, with one scale and offset a channel; `concat` joins them
    to 2F channels and brings these back to F by ReLU, 1×1 convolution and batch norm.

    Args:
        program: a `program.Program`.
        kind: a name from `genotype.COMBINATIONS`.
        left: a value.
        right: a value of the same shape.
    """
    if kind == "concat":
        with program.scope("project"):
            return write_operation(program, "conv_1x1", program.concat([left, right]), left.channels)
    value = program.add(left, right)
    if kind == "add":
        return program.relu(value) if program.options.bounded_activations else value
    whole = kind == "add_layer_norm"
    return program.group_norm(value, "layer_norm" if whole else "instance_norm", whole)
