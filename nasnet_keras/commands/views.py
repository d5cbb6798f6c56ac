"""The commands that only look: plot, report, list. They need no TensorFlow."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasnet_keras.commands.speech import finish
from nasnet_keras.files import check_file
from nasnet_keras.genotype import list_genotypes, load_genotype
from nasnet_keras.pictures.cells import genotype_svg
from nasnet_keras.pictures.report import read_trials
from nasnet_keras.search.results.publication import write_report
from nasnet_keras.weights.zoo import list_models


def run_plot(options):
    """Write both cells of a genotype as one SVG."""
    genotype = load_genotype(options.genotype)
    output = Path(options.output or f"{genotype.name or Path(options.genotype).stem}.svg")
    check_file("output", output, ".svg")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(genotype_svg(genotype), encoding="utf-8")
    print(output)
    finish(options, {"output": str(output), "digest": genotype.digest})


def run_report(options):
    """Write the report of a search as it stands."""
    directory = Path(options.directory).absolute()
    if not (directory / "trials.jsonl").is_file():
        raise ValueError(f"`DIR` must be the directory of a search, with a trials.jsonl. Received: {options.directory}")
    trials = read_trials(directory / "trials.jsonl")
    write_report(directory, trials)
    if options.tensorboard:
        from nasnet_keras.search.results.tensorboard import Summaries

        Summaries(directory).update(trials)
    print(directory / "report.html")
    finish(options, {"output": str(directory / "report.html"), "trials": len(trials)})


def run_list(options):
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
