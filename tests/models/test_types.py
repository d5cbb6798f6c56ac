"""Data types: pure ones of half the precision, one policy for each layer, and what a file says of them."""

import copy
import pickle

import keras
import numpy as np
import pytest
from checks import array, randomize

from nasnet_keras.genotype import Block, CellGenotype, Genotype, load_genotype
from nasnet_keras.models import functions
from nasnet_keras.models.nesting import policy_name
from nasnet_keras.models.network import NASNet
from nasnet_keras.program.program import Program
from nasnet_keras.training import devices
from nasnet_keras.training.fitting import save_model
from nasnet_keras.training.identity import network_identity

TINY = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}
PURE = ["bfloat16", "float16"] + ["float64"] * (keras.backend.backend() == "tensorflow")  # JAX has none by default


def tiny(**options):
    return NASNet(**{"genotype": "tiny", **TINY, **options})


def images(rng, dtype="float32"):
    return rng.uniform(-1, 1, (4, 8, 8, 3)).astype(dtype)


# --- pure types ---

NORMS = CellGenotype((Block((0, 1), ("sep_conv_3x3", "max_pool_3x3"), "add_layer_norm"),
                      Block((2, 1), ("identity", "conv_1x1"), "add_instance_norm")), (3,))  # fmt: skip


@pytest.mark.parametrize("genotype", [load_genotype("tiny"), Genotype(NORMS, NORMS)], ids=["tiny", "norms"])
@pytest.mark.parametrize("dtype", PURE)
def test_pure_types_learn(dtype, genotype, rng):
    options = {"genotype": genotype, "repeats": (1,), "classifier_activation": None}
    model, wide = tiny(**options, dtype=dtype), tiny(**options)
    randomize(wide)
    model.set_weights(wide.get_weights())
    x = images(rng)
    tolerance = 1e-4 if dtype == "float64" else 0.15
    for training in (False, True, False):
        expected = array(wide(x, training=training)).astype("float64")
        found = array(model(x, training=training)).astype("float64")
        np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
    moved = [(place, array(value)) for place, value in model.named_weights().items() if "moving" in place]
    wanted = {place: array(value) for place, value in wide.named_weights().items()}
    for place, value in moved:
        assert keras.backend.standardize_dtype(value.dtype) == ("float64" if dtype == "float64" else "float32")
        np.testing.assert_allclose(value.astype("float64"), wanted[place], atol=tolerance * np.abs(wanted[place]).max())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_pure_types_are_trained(dtype, rng):
    """In a graph, where layers share functions."""
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(dtype)
        model = tiny(repeats=(1,))
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
        weights = [array(weight).astype("float32") for weight in model.weights]
        assert np.isfinite(model.train_on_batch(images(rng), np.array([0, 1, 2, 0])))
    finally:
        keras.config.set_dtype_policy(before)
    for weight, one in zip(model.weights, weights, strict=True):
        value = array(weight).astype("float32")
        assert np.isfinite(value).all() and (weight.name != "moving_variance" or (value != one).any())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_statistics_of_pure_types_move_however_slowly(dtype, rng):
    options = {"repeats": (1,), "batch_norm_momentum": 0.9997}  # the ImageNet stem's
    model, wide = tiny(**options, dtype=dtype), tiny(**options)
    model.set_weights(wide.get_weights())
    x = images(rng)
    for _ in range(2):
        model(x, training=True), wide(x, training=True)
    others = wide.named_weights()
    for place, value in model.named_weights().items():
        if "moving" in place:
            start = 1.0 if place.endswith("variance") else 0.0
            moved, wanted = array(value) - start, array(others[place]) - start
            assert moved.all()
            np.testing.assert_allclose(moved, wanted, atol=0.1 * np.abs(wanted).max())


@pytest.mark.parametrize("dtype", PURE)
def test_frozen_layers_of_pure_types_answer_in_a_graph(dtype, rng):
    model = tiny(repeats=(1,), dtype=dtype)
    randomize(model)
    x = images(rng)
    expected = array(model(x)).astype("float64")
    for layer in model.layers:
        layer.trainable = False
    found = np.asarray(model.predict(x, verbose=0), "float64")
    np.testing.assert_allclose(found, expected, atol=1e-4 if dtype == "float64" else 0.02)


@pytest.mark.parametrize("backend", ["tensorflow", "another"])
def test_half_a_precision_counts_as_many_values_as_there_are(backend, monkeypatch):
    if backend == "another":
        monkeypatch.setattr(functions.keras.backend, "backend", lambda: "another")
    program = Program((2,), tiny().architecture.options)
    program.norm(program.inputs[0], "batch_norm")
    (what,) = [step.primitive for step in program.steps if step.primitive.kind == "norm"]
    weights = [keras.Variable(np.full(2, value), dtype="float16") for value in (1, 0, 0, 1)]
    x = keras.ops.ones((1, 257, 257, 2), "float16")
    result = functions.FUNCTIONS["norm"](what, [x], weights, functions.Run(learning=True))
    assert keras.backend.standardize_dtype(result.dtype) == "float16" and not array(result).any()
    mean, variance = (float(array(weight)[0]) for weight in weights[2:])
    assert mean == pytest.approx(1 - what.momentum, rel=1e-2) and variance == pytest.approx(what.momentum, rel=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_usual_types_need_no_casts_of_statistics(dtype, monkeypatch):
    model = tiny(repeats=(1,), dtype=dtype)
    cast, kinds = functions.ops.cast, []
    monkeypatch.setattr(functions.ops, "cast", lambda x, to: kinds.append(np.ndim(x)) or cast(x, to))
    layer = model.get_layer("stem")
    layer(keras.ops.zeros((1, 8, 8, 3), layer.compute_dtype), training=True)
    assert 1 not in kinds  # but of kernels and maps


# --- policies of layers ---


def of_layers(default="mixed_bfloat16"):
    return keras.dtype_policies.DTypePolicyMap(default, {"cell_0": keras.dtype_policies.DTypePolicy("float32")})


def types(model):
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    return {layer.name: (layer.compute_dtype, layer.variable_dtype) for layer in layers}


@pytest.mark.parametrize("default", ["mixed_bfloat16", None])
def test_a_map_of_policies_is_kept(default, tmp_path, rng):
    given = of_layers(default)
    model = tiny(dtype=given)
    usual = default or "float32"
    expected = {"cell_0": "float32", "cell_1": usual, "stem": usual, "logits": "float32"}
    assert {name: policy_name(model.get_layer(name)) for name in expected} == expected
    model.save(tmp_path / "m.keras")
    copies = [keras.saving.load_model(tmp_path / "m.keras"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    copies += [model.alike(), keras.models.model_from_json(model.to_json()), keras.models.clone_model(model)]
    for one in copies:
        assert type(one) is NASNet and types(one) == types(model) and one.stands_alone
    x = images(rng)
    np.testing.assert_allclose(*(array(one(x)).astype("float32") for one in (copies[0], model)), atol=1e-5)
    # Neither a copy nor the caller's own shares it.
    copies[3].get_layer("cell_1").dtype_policy = "float16"
    assert types(copies[4]) == types(model) == types(tiny(dtype=given))
    known = network_identity(model)["`dtype`"]
    assert known == " ".join(sorted({"float32", usual}))


def test_a_map_may_be_the_global_policy_or_empty():
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(of_layers())
        model = tiny()
        empty = tiny(dtype=keras.dtype_policies.DTypePolicyMap("float32"))
    finally:
        keras.config.set_dtype_policy(before)
    assert types(model.alike()) == types(model) == types(tiny(dtype=of_layers()))
    assert types(empty) == types(tiny())


def test_the_types_of_layers_are_kept_as_they_are_now(tmp_path, rng):
    model = tiny(dtype="mixed_bfloat16", weight_decay=0.1)
    usual = types(model)
    model.get_layer("cell_0").dtype_policy = "float32"
    model.get_layer("logits").dtype_policy = "mixed_bfloat16"
    assert types(model) != usual and "layers" not in model.get_config() and model.changes() == []
    model.save(tmp_path / "m.keras")
    save_model(model, tmp_path)  # as after a training
    copies = [keras.saving.load_model(tmp_path / name) for name in ("m.keras", "model.keras")]
    copies += [model.alike(), keras.models.clone_model(model), devices._made_again(model)]
    for one in (*copies, copies[0].alike()):
        assert type(one) is NASNet and one.stands_alone and types(one) == types(model)
    assert [policy_name(copies[0].get_layer(name)) for name in ("cell_0", "cell_1")] == ["float32", "mixed_bfloat16"]
    assert types(copies[0].alike(dtype="mixed_bfloat16")) == usual
    copies[0].get_layer("cell_1").dtype_policy = "float32"  # of a map, too
    assert types(copies[0].alike()) == types(copies[0]) != types(model)


def test_the_decay_of_the_classifier_is_kept_as_it_is_now(tmp_path):
    model = tiny(weight_decay=0.1, repeats=(1,))
    layer = model.get_layer("logits")
    sum_of_squares = float((array(layer.kernel) ** 2).sum())
    assert "decay" not in model.get_config()
    for penalty, wanted in ((keras.regularizers.L2(0.5), 0.5 * sum_of_squares), (None, None)):
        layer.kernel_regularizer = penalty  # the usual recipe for a penalty
        assert model.changes() == [] == model.changes_within()
        model.save(tmp_path / "m.keras")
        for again in (keras.saving.load_model(tmp_path / "m.keras"), keras.models.model_from_json(model.to_json())):
            assert type(again) is NASNet and again.stands_alone and again.architecture == model.architecture
            again.set_weights(model.get_weights())
            kernel = again.get_layer("logits").kernel
            found = kernel.regularizer and float(kernel.regularizer(kernel))
            assert found == (wanted and pytest.approx(wanted, rel=1e-5))
            assert again.get_config() == model.get_config()
    # Which does not yet hold in this one, nor in what learns for it.
    kernel = devices._made_again(model).get_layer("logits").kernel
    assert kernel.regularizer is layer.kernel.regularizer is not None
    layer.kernel_regularizer = keras.regularizers.L2(0.05)
    assert "decay" not in model.get_config()


def test_quantised_layers_are_no_other_types():
    model = tiny()
    model.get_layer("logits").quantize("int8")
    assert model.changes_within() == [] and policy_name(model.get_layer("logits")) == "int8_from_float32"


def test_a_map_quantises_no_head(tmp_path):
    """It would before its weights are there; what is quantised is kept as a state."""
    quantised = keras.dtype_policies.get("int8_from_float32")
    model = tiny(dtype=keras.dtype_policies.DTypePolicyMap("float32", {"logits": quantised}))
    assert model.get_layer("logits").quantization_mode is None
    model.quantize("int8", filters="logits")
    model.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert loaded.get_layer("logits").quantization_mode == "int8"


# --- the loss in half precision ---


def half(how):
    """A network of float16 by its argument, a map, the types of its layers, a clone, or in a graph of one's own."""
    if how == "map":
        return tiny(dtype=keras.dtype_policies.DTypePolicyMap("float32", {"cell_0": "mixed_float16"}))
    if how == "set":
        model = tiny()
        model.get_layer("cell_1").dtype_policy = "mixed_float16"
        return model
    if how == "graph":
        return tiny(
            dtype="mixed_float16", input_shape=None, input_tensor=keras.layers.Rescaling(2)(keras.Input((8, 8, 3)))
        )
    model = tiny(dtype="mixed_float16")
    return keras.models.clone_model(model) if how == "clone" else model


@pytest.mark.parametrize("how", ["argument", "map", "set", "clone", "graph"])
def test_keras_own_compile_scales_the_loss_of_half_precision(how):
    model = half(how)
    model.compile("adam", "sparse_categorical_crossentropy")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) and model.dtype_policy.name == "float32"
    given = model.optimizer
    model.compile(given, "sparse_categorical_crossentropy")
    assert model.optimizer is given
    model.compile("adam", "sparse_categorical_crossentropy", auto_scale_loss=False)
    assert isinstance(model.optimizer, keras.optimizers.Adam)


@pytest.mark.parametrize("dtype", [None, "float16", "mixed_bfloat16"])
def test_no_other_loss_is_scaled(dtype):
    model = tiny(dtype=dtype)
    model.compile(keras.optimizers.SGD(), "sparse_categorical_crossentropy")
    assert type(model.optimizer) is keras.optimizers.SGD


@pytest.mark.filterwarnings("error:.*[Ss]kipping variable loading")
@pytest.mark.parametrize("how", ["argument", "global", "graph"])
def test_moments_of_half_precision_come_back(how, rng, tmp_path):
    """Also of a network that was made under a global policy, where that is not set."""
    policy = keras.config.dtype_policy()
    try:
        if how == "global":
            keras.config.set_dtype_policy("mixed_float16")
        model = tiny() if how == "global" else half(how)
        model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
        model.fit(images(rng), np.arange(4) % 3, epochs=2, verbose=0)
        model.save(tmp_path / "model.keras")
    finally:
        keras.config.set_dtype_policy(policy)
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, keras.optimizers.LossScaleOptimizer)
    assert len(again.optimizer.variables) == len(model.optimizer.variables)
    for kept, found in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(array(found), array(kept))


@pytest.mark.filterwarnings("error:.*[Ss]kipping variable loading")
def test_moments_come_back_from_files_whose_loss_was_not_scaled(rng, tmp_path):
    """As earlier versions wrote them."""
    model = tiny(dtype="mixed_float16")
    options = {"run_eagerly": True, "auto_scale_loss": False}
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", **options)
    model.fit(images(rng), np.arange(4) % 3, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, keras.optimizers.LossScaleOptimizer)
    found = again.optimizer.inner_optimizer
    assert array(found.iterations) == 2
    for kept, value in zip(model.optimizer.variables, found.variables, strict=True):
        np.testing.assert_array_equal(array(value), array(kept))
    again.save(tmp_path / "again.keras")  # whose own moments are taken as they are
    third = keras.saving.load_model(tmp_path / "again.keras").optimizer
    for kept, value in zip(again.optimizer.variables, third.variables, strict=True):
        np.testing.assert_array_equal(array(value), array(kept))
