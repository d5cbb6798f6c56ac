"""Folding and export: the same function, in the form that TF Serving takes, or nothing at all."""

import importlib.util
import io
import json
import random
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from checks import computes_bfloat16, randomize
from PIL import Image
from random_genotypes import random_genotype

import nasnet_keras
from nasnet_keras.cli import main, parser
from nasnet_keras.commands import export as command
from nasnet_keras.data.loading import load_data
from nasnet_keras.export import saved_model as export
from nasnet_keras.export import targets
from nasnet_keras.export.comparison import Comparison
from nasnet_keras.export.folders import PRECISIONS, QUANTIZERS, TARGETS
from nasnet_keras.export.saved_model import export_saved_model
from nasnet_keras.export.serving_files import prediction_log
from nasnet_keras.export.targets import export_target
from nasnet_keras.genotype import Block, CellGenotype, Genotype
from nasnet_keras.models.applications import FACTORIES, load_model
from nasnet_keras.models.functions import Run, compute
from nasnet_keras.models.inference import inference_program
from nasnet_keras.models.network import NASNet
from nasnet_keras.weights.zoo import imagenet_classes

NAMES = ("ant", "bee", "cat")
TINY = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3, "class_names": NAMES}
HALF = pytest.mark.skipif(not computes_bfloat16(), reason="oneDNN convolves nothing in bfloat16 on this machine")


def trained(genotype="tiny", **arguments):
    """A network whose batch norms are not those of an untrained one."""
    model = NASNet(genotype, **{**TINY, **arguments})
    randomize(model)
    return model


def assert_folded_is_equal(model, images):
    """Logits of the folded program and of the network agree to 1e-5 of the largest."""
    program, weights = inference_program(model)
    kinds = {step.primitive.kind for step in program.steps}
    assert "norm" not in kinds and "drop_path" not in kinds
    (result,) = compute(program, [images], weights, Run(), [program.steps[-1].result])
    logits = keras.Model(model.input, model.get_layer("logits").output)(images, training=False)
    np.testing.assert_allclose(result, logits, rtol=0, atol=1e-5 * np.abs(logits).max())
    return program


@pytest.mark.parametrize("name", FACTORIES)
def test_every_factory_folds(name, rng):
    size = 32 if name == "NASNetCIFAR" else 64
    small = {"repeats": 1, "filters": 8, "input_shape": (size, size + 1, 3), "weights": None}
    model = FACTORIES[name](**small)
    randomize(model)
    assert_folded_is_equal(model, rng.normal(size=(2, size, size + 1, 3)).astype("float32"))


@pytest.mark.parametrize("number", range(50))
def test_random_genotypes_fold(number, rng):
    # Instance and layer norms depend on the image, so only these stay; a plain sum has nothing to fold.
    genotype = random_genotype(random.Random(number).randint, inputs=2 + number % 2 * (number % 3), max_blocks=4)
    model = trained(genotype, filters=3, repeats=(1, 1), bounded_activations=number % 5 == 0)
    assert_folded_is_equal(model, rng.normal(size=(2, 8, 8, 3)).astype("float32"))


def test_nothing_is_computed_twice(rng):
    program = assert_folded_is_equal(trained("nasnet_a"), rng.normal(size=(2, 8, 8, 3)).astype("float32"))
    done = [(step.primitive, step.reads, step.weights) for step in program.steps]
    assert len(set(done)) == len(done)


def make_heavy(patch):
    """Have a small network exported as a large one is, with variables."""
    patch.setattr(export, "HEAVY", 0)
    patch.setattr(export, "LARGE", 200)


@pytest.fixture(scope="module", params=[False, True], ids=["constants", "variables"])
def served(request, tmp_path_factory):
    """A model and what was exported of it, under the default version; also with some weights as variables."""
    model = trained(auxiliary_head=True, drop_path=0.3, repeats=(1, 1), input_shape=(20, 16, 3))
    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            make_heavy(patch)
        path = export_saved_model(model, tmp_path_factory.mktemp("served") / "animals", top=2)
    kept = [
        name
        for name, _ in tf.train.list_variables(str(path / "variables" / "variables"))
        if "VALUE" in name and "image_size" not in name
    ]
    assert bool(kept) == request.param
    return model, path


def pixels(rng, size=(20, 16)):
    return rng.integers(0, 256, (5, *size, 3), dtype=np.uint8)


def test_both_signatures_answer_as_the_network_does(served, rng):
    model, path = served
    images = pixels(rng)
    loaded = tf.saved_model.load(str(path))
    assert set(loaded.signatures) == {"serving_default", "image_bytes"}
    expected = model(images / np.float32(127.5) - 1)["predictions"].numpy()
    encoded = [tf.io.encode_png(image).numpy() for image in images]
    for name, inputs in (
        ("serving_default", {"image": images.astype("float32")}),
        ("image_bytes", {"image_bytes": encoded}),
    ):
        result = loaded.signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        assert set(result) == {"probabilities", "top_classes", "top_scores"}
        np.testing.assert_allclose(result["probabilities"], expected, atol=1e-5)
        best = np.argsort(-expected, 1)[:, :2]
        assert [[word.decode() for word in row] for row in result["top_classes"].numpy()] == [
            [NAMES[index] for index in row] for row in best
        ]
        np.testing.assert_allclose(result["top_scores"], np.take_along_axis(expected, best, 1), atol=1e-5)


def test_encoded_images_of_any_size_and_kind(served, rng):
    """The middle of a wide and of a high image, pixel by pixel, where nothing is resized; and the answer to it."""
    model, path = served
    wide, high = (pixels(rng, size)[0] for size in ((20, 26), (27, 16)))
    jpeg = tf.io.encode_jpeg(wide, quality=100, chroma_downsampling=False)
    files = [tf.io.encode_png(image) for image in (wide, high, high[..., :1])] + [jpeg]
    decoded = np.asarray(Image.open(io.BytesIO(jpeg.numpy())))  # by another library
    seen = np.stack([wide[:, 5:21], high[3:23], high[3:23, :, :1].repeat(3, -1), decoded[:, 5:21]]).astype("float32")
    network = export.Served(model, None, 1, "float32")
    found = np.stack([network._decoded(file) for file in files])
    np.testing.assert_allclose(found[:3], seen[:3], atol=1e-3)
    assert np.abs(found[3] - seen[3]).mean() < 12  # noise, by the fast decoder; another picture is 80 away
    result = tf.saved_model.load(str(path)).signatures["image_bytes"](image_bytes=tf.stack(files))
    expected = model(found / np.float32(127.5) - 1)["predictions"]
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-5)


def test_the_folder_is_what_tf_serving_expects(served):
    _, path = served
    assert path.name == "1" and sorted(child.name for child in path.parent.iterdir()) == [
        "1",
        "batching_params.pbtxt",
        "models.config",
    ]
    assert 'name: "animals"' in (path.parent / "models.config").read_text()
    records = list(tf.data.TFRecordDataset(str(path / "assets.extra/tf_serving_warmup_requests")).as_numpy_iterator())
    assert len(records) == 2 and all(b"animals" in record for record in records)


def test_the_official_messages_read_the_warmup(served):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    _, path = served
    records = tf.data.TFRecordDataset(str(path / "assets.extra/tf_serving_warmup_requests")).as_numpy_iterator()
    loaded = tf.saved_model.load(str(path))
    for record, signature in zip(records, ("serving_default", "image_bytes"), strict=True):
        request = apis.PredictionLog.FromString(record).predict_log.request
        assert (request.model_spec.name, request.model_spec.signature_name) == ("animals", signature)
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        assert loaded.signatures[signature](**inputs)["probabilities"].shape == (1, 3)
    long = {"image_bytes": [b"x" * 300]}
    assert apis.PredictionLog.FromString(prediction_log("a", "b", long)).predict_log.request.inputs["image_bytes"]


def test_versions_are_never_overwritten(tmp_path, caplog):
    model = trained()
    assert export_saved_model(model, tmp_path, version=7).name == "7"
    with pytest.raises(ValueError, match="`version` 7 of .* exists already"):
        export_saved_model(model, tmp_path, version=7)
    (tmp_path / "batching_params.pbtxt").write_text("tuned")
    assert not caplog.messages
    assert export_saved_model(model, tmp_path, name="b").name == "8"
    assert (tmp_path / "batching_params.pbtxt").read_text() == "tuned"
    (told,) = caplog.messages
    assert "models.config stays as it is" in told and told.endswith(f"another name: b, not {tmp_path.name}")


def test_a_wrong_export_leaves_nothing_behind(tmp_path, monkeypatch):
    fold = inference_program

    def wrong(model):
        program, weights = fold(model)
        return program, [*weights[:-1], weights[-1] + np.float32([1, 0, 0])]

    monkeypatch.setattr(export, "inference_program", wrong)
    with pytest.raises(RuntimeError, match="logits differ from the network"):
        export_saved_model(trained(), tmp_path / "net")
    assert list((tmp_path / "net").iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_shape": (None, None, 3)},
        {"include_preprocessing": True},
        {"classifier_activation": None},
        pytest.param({"input_shape": (8, 8, 1)}, marks=pytest.mark.long),
        pytest.param({"dtype": "mixed_bfloat16"}, marks=HALF),
        {"pooling_compatibility": "keras"},
        pytest.param({"filters": None, "penultimate_filters": 48}, marks=pytest.mark.long),
    ],
)
def test_every_kind_of_network_can_be_exported(arguments, tmp_path):
    model = trained(**arguments)
    path = export_saved_model(model, tmp_path / "net", image_dtype="uint8")
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert signature.structured_input_signature[1]["image"].dtype == tf.uint8


@pytest.mark.parametrize(
    ("default", "parts", "later"),
    [
        pytest.param("mixed_bfloat16", {"stem": "float32"}, (), marks=HALF),
        pytest.param("float32", {"cell_0": "mixed_bfloat16"}, (), marks=HALF),
        ("float32", {}, ("cell_1",)),
    ],
)
def test_whichever_layers_compute_in_half_precision_a_network_is_exported(default, parts, later):
    parts = {name: keras.dtype_policies.DTypePolicy(part) for name, part in parts.items()}
    model = trained("nasnet_a", dtype=keras.dtype_policies.DTypePolicyMap(default, parts))
    for name in later:
        model.get_layer(name).dtype_policy = "mixed_float16"
    served = export.Served(model, None, 1, "float32")
    run = served.function()
    export.check_export(model, served, {"function": lambda pixels: run(pixels)["probabilities"]})


def test_a_session_in_half_precision_makes_no_network_one(monkeypatch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert not export._is_mixed(NASNet("tiny", **TINY, dtype="float32"))
        assert export._is_mixed(NASNet("tiny", **TINY))
    finally:
        keras.config.set_dtype_policy("float32")


def test_names_of_imagenet_in_another_order_are_told(caplog):
    names = [name for _, name in imagenet_classes()]
    model = NASNet("tiny", **{**TINY, "classes": 1000, "class_names": None})
    assert export._class_names(model, names, 1000) == names and not caplog.messages
    export._class_names(model, sorted(names), 1000)
    assert "`class_names` must be in the order of the released weights" in caplog.text


def test_what_cannot_be_exported_is_refused(tmp_path):
    for model in (trained(include_top=False), trained(feature_pyramid=True)):
        with pytest.raises(ValueError, match="`model` must be a NASNet with its classifier"):
            export_saved_model(model, tmp_path)
    model = trained()
    for name, value in (("version", 0), ("top", 0), ("image_dtype", "int32"), ("class_names", ["a"])):
        with pytest.raises(ValueError, match=f"`{name}` must be .*Received"):
            export_saved_model(model, tmp_path, **{name: value})


def test_the_package_exports_it():
    assert nasnet_keras.export_saved_model is export_saved_model


# --- other runtimes ---


@pytest.mark.parametrize(
    ("target", "package"), [("onnx", "tf2onnx"), ("litert", "ai_edge_litert"), ("openvino", "openvino")]
)
def test_other_runtimes_give_the_same_numbers(target, package, tmp_path, monkeypatch):
    """`export_target` itself runs what it wrote and raises where it differs."""
    if importlib.util.find_spec(package) is None:
        with pytest.raises(ValueError, match=rf"is not installed: pip install nasnet_keras\[{target}\]"):
            export_target(trained(), tmp_path / "net", target)
        assert list(tmp_path.iterdir()) == []
        pytest.skip(f"{package} is not installed")
    folder = export_target(trained("nasnet_a", input_shape=(9, 8, 3)), tmp_path / "net", target)
    assert (folder / "classes.txt").read_text().split() == list(NAMES)
    with pytest.raises(ValueError, match="`path` must not exist yet"):
        export_target(trained(), folder, target)
    make_heavy(monkeypatch)
    export_target(trained(), tmp_path / "fixed", target, batch=2)


@pytest.mark.parametrize("target", ["onnx", "litert", "openvino"])
def test_precisions(target, tmp_path, rng):
    """Smaller where that is the point, and near the network, which `export_target` itself sees to."""
    for package in (*TARGETS[target], *filter(None, [QUANTIZERS.get(target)])):
        pytest.importorskip(package)
    images = rng.integers(0, 256, (8, 8, 8, 3))
    model, sizes = trained(filters=16), {}
    for precision in PRECISIONS[target]:
        calibration = images if precision == "int8" else None
        folder = export_target(model, tmp_path / precision, target, precision=precision, calibration=calibration)
        sizes[precision] = sum(file.stat().st_size for file in folder.iterdir())
        assert (folder / "classes.txt").read_text().split() == list(NAMES)
    if target == "litert":
        assert sizes["int8"] < sizes["float16"] < sizes["float32"] and sizes["dynamic"] < sizes["float32"]
    if target == "litert":
        export_target(model, tmp_path / "three", target, calibration=images, batch=3)


def test_calibration_takes_each_image_once(tmp_path, rng, monkeypatch):
    """Also where the file takes many at a time: 200 images in batches of 128 once took 128 times their memory."""
    seen = []

    def write(served, folder, batch, calibration, **settings):
        seen.append(calibration)
        raise RuntimeError("seen")

    monkeypatch.setitem(targets.WRITERS, "litert", write)
    monkeypatch.setattr(targets, "check_installed", lambda *_: None)
    images = rng.integers(0, 256, (7, 8, 8, 3))
    for batch, shape in ((None, (7, 1)), (3, (3, 3)), (16, (1, 16))):
        with pytest.raises(RuntimeError, match="seen"):
            export_target(trained(), tmp_path / "net", "litert", calibration=images, batch=batch)
        assert seen[-1].shape == (*shape, 8, 8, 3)
        in_order = seen[-1].reshape(-1, 8, 8, 3)
        np.testing.assert_array_equal(in_order[1:7], images[1:])  # the first has the ends of the range
        np.testing.assert_array_equal(in_order[7:], np.resize(in_order[:7], in_order.shape)[7:])


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_litert_in_integers(io, tmp_path, rng):
    """A pixel is the number that it is, and nothing is computed in floating point."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    images = rng.integers(100, 110, (8, 8, 8, 3))  # which do not have the whole range
    model, kept = trained(), images.copy()
    runs = []
    folder = export_target(model, tmp_path / io, "litert", calibration=images, io=io, accept=runs.append)
    np.testing.assert_array_equal(images, kept)
    model = interpreter.Interpreter(model_path=str(folder / "model.tflite"))
    model.allocate_tensors()
    (image,), (probabilities,) = model.get_input_details(), model.get_output_details()
    assert image["dtype"] == probabilities["dtype"] == np.dtype(io)
    assert image["quantization"] == (1.0, -128 if io == "int8" else 0)
    assert not [one["name"] for one in model.get_tensor_details() if one["dtype"] in (np.float32, np.float16)]
    model.set_tensor(image["index"], (kept[:1] - (128 if io == "int8" else 0)).astype(io))
    model.invoke()
    scale, zero = probabilities["quantization"]
    expected = scale * (model.get_tensor(probabilities["index"]).astype(float) - zero)
    np.testing.assert_allclose(runs[0](kept[:1].astype("float32")), expected, atol=1e-6)


def test_onnx_with_channels_first(tmp_path, rng):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, images = trained("nasnet_a", input_shape=(9, 8, 3)), rng.integers(0, 256, (3, 9, 8, 3)).astype("float32")
    folder = export_target(model, tmp_path / "net", "onnx", layout="nchw")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [3, 9, 8]
    (result,) = session.run(["probabilities"], {"image": images.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(result, model(images / 127.5 - 1), atol=1e-4)


@pytest.mark.parametrize("target", ["onnx", "litert"])
def test_files_say_what_they_want_and_what_they_answer(target, tmp_path):
    for package in TARGETS[target]:
        pytest.importorskip(package)
    folder = export_target(trained(input_shape=(9, 8, 3)), tmp_path / "net", target)
    if target == "onnx":
        import onnx

        model = onnx.load(folder / "model.onnx")
        found = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    else:
        with zipfile.ZipFile(folder / "model.tflite") as archive:
            assert archive.read("classes.txt").decode().split() == list(NAMES)
            found = json.loads(archive.read("metadata.json"))
    assert found["class_names"] == list(NAMES)
    wanted = {"input": "image", "size": [9, 8], "channels": 3, "values": [0, 255], "layout": "NHWC", "colours": "RGB"}
    assert found["preprocessing"].items() >= wanted.items()


def test_what_is_not_accepted_does_not_appear(tmp_path):
    def refuse(run):
        seen.append(run(np.zeros((5, 8, 8, 3), "float32")).shape)
        raise ValueError("not good enough")

    seen = []
    with pytest.raises(ValueError, match="not good enough"):
        export_saved_model(trained(), tmp_path / "net", accept=refuse)
    assert list((tmp_path / "net").iterdir()) == []
    if importlib.util.find_spec("ai_edge_litert"):
        with pytest.raises(ValueError, match="not good enough"):
            export_target(trained(), tmp_path / "other", "litert", batch=2, accept=refuse)
    assert not (tmp_path / "other").exists() and set(seen) == {(5, 3)}


def test_bad_arguments_of_another_runtime(tmp_path):
    for arguments, name in (
        ({"target": "caffe"}, "target"),
        ({"target": "onnx", "calibration": np.zeros((0, 8, 8, 3))}, "calibration"),
        ({"target": "litert", "calibration": np.zeros((1, 9, 8, 3))}, "calibration"),
        *(
            ({"target": "onnx", "calibration": np.resize([low, 0.5, high], (1, 8, 8, 3))}, "calibration")
            for low, high in ((0, 1), (-1, 1), (0, 1.5), (-300, 255), (0, 4095), (0, np.inf), (0, np.nan))
        ),
        ({"target": "onnx", "batch": 0}, "batch"),
        ({"target": "onnx", "precision": "dynamic"}, "precision"),
        ({"target": "litert", "precision": "int8"}, "calibration"),
        ({"target": "litert", "precision": "float16", "calibration": np.zeros((1, 8, 8, 3))}, "calibration"),
        ({"target": "litert", "io": "int8"}, "io"),
        ({"target": "litert", "io": "int16"}, "io"),
        ({"target": "onnx", "io": "int8", "calibration": np.zeros((1, 8, 8, 3))}, "io"),
        ({"target": "litert", "layout": "nchw"}, "layout"),
        ({"target": "onnx", "batch": 10**9}, "batch"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            export_target(trained(), tmp_path / "net", **arguments)


def test_the_command_refuses_in_one_line(tmp_path, capsys, monkeypatch):
    keras.saving.save_model(trained(), tmp_path / "model.keras")
    common = ["export", "--model", str(tmp_path), "--output", str(tmp_path / "out")]
    for further, words in (
        (["--calibration", "digits"], "`calibration` means nothing for the format saved_model"),
        (["--batch", "1"], "`batch` means nothing for the format saved_model"),
        (["--format", "onnx", "--version", "3"], "`version` means nothing for the format onnx"),
        (["--top", "0"], "`top` must be"),
        (["--precision", "int8"], "`precision` means nothing for the format saved_model"),
        (["--max-drop", "1"], "`max_drop` means nothing without `evaluate`"),
        (["--max-drop", "-1", "--evaluate", "digits"], "`max_drop` must be a number of points from 0"),
        (["--evaluate", str(tmp_path / "nowhere")], "`evaluate` must be"),
        (["--evaluate", ""], "`evaluate` must be"),
        (["--format", "onnx", "--precision", "float32", "--calibration", "digits"], "`calibration` must be left out"),
        (["--format", "litert", "--precision", "float16", "int8"], "`calibration` must be typical images for int8"),
    ):
        assert main([*common, *further]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    assert main(common) == 2
    assert "nothing was written" in capsys.readouterr().err and list((tmp_path / "out").iterdir()) == []


# --- what is at hand decides ---


def answer(path, images):
    """The probabilities that an exported version gives for images in 0–255."""
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    return served(image=tf.constant(images, tf.float32))["probabilities"].numpy()


def test_the_live_activation_is_exported(tmp_path, rng):
    model, images = trained(), rng.integers(0, 256, (2, 8, 8, 3)).astype("float32")
    model.get_layer("predictions").activation = "sigmoid"
    result = answer(export_saved_model(model, tmp_path / "net"), images)
    np.testing.assert_allclose(result, model(images / 127.5 - 1.0), atol=1e-5)
    assert np.abs(result.sum(1) - 1).max() > 1e-3


@pytest.mark.long
def test_the_live_class_names_are_exported(tmp_path):
    model = trained()
    model.class_names = ["x", "y", "z"]
    served = tf.saved_model.load(str(export_saved_model(model, tmp_path / "net"))).signatures["serving_default"]
    names = served(image=tf.zeros((1, 8, 8, 3)))["top_classes"].numpy()[0]
    assert sorted(names) == [b"x", b"y", b"z"]


class Doubled(NASNet):
    def call(self, inputs, training=None, mask=None):
        return 2.0 * super().call(inputs, training=training, mask=mask)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda model: setattr(model.get_layer("activation"), "max_value", 0.5), "activation.max_value"),
        (lambda model: setattr(model.get_layer("logits"), "activation", keras.activations.relu), "logits.activation"),
        (lambda model: setattr(model, "call", lambda x: x), "call"),
    ],
)
def test_a_changed_network_is_not_exported_as_it_was(change, named, tmp_path):
    model = trained()
    change(model)
    with pytest.raises(ValueError, match=f"`model` must be a NASNet as it was built.*another {named}"):
        export_saved_model(model, tmp_path / "net")
    with pytest.raises(ValueError, match="`model` must be a NASNet as it was built.*another call"):
        export_saved_model(Doubled("tiny", **TINY), tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_a_network_whose_first_cell_nobody_reads_is_exported(tmp_path, rng):
    older = CellGenotype((Block((0, 0), ("sep_conv_3x3", "max_pool_3x3")),), (2,))
    model, images = trained(Genotype(older, older), repeats=2), rng.integers(0, 256, (2, 8, 8, 3)).astype("float32")
    result = answer(export_saved_model(model, tmp_path / "net"), images)
    np.testing.assert_allclose(result, model(images / 127.5 - 1.0), atol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", None, "sigmoid", "log_softmax"])
def test_what_is_served_follows_from_the_last_activation(activation):
    from nasnet_keras.export.saved_model import Served

    size = {"repeats": (1,), "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 2}
    model = NASNet("tiny", **size, classifier_activation=activation, class_names=("a", "b"))
    served = Served(model, None, 1, "float32")
    # e^1 / (e^1 + e^0) = 0.7311, which is also the sigmoid of 1.
    shares = {"sigmoid": [[0.731059, 0.5]]}.get(activation, [[0.731059, 0.268941]])
    np.testing.assert_allclose(served.activation(np.array([[1.0, 0.0]], "float32")), shares, atol=1e-5)
    with pytest.raises(ValueError, match="`class_names` must be in the model's own order, or left out. Received: 'b'"):
        Served(model, ("b", "a"), 1, "float32")
    assert Served(model, ("eins", "zwei"), 1, "float32").names == ["eins", "zwei"]
    model.get_layer("predictions").activation = "tanh"
    with pytest.raises(ValueError, match="`model` must end in softmax, in sigmoid.*tanh of predictions"):
        Served(model, None, 1, "float32")


# --- what a file has lost ---


def test_the_command_measures_what_it_writes(tmp_path, capsys, rng, monkeypatch):
    """Beside the model's own accuracy, on all images of a folder that it was not trained on."""
    fixtures = Path(__file__).parents[1] / "fixtures"
    photos, model = str(fixtures / "photos"), load_model(fixtures / "finetuned")
    common = ["export", "--model", str(fixtures / "finetuned"), "--evaluate", photos, "--json"]
    assert main([*common, "--output", str(tmp_path / "served")]) == 0
    out = capsys.readouterr().out
    figures = json.loads(out.splitlines()[-1])["evaluation"]
    data = load_data(photos, image_size=model.input_shape[1], validation=0, test=0).train
    own = float(np.mean(model.predict(data.images / np.float32(127.5) - 1).argmax(-1) == data.labels))
    assert figures["images"] == 24 == len(data) and (tmp_path / "served" / "evaluation.svg").exists()
    monkeypatch.setattr(Comparison, "_figures", lambda *_: {"accuracy": next(falling), "milliseconds": 1.0})
    falling = iter([1.0, 0.5])
    assert main([*common, "--output", str(tmp_path / "refused"), "--max-drop", "1"]) == 2
    assert "`max_drop` is 1, and saved_model float32 loses 50.00 points" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "refused").rglob("*") if path.is_file()]
    monkeypatch.undo()
    assert [(row["name"], row["accuracy"], row["drop"]) for row in figures["files"]] == [
        ("the model", own, 0.0),
        ("saved_model float32", own, 0.0),
    ]
    assert all(row["milliseconds"] > 0 for row in figures["files"]) and "points lost" in out

    def wrong(pixels):  # of two classes, each is taken for the other
        return 1.0 - model.predict(pixels / np.float32(127.5) - 1, verbose=0)

    whole, size = replace(load_data(photos, validation=0, test=0), test=data), model.input_shape[1:3]
    evaluation = command._compared(model, whole, size, None)
    evaluation.add("a file", wrong)
    lost = 100 * (2 * own - 1)
    assert evaluation.rows[1]["drop"] == pytest.approx(lost) and lost > 1
    assert evaluation.notes == [f"a file loses {lost:.2f} points of accuracy: more, and typical, images may help"]
    with pytest.raises(ValueError, match=rf"`max_drop` is 1, and a file loses {lost:.2f} points of 62.50%, so nothing"):
        command._compared(model, whole, size, 1.0).add("a file", wrong)
    evaluation.add("the same", lambda pixels: 1.0 - wrong(pixels))
    assert evaluation.rows[2]["drop"] == 0 and len(evaluation.notes) == 1


def test_what_the_model_was_trained_on_is_not_what_it_is_measured_on(tmp_path, capsys):
    """Of the folder of its training what was held out; of one with parts its test part."""
    photos, net = Path(__file__).parents[1] / "fixtures" / "photos", tmp_path / "net"
    training = ["train", "--data", str(photos), "--genotype", "tiny", "--epochs", "1", "--image-size", "8"]
    assert main([*training, "--repeats", "1", "--filters", "2", "--directory", str(net)]) == 0
    for part in ("train", "test"):
        shutil.copytree(photos, tmp_path / "parts" / part)
    (tmp_path / "parts" / "test" / "red" / "00.png").unlink()
    for path in (tmp_path / "parts" / "test").glob("*/*.png"):  # other images, as far as names tell
        path.rename(path.with_name(f"new-{path.name}"))
    held_out = load_data(str(photos), image_size=8).test
    for data, count in ((photos, len(held_out)), (tmp_path / "parts", 23), (tmp_path / "parts" / "test", 23)):
        options = parser().parse_args(["export", "--model", str(net), "--output", "new", "--evaluate", str(data)])
        found = command.check(options)["labelled"]
        assert (len(found.test), len(found.train), len(found.validation)) == (count, 0, 0)
    assert 0 < len(held_out) < 24
