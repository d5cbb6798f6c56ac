"""The command `list`: the stored genotypes and the models of the zoo."""

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from nasnet_keras.commands.terminal import finish
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
    table = Table("genotype", "blocks", "digest", "source", title="Genotypes")
    for name, genotype in genotypes.items():
        blocks = f"{len(genotype.normal.blocks)} + {len(genotype.reduction.blocks)}"
        table.add_row(name, blocks, genotype.digest, genotype.source)
    Console().print(table)
    models = list_models()
    longest = max(len(word) for row in models for word in row["model"].split())  # names are not cut
    heads = ("N @ P", "image", "million\nparameters", "million\nmultiply-\nadds", "weights")
    table = Table(Column("model", min_width=longest), *heads, title="Models", box=SIMPLE, padding=(0, 1, 0, 0))
    for row in models:
        millions = (f"{row[key] / 1e6:,.1f}" for key in ("parameters", "multiply_adds"))
        table.add_row(row["model"], row["notation"], str(row["image"]), *millions, ", ".join(row["weights"]))
    Console().print(table)
    finish(options, {"genotypes": sorted(genotypes), "models": models})
