"""What the commands of the command line do. Each takes the parsed options and prints its result."""

import logging
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasnet_keras.applications import load_model
from nasnet_keras.data import load_data
from nasnet_keras.genotype import list_genotypes, load_genotype
from nasnet_keras.model_commands import run_evaluate, run_finetune, run_predict, run_train
from nasnet_keras.plot import genotype_svg
from nasnet_keras.speech import finish
from nasnet_keras.zoo import list_models

__all__ = ["run_evaluate", "run_finetune", "run_predict", "run_train"]  # and those below

CALIBRATION = 200  # images


def run_export(options):
    """Write a SavedModel with its class names and preprocessing inside, or another runtime's file."""
    saved_model = options.format == "saved_model"
    settings = {name: getattr(options, name) for name in ("version", "top", "image_dtype")}
    settings = {name: value for name, value in settings.items() if value is not None}
    foreign = [name for name in ("calibration", "batch") if getattr(options, name) is not None]
    for name in foreign if saved_model else settings:
        raise ValueError(f"`{name}` means nothing for the format {options.format}: leave it out")
    model = load_model(options.model)
    try:
        if saved_model:
            from nasnet_keras.export import export_saved_model

            path = export_saved_model(model, options.output, **settings)
        else:
            from nasnet_keras.serving.targets import export_target

            images = None
            if options.calibration:
                size = tuple(side or 224 for side in model.input_shape[1:3])
                images = load_data(options.calibration, image_size=size, limit=CALIBRATION).train.images[:]
            path = export_target(model, options.output, options.format, batch=options.batch, calibration=images)
    except RuntimeError as error:  # the export is wrong, and nothing was written
        raise ValueError(str(error)) from None
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{path}: {size / 1e6:.1f} MB, run and compared with the network")
    finish(options, {"output": str(path), "bytes": size})


def run_serve(options):
    """Serve an exported model until somebody stops it."""
    try:
        from nasnet_keras.serve import serve
        from nasnet_keras.serving.limits import Limits
        from nasnet_keras.serving.servable import use_cores
    except ImportError as error:
        raise ValueError(f"`{error.name}` is not installed: pip install nasnet_keras[serve]") from None
    limits = Limits(
        body=options.max_body * 2**20,
        pixels=round(options.max_pixels * 1e6),
        queue=options.max_queue,
        batch=options.max_batch,
        seconds=options.timeout,
    )
    use_cores(len(os.sched_getaffinity(0)), limits.runners)
    logging.basicConfig(format="nasnet-keras: %(message)s", level=logging.WARNING)
    logging.getLogger("nasnet_keras").setLevel(logging.INFO)

    def ready(url, version):
        print(f"version {version} is ready: {url} (Ctrl-C stops)", flush=True)
        finish(options, {"url": url, "version": version})
        sys.stdout.flush()

    serve(options.model, options.host, options.port, name=options.name, limits=limits, on_ready=ready)


def run_plot(options):
    """Write both cells of a genotype as one SVG."""
    genotype = load_genotype(options.genotype)
    output = Path(options.output or f"{genotype.name or Path(options.genotype).stem}.svg")
    output.write_text(genotype_svg(genotype), encoding="utf-8")
    print(output)
    finish(options, {"output": str(output), "digest": genotype.digest})


def run_search(options):
    """Search; see `search_commands`, which imports what no other command needs."""
    from nasnet_keras import search_commands

    search_commands.run_search(options)


def run_report(options):
    """Write the report of a search as it stands."""
    from nasnet_keras import search_commands

    search_commands.run_report(options)


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
