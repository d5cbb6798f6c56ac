"""The data that a command names: found first, so that mistakes are said at once, and decoded later."""

from nasnet_keras.commands.progress import decoding
from nasnet_keras.commands.terminal import without_greetings
from nasnet_keras.data.images import as_size
from nasnet_keras.data.loading import decoded, open_data


def find(options):
    """The `Data` that the options name, split and not decoded yet."""
    trains = options.command != "evaluate"
    if trains and options.data == "digits":
        _require_validation(options, options.validation)  # before scikit-learn is loaded, which takes a second
    with without_greetings():  # TensorFlow Datasets loads TensorFlow
        data = open_data(
            options.data,
            image_size=options.image_size,
            validation=options.validation,
            seed=options.seed,
            limit=options.limit if trains else None,
        )
    if trains:
        _require_validation(options, len(data.validation))
    return data


def decode(options, data, model=None):
    """The data of `find` with their images, in the size of the model's input if it has one."""
    size = None if options.image_size is None else as_size(options.image_size)
    if size is None and model is not None:
        from nasnet_keras.models.answers import input_shape

        own = input_shape(model)[:2]
        size = None if None in own else own
    with decoding() as progress:
        return decoded(data, size, progress=progress)


def _require_validation(options, amount):
    if not amount:
        raise ValueError(
            f"`validation` must be above 0: a training watches such images. Received: {options.validation!r}"
        )
