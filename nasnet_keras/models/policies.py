"""Data types: one policy for a whole network, or a map with one for each of its layers."""

import keras

from nasnet_keras.models.nesting import layers_within, policy_name

HEADS = ("drop_path", "global_pool", "dropout", "logits", "predictions")  # of float32, unless a map names them


def own_policy(dtype=None):
    """The policy that an argument `dtype` means, by default the global one; of a map a copy, which others may keep.

    Args:
        dtype: whatever `keras.dtype_policies.get` takes.
    """
    policy = keras.dtype_policies.get(keras.config.dtype_policy() if dtype is None else dtype)
    if not isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        return policy
    # With its default by name: Keras writes a map without one so that all its policies are lost.
    parts = {path: keras.dtype_policies.get(part) for path, part in policy.items()}
    return keras.dtype_policies.DTypePolicyMap(policy.default_policy.name, parts)


def described(policy):
    """What a config says of a policy, for `own_policy`: its name, or a dict of a map."""
    is_map = isinstance(policy, keras.dtype_policies.DTypePolicyMap)
    return keras.dtype_policies.serialize(policy) if is_map else policy.name


def types_of(model):
    """{name of a layer: (the type in which it computes, that of its variables)}; quantisation leaves both."""
    layers = (layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer))
    return {layer.name: (layer.compute_dtype, layer.variable_dtype) for layer in layers}


def give_heads(model, policy):
    """Give layers of `HEADS` what a map has for just them; whatever it says of all is not meant for them.

    A layer is not quantised so: it would be before its weights are there, and what is kept of that is a state.
    """
    named = list(policy) if isinstance(policy, keras.dtype_policies.DTypePolicyMap) else ()
    for layer in (layer for layer in model.layers if layer.name in HEADS and layer.name in named):
        if getattr(policy[layer.name], "quantization_mode", None) is None:
            layer.dtype_policy = policy[layer.name]


def described_now(model, policy, types):
    """As `described`, of a model as it is now: a map where types of its layers were set later.

    Args:
        model: a `NASNet`.
        policy: what `described` gave as it was built.
        types: what `types_of` gave then.
    """
    changed = {name: pair for name, pair in types_of(model).items() if pair != types.get(name, pair)}
    if not changed:
        return policy
    policy = own_policy(policy)
    is_map = isinstance(policy, keras.dtype_policies.DTypePolicyMap)
    parts = dict(policy.items()) if is_map else {}
    for name, (computed, kept) in changed.items():
        parts[name] = keras.dtype_policies.DTypePolicy(computed if computed == kept else f"mixed_{computed}")
    default = policy.default_policy if is_map else policy
    return described(keras.dtype_policies.DTypePolicyMap(default.name, parts))


def with_scaled_loss(optimizer, model):
    """An optimiser that scales the loss where any layer computes in float16; Keras looks at the model's own policy.

    Args:
        optimizer: one of Keras', or None; one that scales already stays what it is.
        model: a Keras model.
    """
    is_half = any(policy_name(layer) == "mixed_float16" for layer in layers_within(model))
    if not is_half or optimizer is None or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")


def take_unscaled(optimizer):
    """Let an optimiser that scales the loss also load what the one in it has saved, as earlier versions' files have it.

    It is for one loading.

    Args:
        optimizer: a `LossScaleOptimizer` that is built.
    """

    def load_own_variables(store):
        del optimizer.load_own_variables
        inner = optimizer.inner_optimizer
        if len(store.keys()) != len(inner.variables):
            return optimizer.load_own_variables(store)
        inner.load_own_variables(store)
        inner.load_own_variables = lambda _: delattr(inner, "load_own_variables")  # Keras goes on to it, of no file's

    optimizer.load_own_variables = load_own_variables


def without_types(graph):
    """Keras' description of a graph without the types of its tensors: those of its layers may have been set since."""
    if isinstance(graph, dict):
        parts = {name: part for name, part in graph.items() if name != "dtype" or "keras_history" not in graph}
        return {name: without_types(part) for name, part in parts.items()}
    return [without_types(part) for part in graph] if isinstance(graph, list | tuple) else graph
