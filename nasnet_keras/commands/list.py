"""The command `list`: the stored genotypes and the models of the zoo."""

from rich.console import Console
from rich.table import Table

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
    table = Table("model", "N @ P", "image", "parameters", "multiply-adds", "weights", title="Models")
    for row in models:
        counts = (f"{row[key]:,}" for key in ("image", "parameters", "multiply_adds"))
        table.add_row(row["model"], row["notation"], *counts, ", ".join(row["weights"]))
    Console().print(table)
    finish(options, {"genotypes": sorted(genotypes), "models": models})
