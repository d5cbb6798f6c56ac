"""The commands that make a model and use it: train, finetune, evaluate, predict."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasnet_keras import recipes, training
from nasnet_keras.applications import decode_predictions, load_model
from nasnet_keras.confusion import confusion_svg, most_confused
from nasnet_keras.data import normalize, read_image
from nasnet_keras.evaluation import evaluate_classes
from nasnet_keras.genotype import load_genotype
from nasnet_keras.network import NASNet
from nasnet_keras.progress import EpochProgress
from nasnet_keras.reuse import load_source
from nasnet_keras.speech import finish, load, percent
from nasnet_keras.transfer import fine_tune

SHOWN = 40  # classes in a table


def run_train(options):
    """Train a network of a genotype and leave it as a model directory."""
    genotype = load_genotype(options.genotype)
    fields = ("batch_size", "learning_rate", "cutout", "moving_average")
    recipe = recipes.recipe(options.recipe, **{field: getattr(options, field) for field in fields})
    data = load(options)
    directory = Path(options.directory)
    training.seed_everything(options.seed)
    model = NASNet(
        genotype,
        repeats=options.repeats,
        filters=options.filters,
        stem=options.stem,
        input_shape=data.image_shape if options.sizes is None else (None, None, 3),
        classes=len(data.class_names),
        class_names=data.class_names,
        drop_path=options.drop_path,
        dropout=options.dropout,
        weight_decay=options.weight_decay,
        batch_norm_momentum=options.batch_norm_momentum,
        auxiliary_head=options.auxiliary_head,
        dtype=options.dtype,
    )
    with EpochProgress(f"train {genotype.name or options.genotype}", options.epochs) as progress:
        training.fit(
            model,
            data,
            recipe,
            epochs=options.epochs,
            seed=options.seed,
            directory=directory,
            callbacks=[progress],
            sizes=options.sizes,
        )
    training.save_model(model, directory, input_shape=data.image_shape)
    figures = {"directory": str(directory), "parameters": model.count_params(), **training.evaluate(model, data.test)}
    print(f"test accuracy {percent(figures['accuracy'])} on {figures['images']} images; the model is in {directory}")
    finish(options, figures)


def run_finetune(options):
    """Train a network on new classes, starting from what it has learnt on others."""
    if (options.model is None) == (options.genotype is None):
        raise ValueError("either `model` or `genotype` must be given. Received: both or none")
    if options.model and Path(options.model).resolve() == Path(options.directory).resolve():
        raise ValueError(f"`directory` must be another one than the model's. Received: {options.directory!r}")
    fields = ("batch_size", "learning_rate", "label_smoothing", "augmentation", "cutout")
    recipe = recipes.recipe(options.recipe, **{field: getattr(options, field) for field in fields})
    size = {name: getattr(options, name) for name in ("repeats", "filters") if getattr(options, name) is not None}
    source, weights = options.model, options.weights
    if options.genotype is not None:
        genotype = load_genotype(options.genotype)
        weights = "none" if weights == "auto" else weights
        source = NASNet(genotype, **{"repeats": 2, "filters": 16, **size}, stem=options.stem or "cifar")
        size = {}
    elif options.stem:
        raise ValueError("`stem` is for a network of a `genotype`. Received: a `model`, which has its own")
    batch_norm = options.batch_norm if options.batch_norm == "frozen" else _number("batch_norm", options.batch_norm)
    source, trained = load_source(source, weights, **size)
    data = load(options, None if options.genotype else source)
    with EpochProgress("finetune", options.epochs) as progress:
        model = fine_tune(
            source,
            data.train,
            data.validation,
            data.class_names,
            weights="auto" if trained else "none",
            recipe=recipe,
            epochs=options.epochs,
            head_epochs=options.head_epochs,
            unfreeze=options.unfreeze,
            rate_factor=options.rate_factor,
            layer_decay=options.layer_decay,
            batch_norm=batch_norm,
            class_weights=None if options.class_weights == "none" else options.class_weights,
            patience=options.patience or None,
            seed=options.seed,
            directory=options.directory,
            tensorboard=options.tensorboard,
            callbacks=[progress],
            dropout=options.dropout,
            drop_path=options.drop_path,
            weight_decay=options.weight_decay,
            dtype=options.dtype,
        )
    figures = {"directory": options.directory, "parameters": model.count_params()}
    figures |= training.evaluate(model, data.test)
    accuracy = percent(figures["accuracy"])
    print(f"test accuracy {accuracy} on {figures['images']} images; the model is in {options.directory}")
    finish(options, figures)


def run_evaluate(options):
    """Print a model's accuracy, overall and class by class, and draw what it confuses."""
    model = load_model(options.model)
    data = load(options, model)
    split = training.match_classes(model, data, getattr(data, options.split))
    names = getattr(model, "class_names", None) or data.class_names
    if model.output_shape[-1] != len(names):
        raise ValueError(f"`data` must have the model's {model.output_shape[-1]} classes. Received: {len(names)}")
    figures = evaluate_classes(model, split, names)
    print(f"accuracy {percent(figures['accuracy'])}, loss {figures['loss']:.4f} on {figures['images']} images")
    shown = most_confused(figures["confusion"], SHOWN)
    title = f"The {SHOWN} of {len(names)} classes with the most wrong images" if len(shown) < len(names) else None
    table = Table("class", "images", "precision", "recall", title=title)
    for row in (figures["classes"][index] for index in shown):
        table.add_row(row["name"], f"{row['images']:,}", percent(row["precision"]), percent(row["recall"]))
    Console().print(table)
    folder = Path(options.model)
    own = folder / "confusion.svg" if folder.is_dir() else Path(f"{folder.stem}-confusion.svg")
    output = Path(options.output or own)
    title = f"{options.split} images of {data.name}: {percent(figures['accuracy'])} of {figures['images']:,} right"
    output.write_text(confusion_svg(figures["confusion"], names, title), encoding="utf-8")
    print(f"What is taken for what: {output}")
    described = {"model": options.model, "data": data.name, "split": options.split, "output": str(output)}
    finish(options, {**described, **figures})


def run_predict(options):
    """Print the best classes of each image."""
    model = load_model(options.model)
    height, width = (side or 224 for side in model.input_shape[1:3])
    results = []
    for name in options.images:
        pixels = read_image(name, (height, width))[None]
        scores = training.predict(model, pixels if training.scales_itself(model) else normalize(pixels))
        classes = decode_predictions(scores, options.top, model.class_names)[0]
        results.append({"image": name, "classes": [{"name": label, "score": score} for _, label, score in classes]})
        best = "   ".join(f"{label} {percent(score)}" for _, label, score in classes)
        print(f"{name}: {best}")
    finish(options, {"model": options.model, "predictions": results})


def _number(name, text):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"`{name}` must be a number or frozen. Received: {text!r}") from None
