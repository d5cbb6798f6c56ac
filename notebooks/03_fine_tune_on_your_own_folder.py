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
# # 3 · Fine-tune on your own folder
#
# A folder `photos/<class>/*.jpg` and a trained network are enough. So that this notebook runs anywhere, without a
# download, it makes both itself: a network that has learnt the digits 0–4, and a folder with a few images of each
# of the digits 5–9, which that network has never seen.
#
# With photographs of your own, leave out the cells that make the two, and start with
# `SOURCE = "NASNetMobile"`, whose ImageNet weights are downloaded, and `data = load_data("photos", image_size=224)`.

# %%
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from nasnet_keras import RECIPES, Data, NASNet, load_data, training

SHORT = bool(os.environ.get("NASNET_KERAS_SHORT"))  # a short training, to test that this notebook runs
EPOCHS = 2 if SHORT else 8
work = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A network that knows something else: the digits 0–4

# %%
digits = load_data("digits", image_size=16)


def only(split, low, high):
    """The images of some classes, counted from 0."""
    chosen = split.select(np.flatnonzero((low <= split.labels) & (split.labels < high)))
    return type(split)(chosen.images, chosen.labels - low)


parts = [only(split, 0, 5) for split in (digits.train, digits.validation, digits.test)]
known = Data("digits 0–4", *parts, digits.class_names[:5], digits.image_shape)
keras.utils.set_random_seed(0)
names = {"classes": 5, "class_names": known.class_names}
SOURCE = NASNet("nasnet_a", repeats=1, filters=8, stem="cifar", input_shape=known.image_shape, **names)
training.fit(SOURCE, known, RECIPES["scans"], epochs=EPOCHS)
print(f"digits 0–4: {training.evaluate(SOURCE, known.test)['accuracy']:.1%} of the test images right")

# %% [markdown]
# ## A folder of new classes
#
# A folder for each class, images inside; here 10 of each in `train`, and all that are left in `test`. Without a
# `test` folder a share of the images is held out.

# %%
FOLDER = work / "photos"
names = {5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}
for part, split, most in (("train", digits.train, 10), ("test", digits.test, None)):
    for label, name in names.items():
        (FOLDER / part / name).mkdir(parents=True)
        for index in np.flatnonzero(split.labels == label)[:most]:
            Image.fromarray(split.images[index]).save(FOLDER / part / name / f"{index}.png")

data = load_data(FOLDER, validation=0.2)
print(", ".join(data.class_names))
print(f"{len(data.train)} images to learn from, {len(data.validation)} to watch, {len(data.test)} to judge")


def sheet(images, columns=15, side=48):
    """Images as a contact sheet."""
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * (side + 4), rows * (side + 4)), "white")
    for place, image in enumerate(images):
        tile = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
        page.paste(tile, (place % columns * (side + 4), place // columns * (side + 4)))
    return page


sheet(data.train.images[np.argsort(data.train.labels, kind="stable")][:: max(1, len(data.train) // 30)])

# %% [markdown]
# ## Fine-tune
#
# Phase one trains the new classifier on cells that stand still. Phase two lets the cells learn as well, at
# 0.3 times the rate. Batch norms follow the new images with a momentum of 0.9 (`batch_norm="frozen"` keeps their
# statistics). Training stops when the validation images get no better, and goes back to the best epoch. For
# photographs leave out `recipe`: its default, `"photos"`, crops, mirrors and changes colours, which digits do
# not forgive.

# %%
from nasnet_keras import fine_tune

settings = {"recipe": replace(RECIPES["scans"], batch_size=8), "epochs": EPOCHS}
model = fine_tune(SOURCE, data.train, data.validation, data.class_names, directory=work / "mine", **settings)

# %% [markdown]
# The same on the command line, which goes on where it stopped if it is interrupted:
#
# ```bash
# nasnet-keras finetune --model digits-0-4 --data photos --recipe scans --batch-size 8 --epochs 8 --directory mine
# nasnet-keras evaluate --model mine --data photos
# nasnet-keras predict  --model mine some.png
# ```
#
# ## Was it worth it?
#
# The same network, the same images, the same number of epochs, but from random weights. On so few test images
# differences of a few points are chance; `benchmarks/transfer.py` makes this comparison with several seeds.

# %%
scratch = fine_tune(SOURCE, data.train, data.validation, data.class_names, weights="none", **settings)
for name, network in (("fine-tuned", model), ("from scratch", scratch)):
    print(f"{name:13} {training.evaluate(network, data.test)['accuracy']:.1%} of {len(data.test)} test images right")

# %% [markdown]
# ## What it confuses

# %%
from IPython.display import SVG

from nasnet_keras import confusion_svg, evaluate_classes

figures = evaluate_classes(model, data.test, data.class_names)
for row in figures["classes"]:
    precision, recall = (f"{row[key]:.0%}" if row[key] is not None else "–" for key in ("precision", "recall"))
    print(f"{row['name']:6} {row['images']:3} images, precision {precision}, recall {recall}")
SVG(confusion_svg(figures["confusion"], data.class_names, f"{figures['accuracy']:.1%} of {figures['images']} right"))

# %% [markdown]
# Looking at mistakes is the fastest way to better data:

# %%
from nasnet_keras import Batches

answers = training.predict(model, Batches(data.test, 256)).argmax(-1)
wrong = np.flatnonzero(answers != data.test.labels)[:15]
pairs = [(data.class_names[data.test.labels[index]], data.class_names[answers[index]]) for index in wrong]
print("\n".join(f"{true} taken for {taken}" for true, taken in pairs))
sheet(data.test.images[wrong]) if len(wrong) else None

# %% [markdown]
# The model remembers its class names, so nothing else is needed to use it elsewhere:

# %%
from nasnet_keras import decode_predictions, load_model, preprocess_input, read_image

again = load_model(work / "mine")
height, width = again.input_shape[1:3]
one = next((FOLDER / "test" / "seven").iterdir())
scores = again.predict(preprocess_input(read_image(one, (height, width))[None]), verbose=0)
for _, name, score in decode_predictions(scores, top=3, class_names=again.class_names)[0]:
    print(f"{name:6} {score:.1%}")
