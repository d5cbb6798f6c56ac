"""The small files that TF Serving reads beside a SavedModel.

The warm-up file is a TFRecord of `PredictionLog` messages (tensorflow_serving/apis/prediction_log.proto). The few
fields of it are written here by hand: its Python package would bring a second TensorFlow.
"""

import json

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

BATCHING = """max_batch_size {{ value: {size} }}
batch_timeout_micros {{ value: 0 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: {threads} }}
"""
MODELS = """model_config_list {{
  config {{
    name: {name}
    base_path: {base_path}
    model_platform: "tensorflow"
  }}
}}
"""


def write_warmup(path, name, requests):
    """Write the requests that TF Serving sends to a model before it calls it ready.

    Args:
        path: `…/assets.extra/tf_serving_warmup_requests`.
        name: the model's name.
        requests: (signature, {input: array or list of bytes}) pairs.
    """
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            writer.write(prediction_log(name, signature, inputs))


def prediction_log(name, signature, inputs):
    """One `PredictionLog` with a `PredictRequest`, as bytes.

    Args:
        name: the model's name.
        signature: the signature's name.
        inputs: `{input: array or list of bytes}`.
    """
    spec = _field(1, name.encode()) + _field(3, signature.encode())
    request = _field(1, spec)
    for key, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, key.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))  # PredictionLog.predict_log, PredictLog.request


def read_warmup(path):
    """(signature, {input: array}) pairs of a warm-up file; logs of other kinds than `PredictRequest` are left out.

    Args:
        path: `…/assets.extra/tf_serving_warmup_requests`.
    """
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        for request in _inside(record, 6, 1):
            (signature,) = _inside(request, 1, 3) or [b"serving_default"]
            inputs = {}
            for entry in _inside(request, 2):
                (key,), (tensor,) = _inside(entry, 1), _inside(entry, 2)
                inputs[key.decode()] = tf.make_ndarray(tensor_pb2.TensorProto.FromString(tensor))
            yield signature.decode(), inputs


def batching_params(size=32, threads=2):
    """The text of `batching_params.pbtxt`: batches form while others run; a lone request never waits."""
    return BATCHING.format(size=size, threads=threads)


def models_config(name, base_path):
    """The text of `models.config` for one model."""
    return MODELS.format(name=json.dumps(name), base_path=json.dumps(base_path))


def _field(number, content):
    """A length-delimited field of the protocol-buffer wire format."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _inside(content, *numbers):
    """The contents of all fields of one number, or of one number within the fields of another."""
    if not numbers:
        return [content]
    found, place = [], 0
    while place < len(content):
        tag, place = _read_varint(content, place)
        size, place = _read_varint(content, place)  # of a varint field, its value
        if tag & 7 == 2:
            if tag >> 3 == numbers[0]:
                found += _inside(content[place : place + size], *numbers[1:])
            place += size
        elif tag & 7:
            raise ValueError("a warm-up request must consist of integers and length-delimited fields")
    return found


def _read_varint(content, place):
    value = shift = 0
    while True:
        part, place = content[place], place + 1
        value |= (part & 127) << shift
        shift += 7
        if part < 128:
            return value, place


def _varint(value):
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes(parts) + bytes([value])
