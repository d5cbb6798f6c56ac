"""Which child the backend has, for a training by a recipe."""

import keras

from nasnet_keras.children.descent import Optimizer

BACKENDS = ("tensorflow", "jax")  # of those, children exist


def knows(recipe):
    """Whether children can be trained by this recipe on this backend: they know plain gradient descent only."""
    return recipe.is_plain and keras.backend.backend() in BACKENDS


def start_child(architecture, recipe, steps, seed=0):
    """An untrained child.

    Args:
        architecture: an `Architecture`.
        recipe: a `recipes.Recipe` that `knows` says yes to.
        steps: length of the training, at the end of which the rate is 0; None for a constant rate.
        seed: seed of the initial weights.
    """
    if keras.backend.backend() == "jax":
        from nasnet_keras.children.jax_child import Child
    else:
        from nasnet_keras.children.tensorflow_child import Child
    optimizer = Optimizer(recipe.learning_rate, steps, recipe.momentum, clip_norm=recipe.clip_norm)
    return Child(architecture, seed=seed, optimizer=optimizer)
