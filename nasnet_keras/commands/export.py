"""The command `export`: a model as a SavedModel, or in another runtime's format."""

from nasnet_keras.commands.datasets import tell_of
from nasnet_keras.commands.options import MODEL_HELP, given
from nasnet_keras.commands.terminal import finish, without_greetings
from nasnet_keras.data.loading import decoded, open_data
from nasnet_keras.export.folders import check_installed, check_saved_model, check_target
from nasnet_keras.weights.zoo import model_file

SUMMARY = "write a SavedModel for TF Serving, or another format"
EXAMPLE = "export --model net --output served/net"
CALIBRATION = 200  # images


def add_options(parser):
    """Add the options."""
    parser.add_argument("--model", required=True, help=MODEL_HELP)
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="the model's folder, with a version below; for other formats a new folder",
    )
    parser.add_argument("--format", choices=("saved_model", "onnx", "litert", "openvino"), default="saved_model")
    parser.add_argument(
        "--calibration", metavar="DATA", help="images that litert's int8 is measured on (default: float32)"
    )
    parser.add_argument(
        "--batch", type=int, help="images of every call of another format; 1 is faster in openvino (default: any)"
    )
    parser.add_argument("--version", type=int, help="an integer that is not there yet (default: the next free one)")
    parser.add_argument("--top", type=int, help="classes named in a SavedModel's answer (default: 5)")
    parser.add_argument(
        "--image-dtype", choices=("float32", "uint8"), help="a SavedModel's raw pixels (default: float32)"
    )


def check(options):
    """What is set of a SavedModel's settings, and the calibration images, not decoded yet, or None."""
    saved_model = options.format == "saved_model"
    settings = {
        name: value for name, value in given(options, "version", "top", "image_dtype").items() if value is not None
    }
    foreign = [name for name in ("calibration", "batch") if getattr(options, name) is not None]
    for name in foreign if saved_model else settings:
        raise ValueError(f"`{name}` means nothing for the format {options.format}: leave it out")
    model_file(options.model)
    if saved_model:
        check_saved_model(options.output, **settings, label="output")
        return {"settings": settings, "calibration": None}
    check_target(options.output, options.format, options.batch, options.calibration is not None, "output")
    check_installed(options.format)
    images = open_data(options.calibration, limit=CALIBRATION) if options.calibration else None
    return {"settings": settings, "calibration": images}


def run(options, settings, calibration):
    """Write a SavedModel with its class names and preprocessing inside, or another runtime's file."""
    with without_greetings():
        from nasnet_keras.models.answers import input_shape
        from nasnet_keras.models.applications import load_model
    model = load_model(options.model)
    try:
        if options.format == "saved_model":
            from nasnet_keras.export.saved_model import export_saved_model

            path = export_saved_model(model, options.output, **settings)
        else:
            from nasnet_keras.export.targets import export_target

            images = None
            if calibration is not None:
                calibration = decoded(calibration, tuple(side or 224 for side in input_shape(model)[:2]))
                tell_of(calibration)
                images, _ = calibration.train.in_memory()
            with without_greetings():  # of the runtimes
                path = export_target(model, options.output, options.format, batch=options.batch, calibration=images)
    except RuntimeError as error:  # the export is wrong, and nothing was written
        raise ValueError(str(error)) from None
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{path}: {size / 1e6:.1f} MB, run and compared with the network")
    finish(options, {"output": str(path), "bytes": size})
