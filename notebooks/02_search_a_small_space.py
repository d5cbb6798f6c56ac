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
# # 2 · Search a small space
#
# A controller proposes cells, each proposal is trained for one epoch on 1,797 scanned digits, and its accuracy
# on held-out images is the controller's reward. With small cells on small images a trial takes seconds, so a
# search fits into a notebook.

# %%
import os
import tempfile
from pathlib import Path

from IPython.display import SVG

from nasnet_keras import ChildSettings, ControllerSettings, SearchSpace, load_data, search
from nasnet_keras.pictures.curves import search_curve_svg

SHORT = bool(os.environ.get("NASNET_KERAS_SHORT"))  # a few trials, to test that this notebook runs
TRIALS, EPOCHS = (4, 1) if SHORT else (60, 10)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## The space
#
# Three blocks a cell and six operations. Each block takes five decisions: two states to read, two operations,
# and how to join them.

# %%
operations = ("identity", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "avg_pool_3x3", "max_pool_3x3")
space = SearchSpace(blocks=3, operations=operations)
for decision in space.decisions[:5]:
    print(f"{decision.name:32} {decision.choices}")
print(f"… {len(space.decisions)} decisions, {space.size:.1e} pairs of cells")

# %% [markdown]
# ## The search
#
# The controller is an LSTM that learns by reinforcement. The settings are those of the command line, which suit
# some dozens of trials (the paper's suit 20,000). The directory keeps everything: run the cell again after an
# interruption, and the search goes on where it stopped.

# %%
digits = load_data("digits")
result = search(
    digits,
    max_trials=TRIALS,
    directory=folder / "search",
    controller="rl",
    seed=0,
    space=space,
    child=ChildSettings(repeats=1, filters=8, epochs=1),
    settings=ControllerSettings(batch_size=4, learning_rate=0.006),
)
finished = [trial for trial in result.trials if trial["reward"] is not None]  # a child may fail
rewards = [trial["reward"] for trial in finished]
third = max(1, len(rewards) // 3)
print(f"mean reward of the first {third}: {sum(rewards[:third]) / third:.3f}")
print(f"mean reward of the last {third}:  {sum(rewards[-third:]) / third:.3f}")
print(f"seconds a trial: {sum(trial['seconds'] for trial in finished) / len(rewards):.1f}")

# %%
SVG(search_curve_svg(result.trials))

# %% [markdown]
# The same curve, with every trial and its cell, stands in `report.html` of the search's directory.
#
# ## What it found

# %%
result.best

# %%
best = sorted(finished, key=lambda trial: -trial["reward"])[:5]
for trial in best:
    print(f"trial {trial['trial_id']}: reward {trial['reward']:.3f}, {trial['parameters']:,} parameters")

# %% [markdown]
# ## Stack it deeper and wider
#
# A cell says nothing of the size of the network: the found one now builds a larger one, trained longer. The
# test images took part neither in the search nor in this training. On the command line this step is
# `nasnet-keras train --genotype search/best_genotype.json --repeats 2 --filters 12 --epochs 10 --directory net`.

# %%
import keras

from nasnet_keras import RECIPES, NASNet, training

keras.utils.set_random_seed(0)
shape = {"input_shape": digits.image_shape, "classes": 10, "class_names": digits.class_names}
network = NASNet(result.best, repeats=2, filters=12, stem="cifar", **shape)
history = training.fit(network, digits, RECIPES["scans"], epochs=EPOCHS, directory=folder / "net")
figures = training.evaluate(network, digits.test)
print(f"{network.count_params():,} parameters, {EPOCHS} epochs")
print(f"{figures['accuracy']:.1%} of {figures['images']} test images right")

# %% [markdown]
# Does the controller beat chance? Run the same search with `controller="random"` and compare; with few trials
# and an easy task the difference is within luck, which is why claims need several seeds and harder images.
