"""What a served NASNet costs: our SavedModel beside the one that keras.applications' `model.export()` writes.

    python benchmarks/serving.py [--networks NASNetMobile NASNetLarge] [--runs 50] [--rounds 3]

Both networks have the same weights, random batch norms included, and are exported in this process; each SavedModel
is then loaded in processes of its own, in turn, which time loading, the first answer, and the median of the
following ones for batches of 1, 8 and 32. The last lines compare with the machine's peak, that of a
large matrix product.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIZES = {"NASNetMobile": 224, "NASNetLarge": 331}


def export(name, directory):
    """Our network, and {"ours": seconds, "theirs": seconds} of exporting the same network."""
    import keras
    import numpy as np

    import nasnet_keras

    theirs = getattr(keras.applications, name)(weights=None)
    generator = np.random.default_rng(0)
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable, low, high in (
                (layer.gamma, 0.5, 1.5),
                (layer.beta, -0.2, 0.2),
                (layer.moving_mean, -0.2, 0.2),
                (layer.moving_variance, 0.5, 1.5),
            ):
                variable.assign(generator.uniform(low, high, variable.shape))
    file = str(directory / "theirs.h5")
    theirs.save_weights(file.replace(".h5", ".weights.h5"))
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(file, "w") as opened:
        legacy_h5_format.save_weights_to_hdf5_group(opened, theirs)
    ours = getattr(nasnet_keras, name)(weights=None, pooling_compatibility="keras")
    nasnet_keras.load_keras_applications_weights(ours, file)
    seconds = {}
    start = time.perf_counter()
    nasnet_keras.export_saved_model(ours, directory / "ours")
    seconds["ours"] = time.perf_counter() - start
    start = time.perf_counter()
    theirs.export(str(directory / "theirs"), verbose=False)
    seconds["theirs"] = time.perf_counter() - start
    return ours, seconds


def serve(folder, size, runs):
    """Load a SavedModel and time it; prints one JSON line."""
    import numpy as np
    import tensorflow as tf

    start = time.perf_counter()
    function = tf.saved_model.load(folder).signatures["serving_default"]
    load = time.perf_counter() - start
    ((name, _),) = function.structured_input_signature[1].items()
    # Pixels for ours; theirs wants them scaled, and whoever calls it has to do that.
    pixels = np.random.default_rng(0).integers(0, 256, (32, size, size, 3)).astype("float32")
    images = pixels if name == "image" else pixels / 127.5 - 1
    results = {"load": load}
    for batch in (1, 8, 32):
        data = tf.constant(images[:batch])
        times = []
        for _ in range(1 + (runs if batch == 1 else max(5, runs // 8))):
            start = time.perf_counter()
            answer = function(**{name: data})
            times.append(time.perf_counter() - start)
        if batch == 1:
            results["first"] = times[0]
        results[f"batch_{batch}"] = statistics.median(times[1:])
    scores = answer.get("probabilities", next(iter(answer.values())))
    results["scores"] = scores.numpy().astype(float).ravel().tolist()
    print(json.dumps(results))


def other_runtimes(model, folder, size, runs):
    """One image through OpenVINO and LiteRT, ours and theirs in turn in this process; prints medians.

    `model` is our network; theirs is converted from the SavedModel that it exported.
    """
    import numpy as np
    import tensorflow as tf

    from nasnet_keras import export_target

    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype("float32")
    images = {"ours": pixels, "theirs": pixels / np.float32(127.5) - np.float32(1)}

    def openvino():
        import openvino

        places = {"theirs": folder / "theirs"}
        for which, batch in (("ours", None), ("ours, batch 1", 1)):
            places[which] = export_target(model, folder / f"openvino {batch}", "openvino", batch=batch) / "model.xml"
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        return {
            which: openvino.compile_model(
                openvino.convert_model(str(place)) if place.is_dir() else str(place), "CPU", hint
            )
            for which, place in places.items()
        }

    def litert():
        from ai_edge_litert.interpreter import Interpreter

        export_target(model, folder / "litert", "litert")
        contents = {
            "ours": (folder / "litert" / "model.tflite").read_bytes(),
            "theirs": tf.lite.TFLiteConverter.from_saved_model(str(folder / "theirs")).convert(),
        }
        calls = {}
        for which, content in contents.items():
            interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
            place = interpreter.get_input_details()[0]["index"]
            interpreter.resize_tensor_input(place, images[which].shape)
            interpreter.allocate_tensors()

            def call(data, interpreter=interpreter, place=place):
                interpreter.set_tensor(place, data)
                interpreter.invoke()

            calls[which] = call
        return calls

    for name, prepare in (("OpenVINO", openvino), ("LiteRT", litert)):
        try:
            calls = prepare()
        except (ImportError, ValueError) as error:
            print(f"  {name}: {error}")
            continue
        times = {which: [] for which in calls}
        for _ in range(runs + 3):
            for which, call in calls.items():
                start = time.perf_counter()
                call(images[which.split(",")[0]])
                times[which].append(time.perf_counter() - start)
        medians = {which: statistics.median(own[3:]) * 1e3 for which, own in times.items()}
        other = medians.pop("theirs")
        for which, one in medians.items():
            print(
                f"  {name}, one image, {which}: {one:.1f} ms, theirs {other:.1f} ms, ratio {one / other:.2f}",
                flush=True,
            )


def peak():
    """Single-precision multiply-adds a second of a large matrix product."""
    import tensorflow as tf

    one, best = tf.random.normal((2048, 2048)), 1e9
    for _ in range(8):
        start = time.perf_counter()
        tf.matmul(one, one).numpy()
        best = min(best, time.perf_counter() - start)
    return 2048**3 / best


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3, help="processes for each SavedModel, in turn")
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve[0], int(options.serve[1]), options.runs)
    from nasnet_keras import list_models

    counts = {row["model"].split("(")[0]: row["multiply_adds"] for row in list_models()}
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            model, exported = export(name, folder)
            rows = {"ours": [], "theirs": []}
            for _ in range(options.rounds):
                for which, place in (("ours", folder / "ours" / "1"), ("theirs", folder / "theirs")):
                    command = [
                        sys.executable,
                        __file__,
                        "--runs",
                        str(options.runs),
                        "--serve",
                        str(place),
                        str(SIZES[name]),
                    ]
                    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                    rows[which].append(json.loads(output.splitlines()[-1]))
            print(
                f"{name}: export {exported['ours']:.1f} s against {exported['theirs']:.1f} s, "
                f"ratio {exported['ours'] / exported['theirs']:.2f}"
            )
            for row in rows.values():
                for one in row:
                    one["load and first"] = one["load"] + one["first"]
            for key in ("load and first", "batch_1", "batch_8", "batch_32"):
                one, other = (statistics.median(row[key] for row in rows[which]) for which in ("ours", "theirs"))
                ratio = statistics.median(a[key] / b[key] for a, b in zip(*rows.values(), strict=True))
                print(f"  {key}: {one * 1e3:.1f} ms against {other * 1e3:.1f} ms, ratio {ratio:.2f}", flush=True)
            limit = counts[name] / peak()
            median = statistics.median(row["batch_1"] for row in rows["ours"])
            print(f"  arithmetic limit of one image {limit * 1e3:.1f} ms; ours takes {median / limit:.1f} times that")
            pairs = zip(rows["ours"][0]["scores"], rows["theirs"][0]["scores"], strict=True)
            print(f"  greatest difference of a probability: {max(abs(one - other) for one, other in pairs):.1e}")
            other_runtimes(model, folder, SIZES[name], options.runs)
    return None


if __name__ == "__main__":
    main()
