"""Numbers computed by the released TF-slim code: every endpoint, every head, and the gradients of the images."""

import re

import keras
import numpy as np
import pytest
from checks import array, image_gradient, randomize
from released import TOLERANCE, compare, network, part, read

from nasnet_keras.genotype import load_genotype
from nasnet_keras.models.network import NASNet
from nasnet_keras.weights.slim import load_slim_weights, slim_variables

CASES = ["cifar_n3_f4_16x16", "mobile_n3_f8_64x64", "mobile_n3_f8_80x80_aux"]


def endpoint(name, config):
    """Our layer for a TF-slim endpoint."""
    stem = "stem" if config["stem_type"] == "cifar" else "stem_cell_1"
    special = {"Stem": stem, "conv0_bn": "stem", "AuxLogits": "auxiliary", "Predictions": "predictions"}
    return special.get(name, name.lower().replace("cell_stem", "stem_cell"))


@pytest.mark.parametrize("name", [pytest.param(CASES[0], marks=pytest.mark.jax), *CASES[1:]])
def test_network_gives_the_released_codes_numbers(name, golden):
    case, config = read(golden / f"{name}.npz")
    model = network(config)
    assert model.genotype == load_genotype("nasnet_a")
    assert model.count_params() == config["total_params"]
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == config["trainable_params"]
    load_slim_weights(model, part(case, "var"))

    wanted = {key.split("/")[1]: value for key, value in case.items() if key.startswith(("out/", "extra/"))}
    assert len(wanted) >= 9
    endpoints = {key: model.get_layer(endpoint(key, config)).output for key in wanted}
    inner = keras.Model(model.input, endpoints)
    results = inner(case["images"])
    for key, value in wanted.items():
        result = array(results[key])
        compare(array(keras.ops.softmax(result)) if key == "Predictions" else result, value)

    losses = {"Logits": ("loss/main", "grad/images"), "AuxLogits": ("loss/aux", "grad/images_aux")}
    for key, (loss_name, gradient_name) in losses.items():
        if key in wanted:

            def loss(images, key=key):
                entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
                return entropy(case["labels"], inner(images)[key])

            assert float(loss(case["images"])) == pytest.approx(float(case[loss_name]), rel=TOLERANCE)
            compare(image_gradient(loss, case["images"]), case[gradient_name])


def test_no_case_is_forgotten(golden):
    """Those of training steps (`train_…`) are for networks that train, and not compared here."""
    assert sorted(path.stem for path in golden.glob("[!t]*.npz")) == CASES


# --- the converter, without reference data ---


@pytest.fixture(scope="module")
def model():
    """A network with both heads, and its weights under TF-slim's names."""
    keras.utils.set_random_seed(1)
    network = NASNet(
        "tiny", repeats=1, filters=4, stem="cifar", input_shape=(20, 20, 3), classes=5, auxiliary_head=True
    )
    randomize(network)
    return network


@pytest.fixture
def mapping(model, rng):
    """New values for every weight."""
    return {name: rng.normal(size=weight.shape).astype("float32") for name, weight in slim_variables(model).items()}


def holds(model, mapping):
    return all((array(weight) == mapping[name]).all() for name, weight in slim_variables(model).items())


def test_every_weight_has_one_name(model):
    names = slim_variables(model)
    assert len(names) == len(model.weights)
    assert {id(weight) for weight in names.values()} == {id(weight) for weight in model.weights}


def test_every_weight_is_set(model, mapping):
    assert not holds(model, mapping)
    load_slim_weights(model, mapping)
    assert holds(model, mapping)


def test_names_are_those_of_the_checkpoints():
    body = {"repeats": (1, 1), "filters": 4, "input_shape": (32, 32, 3), "include_top": False}
    names = set(slim_variables(NASNet("nasnet_a", **body)))
    assert {
        "conv0/weights",
        "conv0_bn/gamma",
        "cell_stem_0/1x1/weights",
        "cell_stem_0/beginning_bn/beta",
        "cell_0/comb_iter_0/left/separable_5x5_1/depthwise_weights",
        "cell_0/comb_iter_0/left/bn_sep_5x5_1/moving_mean",
        "cell_0/path1_conv/weights",
        "cell_0/final_path_bn/gamma",
        "reduction_cell_0/beginning_bn/gamma",
        "cell_1/path2_conv/weights",
    } <= names
    # PNASNet has no cell type of its own for reductions, and counts them along.
    names = set(slim_variables(NASNet("pnasnet_5", **body)))
    assert {"cell_1/prev_1x1/weights", "cell_1/prev_bn/beta", "cell_2/path1_conv/weights"} <= names
    assert not any(name.startswith("reduction_cell") for name in names)


def test_what_does_not_fit_is_named_and_nothing_is_set(model, mapping):
    before = model.get_weights()
    name = next(iter(mapping))
    missing = {key: value for key, value in mapping.items() if key != name}
    for tensors, message in (
        ({**mapping, "cell_9/1x1/weights": np.zeros(3)}, r"cell_9/1x1/weights: no such weight in the network$"),
        (missing, f"{name}: not in the file$"),
        ({**mapping, name: np.zeros((2, 3))}, rf"{name}: shape \(2, 3\), not \(3, 3, 3, 12\)$"),
    ):
        with pytest.raises(ValueError, match=f"the weights do not fit the network: {message}"):
            load_slim_weights(model, tensors)
    assert all((old == new).all() for old, new in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(("classes", "says"), [(5, ["class 0 of 6 is taken for TF-slim's background"]), (1000, [])])
def test_a_class_that_is_taken_for_the_background_is_told(classes, says, rng, caplog):
    """Of ImageNet's it is known."""
    size = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "input_shape": (20, 20, 3)}
    model = NASNet("tiny", **size, classes=classes, auxiliary_head=True)
    wide = {name: rng.normal(size=weight.shape).astype("float32") for name, weight in slim_variables(model).items()}
    fitting = dict(wide)
    for name in wide:
        if "/FC/" in name:
            wide[name] = np.concatenate([np.full_like(wide[name][..., :1], 9), wide[name]], -1)
    load_slim_weights(model, wide)
    assert holds(model, fitting)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(says) and all(line.startswith(part) for line, part in zip(said, says, strict=True))
    caplog.clear()
    load_slim_weights(model, fitting)
    assert not caplog.records


def test_only_the_first_ten_faults_are_named(model, mapping):
    surplus = {f"extra_{index}": np.zeros(1) for index in range(13)}
    with pytest.raises(ValueError) as raised:
        load_slim_weights(model, {**mapping, **surplus})
    assert str(raised.value).count("no such weight") == 10 and str(raised.value).endswith("and 3 more")


def test_transposed_kernels_are_no_fit(model, mapping):
    name = "final_layer/FC/weights"
    with pytest.raises(ValueError, match=name):
        load_slim_weights(model, {**mapping, name: mapping[name].T})


def test_moving_averages_by_choice(model, mapping, rng):
    averages = {f"{name}/ExponentialMovingAverage": value + 1 for name, value in mapping.items()}
    load_slim_weights(model, {**mapping, **averages})
    assert holds(model, {name: value + 1 for name, value in mapping.items()})
    load_slim_weights(model, {**mapping, **averages}, moving_average=False)
    assert holds(model, mapping)


def test_background_class_is_left_out(model, mapping):
    def with_background(value):
        return np.concatenate([np.full((*value.shape[:-1], 1), 9, "float32"), value], -1)

    wider = {name: with_background(value) if "/FC/" in name else value for name, value in mapping.items()}
    assert wider["final_layer/FC/biases"].shape == (6,)
    load_slim_weights(model, wider)
    assert holds(model, mapping)


def test_bookkeeping_of_training_is_ignored(model, mapping):
    slots = {"global_step": np.int64(7), "beta1_power": np.float32(0.5)}
    for name, value in list(mapping.items())[:5]:
        slots.update({f"{name}/RMSProp": value + 1, f"{name}/RMSProp_1": value, f"{name}/Momentum": value})
    load_slim_weights(model, {**mapping, **slots})
    assert holds(model, mapping)


def test_auxiliary_scope_has_any_number(model, mapping):
    load_slim_weights(model, {re.sub("^aux/", "aux_7/", name): value for name, value in mapping.items()})
    assert holds(model, mapping)


def test_heads_that_are_not_wanted_are_left_out(model, mapping):
    shared = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (20, 20, 3)}
    plain, body = NASNet("tiny", classes=5, **shared), NASNet("tiny", include_top=False, **shared)
    for smaller in (plain, body):
        load_slim_weights(smaller, mapping)
        assert holds(smaller, mapping)
    headless = {name: value for name, value in mapping.items() if not name.startswith("aux/")}
    with pytest.raises(ValueError, match="aux/aux_logits/proj/weights: not in the file"):
        load_slim_weights(model, headless)


def test_checkpoint_files(model, mapping, tmp_path):
    tf = pytest.importorskip("tensorflow")
    # Names as in a file of TensorFlow 1: written by the operation itself.
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model.ckpt"),
        tensor_names=list(mapping),
        shape_and_slices=[""] * len(mapping),
        tensors=list(mapping.values()),
    )
    load_slim_weights(model, tmp_path / "model.ckpt")
    assert holds(model, mapping)
    with pytest.raises(ValueError, match="cannot read the checkpoint .*missing.ckpt"):
        load_slim_weights(model, tmp_path / "missing.ckpt")
