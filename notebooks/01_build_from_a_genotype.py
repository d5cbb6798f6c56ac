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
# # 1 · Build a network from a genotype, and look at it
#
# An architecture is a value: a `Genotype` holds two cells, each a list of blocks. It can be drawn, compared,
# written as JSON, and turned into networks of any size. Nothing here needs a download or an accelerator.

# %%
from IPython.display import SVG, display

from nasnet_keras import NASNet, cell_svg, list_models, load_genotype, multiply_adds

nasnet_a = load_genotype("nasnet_a")
display(SVG(cell_svg(nasnet_a.normal, "Normal cell of NASNet-A")))
display(SVG(cell_svg(nasnet_a.reduction, "Reduction cell of NASNet-A")))

# %% [markdown]
# Read the picture from the bottom: the two inputs are the outputs of the two cells before (*h*ᵢ₋₁ is the older
# one). A block applies one operation to each of two states and joins the results; states that nothing reads are
# concatenated. The Reduction cell halves height and width.
#
# ## A cell of your own
#
# Inputs are numbers: 0 and 1 are the cell's inputs, 2, 3, … the blocks in their order. A genotype that makes no
# sense is refused with a line that names the block. As the last line of a notebook's cell, a genotype draws
# itself.

# %%
from nasnet_keras import Block, CellGenotype, Genotype

normal = CellGenotype(
    blocks=(
        Block((0, 1), ("sep_conv_3x3", "identity")),
        Block((1, 2), ("dil_conv_3x3", "max_pool_3x3")),
        Block((2, 3), ("sep_conv_5x5", "avg_pool_3x3"), "concat"),
    ),
    concat=(3, 4),
)
reduction = CellGenotype(blocks=(Block((0, 1), ("max_pool_3x3", "sep_conv_5x5")),), concat=(1, 2))
mine = Genotype(normal=normal, reduction=reduction, name="mine", source="notebook 1")
mine

# %%
try:
    CellGenotype(blocks=(Block((0, 2), ("identity", "identity")),), concat=(2,))
except ValueError as error:
    print(error)

# %%
print(mine.to_json()[:420], "…")
assert Genotype.from_json(mine.to_json()) == mine

# %% [markdown]
# ## From a genotype to a network
#
# `repeats` is the number N of Normal cells in each of three stacks, `filters` the number F of channels at the
# start. The `"cifar"` stem is for small images; `"imagenet"` shrinks large ones by 8 first.

# %%
network = NASNet(nasnet_a, repeats=2, filters=8, stem="cifar", input_shape=(32, 32, 3), classes=10)
print(f"{network.count_params():,} parameters, {multiply_adds(network):,} multiply-adds an image\n")
for layer in network.layers:
    shape = layer.output.shape[1:]
    print(f"{layer.name:18} {'×'.join(map(str, shape)):12} {layer.count_params():>9,}")

# %% [markdown]
# Every layer has a name that says its place, so `network.get_layer("cell_3").output` gives any state of the
# body: a backbone for whatever comes after. Size is a matter of two numbers:

# %%
print("            " + "".join(f"{f'F = {filters}':>12}" for filters in (4, 8, 16)))
for repeats in (1, 2, 4):
    sizes = [
        NASNet(nasnet_a, repeats=repeats, filters=filters, stem="cifar", classes=10).count_params()
        for filters in (4, 8, 16)
    ]
    print(f"N = {repeats}       " + "".join(f"{size:12,}" for size in sizes))

# %% [markdown]
# ## The networks of the papers
#
# The same machinery builds the released networks; `NASNetMobile()` and its kin take keras.applications'
# arguments and load its weights. `list_models()` by itself shows more sizes, and what the papers say of each.

# %%
for row in list_models()[:5]:
    sizes = f"{row['parameters']:>12,} parameters {row['multiply_adds']:>15,} multiply-adds"
    print(f"{row['model'].removesuffix('()'):14} {row['notation']:9} {row['image']:4} px {sizes}   {row['paper_accuracy']}")

# %% [markdown]
# ## What a cell sees
#
# A real image through the untrained network: one of the 1,797 scanned digits that come with the package, and
# eight channels of three states. Random filters already answer to strokes and edges; training decides which of
# them to keep.

# %%
import keras
import numpy as np
from PIL import Image

from nasnet_keras import load_data, preprocess_input

keras.utils.set_random_seed(0)
digits = load_data("digits", image_size=32)
image = digits.train.images[4]


def strip(tiles, side=72):
    """Grey tiles side by side, enlarged."""
    row = Image.new("L", (len(tiles) * (side + 6), side), 255)
    for place, tile in enumerate(tiles):
        tile = np.float32(tile)
        low, high = tile.min(), tile.max()
        grey = Image.fromarray(np.uint8(255 * (tile - low) / max(high - low, 1e-6)))
        row.paste(grey.resize((side, side), Image.Resampling.NEAREST), (place * (side + 6), 0))
    return row


for name in ("stem", "cell_1", "cell_3"):
    state = keras.Model(network.input, network.get_layer(name).output)(preprocess_input(image[None]))
    print(f"{name}: {'×'.join(map(str, state.shape[1:]))}")
    display(strip([image[..., 0], *np.moveaxis(np.asarray(state)[0], -1, 0)[:8]]))
