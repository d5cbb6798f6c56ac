"""The commands that make a model and use it: train, finetune, evaluate, predict."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasnet_keras.commands.datasets import decode
from nasnet_keras.commands.epoch_progress import EpochProgress
from nasnet_keras.commands.speech import finish, percent
from nasnet_keras.data.loading import normalize, read_image
from nasnet_keras.models.applications import decode_predictions, load_model
from nasnet_keras.models.network import NASNet
from nasnet_keras.models.seeds import drawn_from
from nasnet_keras.pictures.confusion import confusion_svg, most_confused
from nasnet_keras.training import fitting as training
from nasnet_keras.training.evaluation import evaluate_classes
from nasnet_keras.training.transfer import fine_tune, load_source

SHOWN = 40  # classes in a table


def run_train(options, genotype, recipe, network, data):
    """Train a network of a genotype and leave it as a model directory."""
    directory = Path(options.directory)
    with drawn_from(options.seed):
        model = NASNet(genotype, **network, dtype=options.dtype)
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


def run_finetune(options, recipe, source, weights, size, settings, data):
    """Train a network on new classes, starting from what it has learnt on others."""
    if options.genotype:
        source, size = NASNet(source, **size), {}
    source, trained = load_source(source, weights, **size)
    data = decode(options, data, None if options.genotype else source)
    with EpochProgress("finetune", options.epochs) as progress:
        model = fine_tune(
            source,
            data.train,
            data.validation,
            data.class_names,
            weights="auto" if trained else "none",
            recipe=recipe,
            class_weights=None if options.class_weights == "none" else options.class_weights,
            seed=options.seed,
            directory=options.directory,
            tensorboard=options.tensorboard,
            callbacks=[progress],
            dtype=options.dtype,
            **settings,
        )
    figures = {"directory": options.directory, "parameters": model.count_params()}
    figures |= training.evaluate(model, data.test)
    accuracy = percent(figures["accuracy"])
    print(f"test accuracy {accuracy} on {figures['images']} images; the model is in {options.directory}")
    finish(options, figures)


def run_evaluate(options, data, output):
    """Print a model's accuracy, overall and class by class, and draw what it confuses."""
    model = load_model(options.model)
    own = model.input_shape[1:3]
    if options.image_size is not None and None not in own and own != (options.image_size,) * 2:
        raise ValueError(f"`image_size` must be left out, as the model's is {own}. Received: {options.image_size}")
    data = decode(options, data, model)
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
    title = f"{options.split} images of {data.name}: {percent(figures['accuracy'])} of {figures['images']:,} right"
    output.parent.mkdir(parents=True, exist_ok=True)
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
