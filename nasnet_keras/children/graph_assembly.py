"""A TensorFlow graph put together from pieces that were traced before, for what runs only a few dozen times.

Tracing costs 0.3 ms of Python for every operation, and a child has a thousand of them. So a function is
traced once for every set of settings and shapes, and its nodes are copied wherever it is called again. The graph
runs without TensorFlow's graph optimiser, which costs more here than it saves.
"""

from dataclasses import dataclass
from functools import lru_cache

import tensorflow as tf

from nasnet_keras.children.threads import sessions_have_own_threads, use_one_thread


@dataclass(frozen=True)
class Output:
    """A tensor of a graph that is being put together.

    Args:
        name: as in a `NodeDef`'s inputs.
        shape: its shape, or None where TensorFlow does not tell it.
        dtype: a `tf.DType`.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: tf.DType = tf.float32


class Assembly:
    """A graph that is being put together; `compile` ends it.

    Attributes:
        definition: the `GraphDef` so far.
    """

    def __init__(self):
        self.definition = tf.compat.v1.GraphDef()
        self.definition.versions.producer = tf.version.GRAPH_DEF_VERSION
        self._constants, self._calls = {}, 0

    def placeholder(self, shape, dtype=tf.float32):
        """An `Output` that is fed."""
        (output,) = self.call(_placeholder, [], tuple(shape), dtype)
        return output

    def call(self, function, inputs, *settings):
        """Copy what a function does into the graph.

        Args:
            function: takes a list of tensors, and then the settings; gives a structure of tensors. What it computes
                must follow from the settings and the tensors' shapes and types alone.
            inputs: an `Output` for each tensor.
            *settings: hashable.

        Returns:
            The function's result with an `Output` in the place of each tensor.
        """
        return self._copy(_trace(function, _signature(inputs), settings), inputs)

    def call_once(self, function, inputs, *settings):
        """The same for what no other graph will have: it is not kept."""
        return self._copy(_trace.__wrapped__(function, _signature(inputs), settings), inputs)

    def differentiable(self, function, inputs, *settings):
        """The same, with the derivative of the first of several results, which is `tf.gradients`'.

        The pieces of both are kept apart. What the derivative reads is made once, with the results.

        Returns:
            The function's results, and a function from the first one's gradient to the list of those of `inputs`.
        """
        there, back = _trace_with_gradients(function, _signature(inputs), settings)
        results, kept = self._copy(there, inputs)
        return results, lambda gradient: self._copy(back, [*kept, gradient])

    def concat(self, parts):
        """One vector of several; written down at once, as no other graph will have the same ones."""
        if len(parts) == 1:
            return parts[0]
        self._calls += 1
        axis, dtype = self.call(_zero, []), parts[0].dtype
        node = self.definition.node.add(op="ConcatV2", name=f"concat_{self._calls}")
        node.input.extend([*(part.name for part in parts), axis.name])
        node.attr["N"].i = len(parts)
        node.attr["T"].type, node.attr["Tidx"].type = dtype.as_datatype_enum, axis.dtype.as_datatype_enum
        return Output(f"{node.name}:0", (sum(part.shape[0] for part in parts),), dtype)

    def _copy(self, piece, inputs):
        self._calls += 1
        names = dict(zip(piece.inputs, (one.name for one in inputs), strict=True))
        for node, constant, outputs in piece.nodes:
            if constant in self._constants:
                names[f"{node.name}:0"] = self._constants[constant]
                continue
            copy = self.definition.node.add()
            copy.CopyFrom(node)
            copy.name = f"{node.name}_{self._calls}"
            del copy.input[:]
            copy.input.extend(names[name] for name in node.input)
            names.update((f"{node.name}:{number}", f"{copy.name}:{number}") for number in range(outputs))
            if constant is not None:
                self._constants[constant] = names[f"{node.name}:0"]
        return _each(lambda output: Output(names[output.name], output.shape, output.dtype), piece.results)

    def compile(self, feeds, fetches):
        """A function from a NumPy array for each of some `Output`s to a list of arrays for others.

        It computes with one thread an operation, see `threads`.
        """
        if not sessions_have_own_threads():
            use_one_thread()
        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(self.definition, name="")
        config = tf.compat.v1.ConfigProto(allow_soft_placement=True, intra_op_parallelism_threads=1)
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        config.graph_options.optimizer_options.opt_level = tf.compat.v1.OptimizerOptions.L0
        session = tf.compat.v1.Session(graph=graph, config=config)
        return session.make_callable([output.name for output in fetches], [output.name for output in feeds])


@dataclass(frozen=True)
class _Piece:
    """What a function does: names of its inputs, (node, identity of a constant, number of outputs), `Output`s.

    Inputs, and those of nodes, are names with the output's number.
    """

    inputs: list
    nodes: list
    results: object


@lru_cache(maxsize=8192)
def _trace(function, signature, settings):
    with tf.Graph().as_default() as graph:
        inputs = _placeholders(signature)
        return _piece(graph, inputs, function(inputs, *settings))


@lru_cache(maxsize=8192)
def _trace_with_gradients(function, signature, settings):
    """The piece of a function, with what its derivative reads, and the derivative's own."""
    with tf.Graph().as_default() as graph:
        inputs = _placeholders(signature)
        results = function(inputs, *settings)
        made = {operation for operation in graph.get_operations() if operation.type != "Const"}
        (gradient,) = _placeholders(_signature(results[:1]))
        # Sums of two at a time: one of more is added in the order in which buffers come free.
        pairs = tf.AggregationMethod.EXPERIMENTAL_TREE
        how = {"aggregation_method": pairs, "unconnected_gradients": "zero"}
        gradients = tf.gradients(results[0], inputs, gradient, **how)
        _, reads = _needed(gradients, lambda tensor: tensor is gradient or tensor.op in made)
        kept = [tensor for tensor in reads if tensor is not gradient]
        return _piece(graph, inputs, (results, kept)), _piece(graph, [*kept, gradient], gradients)


def _placeholders(signature):
    return [tf.compat.v1.placeholder(dtype, shape) for shape, dtype in signature]


def _piece(graph, inputs, results):
    """What leads from some tensors of a graph to others; copies of a value are left out."""
    given, ends, nodes = {tensor.name for tensor in inputs}, [], []
    _each(ends.append, results)
    operations, _ = _needed(ends, lambda tensor: tensor.name in given)
    for operation in graph.get_operations():
        if operation in operations:
            node = operation.node_def
            node.attr.pop("_class", None)  # names another node
            del node.input[:]
            node.input.extend(_source(tensor).name for tensor in operation.inputs)
            constant = node.attr["value"].SerializeToString() if node.op == "Const" else None
            nodes.append((node, constant, len(operation.outputs)))
    return _Piece([tensor.name for tensor in inputs], nodes, _each(lambda end: _output(_source(end)), results))


def _needed(ends, stops):
    """The operations that tensors come from, and the tensors at which the way back `stops`."""
    operations, borders, waiting = set(), {}, [_source(end) for end in ends]
    while waiting:
        tensor = waiting.pop()
        if stops(tensor):
            borders[tensor.name] = tensor
        elif tensor.op not in operations:
            operations.add(tensor.op)
            waiting += map(_source, tensor.op.inputs)
    return operations, list(borders.values())


def _source(tensor):
    """What a tensor is a copy of."""
    while tensor.op.type in ("Identity", "IdentityN"):
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def _signature(inputs):
    return tuple((one.shape, one.dtype) for one in inputs)


def _each(change, results):
    """A structure of lists and tuples with everything in it changed."""
    return [_each(change, one) for one in results] if isinstance(results, list | tuple) else change(results)


def _output(tensor):
    shape = tensor.shape
    return Output(tensor.name, None if shape.rank is None else tuple(shape), tensor.dtype)


def _placeholder(tensors, shape, dtype):
    return (tf.compat.v1.placeholder(dtype, shape),)


def _zero(tensors):
    return tf.constant(0)
