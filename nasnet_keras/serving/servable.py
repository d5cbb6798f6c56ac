"""Versions of a model: loading what `export` wrote, warming it up, and taking over a newer one."""

import asyncio
import gc
import logging
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2

from nasnet_keras.export.folders import check_versions, versions
from nasnet_keras.export.serving_files import read_warmup
from nasnet_keras.serving.rest import Refusal, Spec

KINDS = {tf.string: "string", tf.float32: "float32", tf.uint8: "uint8"}
WARMUP = "assets.extra/tf_serving_warmup_requests"
log = logging.getLogger(__name__)


def use_cores(cores, runners):
    """Divide the machine's cores among the batches that run at a time, unless TensorFlow runs already.

    An operation of one batch gets a share of them; its independent operations, and those of another batch, the rest.
    """
    with suppress(RuntimeError):  # it runs already, as its owner wanted it
        tf.config.threading.set_intra_op_parallelism_threads(max(1, cores // runners))
        tf.config.threading.set_inter_op_parallelism_threads(cores)


class Servable:
    """One version, loaded and warmed up; `reading` has what it knows of how its network's images are read.

    Args:
        folder: `…/<version>`, a SavedModel whose inputs and outputs all begin with the batch.
        sizes: the batch sizes that the warm-up runs each example in.

    Raises:
        ValueError: it is no such SavedModel. TensorFlow raises more kinds of error for a broken one.
    """

    def __init__(self, folder, sizes=(1,)):
        self.version = int(folder.name)
        self._loaded = tf.saved_model.load(str(folder))  # keeps the functions below alive
        kept = {name: getattr(self._loaded, name, None) for name in ("image_size", "grey_range")}
        kept = {name: value for name, value in kept.items() if isinstance(value, tf.Variable) and value.shape == (2,)}
        self.reading = {name: tuple(value.numpy().tolist()) for name, value in kept.items()}
        self._functions = dict(self._loaded.signatures)
        self.signatures = {
            name: {key: _spec(key, spec) for key, spec in function.structured_input_signature[1].items()}
            for name, function in self._functions.items()
        }
        self.runs = {name: self._runner(name) for name in self._functions}
        self.metadata = _metadata(folder)
        warmup = folder / WARMUP
        for name, inputs in read_warmup(warmup) if warmup.is_file() else ():
            rows = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
            for size in sizes:
                self.runs[name]((rows * size)[:size])

    def _runner(self, name):
        """The function from rows to (outputs of the batch, index in it), one and the same for each call."""
        function, specs = self._functions[name], self.signatures[name]

        def run(rows):
            inputs = {key: [row[key] for row in rows] for key in specs}
            inputs = {key: tf.constant(x if specs[key].kind == "string" else np.stack(x)) for key, x in inputs.items()}
            try:
                outputs = {key: value.numpy() for key, value in function(**inputs).items()}
            except tf.errors.InvalidArgumentError as error:
                raise Refusal(400, _reason(error.message)) from None
            return [(outputs, index) for index in range(len(rows))]

        return run


def _reason(message):
    """What is wrong, out of TensorFlow's lines about where in the graph it went wrong."""
    line = re.search(r"([^\n]+)\n\t \[\[\{\{", message)
    if not line:
        return "the model cannot take these inputs"
    return re.sub(r"^assertion failed: \[(.*)\]$", r"\1", line[1])[:300]


def _spec(name, spec):
    if spec.dtype not in KINDS or spec.shape.rank is None or spec.shape.rank < 1 or spec.shape[0] is not None:
        raise ValueError(f"input {name} must be [batch, …] of {', '.join(KINDS.values())}. Received: {spec}")
    return Spec(KINDS[spec.dtype], tuple(spec.shape[1:]))


def _metadata(folder):
    """The signatures as TF Serving's metadata shows them."""
    graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
    return {
        name: MessageToDict(signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for name, signature in graph.signature_def.items()
    }


class Versions:
    """The folder of a model, and the version of it that is served: the newest that loads.

    Args:
        path: the folder; its versions are the folders named by an integer.
        sizes: the batch sizes that a version is warmed up in.

    Attributes:
        current: the `Servable`, or None before the first.
        loading: the number of a version that is being loaded, or None.
        broken: `{version: (what its files were, why it failed)}`, of those that are on the disk.

    Raises:
        ValueError: no such folder, or no version in it.
    """

    def __init__(self, path, sizes=(1,)):
        self.path = Path(path)
        self.current = self.loading = None
        self.broken = {}
        self._files = None  # what those of the current one were when it was loaded
        self._sizes = sizes
        check_versions(path)

    async def refresh(self):
        """Load the newest version that can be, unless it is served already. The old one serves until then.

        A number says little: a version that was deleted may have been exported anew under the same.
        """
        found = versions(self.path)
        self.broken = {version: why for version, why in self.broken.items() if version in dict(found)}
        for version, folder in found:
            served, files = self.current is not None and version == self.current.version, _files(folder)
            if served and files == self._files:
                return
            if await self._load(version, folder, files) or served:  # else what is in memory is the best there is
                return

    async def _load(self, version, folder, files):
        """Whether a version can be loaded, which is served then; one that is broken is not tried again as it is."""
        if version in self.broken and self.broken[version][0] == files:
            return False
        self.loading = version
        try:
            servable = await asyncio.to_thread(Servable, folder, self._sizes)
        except Exception as error:  # a broken SavedModel raises whatever TensorFlow meets first
            reason = " ".join(str(error).split())[:300]
            self.broken[version] = (files, reason)
            log.warning("version %d cannot be served and is ignored: %s", version, reason)
            return False
        finally:
            self.loading = None
        self.broken.pop(version, None)
        old, self.current, self._files = self.current, servable, files
        log.info("version %d is served%s", version, f", in place of {old.version}" if old else "")
        del old
        gc.collect()  # TensorFlow's objects know each other in circles, and a model is large
        return True


def _files(folder):
    """What tells whether a folder has changed: names, sizes and times of its files."""
    stats = ((file, file.stat()) for file in sorted(folder.rglob("*")) if file.is_file())
    return tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats)
