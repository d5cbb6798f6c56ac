"""Data types: one policy for a whole network, or a map with one for each of its layers."""

import keras


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
