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
from nasnet_keras.progress import EpochProgress, SearchProgress
from nasnet_keras.speech import finish, load, percent
from nasnet_keras.zoo import list_models

__all__ = ["run_evaluate", "run_finetune", "run_predict", "run_train"]  # and those below

CALIBRATION = 200  # images


def run_search(options):
    """Search, then train the best cell longer beside NASNet-A's and a random one."""
    from nasnet_keras.search.children import ChildSettings
    from nasnet_keras.search.final import compare
    from nasnet_keras.search.space import SearchSpace
    from nasnet_keras.search.tuner import search

    child = ChildSettings(
        repeats=options.repeats,
        filters=options.filters,
        epochs=options.epochs,
        recipe=options.recipe,
        batch_size=options.batch_size,
        stem=options.stem,
    )
    space = SearchSpace(blocks=options.blocks)
    if options.final_epochs < 1:
        raise ValueError(f"`final_epochs` must be an integer above 0. Received: {options.final_epochs}")
    data = load(options)
    with SearchProgress(options.max_trials) as progress:
        result = search(
            data,
            options.max_trials,
            options.directory,
            options.controller,
            options.seed,
            space=space,
            child=child,
            settings=_settings(options),
            on_trial=progress.update,
        )
    failed = sum(trial["reward"] is None for trial in result.trials)
    best = max((trial["reward"] for trial in result.trials if trial["reward"] is not None), default=None)
    figures = {"directory": str(result.directory), "trials": len(result.trials), "failed": failed, "best_reward": best}
    print(f"{len(result.trials)} trials, {failed} failed; best validation accuracy {percent(best)}")
    if result.best and not options.no_final:
        rows = compare(result, data, child, space, options.final_epochs, options.seed, EpochProgress)
        figures["final"] = rows
        table = Table(
            "network", "parameters", "multiply-adds", "test accuracy", title=f"After {options.final_epochs} epochs"
        )
        for row in rows:
            table.add_row(
                row["network"], f"{row['parameters']:,}", f"{row['multiply_adds']:,}", percent(row["accuracy"])
            )
        Console().print(table)
    print(f"Found cell: {result.directory / 'best_genotype.json'}; report: {result.directory / 'report.html'}")
    finish(options, figures)


def run_export(options):
    """Write a SavedModel with its class names and preprocessing inside, or another runtime's file."""
    saved_model = options.format == "saved_model"
    settings = {name: getattr(options, name) for name in ("version", "top", "image_dtype")}
    settings = {name: value for name, value in settings.items() if value is not None}
    for name in [*([] if saved_model else settings), *(["calibration"] if options.calibration and saved_model else [])]:
        raise ValueError(f"`{name}` means nothing for the format {options.format}: leave it out")
    model = load_model(options.model)
    try:
        if saved_model:
            from nasnet_keras.export import export_saved_model

            path = export_saved_model(model, options.output, **settings)
        else:
            from nasnet_keras.targets import export_target

            images = None
            if options.calibration:
                size = tuple(side or 224 for side in model.input_shape[1:3])
                images = load_data(options.calibration, image_size=size, limit=CALIBRATION).train.images[:]
            path = export_target(model, options.output, options.format, calibration=images)
    except RuntimeError as error:  # the export is wrong, and nothing was written
        raise ValueError(str(error)) from None
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{path}: {size / 1e6:.1f} MB, run and compared with the network")
    finish(options, {"output": str(path), "bytes": size})


def run_serve(options):
    """Serve an exported model until somebody stops it."""
    try:
        from nasnet_keras.limits import Limits
        from nasnet_keras.servable import use_cores
        from nasnet_keras.serve import serve
    except ImportError as error:
        raise ValueError(f"`{error.name}` is not installed: pip install nasnet_keras[serve]") from None
    limits = Limits(
        body=options.max_body * 2**20,
        pixels=round(options.max_pixels * 1e6),
        queue=options.max_queue,
        batch=options.max_batch,
        seconds=options.timeout,
    )
    use_cores(os.cpu_count(), limits.runners)
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


def run_report(options):
    """Write the report of a search as it stands."""
    from nasnet_keras.report import read_trials
    from nasnet_keras.search.tuner import write_report

    directory = Path(options.directory).absolute()
    if not (directory / "trials.jsonl").is_file():
        raise ValueError(f"`DIR` must be the directory of a search, with a trials.jsonl. Received: {options.directory}")
    trials = read_trials(directory / "trials.jsonl")
    write_report(directory, trials)
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


def _settings(options):
    from nasnet_keras.search.controller import ControllerSettings

    if options.controller != "rl":
        return None
    return ControllerSettings(batch_size=options.controller_batch, learning_rate=options.controller_rate)
