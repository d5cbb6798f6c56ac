"""A network in the formats of other runtimes: ONNX, LiteRT and OpenVINO.

Each file takes `image`, pixels in 0–255 [batch, height, width, channels], and gives `probabilities` [batch, classes];
`classes.txt` beside it has a class's name on each line, line breaks in it escaped, and `thresholds.txt`, for a model
whose images may have several labels, the probability from which they have it. ONNX and LiteRT files say so themselves:
in ONNX' metadata, and in a zip archive at the end of a `.tflite` file, of which the runtime knows nothing:
`unzip -p model.tflite metadata.json`.
What was written is run and compared with the network before it appears.
"""

import contextlib
import importlib
import json
import logging
import os
import tempfile
import zipfile
from io import StringIO
from pathlib import Path

import numpy as np
import tensorflow as tf

from nasnet_keras.data.left_out import as_text
from nasnet_keras.export.folders import check_backend, check_installed, check_target
from nasnet_keras.export.saved_model import Served, check_export, new_folder
from nasnet_keras.files import expanded

OPSET = 17
# How far a precision may move answers, on noise, see `saved_model._distance`.
TOLERANCES = {"float32": None, "float16": 0.02, "dynamic": 0.3, "int8": 0.3}


def export_target(
    model,
    path,
    target,
    *,
    class_names=None,
    batch=None,
    calibration=None,
    precision=None,
    io="float32",
    layout="nhwc",
    accept=None,
):
    """Write a network for another runtime into a new folder.

    Args:
        model: a `NASNet` with its classifier.
        path: a folder that does not exist yet.
        target: `"onnx"`, `"litert"` or `"openvino"`.
        class_names: as for `export.export_saved_model`.
        batch: images of every call, at most 128, which makes OpenVINO faster; None: any number.
        calibration: pixels in 0–255 [count, height, width, channels], typical ones, on which the ranges of int8
            activations are measured.
        precision: `"float32"`; `"int8"`, weights and activations, by each runtime's own quantiser; of LiteRT also
            `"float16"` and `"dynamic"`, weights alone, in float16 and int8. None: int8 if there are calibration images.
        io: of LiteRT in int8 the type of image and probabilities: `"float32"`, or `"int8"` or `"uint8"`, with which
            nothing is computed in floating point. A pixel is then its uint8 itself, or 128 less as int8.
        layout: of ONNX, `"nhwc"` or `"nchw"`, in which `image` is [batch, channels, height, width].
        accept: None, or called before the folder appears with a function from pixels in 0–255 [batch, height, width,
            channels] to probabilities, computed by what was written; what it raises keeps the folder from appearing.

    Returns:
        The path.

    Raises:
        ValueError: an argument out of range, or a runtime that is not installed, with the line that installs it.
        RuntimeError: a runtime's converter fails, or what was written does not compute what the network computes;
            nothing is left behind.

    Examples:
        >>> from nasnet_keras import NASNetCIFAR, export_target
        >>> export_target(NASNetCIFAR(), "cifar-onnx", "onnx")  # doctest: +SKIP
    """
    check_backend(target)
    path = Path(expanded(path))
    settings = {"precision": precision, "io": io, "layout": layout}
    precision = settings["precision"] = check_target(path, target, batch, calibration is not None, **settings)
    served = Served(model, class_names, 1, "float32")
    if calibration is not None:
        calibration = np.array(calibration, np.float32)
        if calibration.shape[1:] != (*served.size, served.channels) or not len(calibration):
            shape = (*served.size, served.channels)
            raise ValueError(f"`calibration` must be images of {shape}. Received: {calibration.shape}")
        _check_pixels(calibration)
        np.clip(calibration, 0, 255, out=calibration)
        calibration[0, 0, :2] = [[0], [255]]  # the ends of the range, so that a pixel stays the number that it is
        calibration = _in_batches(calibration, batch or 1)
    check_installed(target, precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(path) as folder:
        with _runtime(f"{target} cannot convert {model.name!r} in {precision}"):
            run = WRITERS[target](served, folder, batch, calibration, **settings)
        for name, text in _texts(served).items():
            (folder / name).write_text(text, encoding="utf-8")
        run = _runtime(f"{target} cannot run {model.name!r} in {precision}")(run)
        check_export(model, served, {target: run}, TOLERANCES[precision], batch or 3)
        if accept is not None:
            accept(_of_any_number(run, batch))
    return path


@contextlib.contextmanager
def _runtime(what):
    """Where a runtime's own exception becomes a `RuntimeError` of one line that begins with `what`: in its context, or
    in a function that it decorates.
    """
    try:
        yield
    except (ValueError, OSError, RuntimeError, MemoryError):
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RuntimeError(f"{what}: {reason[:300]}") from error


def _check_pixels(calibration):
    """Raise `ValueError` unless these are pixels in 0–255; what is scaled already would pass for nearly black ones.

    Resizing by cubic or Lanczos' weights goes beyond the range, by a quarter of it at most.
    """
    low, high = float(calibration.min()), float(calibration.max())
    if not (low >= -64 and high <= 319) or (high < 2 and (calibration % 1).any()):
        fractions = ", with fractions" if 0 <= low <= high < 2 else ""
        raise ValueError(f"`calibration` must be finite pixels in 0–255. Received: {low:g} to {high:g}{fractions}")


def _in_batches(images, size):
    """Images in batches of a size, the last one filled up with the first images."""
    count = -(-len(images) // size)
    return np.resize(images, (count * size, *images.shape[1:])).reshape(count, size, *images.shape[1:])


def _onnx(served, folder, batch, calibration, precision, io, layout):
    """Write `model.onnx`. Returns a function that runs it."""
    tf2onnx, onnx, runtime = map(importlib.import_module, ("tf2onnx", "onnx", "onnxruntime"))
    function, file = served.function(batch), os.fspath(folder / "model.onnx")
    moved = ["image:0"] if layout == "nchw" else None
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET, inputs_as_nchw=moved
    )
    if precision == "int8":
        model = _quantized_onnx(model, [_laid(pixels, layout) for pixels in calibration])
    described = {name: json.dumps(value) for name, value in _described(served, layout, io).items()}
    onnx.helper.set_model_props(model, described)
    onnx.save(model, file)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["probabilities"], {"image": _laid(pixels, layout)})[0]


def _quantized_onnx(model, calibration):
    """An ONNX model in int8, a scale for each channel of a weight, by ONNX Runtime's quantiser."""
    onnx, quantization = map(importlib.import_module, ("onnx", "onnxruntime.quantization"))

    class Images(quantization.CalibrationDataReader):
        def __init__(self):
            self._images = iter(calibration)

        def get_next(self):
            return next(({"image": pixels} for pixels in self._images), None)

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantized = (f"{folder}/{name}.onnx" for name in ("plain", "prepared", "quantized"))
        onnx.save(model, plain)
        quantization.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(prepared, quantized, Images(), per_channel=True)
        return onnx.load(quantized)


def _litert(served, folder, batch, calibration, precision, io, layout):
    """Write `model.tflite`. Returns a function that runs it."""
    runtime = importlib.import_module("ai_edge_litert.interpreter")
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [served.function(batch).get_concrete_function()], served
    )
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ([pixels] for pixels in calibration)
    if io != "float32":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(io)
    file = folder / "model.tflite"
    file.write_bytes(converter.convert())
    texts = {**_texts(served), "metadata.json": json.dumps(_described(served, layout, io))}
    with zipfile.ZipFile(file, "a") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    content, interpreters = file.read_bytes(), {}  # by the shape of the images

    def run(pixels):
        if pixels.shape not in interpreters:
            interpreter = interpreters[pixels.shape] = runtime.Interpreter(model_content=content)
            interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], pixels.shape)
            interpreter.allocate_tensors()
        interpreter = interpreters[pixels.shape]
        (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.set_tensor(image["index"], _quantized(pixels, image))
        interpreter.invoke()
        return _real(interpreter.get_tensor(probabilities["index"]), probabilities)

    return run


def _quantized(values, tensor):
    """Numbers as a tensor of an interpreter takes them."""
    scale, zero = tensor["quantization"]
    if not scale:
        return values
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(tensor["dtype"])


def _real(values, tensor):
    """The numbers that a tensor of an interpreter means."""
    scale, zero = tensor["quantization"]
    return (values.astype("float32") - zero) * np.float32(scale) if scale else values


def _openvino(served, folder, batch, calibration, precision, io, layout):
    """Write `model.xml` and `model.bin`. Returns a function that runs them."""
    openvino = importlib.import_module("openvino")
    file = os.fspath(folder / "model.xml")
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(served, saved, signatures={"serving_default": served.function(batch)})
        model = openvino.convert_model(saved)
        if precision == "int8":
            model = _quantized_openvino(model, calibration)
        openvino.save_model(model, file, compress_to_fp16=False)
    # Left to itself the runtime computes in bfloat16 where the processor has it.
    compiled = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: compiled(pixels)[0]


def _quantized_openvino(model, calibration):
    """An OpenVINO model in int8, by its own quantiser."""
    nncf = importlib.import_module("nncf")
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(StringIO()):  # bars
        return nncf.quantize(model, nncf.Dataset(calibration), subset_size=len(calibration))


WRITERS = {"onnx": _onnx, "litert": _litert, "openvino": _openvino}


def _texts(served):
    """{file: text} of what stands beside a file: the names of the classes, and thresholds where a model has them."""
    texts = {"classes.txt": "".join(f"{as_text(name)}\n" for name in served.names)}
    if served.thresholds is not None:
        texts["thresholds.txt"] = "".join(f"{value}\n" for value in served.thresholds)
    return texts


def _described(served, layout, io):
    """What a file says of itself, JSON-able."""
    height, width = served.size
    preprocessing = {
        "input": "image",
        "layout": layout.upper(),
        "size": [height, width],
        "channels": served.channels,
        "type": io,
        "values": [-128, 127] if io == "int8" else [0, 255],
        "colours": "RGB" if served.channels == 3 else "",
        "resizing": "the largest centred part of the input's proportions, bilinear with antialiasing",
        **served.told,
    }
    described = {"preprocessing": preprocessing, "class_names": served.names}
    return described if served.thresholds is None else {**described, "thresholds": served.thresholds}


def _laid(pixels, layout):
    """Pixels [batch, height, width, channels] in a layout."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if layout == "nchw" else pixels


def _of_any_number(run, batch):
    """A function of any number of images, of one that takes `batch`; None: any."""
    if batch is None:
        return run

    def padded(pixels):
        parts = [pixels[place : place + batch] for place in range(0, len(pixels), batch)]
        filled = [np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)]) for part in parts]
        return np.concatenate([np.array(run(part)) for part in filled])[: len(pixels)]

    return padded
