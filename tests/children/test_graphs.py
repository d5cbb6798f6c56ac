"""What a search trains and forgets is forgotten by TensorFlow as well."""

import gc

import keras
import pytest

from nasnet_keras import ChildSettings, load_data, load_genotype

CHILD = {"repeats": (1,), "filters": 2, "batch_size": 8, "recipe": "imagenet"}  # one that Keras compiles


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it is TensorFlow that keeps graphs")
@pytest.mark.long
def test_a_compiled_child_leaves_no_graph_behind():
    """Two children more, and no graph and no model more; each left some 10,000 objects behind."""
    data = load_data("digits", limit=40)

    def graphs():
        gc.collect()
        kinds = [type(one).__name__ for one in gc.get_objects()]
        return kinds.count("FuncGraph"), kinds.count("NASNet"), len(kinds)

    ChildSettings(**CHILD).evaluate(load_genotype("tiny"), data, 9)  # what is imported and cached once
    before = graphs()
    for seed in range(2):
        ChildSettings(**CHILD).evaluate(load_genotype("tiny"), data, seed)
    after = graphs()
    assert after[:2] == before[:2] and after[2] - before[2] < 5000
