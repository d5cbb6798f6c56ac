"""The command `list`: the stored genotypes and the models of the zoo."""

from rich.box import SIMPLE
from rich.table import Column

from nasnet_keras.commands.terminal import finish, print_table
from nasnet_keras.genotype import list_genotypes, load_genotype
from nasnet_keras.weights.zoo import list_models

SUMMARY = "list the stored genotypes and the models of the zoo"
EXAMPLE = "list"


def add_options(parser):
    """It has none of its own."""


def check(options):
    """Nothing."""
    return {}


def run(options):
    """Print the stored genotypes and the factories."""
    genotypes = {name: load_genotype(name) for name in list_genotypes()}
    rows = []
    for name, genotype in genotypes.items():
        blocks = f"{len(genotype.normal.blocks)} + {len(genotype.reduction.blocks)}"
        rows.append((name, blocks, genotype.digest, genotype.source))
    print_table(("genotype", "blocks", "digest", "source"), rows, title="Genotypes")
    models = list_models()
    longest = max(len(word) for row in models for word in row["model"].split())  # names are not cut
    heads = ("N @ P", "image", "million\nparameters", "million\nmultiply-\nadds", "weights")
    rows = []
    for row in models:
        millions = (f"{row[key] / 1e6:,.1f}" for key in ("parameters", "multiply_adds"))
        rows.append((row["model"], row["notation"], str(row["image"]), *millions, ", ".join(row["weights"])))
    heads = (Column("model", min_width=longest), *heads)
    print_table(heads, rows, title="Models", box=SIMPLE, padding=(0, 1, 0, 0))
    finish(options, {"genotypes": sorted(genotypes), "models": models})
