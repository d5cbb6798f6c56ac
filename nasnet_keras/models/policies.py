"""Data types: one policy for a whole network, or a map with one for each of its layers."""

import keras
from keras.dtype_policies import DTypePolicyMap


def own_policy(dtype=None):
    """The policy that an argument `dtype` means, by default the global one; of a map a copy, which others may keep.

    Args:
        dtype: whatever `keras.dtype_policies.get` takes.
    """
    policy = keras.dtype_policies.get(keras.config.dtype_policy() if dtype is None else dtype)
    if not isinstance(policy, DTypePolicyMap):
        return policy
    # With its default by name: Keras writes a map without one so that all its policies are lost.
    parts = {path: keras.dtype_policies.get(part) for path, part in policy.items()}
    return DTypePolicyMap(policy.default_policy.name, parts)


def described(policy):
    """What a config says of a policy, for `own_policy`: its name, or a dict of a map."""
    return keras.dtype_policies.serialize(policy) if isinstance(policy, DTypePolicyMap) else policy.name


def policy_name(layer):
    """The name of the policy by which a layer computes, its own one of a map."""
    if not isinstance(layer.dtype_policy, DTypePolicyMap):
        return layer.dtype_policy.name
    return layer.compute_dtype if layer.compute_dtype == layer.variable_dtype else f"mixed_{layer.compute_dtype}"
