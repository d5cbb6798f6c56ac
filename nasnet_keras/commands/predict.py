"""The command `predict`: what is on images."""

from pathlib import Path

from nasnet_keras.checks import check_integer
from nasnet_keras.commands.options import MODEL_HELP
from nasnet_keras.commands.terminal import finish, percent, without_greetings
from nasnet_keras.data.images import read_image
from nasnet_keras.files import check_folder, write_atomically
from nasnet_keras.weights.zoo import known_grey_range, model_file

SUMMARY = "name what is on images"
EXAMPLE = "predict --model net photo.jpg --explain heat"


def add_options(parser):
    """Add the options."""
    parser.add_argument("--model", required=True, help=MODEL_HELP)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--top", type=int, default=5, help="classes named for each image")
    help_text = "write a heat map of each image there: where the model looked for the class it names first (Grad-CAM)"
    parser.add_argument("--explain", metavar="DIR", help=help_text)


def check(options):
    """Nothing; the images are looked at."""
    model_file(options.model)
    check_integer("top", options.top, least=1)
    if options.explain is not None:
        check_folder("explain", Path(options.explain).absolute())
    grey_range = known_grey_range(options.model)
    for image in options.images:
        read_image(image, grey_range=grey_range)
    return {}


def run(options):
    """Print the best classes of each image."""
    with without_greetings():
        from nasnet_keras.data.loading import normalize
        from nasnet_keras.models import answers
        from nasnet_keras.models.applications import decode_predictions, load_model
    model = load_model(options.model)
    *sides, channels = answers.input_shape(model)
    if channels not in (1, 3):
        raise ValueError(f"`model` must take images of 3 channels or 1. Received: {channels}")
    height, width = (side or 224 for side in sides)
    prepare = (lambda pixels: pixels.astype("float32")) if answers.takes_pixels(model) else normalize
    reading = {"grey_range": getattr(model, "grey_range", None), "channels": channels}
    results = []
    for name in options.images:
        pixels = read_image(name, (height, width), **reading)[None]
        scores = answers.probabilities(model, model.predict(prepare(pixels), verbose=0))
        classes = decode_predictions(scores, options.top, answers.labels_of(model, scores.shape[1]))[0]
        results.append({"image": name, "classes": [{"name": label, "score": score} for _, label, score in classes]})
        best = "   ".join(f"{label} {percent(score)}" for _, label, score in classes)
        print(f"{name}: {best}")
        if options.explain is not None:
            results[-1]["heat_map"] = _explain(model, name, Path(options.explain), len(results))
    finish(options, {"model": options.model, "predictions": results})


def _explain(model, name, folder, number):
    """Write the heat map of an image; returns its path."""
    from nasnet_keras.training.explanations import explain

    path = folder / f"{number:03d}-{Path(name).stem}.png"  # images of several folders may have one name
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, explain(model, name).png())
    print(f"  what it looked at: {path}")
    return str(path)
