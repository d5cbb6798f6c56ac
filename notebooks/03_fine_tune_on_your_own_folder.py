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
# A folder `photos/<class>/*.jpg` and a trained network are enough. Here the photographs are of five kinds of flowers, a
# few hundred of them, and the network is the small one whose CIFAR-10 weights come with the package, so that nothing is
# downloaded. It has seen ships, horses and frogs, of 32×32 pixels, and never a flower.
#
# What stands below was run on 4,317 photographs of 128×128 pixels (the repository `martinwestin/flower_classification`).
# Photographs of the same five kinds are at
# `http://download.tensorflow.org/example_images/flower_photos.tgz`. The notebook looks for a folder `flowers` beside
# it, or for the one that the environment variable `FLOWERS` names; any folder of your own will do. Where there is none,
# it draws one, of a few simple flowers, so that it runs anywhere: the figures are other ones then, and the pictures too.
#
# For photographs of your own at their full size take `"NASNetMobile"` in the place of `"NASNetCIFAR"`, whose ImageNet
# weights are downloaded, and `image_size=224`.

# %%
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nasnet_keras import NASNet, load_data

SHORT = bool(os.environ.get("NASNET_KERAS_SHORT"))  # a short training, to test that this notebook runs
EPOCHS, PHOTOGRAPHS, SIZE = (2, 30, 32) if SHORT else (6, 600, 32)
logging.getLogger("nasnet_keras").setLevel(logging.ERROR)


def drawn(folder, each):
    """Simple flowers: a folder with as many files of each kind."""
    kinds = {  # petals, how long they are, their colour, and that of the middle
        "daisy": (13, 1.0, (245, 245, 245), (240, 200, 30)),
        "dandelion": (40, 0.9, (250, 210, 20), (240, 190, 10)),
        "rose": (7, 0.7, (200, 20, 50), (150, 10, 40)),
        "sunflower": (21, 1.1, (250, 180, 10), (90, 50, 10)),
        "tulip": (3, 1.0, (230, 60, 120), (220, 50, 100)),
    }
    rng = np.random.default_rng(0)
    for name, (petals, length, colour, middle) in kinds.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            image = Image.fromarray(rng.integers(20, 110, (8, 8, 3)).astype("uint8")).resize((128, 128))
            draw = ImageDraw.Draw(image)
            x, y, radius = *rng.uniform(45, 83, 2), rng.uniform(25, 45)
            for angle in np.linspace(0, 2 * np.pi, petals, endpoint=False) + rng.uniform(0, 2):
                tip = x + radius * length * np.cos(angle), y + radius * length * np.sin(angle)
                draw.line([(x, y), tip], fill=colour, width=max(3, int(90 / petals)))
            draw.ellipse([x - radius / 3, y - radius / 3, x + radius / 3, y + radius / 3], fill=middle)
            image.save(folder / name / f"{number:02}.jpg")
    return folder


found = Path(os.environ.get("FLOWERS", "flowers")).expanduser().resolve()
os.chdir(tempfile.mkdtemp())
if found.is_dir() and not SHORT:
    Path("flowers").symlink_to(found)
else:
    drawn(Path("flowers"), 20)

data = load_data("flowers", image_size=SIZE, limit=PHOTOGRAPHS)
print(", ".join(data.class_names))
print(f"{len(data.train)} images to learn from, {len(data.validation)} to watch, {len(data.test)} to judge")


# %%
def sheet(pictures, captions=None, columns=6, size=(112, 112)):
    """Pictures on one page, with a line of text below each."""
    (width, height), line = size, 16 if captions else 4
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (width + 6), rows * (height + line + 4)), "white")
    draw = ImageDraw.Draw(page)
    for place, picture in enumerate(pictures):
        x, y = place % columns * (width + 6), place // columns * (height + line + 4)
        page.paste(Image.fromarray(np.asarray(picture)).resize(size), (x, y))
        if captions:
            draw.text((x, y + height + 2), captions[place], "black")
    return page


def image(split, index):
    """One image of a split, uint8 [height, width, 3]."""
    return np.asarray(split.images[int(index)])


some = [np.flatnonzero(data.train.labels == label)[0] for label in range(len(data.class_names))]
sheet([image(data.train, index) for index in some], list(data.class_names), columns=5)

# %% [markdown]
# ## Fine-tune
#
# Phase one trains the new classifier on cells that stand still. Phase two lets the cells learn as well, at
# 0.3 times the rate. Batch norms follow the new images with a momentum of 0.9 (`batch_norm="frozen"` keeps their
# statistics). Training stops when the validation images get no better, and goes back to the best epoch. The recipe is
# `"photos"`, the default: it crops, mirrors and changes colours.

# %%
from nasnet_keras import fine_tune

SOURCE = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(32, 32, 3)) if SHORT else "NASNetCIFAR"
settings = {"epochs": EPOCHS, "seed": 0}
model = fine_tune(SOURCE, data.train, data.validation, data.class_names, directory="mine", **settings)

# %% [markdown]
# The same on the command line, which goes on where it stopped if it is interrupted:
#
# ```bash
# nasnet-keras finetune --model NASNetCIFAR --data flowers --image-size 32 --limit 600 --epochs 6 --directory mine
# ```
#
# ## Was it worth it?
#
# The same network, the same photographs, the same number of epochs, but from random weights:

# %%
from nasnet_keras import training

scratch = fine_tune(SOURCE, data.train, data.validation, data.class_names, weights="none", **settings)
networks = {"from CIFAR-10's weights": model, "from scratch": scratch}
right = {name: training.evaluate(network, data.test)["accuracy"] for name, network in networks.items()}
for name, share in right.items():
    print(f"{name:24} {share:6.1%} of {len(data.test)} test photographs  {'█' * round(40 * share)}")
print(f"{'guessing the largest kind':24} {np.bincount(data.test.labels).max() / len(data.test):6.1%}")

# %% [markdown]
# `benchmarks/transfer.py` makes this comparison with several seeds, on 32×32 pixels.
#
# ## What it confuses

# %%
from IPython.display import SVG

from nasnet_keras import confusion_svg, evaluate_classes

figures = evaluate_classes(model, data.test, data.class_names, worst=12)
for row in figures["classes"]:
    precision, recall = (f"{row[key]:.0%}" if row[key] is not None else "–" for key in ("precision", "recall"))
    print(f"{row['name']:10} {row['images']:4} images, precision {precision}, recall {recall}")
SVG(confusion_svg(figures["confusion"], data.class_names, f"{figures['accuracy']:.1%} of {figures['images']} right"))

# %% [markdown]
# ## The most wrong photographs
#
# Looking at mistakes is the fastest way to better data: wrong labels, two kinds in one picture, a kind from behind. The
# surest mistakes come first. `nasnet-keras evaluate --model mine --data flowers --worst worst` writes such a sheet, of
# sixty, as a page.

# %%
worst = figures["worst"]
captions = [f"{row['class']}, not {row['taken_for']}" for row in worst]
sheet([image(data.test, row["index"]) for row in worst], captions) if worst else print("none is wrong")

# %% [markdown]
# ## Where it looked
#
# `explain` shows which places a class's score depends on (Grad-CAM): the photograph as the network sees it, and beside it
# the places, the brighter the more. Of each kind one that is told rightly, then the three surest mistakes, each for
# what it was taken for. A network that looks at the pot, the table or the sky has learnt the wrong thing, however
# high its accuracy.

# %%
import io

from nasnet_keras import Batches, explain

answers = training.predict(model, Batches(data.test, 256))
told = answers.argmax(-1) == data.test.labels
places = []
for label in range(len(data.class_names)):
    own = np.flatnonzero(told & (data.test.labels == label))
    places += own[np.argsort(-answers[own, label])][:1].tolist()
seen = [explain(model, image(data.test, index)) for index in [*places, *(row["index"] for row in worst[:3])]]
captions = [f"{one.name}, {one.score:.0%} sure" for one in seen]
captions[len(places) :] = [f"{row['class']}, taken for {row['taken_for']}" for row in worst[:3]]
pictures = [Image.open(io.BytesIO(one.png())) for one in seen]
width, height = pictures[0].size
sheet(pictures, captions, columns=2, size=(width * 3 // 4, height * 3 // 4))

# %% [markdown]
# On the command line `nasnet-keras predict --model mine flowers/rose --explain heat` writes such a picture of each image,
# and `nasnet-keras export --model mine --output served/mine --explain` a model whose page shows them by choice.
#
# ## Use it
#
# The model remembers its class names, so nothing else is needed to use it elsewhere:

# %%
from nasnet_keras import decode_predictions, load_model, preprocess_input, read_image

again = load_model("mine")
height, width = again.input_shape[1:3]
one = sorted(Path("flowers", data.class_names[-1]).iterdir())[0]
scores = again.predict(preprocess_input(read_image(one, (height, width))[None]), verbose=0)
for _, name, score in decode_predictions(scores, top=3, class_names=again.class_names)[0]:
    print(f"{name:10} {score:.1%}")
