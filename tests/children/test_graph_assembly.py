"""A graph put together from recorded pieces computes what one traced as a whole does."""

import gc

import numpy as np
import pytest
import tensorflow as tf

from nasnet_keras.children import graph_assembly as pieces
from nasnet_keras.children.graph_assembly import Assembly

CALLS = []


def scaled(tensors, factor):
    CALLS.append(factor)
    return tensors[0] * tf.constant([factor, factor]), (tensors[0], [tf.constant([factor, factor])])


def total(tensors):
    return tf.add_n(tensors)


def assemble(factors):
    graph = Assembly()
    image = graph.placeholder((3, 2))
    edges = []
    for factor in factors:
        product, (same, (constant,)) = graph.call(scaled, [image], factor)
        assert same == image and constant.shape == (2,)
        edges.append(product)
    return graph, image, graph.call(total, edges)


def test_it_computes_what_the_functions_compute():
    graph, image, result = assemble([2.0, 3.0, 2.0])
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    (made,) = graph.compile([image], [result])(values)
    np.testing.assert_array_equal(made, 7 * values)
    assert result.shape == (3, 2) and result.dtype == tf.float32


def test_a_function_is_traced_once_for_every_setting_and_shape():
    CALLS.clear()
    pieces._trace.cache_clear()
    assemble([5.0, 6.0, 5.0])
    assemble([6.0])
    assert CALLS == [5.0, 6.0]
    graph = Assembly()
    graph.call(scaled, [graph.placeholder((4, 2))], 6.0)
    assert CALLS == [5.0, 6.0, 6.0]


def grown(tensors, power):
    CALLS.append(power)
    value = tf.exp(tf.identity(tensors[0]) * power) * tensors[1]
    return value, (tf.reduce_sum(value),)


def test_a_derivative_reads_what_the_function_has_made():
    CALLS.clear()
    graph = Assembly()
    x, y, gradient = (graph.placeholder((3,)) for _ in range(3))
    (value, (whole,)), pull = graph.differentiable(grown, [x, y], 2.0)
    graph.differentiable(grown, [y, x], 2.0)  # nobody asks for its derivative
    run = graph.compile([x, y, gradient], [value, whole, *pull(gradient)])
    given = [np.array(row, np.float32) for row in ([0.0, 0.5, -1.0], [1.0, 2.0, 3.0], [1.0, -1.0, 0.5])]
    expected = np.exp(2 * given[0]) * given[1]
    received, wanted = run(*given), [expected, expected.sum(), 2 * expected * given[2], expected / given[1] * given[2]]
    for one, other in zip(received, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    operations = [node.op for node in graph.definition.node]
    assert operations.count("Exp") == 2 and "Identity" not in operations and CALLS == [2.0]


def test_what_a_result_does_not_depend_on_has_a_gradient_of_zeros():
    graph = Assembly()
    x, y = graph.placeholder((2,)), graph.placeholder((2,))
    (value,), pull = graph.differentiable(lambda tensors: (tf.negative(tensors[0]),), [x, y])
    run = graph.compile([x, y], pull(value))
    ones = np.ones(2, np.float32)
    np.testing.assert_array_equal(run(ones, ones), [[1, 1], [0, 0]])


def test_equal_constants_are_one_node():
    graph, *_ = assemble([2.0, 3.0, 2.0, 2.0])
    constants = [node for node in graph.definition.node if node.op == "Const"]
    assert len(constants) == 2
    assert len({node.name for node in graph.definition.node}) == len(graph.definition.node)


def test_a_wrong_array_is_refused():
    graph, image, result = assemble([2.0])
    run = graph.compile([image], [result])
    with pytest.raises(ValueError, match="shape"):
        run(np.zeros((3, 3), np.float32))


def test_what_was_compiled_goes_with_its_function():
    def sessions():
        gc.collect()
        return sum(isinstance(one, tf.compat.v1.Session) for one in gc.get_objects())

    before = sessions()
    graph, image, result = assemble([2.0])
    run = graph.compile([image], [result])
    assert sessions() == before + 1
    del run, graph
    assert sessions() == before
