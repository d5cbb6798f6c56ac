"""What lies inside a model, at any depth: networks are used as parts of others.

The one place of two private names of Keras, `Layer._layers` and `Layer._seed_generators`.
"""


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
