"""What lies inside a model, at any depth: networks are used as parts of others.

The one place of five private names of Keras: `Layer._layers`, `Layer._seed_generators`, `Layer._called`, and of the
graph that a functional model is, `KerasTensor._keras_history` and `Operation._inbound_nodes`.
"""

from collections.abc import Mapping


def layers_within(layer):
    """A layer or model and all layers inside it, each once, in their order, the outer before the inner."""
    found = {}

    def walk(layer):
        if id(layer) not in found:
            found[id(layer)] = layer
            for part in getattr(layer, "_layers", ()):
                walk(part)

    walk(layer)
    return list(found.values())


def seed_generators(layer):
    """All random generators inside a layer or model, in the order of its layers."""
    return [generator for part in layers_within(layer) for generator in getattr(part, "_seed_generators", [])]


def set_called(model):
    """Note that a model has been called, where it was not through Keras: it exports no other as ONNX."""
    model._called = True


def maker(tensor):
    """What makes a Keras tensor of a graph: (the operation, the tensors that it is called with, which result it is)."""
    operation, node, index = tensor._keras_history
    return operation, operation._inbound_nodes[node].input_tensors, index


def calls(operation):
    """Each call of an operation in graphs: (the tensors that it is called with, those that it makes)."""
    return [(node.input_tensors, node.output_tensors) for node in operation._inbound_nodes]


def policy_name(layer):
    """The name of the data type policy by which a layer computes, its own one where the network has a map of them."""
    if not isinstance(layer.dtype_policy, Mapping):
        return layer.dtype_policy.name
    return layer.compute_dtype if layer.compute_dtype == layer.variable_dtype else f"mixed_{layer.compute_dtype}"
