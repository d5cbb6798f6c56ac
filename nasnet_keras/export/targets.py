"""A network in the formats of other runtimes: ONNX, LiteRT and OpenVINO.

Each file takes `image`, float32 pixels in 0–255 [batch, height, width, channels], and gives `probabilities` [batch,
classes]; `classes.txt` beside it has a class's name on each line, and `thresholds.txt`, for a model whose images may
have several labels, the probability from which they have it. What was written is run and compared with the network
before it appears.
"""

import importlib
import os
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from nasnet_keras.export.folders import check_target
from nasnet_keras.export.saved_model import Served, check_export, new_folder
from nasnet_keras.files import expanded
from nasnet_keras.models.answers import thresholds

OPSET = 17
QUANTIZED_TOLERANCE = 0.1  # mean difference of a probability that int8 weights and activations may bring


def export_onnx(served, folder, batch, calibration):
    """Write `model.onnx`. Returns a function that runs it."""
    tf2onnx, onnxruntime = _modules("onnx", "tf2onnx", "onnxruntime")
    function, file = served.function(batch), folder / "model.onnx"
    tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET, output_path=os.fspath(file)
    )
    session = onnxruntime.InferenceSession(os.fspath(file), providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["probabilities"], {"image": pixels})[0]


def export_litert(served, folder, batch, calibration):
    """Write `model.tflite`, in int8 if there are calibration images. Returns a function that runs it."""
    (runtime,) = _modules("litert", "ai_edge_litert.interpreter")
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [served.function(batch).get_concrete_function()], served
    )
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([np.stack([image] * (batch or 1))] for image in calibration)
    content = converter.convert()
    (folder / "model.tflite").write_bytes(content)

    def run(pixels):
        interpreter = runtime.Interpreter(model_content=content)
        (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(image["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(probabilities["index"])

    return run


def export_openvino(served, folder, batch, calibration):
    """Write `model.xml` and `model.bin`, in float32. Returns a function that runs them."""
    (openvino,) = _modules("openvino", "openvino")
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(served, saved, signatures={"serving_default": served.function(batch)})
        openvino.save_model(openvino.convert_model(saved), os.fspath(folder / "model.xml"), compress_to_fp16=False)
    # Left to itself the runtime computes in bfloat16 where the processor has it.
    model = openvino.compile_model(os.fspath(folder / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: model(pixels)[0]


WRITERS = {"onnx": export_onnx, "litert": export_litert, "openvino": export_openvino}


def export_target(model, path, target, *, class_names=None, batch=None, calibration=None):
    """Write a network for another runtime into a new folder.

    Args:
        model: a `NASNet` with its classifier.
        path: a folder that does not exist yet.
        target: `"onnx"`, `"litert"` or `"openvino"`.
        class_names: as for `export.export_saved_model`.
        batch: images of every call, at most 128, which makes OpenVINO faster; None: any number.
        calibration: pixels in 0–255 [count, height, width, channels] on which LiteRT measures the ranges of int8
            activations; None for float32.

    Returns:
        The path.

    Raises:
        ValueError: an argument out of range, or a runtime that is not installed, with the line that installs it.
        RuntimeError: what was written does not compute what the network computes; nothing is left behind.

    Examples:
        >>> from nasnet_keras import NASNetCIFAR, export_target
        >>> export_target(NASNetCIFAR(), "cifar-onnx", "onnx")  # doctest: +SKIP
    """
    path = Path(expanded(path))
    check_target(path, target, batch, calibration is not None)
    served = Served(model, class_names, 1, "float32")
    if calibration is not None:
        calibration = np.asarray(calibration, np.float32)
        if calibration.shape[1:] != (*served.size, served.channels) or not len(calibration):
            shape = (*served.size, served.channels)
            raise ValueError(f"`calibration` must be images of {shape}. Received: {calibration.shape}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(path) as folder:
        run = WRITERS[target](served, folder, batch, calibration)
        (folder / "classes.txt").write_text("\n".join(served.names) + "\n", encoding="utf-8")
        if (least := thresholds(model)) is not None:
            (folder / "thresholds.txt").write_text("".join(f"{value}\n" for value in least.tolist()), encoding="utf-8")
        check_export(model, served, {target: run}, None if calibration is None else QUANTIZED_TOLERANCE, batch or 3)
    return path


def _modules(extra, *names):
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise ValueError(f"`{error.name}` is not installed: pip install nasnet_keras[{extra}]") from None
