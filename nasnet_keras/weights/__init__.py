"""Weight files: the index of those that are known, and the way into a network for everybody's."""
