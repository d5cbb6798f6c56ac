"""What the commands of the command line do. Each takes the parsed options and prints its result."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasnet_keras import recipes, training
from nasnet_keras.applications import decode_predictions, load_model
from nasnet_keras.data import load_data, normalize, read_image
from nasnet_keras.genotype import list_genotypes, load_genotype
from nasnet_keras.network import NASNet
from nasnet_keras.plot import genotype_svg
from nasnet_keras.progress import EpochProgress, decoding
from nasnet_keras.zoo import list_models

CALIBRATION = 200  # images


def run_train(options):
    """Train a network of a genotype and leave it as a model directory."""
    genotype = load_genotype(options.genotype)
    fields = ("batch_size", "learning_rate", "cutout", "moving_average")
    recipe = recipes.recipe(options.recipe, **{field: getattr(options, field) for field in fields})
    data = _load(options)
    directory = Path(options.directory)
    training.seed_everything(options.seed)
    model = NASNet(
        genotype,
        repeats=options.repeats,
        filters=options.filters,
        stem=options.stem,
        input_shape=data.image_shape,
        classes=len(data.class_names),
        class_names=data.class_names,
        drop_path=options.drop_path,
        dropout=options.dropout,
        weight_decay=options.weight_decay,
        auxiliary_head=options.auxiliary_head,
        dtype=options.dtype,
    )
    with EpochProgress(f"train {genotype.name or options.genotype}", options.epochs) as progress:
        training.fit(
            model, data, recipe, epochs=options.epochs, seed=options.seed, directory=directory, callbacks=[progress]
        )
    training.save_model(model, directory)
    figures = {"directory": str(directory), "parameters": model.count_params(), **training.evaluate(model, data.test)}
    print(f"test accuracy {_percent(figures['accuracy'])} on {figures['images']} images; the model is in {directory}")
    _finish(options, figures)


def run_evaluate(options):
    """Print a model's accuracy and loss on a split of the data."""
    model = load_model(options.model)
    data = _load(options, model)
    split = training.match_classes(model, data, getattr(data, options.split))
    figures = {"model": options.model, "data": data.name, "split": options.split, **training.evaluate(model, split)}
    print(f"accuracy {_percent(figures['accuracy'])}, loss {figures['loss']:.4f} on {figures['images']} images")
    _finish(options, figures)


def run_predict(options):
    """Print the best classes of each image."""
    model = load_model(options.model)
    height, width = (side or 224 for side in model.input_shape[1:3])
    results = []
    for name in options.images:
        image = read_image(name, (height, width))
        scores = training.predict(model, normalize(image)[None])
        classes = decode_predictions(scores, options.top, model.class_names)[0]
        results.append({"image": name, "classes": [{"name": label, "score": score} for _, label, score in classes]})
        best = "   ".join(f"{label} {_percent(score)}" for _, label, score in classes)
        print(f"{name}: {best}")
    _finish(options, {"model": options.model, "predictions": results})


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
    _finish(options, {"output": str(path), "bytes": size})


def run_plot(options):
    """Write both cells of a genotype as one SVG."""
    genotype = load_genotype(options.genotype)
    output = Path(options.output or f"{genotype.name or Path(options.genotype).stem}.svg")
    output.write_text(genotype_svg(genotype), encoding="utf-8")
    print(output)
    _finish(options, {"output": str(output), "digest": genotype.digest})


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
    _finish(options, {"genotypes": sorted(genotypes), "models": models})


def _load(options, model=None):
    size = options.image_size
    if size is None and model is not None and None not in model.input_shape[1:3]:
        size = tuple(model.input_shape[1:3])
    with decoding() as progress:
        return load_data(options.data, image_size=size, seed=options.seed, limit=options.limit, progress=progress)


def _percent(value):
    return "—" if value is None else f"{100 * value:.2f}%"


def _finish(options, figures):
    sys.stdout.flush()
    if options.json:
        print(json.dumps(figures))
