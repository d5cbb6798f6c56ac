# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · Export a network and query it
#
# A trained network becomes a SavedModel that TensorFlow Serving takes as it is: images in, names of classes
# out. Preprocessing and class names are inside, so whoever asks needs to know neither.

# %%
import base64
import io
import json
import os
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from nasnet_keras import RECIPES, NASNet, export_saved_model, load_data, preprocess_input, training

SHORT = bool(os.environ.get("NASNET_KERAS_SHORT"))  # a short training, to test that this notebook runs
EPOCHS = 1 if SHORT else 8
work = Path(tempfile.mkdtemp())
tf.get_logger().setLevel("ERROR")  # it would announce each file that it writes

# %% [markdown]
# ## A network to serve

# %%
digits = load_data("digits", image_size=16)
keras.utils.set_random_seed(0)
names = {"classes": 10, "class_names": digits.class_names}
network = NASNet("nasnet_a", repeats=1, filters=8, stem="cifar", input_shape=digits.image_shape, **names)
training.fit(network, digits, RECIPES["scans"], epochs=EPOCHS)
print(f"{training.evaluate(network, digits.test)['accuracy']:.1%} of the test images right")

# %% [markdown]
# ## Export
#
# Batch norms are folded into the convolutions; what was written is read back and compared with the network
# before the version appears. Exporting again makes version 2: nothing is overwritten.

# %%
version = export_saved_model(network, work / "digits", top=3)
for file in sorted((work / "digits").rglob("*")):
    if file.is_file():
        print(f"{file.relative_to(work)!s:52} {file.stat().st_size:>9,} bytes")

# %% [markdown]
# ## Query it with pixels
#
# `serving_default` takes `image`: pixels in 0–255, any number of images.

# %%
served = tf.saved_model.load(str(version))
answer = served.signatures["serving_default"](image=tf.constant(digits.test.images[:8], tf.float32))
for name, value in sorted(answer.items()):
    print(f"{name:14} {value.dtype.name:8} {tuple(value.shape)}")

names = answer["top_classes"].numpy().astype(str)
scores = answer["top_scores"].numpy()
row = Image.new("RGB", (8 * 76, 72), "white")
for place, image in enumerate(digits.test.images[:8]):
    row.paste(Image.fromarray(image).resize((72, 72), Image.Resampling.NEAREST), (place * 76, 0))
    print("   ".join(f"{name} {score:5.1%}" for name, score in zip(names[place], scores[place])))
row

# %% [markdown]
# It is the network, to rounding:

# %%
expected = network.predict(preprocess_input(digits.test.images[:8]), verbose=0)
difference = np.abs(answer["probabilities"].numpy() - expected).max()
print(f"largest difference of a probability: {difference:.1e}")
assert difference < 1e-4

# %% [markdown]
# ## Query it with files
#
# `image_bytes` takes encoded files of any size, JPEG, PNG, BMP or GIF, as they come from a browser or a telephone.

# %%
stream = io.BytesIO()
Image.fromarray(digits.test.images[3]).resize((200, 200), Image.Resampling.BICUBIC).save(stream, "PNG")
answer = served.signatures["image_bytes"](image_bytes=tf.constant([stream.getvalue()]))
print("true class:", digits.class_names[digits.test.labels[3]])
print("answer:    ", answer["top_classes"].numpy().astype(str)[0], answer["top_scores"].numpy()[0].round(3))

# %% [markdown]
# TensorFlow Serving speaks REST. This body, sent to `http://localhost:8501/v1/models/digits:predict`, is the
# same question (binary inputs travel as base64):

# %%
encoded = base64.b64encode(stream.getvalue()).decode()
body = {"signature_name": "image_bytes", "instances": [{"image_bytes": {"b64": encoded}}]}
print(json.dumps(body)[:160], "…")

# %% [markdown]
# ```bash
# docker run -p 8501:8501 -v "$PWD/digits:/models/digits" -e MODEL_NAME=digits tensorflow/serving
# ```
#
# ## What an answer costs

# %%
signature = served.signatures["serving_default"]
for batch in (1, 32):
    pixels = digits.test.images[:batch]
    images = tf.constant(pixels, tf.float32)
    times = {}
    for name, call in (
        ("SavedModel", lambda: signature(image=images)),
        ("model.predict", lambda: network.predict(preprocess_input(pixels), verbose=0)),
    ):
        call()
        measured = []
        for _ in range(5 if SHORT else 30):
            start = time.perf_counter()
            call()
            measured.append(time.perf_counter() - start)
        times[name] = 1000 * float(np.median(measured))
    print(f"batch of {batch:2}: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in times.items()))
