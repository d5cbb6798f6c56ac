"""The names that Keras does not promise and this package relies on: each is there, and in one place of the package."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import nasnet_keras
from nasnet_keras.models.nesting import layers_within, seed_generators, set_called

PACKAGE = Path(nasnet_keras.__file__).parent
PLACES = {
    r"\._layers\b": "models/nesting.py",
    r"_run_through_graph\b": "models/network.py",
    r"_seed_generators\b": "models/nesting.py",
    r"\._called\b": "models/nesting.py",
    r"_get_variable_index\b": "training/compilation.py",
    r"\bkeras\.src\b": "weights/loading.py",
    r"_apply_weight_decay\b": "training/compilation.py",
    r"_clip_gradients\b": "training/devices.py",
    r"_all_reduce_sum_gradients\b": "training/devices.py",
}


@pytest.mark.parametrize(("name", "place"), PLACES.items())
def test_each_stands_in_one_place(name, place):
    found = [path for path in sorted(PACKAGE.rglob("*.py")) if re.search(name, path.read_text(encoding="utf-8"))]
    assert [path.relative_to(PACKAGE).as_posix() for path in found] == [place]


def test_where_keras_keeps_files():
    from nasnet_keras.weights.loading import keras_home

    assert str(inspect.signature(keras_home)) == "()" and isinstance(keras_home(), str)


def test_a_file_of_weights_can_be_made_in_memory(tmp_path):
    from nasnet_keras.weights.loading import H5IOStore, _save_state, weights_file

    names = ("saveable", "weights_store", "assets_store", "inner_path", "visited_saveables")
    assert tuple(inspect.signature(_save_state).parameters)[:5] == names
    assert list(inspect.signature(H5IOStore).parameters)[:1] == ["path_or_io"]
    models = [keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]) for _ in range(2)]
    (tmp_path / "a.weights.h5").write_bytes(weights_file(models[0]))
    models[1].load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(*(model.get_weights()[0] for model in models))


def test_an_optimiser_knows_its_variables_by_number():
    optimizer, variables = keras.optimizers.SGD(), [keras.Variable([float(index)]) for index in range(3)]
    assert str(inspect.signature(optimizer._get_variable_index)) == "(variable)"
    optimizer.build(variables)
    assert [optimizer._get_variable_index(variable) for variable in variables] == [0, 1, 2]


def test_an_optimiser_decays_by_its_own_rate():
    optimizer, variable = keras.optimizers.SGD(0.5, weight_decay=0.5), keras.Variable([[8.0]])
    assert str(inspect.signature(optimizer._apply_weight_decay)) == "(variables)"
    optimizer.build([variable])
    optimizer._apply_weight_decay([variable])
    assert float(variable[0, 0]) == 6.0


def test_an_optimiser_clips_before_it_sums():
    """What `training.devices` turns round: both are called by these names, with these arguments."""
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    assert str(inspect.signature(optimizer._clip_gradients)) == "(grads)"
    called = []
    for name in ("_clip_gradients", "_all_reduce_sum_gradients") if keras.backend.backend() == "tensorflow" else ():
        assert len(inspect.signature(getattr(optimizer, name)).parameters) == 1
        setattr(optimizer, name, lambda values, name=name: called.append(name) or values)
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor([0.5])])
    assert called in ([], ["_clip_gradients", "_all_reduce_sum_gradients"])


def test_a_model_knows_whether_it_was_called():
    one, other = (keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]) for _ in range(2))
    assert not one._called
    one(np.zeros((1, 2)))
    set_called(other)
    assert one._called is other._called is True


def test_layers_and_their_generators_are_found():
    dropout = keras.layers.Dropout(0.5)
    inner = keras.Sequential([keras.Input((2,)), dropout])
    model = keras.Sequential([keras.Input((2,)), inner, keras.layers.Dense(1)])
    assert dropout in layers_within(model) and inner in layers_within(model)
    assert seed_generators(model) == [dropout.seed_generator]
