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
class Edge:
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
        """An `Edge` that is fed."""
        (edge,) = self.call(_placeholder, [], tuple(shape), dtype)
        return edge

    def call(self, function, edges, *settings):
        """Copy what a function does into the graph.

        Args:
            function: takes a list of tensors, and then the settings; gives a structure of tensors. What it computes
                must follow from the settings and the tensors' shapes and types alone.
            edges: an `Edge` for each tensor.
            *settings: hashable.

        Returns:
            The function's result with an `Edge` in the place of each tensor.
        """
        return self._copy(_trace(function, _signature(edges), settings), edges)

    def call_once(self, function, edges, *settings):
        """The same for what no other graph will have: it is not kept."""
        return self._copy(_trace.__wrapped__(function, _signature(edges), settings), edges)

    def concat(self, edges):
        """One vector of several; written down at once, as no other graph will have the same ones."""
        if len(edges) == 1:
            return edges[0]
        self._calls += 1
        axis, dtype = self.call(_zero, []), edges[0].dtype
        node = self.definition.node.add(op="ConcatV2", name=f"concat_{self._calls}")
        node.input.extend([*(edge.name for edge in edges), axis.name])
        node.attr["N"].i = len(edges)
        node.attr["T"].type, node.attr["Tidx"].type = dtype.as_datatype_enum, axis.dtype.as_datatype_enum
        return Edge(f"{node.name}:0", (sum(edge.shape[0] for edge in edges),), dtype)

    def _copy(self, piece, edges):
        self._calls += 1
        names = {f"{name}:0": edge.name for name, edge in zip(piece.inputs, edges, strict=True)}
        for node, constant, outputs in piece.nodes:
            if constant in self._constants:
                names[f"{node.name}:0"] = self._constants[constant]
                continue
            copy = self.definition.node.add()
            copy.CopyFrom(node)
            copy.name = f"{node.name}_{self._calls}"
            del copy.input[:]
            copy.input.extend(names[_full(name)] for name in node.input)
            names.update((f"{node.name}:{number}", f"{copy.name}:{number}") for number in range(outputs))
            if constant is not None:
                self._constants[constant] = names[f"{node.name}:0"]
        return _each(lambda edge: Edge(names[edge.name], edge.shape, edge.dtype), piece.results)

    def compile(self, feeds, fetches):
        """A function from a NumPy array for each of some `Edge`s to a list of arrays for others.

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
        return session.make_callable([edge.name for edge in fetches], [edge.name for edge in feeds])


@dataclass(frozen=True)
class _Piece:
    """What a function does: names of its inputs, (node, identity of a constant, number of outputs), `Edge`s."""

    inputs: list
    nodes: list
    results: object


@lru_cache(maxsize=8192)
def _trace(function, signature, settings):
    with tf.Graph().as_default() as graph:
        inputs = [tf.compat.v1.placeholder(dtype, shape) for shape, dtype in signature]
        results = function(inputs, *settings)
    names = [tensor.op.name for tensor in inputs]
    nodes = [
        (node, node.attr["value"].SerializeToString() if node.op == "Const" else None, len(operation.outputs))
        for node, operation in zip(graph.as_graph_def().node, graph.get_operations(), strict=True)
        if node.name not in names
    ]
    return _Piece(names, nodes, _each(_edge, results))


def _signature(edges):
    return tuple((edge.shape, edge.dtype) for edge in edges)


def _each(change, results):
    """A structure of lists and tuples with everything in it changed."""
    return [_each(change, one) for one in results] if isinstance(results, list | tuple) else change(results)


def _edge(tensor):
    shape = tensor.shape
    return Edge(tensor.name, None if shape.rank is None else tuple(shape), tensor.dtype)


def _placeholder(tensors, shape, dtype):
    return (tf.compat.v1.placeholder(dtype, shape),)


def _zero(tensors):
    return tf.constant(0)


def _full(name):
    """A node's input with its number, which is left out where it is 0."""
    return name if ":" in name else f"{name}:0"
