"""What people who come from keras.applications do with a network, for every factory.

The factories' networks are made small; wiring, heads and names are theirs.
"""

import copy
import inspect
import io
import json
import os
import pickle
import pydoc
import subprocess
import sys

import joblib
import keras
import numpy as np
import pytest
from checks import computes_bfloat16
from PIL import Image

import nasnet_keras
from nasnet_keras import NASNet, freeze, preprocess_input, read_image
from nasnet_keras.cli import main
from nasnet_keras.models.applications import FACTORIES

CLASSES = 3
SMALL = {"genotype": "tiny", "weights": None, "repeats": 1, "filters": 4, "stem_filters": 4, "input_shape": (32, 32, 3)}
LARGE = [pytest.param(name, marks=pytest.mark.long) for name in FACTORIES if name.endswith("Large")]
every = pytest.mark.parametrize("factory", [*(name for name in FACTORIES if not name.endswith("Large")), *LARGE])
# What a warning is about that Keras gives whoever saves a model as .h5, or quantises layers that cannot be.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* does not have a .quantize:UserWarning")


def make(factory, **options):
    return FACTORIES[factory](**{**SMALL, "classes": CLASSES, **options})


def base(factory, **options):
    return FACTORIES[factory](**{**SMALL, "include_top": False, **options})


def in_sequential(factory):
    return keras.Sequential([base(factory), keras.layers.GlobalAveragePooling2D(), head()])


def on_its_output(factory):
    inside = base(factory, pooling="avg")
    return keras.Model(inside.input, head()(inside.output))


def inside_another(factory):
    image = keras.Input((32, 32, 3))
    return keras.Model(image, head()(base(factory, pooling="max")(image)))


def head():
    return keras.layers.Dense(CLASSES, "softmax", name="head")


MODELS = {"whole": make, "sequential": in_sequential, "output": on_its_output, "nested": inside_another}
built = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


def photographs(count=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, 32, 32, 3)).astype("float32"), np.arange(count) % CLASSES


def answer(model):
    return np.asarray(model(photographs()[0], training=False))


def compiled(model, **options):
    model.compile("sgd", **{"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **options})
    return model


def eager(model):
    """A step or two: to trace a graph would take far longer."""
    return compiled(model, run_eagerly=True)


def in_fresh_process(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(nasnet_keras.__file__))}
    ran = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, env=environment)
    assert ran.returncode == 0, ran.stderr.decode()[-2000:]
    return ran.stdout.decode()


LOAD = """
import sys
import nasnet_keras
import keras, numpy as np
for path in sys.argv[2:]:
    model = keras.saving.load_model(path)
    images, expected = np.load(sys.argv[1])["images"], np.load(sys.argv[1])[path.rsplit("/")[-1]]
    np.testing.assert_allclose(np.asarray(model(images)), expected, atol=1e-5)
    assert model.optimizer is not None
"""
WITHOUT = """
import sys, keras
try:
    keras.saving.load_model(sys.argv[1])
except (TypeError, ValueError) as error:
    print(error)
"""


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@every
def test_all_kinds_of_models_are_saved_and_loaded(factory, suffix, tmp_path):
    for name, build in MODELS.items():
        model = eager(build(factory))
        model.fit(*photographs(), verbose=0)
        model.save(path := tmp_path / f"{name}{suffix}")
        loaded = keras.saving.load_model(path)
        assert type(loaded) is type(model) and loaded.optimizer is not None
        np.testing.assert_allclose(answer(loaded), answer(model), atol=1e-5)
        other = build(factory)
        model.save_weights(tmp_path / "m.weights.h5")
        other.load_weights(tmp_path / "m.weights.h5")
        np.testing.assert_allclose(answer(other), answer(model), atol=1e-5)


@pytest.mark.long
@every
def test_files_are_loaded_in_another_process(factory, tmp_path):
    """After a plain import of the package."""
    images, expected = photographs()[0], {}
    for name, build in MODELS.items():
        model = compiled(build(factory))
        for suffix in (".keras", ".h5"):
            model.save(tmp_path / f"{name}{suffix}")
            expected[f"{name}{suffix}"] = np.asarray(model(images))
    np.savez(tmp_path / "known.npz", images=images, **expected)
    in_fresh_process(LOAD, tmp_path / "known.npz", *(tmp_path / name for name in expected))


@pytest.mark.long
@every
def test_a_file_where_the_package_was_not_imported(factory, tmp_path):
    """Keras 3.15 imports no module that a file names, and says what is missing."""
    for kind in ("whole", "nested"):
        for suffix in (".keras", ".h5"):
            MODELS[kind](factory).save(tmp_path / f"m{suffix}")
            said = in_fresh_process(WITHOUT, tmp_path / f"m{suffix}")
            assert "NASNet" in said and ("nasnet_keras" in said or suffix == ".h5")  # old files name no package


@every
def test_copies(factory, tmp_path):
    for build in (make, in_sequential)[: 1 + (factory == "NASNetLarge")]:
        model = build(factory)
        joblib.dump(model, tmp_path / "m.joblib")
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "m.joblib")]
        for other in copies:
            assert type(other) is type(model)
            np.testing.assert_allclose(answer(other), answer(model), atol=1e-6)


@every
def test_a_clone_is_a_network(factory):
    model = make(factory, class_names=("a", "b", "c"), drop_path=0.2)
    clone = keras.models.clone_model(model)
    assert type(clone) is NASNet and clone.architecture == model.architecture and clone.name == model.name
    assert clone.genotype == model.genotype and clone.class_names == ("a", "b", "c")
    assert not any(one is other for one, other in zip(clone.weights, model.weights, strict=True))
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(answer(clone), answer(model), atol=1e-6)
    assert clone.changes() == [] and NASNet.from_config(clone.get_config()).architecture == model.architecture


@pytest.mark.long
@every
def test_a_clone_with_other_layers_is_what_it_computes(factory, tmp_path):
    """Its description is the graph's then, and `predict` takes no faster way that goes by the architecture."""
    model = make(factory)

    def changed(layer):
        if layer.name == "activation":
            return keras.layers.Activation("tanh", name="activation")
        return layer.__class__.from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=changed)
    clone.set_weights(model.get_weights())
    features = keras.Model(model.input, model.get_layer("activation").input)
    pooled = np.tanh(np.asarray(features(photographs()[0]))).mean((1, 2))
    kernel, bias = model.get_layer("logits").get_weights()
    exponentials = np.exp(pooled @ kernel + bias)
    shares = clone.predict(photographs()[0], verbose=0)
    np.testing.assert_allclose(shares, exponentials / exponentials.sum(1, keepdims=True), atol=1e-5)
    clone.save(tmp_path / "m.keras")
    np.testing.assert_allclose(answer(keras.saving.load_model(tmp_path / "m.keras")), answer(clone), atol=1e-5)


def test_a_clone_on_other_inputs_and_with_further_layers():
    model, image = make("NASNetCIFAR"), keras.Input((32, 32, 3))
    clone = keras.models.clone_model(model, input_tensors=image)
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(answer(clone), answer(model), atol=1e-6)
    noisy = keras.models.clone_model(
        model,
        clone_function=lambda layer: layer,
        call_function=lambda layer, *args, **kwargs: keras.layers.Identity()(layer(*args, **kwargs)),
    )
    assert len(noisy.layers) > len(model.layers)
    np.testing.assert_allclose(answer(noisy), answer(model), atol=1e-6)
    with pytest.raises(ValueError, match="`NASNet` takes keywords beside `genotype`"):
        NASNet(image, keras.layers.Flatten()(image))


@every
def test_quantised_and_low_rank_heads_are_saved(factory, tmp_path):
    for change in (lambda model: model.quantize("int8"), lambda model: model.get_layer("logits").enable_lora(2)):
        model = make(factory)
        change(model)
        model.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras")
        assert loaded.get_layer("logits").quantization_mode == model.get_layer("logits").quantization_mode
        np.testing.assert_allclose(answer(loaded), answer(model), atol=1e-5)


def test_a_low_rank_head_goes_on_learning_as_such(tmp_path, rng):
    model = nasnet_keras.NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=3)
    head = model.get_layer("logits")
    head.enable_lora(2, lora_alpha=4)
    for layer in model.layers:
        layer.trainable = layer is head
    model.compile("adam", "sparse_categorical_crossentropy")
    images, labels = rng.uniform(-1, 1, (4, 8, 8, 3)).astype("float32"), np.arange(4) % 3
    model.train_on_batch(images, labels)
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")  # Keras forgets the optimiser by that, for later files
    copies = keras.saving.load_model(tmp_path / "m.h5", compile=False), keras.models.clone_model(model)
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for one in (loaded, *copies):
        own = one.get_layer("logits")
        assert (own.lora_enabled, own.lora_rank, own.lora_alpha) == (True, 2, 4)
    assert len(loaded.trainable_variables) == len(model.trainable_variables) == 3
    assert int(loaded.optimizer.iterations) == 1
    expected = model(images)
    np.testing.assert_allclose(loaded(images), expected, atol=1e-6)
    own = loaded.get_layer("logits")
    kernel = np.asarray(own._kernel)
    for _ in range(2):
        loaded.train_on_batch(images, labels)
    np.testing.assert_array_equal(own._kernel, kernel)  # it stands still
    assert np.asarray(own.lora_kernel_a).any() and np.asarray(own.lora_kernel_b).any()  # and Keras reads both as zeros


def test_an_export_says_that_a_model_is_quantised(tmp_path):
    model = make("NASNetMobile")
    model.quantize("int8")
    with pytest.raises(ValueError, match="`model` must be in floating point, .* Received: one with a quantised logits"):
        nasnet_keras.export_saved_model(model, tmp_path / "served")


@every
def test_plain_labels_with_an_auxiliary_head(factory):
    model = make(factory, auxiliary_head=True, input_shape=(96, 96, 3))
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(-1, 1, (4, 96, 96, 3)).astype("float32"), np.array([0, 1, 2, 0])
    eager(model)
    history = model.fit(images, labels, sample_weight=np.array([1.0, 2.0, 0.5, 0.0]), verbose=0)
    assert {"loss", "predictions_accuracy", "predictions_loss", "auxiliary_loss"} <= set(history.history)
    for variable in (model.get_layer("logits").kernel, *model.get_layer("auxiliary").weights):
        variable.assign(variable * 0.01)  # no share is 0, where Keras' loss goes by the logits
    outputs = {name: np.asarray(value) for name, value in model(images).items()}
    parts = {name: -np.log(value[np.arange(4), labels]).mean() for name, value in outputs.items()}
    found = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(parts["predictions"] + 0.4 * parts["auxiliary"], rel=1e-4)
    compiled(model, loss_weights={"predictions": 1.0, "auxiliary": 1.0}, run_eagerly=True)
    found = model.evaluate(images, {"predictions": labels, "auxiliary": labels}, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(parts["predictions"] + parts["auxiliary"], rel=1e-4)


def test_two_of_anything_are_for_both_heads_in_their_order():
    """By the alphabet, as Keras takes them, `auxiliary` would be the first."""
    model = make("NASNetCIFAR", auxiliary_head=True)
    images, labels = photographs()
    zeros, loss = np.zeros_like(labels), keras.losses.SparseCategoricalCrossentropy
    outputs = {name: np.asarray(value) for name, value in model(images).items()}
    first, second = (-np.log(outputs[name][np.arange(4), labels]).mean() for name in ("predictions", "auxiliary"))
    for options, expected in (
        ({"loss": loss(), "loss_weights": [1.0, 0.0]}, first),
        ({"loss": [loss(), loss()], "loss_weights": (0.0, 1.0)}, second),
        ({"loss": [loss(), None]}, first),
    ):
        compiled(model, **options, run_eagerly=True)
        found = model.evaluate(images, labels, verbose=0, return_dict=True)["loss"]
        assert found == pytest.approx(expected, rel=1e-3)
    for metrics, names in (
        (["accuracy", None], {"predictions_accuracy"}),
        ([["accuracy"], ["sparse_top_k_categorical_accuracy"]], {"predictions_accuracy", "auxiliary_sparse_top_k_"}),
    ):
        compiled(model, metrics=metrics, run_eagerly=True)
        found = model.evaluate(images, [labels, zeros], verbose=0, return_dict=True)
        assert {name.removesuffix("categorical_accuracy") for name in found if "accuracy" in name} == names
        assert found["predictions_accuracy"] == pytest.approx((outputs["predictions"].argmax(-1) == labels).mean())


@every
def test_the_last_activation_may_be_taken_away(factory):
    """As recipes for heat maps do."""
    for build in MODELS.values() if factory == "NASNetMobile" else [make]:
        model = build(factory)
        shares = answer(model)
        model.layers[-1].activation = None
        logits = answer(model)
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        np.testing.assert_allclose(exponentials / exponentials.sum(1, keepdims=True), shares, atol=1e-5)


@every
def test_an_own_training_step(factory):
    class Own(keras.Model):
        steps = 0

        def train_step(self, data):
            Own.steps += 1
            return super().train_step(data)

    inside = base(factory, pooling="avg")
    model = eager(Own(inside.input, head()(inside.output)))
    model.fit(*photographs(), batch_size=2, verbose=0)
    assert Own.steps == 2


@pytest.mark.long
@pytest.mark.parametrize("options", [{"jit_compile": True}, {"steps_per_execution": 2}])
@every
def test_ways_to_compile(factory, options):
    """XLA and several steps at a time learn what single steps do."""
    found = []
    for more in ({}, options):
        model = compiled(make(factory), **more)
        model.set_weights([np.full(weight.shape, 0.1, "float32") for weight in model.weights])
        model.fit(*photographs(), batch_size=2, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


@every
@pytest.mark.skipif(not computes_bfloat16(), reason="no bfloat16 here")
def test_mixed_precision(factory, tmp_path):
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = eager(in_sequential(factory))
        model.fit(*photographs(), verbose=0)
        model.save(tmp_path / "m.keras")
    finally:
        keras.config.set_dtype_policy(policy)
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.layers[0].get_layer("stem").compute_dtype == "bfloat16"
    np.testing.assert_allclose(answer(loaded).astype("float32"), answer(model).astype("float32"), atol=1e-6)


@pytest.mark.long
@every
def test_callbacks(factory, tmp_path):
    """Every callback of Keras, in one training."""
    call = keras.callbacks
    chosen = [
        call.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True), call.BackupAndRestore(tmp_path / "backup"),
        call.EarlyStopping(patience=5, restore_best_weights=True), call.ReduceLROnPlateau(), call.TerminateOnNaN(),
        call.CSVLogger(tmp_path / "log.csv"), call.LearningRateScheduler(lambda epoch: 0.01),
        call.SwapEMAWeights(), call.LambdaCallback(), call.TensorBoard(tmp_path / "board", write_graph=True),
    ]  # fmt: skip
    model = make(factory)
    model.compile(keras.optimizers.SGD(use_ema=True), "sparse_categorical_crossentropy", run_eagerly=True)
    images, labels = photographs()
    model.fit(images, labels, validation_data=(images, labels), epochs=2, callbacks=chosen, verbose=0,
              class_weight={0: 1.0, 1: 2.0, 2: 0.5})  # fmt: skip
    assert keras.saving.load_model(tmp_path / "best.keras").genotype == model.genotype
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


@every
def test_sample_weights(factory):
    """What has no weight is not learnt from: the step is that of the others alone, but for the mean over all."""
    images, labels = photographs()
    found = []
    for weights in (None, np.array([1.0, 1.0, 0.0, 0.0])):
        model = eager(freeze(make(factory)))  # statistics would see all images
        model.set_weights([np.full(weight.shape, 0.1, "float32") for weight in model.weights])
        few = slice(None) if weights is not None else slice(2)
        model.optimizer.learning_rate = 0.1 if weights is None else 0.2  # Keras divides by the number of images
        model.fit(images[few], labels[few], sample_weight=weights, batch_size=4, verbose=0)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@every
def test_a_plot_shows_each_layer(factory):
    pytest.importorskip("pydot")
    for build in MODELS.values() if factory == "NASNetMobile" else [make]:
        model = build(factory)
        text = keras.utils.model_to_dot(model, show_shapes=True, show_layer_names=True, expand_nested=True).to_string()
        assert all(layer.name in text for layer in model.layers)
        assert "cell_0" in text and "reduction_cell_0" in text


@every
def test_a_summary_says_how_to_freeze(factory, capsys):
    lines = []
    make(factory).summary(print_fn=lambda line, **_: lines.append(line), expand_nested=True, show_trainable=True)
    assert "nasnet_keras.freeze(model, up_to='" in lines[-1] and "'activation'" in lines[-1]
    named = lines[-1].split("up_to='")[1].split("'")[0]
    freeze(make(factory), named)
    make(factory).summary()
    assert "nasnet_keras.freeze(model" in capsys.readouterr().out.splitlines()[-1]
    assert "freezing.freeze` freezes what such loops mean" in NASNet.__doc__


# Freezing, beside Keras' own fine-tuning guide


def moved(model, base, run):
    """Which weights and which statistics of the base a training moves: {kind: share of them}."""
    before = [keras.ops.convert_to_numpy(weight) for weight in base.weights]
    run(model)
    kinds = {"kernels": [], "scales": [], "statistics": []}
    for weight, value in zip(base.weights, before, strict=True):
        kind = "statistics" if "moving" in weight.path else "scales" if value.ndim == 1 else "kernels"
        kinds[kind].append(not np.array_equal(keras.ops.convert_to_numpy(weight), value))
    return {kind: float(np.mean(found)) for kind, found in kinds.items()}


def theirs():
    from keras.src.applications.nasnet import NASNet as Peer  # of any size

    return Peer((32, 32, 3), 96, 1, 4, include_top=False, weights=None)


def with_head(base):
    image = keras.Input((32, 32, 3))
    return keras.Model(image, head()(keras.layers.GlobalAveragePooling2D()(base(image))))


def train(model):
    eager(model)
    model.fit(*photographs(8), batch_size=4, verbose=0)


def norms_still(base):
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def test_statistics_stand_still_while_all_weights_learn():
    """What Keras' guide says of `base(x, training=False)`; in Keras 3.15 `fit`'s own `training=True` wins over that."""
    own = freeze(base("NASNetMobile"))
    found = moved(with_head(own), own, train)
    assert found["statistics"] == 0 and found["kernels"] > 0.9 and found["scales"] > 0.9


@pytest.mark.long
def test_freezing_as_in_keras_own_guide():
    """Their recipe on their network, and ours on ours, move the same kinds of weights."""
    recipes = [
        (lambda one: setattr(one, "trainable", False), lambda one: freeze(one, "all"), (0, 0, 0)),
        (norms_still, lambda one: freeze(one, norms=True), (1, 0, 0)),
        (lambda one: None, lambda one: freeze(one, statistics=False), (1, 1, 1)),
    ]
    for keras_way, own_way, expected in recipes:
        peer, own = theirs(), base("NASNetMobile")
        keras_way(peer)
        own_way(own)
        for one in (peer, own):
            found = moved(with_head(one), one, train)
            # A kernel may have no gradient by chance: its ReLU lets nothing through.
            assert [round(found[kind]) for kind in ("kernels", "scales", "statistics")] == list(expected), found
            assert all(found[kind] == 0 for kind, share in zip(found, expected, strict=True) if not share)


@every
def test_freezing_up_to_a_cell(factory):
    network = base(factory)
    names = [layer.name for layer in network.layers if layer.weights]
    at = names.index("reduction_cell_0")

    def flat():
        return head()(keras.layers.Flatten()(network.output))

    ways = [lambda: with_head(network), lambda: keras.Model(network.input, flat())]
    ways.append(lambda: keras.Sequential([keras.Input((32, 32, 3)), network, keras.layers.Flatten(), head()]))
    for wrap in ways if factory == "NASNetMobile" else ways[:1]:
        model = wrap()
        assert freeze(model, "reduction_cell_0") is model
        learning = {layer.name for layer in [*network.layers, model.layers[-1]] if layer.trainable_weights}
        assert learning == {*names[at + 1 :], "head"}
        before = {layer.name: layer.get_weights() for layer in network.layers}
        train(model)
        for layer in network.layers:
            same = all(np.array_equal(*pair) for pair in zip(layer.get_weights(), before[layer.name], strict=True))
            assert not layer.weights or same == (layer.name in names[: at + 1])
        statistics = [weight for weight in network.weights if "moving" in weight.path]
        known = [value for layer in network.layers for weight, value in
                 zip(layer.weights, before[layer.name], strict=True) if "moving" in weight.path]  # fmt: skip
        pairs = zip(map(keras.ops.convert_to_numpy, statistics), known, strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)
    freeze(network, "all").trainable = True
    network.trainable = False
    freeze(network, statistics=False)
    assert {variable.path.split("/")[0] for variable in network.trainable_variables} == set(names)


@pytest.mark.parametrize("suffix", [".keras", pytest.param(".h5", marks=pytest.mark.long)])
@built
def test_what_is_frozen_stays_so_in_a_file(build, suffix, tmp_path):
    model = freeze(build("NASNetMobile"), "cell_0", norms=True)
    model.save(tmp_path / f"m{suffix}")
    loaded = keras.saving.load_model(tmp_path / f"m{suffix}", compile=False)
    assert len(loaded.trainable_weights) == len(model.trainable_weights) < len(loaded.weights)
    np.testing.assert_allclose(answer(loaded), answer(model), atol=1e-5)
    statistics = [keras.ops.convert_to_numpy(weight) for weight in loaded.weights if "moving" in weight.path]
    train(loaded)
    for weight, value in zip([one for one in loaded.weights if "moving" in one.path], statistics, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)
    plain = build("NASNetMobile")
    freeze(plain, statistics=False)
    plain.save(tmp_path / "plain.keras")
    assert "frozen" not in io.BytesIO((tmp_path / "plain.keras").read_bytes()).read().decode("latin-1")


def test_wrong_freezing_is_one_line():
    with pytest.raises(ValueError, match="`up_to` must be None, all, or one of stem, .*cell_0.* Received: 'cell_99'"):
        freeze(make("NASNetMobile"), "cell_99")
    with pytest.raises(ValueError, match="`model` must be or hold a NASNet"):
        freeze(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))


# What the rest of the package is asked


@pytest.mark.long
@every
def test_the_commands_take_all_kinds_of_models(factory, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (32, 32, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    for kind, build in MODELS.items():
        model = build(factory)
        model.save(tmp_path / f"{kind}.keras")
        images = np.stack([read_image(path) for path in sorted((tmp_path / "photos").rglob("*.png"))])
        shares = answer_to(model, preprocess_input(images))
        words = ["--model", str(tmp_path / f"{kind}.keras"), "--json"]
        data = ["--data", str(tmp_path / "photos"), "--split", "all", "--output", str(tmp_path / "a.svg")]
        figures = [
            ran(capsys, "evaluate", *words, *data),
            ran(capsys, "predict", *words, str(tmp_path / "photos" / "a" / "0.png")),
            ran(capsys, "export", *words, "--output", str(tmp_path / kind)),
        ]
        assert figures[0]["accuracy"] == pytest.approx(np.mean(shares.argmax(1) == np.repeat(range(3), 3)))
        best = figures[1]["predictions"][0]["classes"][0]
        assert best["score"] == pytest.approx(shares[0].max(), abs=1e-4) and int(best["name"]) == shares[0].argmax()
        assert figures[2]["output"] == str(tmp_path / kind / "1")


def answer_to(model, images):
    return np.asarray(model(images.astype("float32"), training=False))


def ran(capsys, *words):
    assert main(list(words)) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_search_shows_itself():
    """To `help()`, to completion and to notebooks, although it is a package as well."""
    shown = pydoc.render_doc(nasnet_keras.search)
    assert "max_trials" in inspect.signature(nasnet_keras.search).parameters
    assert "Search for cells" in shown and "max_trials: children in all" in shown and "search(data='digits'" in shown


def test_freezing_leaves_other_models_as_they_are():
    network, other = base("NASNetCIFAR", pooling="avg"), keras.Sequential([keras.Input((32, 32, 3))])
    other.add(keras.layers.Flatten())
    other.add(keras.layers.Dense(2))
    other.trainable = False
    image = keras.Input((32, 32, 3))
    both = keras.layers.Concatenate()([network(image), other(image)])
    model = keras.Model(image, keras.layers.Dense(3)(both))
    freeze(model, "cell_1")
    assert not other.trainable_weights and model.layers[-1].trainable_weights
    learning = {weight.path.split("/")[0] for weight in network.trainable_weights}
    assert learning and "cell_0" not in learning and "cell_1" not in learning
