"""The released networks under keras.applications' signatures, and what goes before and after them.

Sizes and settings are those of the released code: Zoph et al. 2018 (arXiv 1707.07012) and Liu et al.
2018 (arXiv 1712.00559).
"""

import keras
import numpy as np

from nasnet_keras.checks import as_integer, check_integer, check_one_of, names_of
from nasnet_keras.genotype import load_genotype
from nasnet_keras.models.network import NASNet
from nasnet_keras.models.states import check_activation
from nasnet_keras.program.architecture import WIRING, Architecture
from nasnet_keras.weights import index as weight_index
from nasnet_keras.weights import loading as weight_files
from nasnet_keras.weights.keras_files import check_archive
from nasnet_keras.weights.zoo import check_names, check_trained, imagenet_classes, model_file, tell_of_namesake


def NASNetMobile(
    input_shape=None,
    include_top=True,
    weights="imagenet",
    input_tensor=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="nasnet_mobile",
    **options,
):
    """NASNet-A (4 @ 1056) for images of 224×224: 5.3 million parameters, 564 million multiply-adds.

    Images are expected as `preprocess_input` gives them. For training from scratch the released settings
    are `dropout=0.5, auxiliary_head=True, weight_decay=4e-5`.

    Args:
        input_shape: (height, width, channels), sizes from 32 or None for any; by default (224, 224, 3). Weights for
            three channels also fit another number: their first kernel is summed for one channel, and for n repeated
            and scaled by 3 / n.
        include_top: whether to end in the classifier.
        weights: `"imagenet"`, None for random ones, or a file (see `weights.load`).
        input_tensor: a Keras tensor to use as the image input.
        pooling: without top: None, `"avg"` or `"max"`.
        classes: number of classes; 1000 with the `"imagenet"` classifier.
        classifier_activation: `"softmax"` or None for logits; others only without weights or with a file, a whole
            model's own or None.
        name: name of the model.
        **options: any other argument of `NASNet`, also `repeats` and `filters` for another size.

    Returns:
        A `NASNet`, which is a `keras.Model`.

    Raises:
        ValueError: naming the argument at fault.

    Examples:
        >>> from nasnet_keras import NASNetMobile
        >>> NASNetMobile(weights=None, include_top=False, pooling="avg").output_shape
        (None, 1056)
    """
    return _build("NASNetMobile", locals())


def NASNetLarge(
    input_shape=None,
    include_top=True,
    weights="imagenet",
    input_tensor=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="nasnet_large",
    **options,
):
    """NASNet-A (6 @ 4032) for images of 331×331: 88.8 million parameters, 23.8 billion multiply-adds.

    Arguments, result and errors as for `NASNetMobile`. For training from scratch the released settings are
    `dropout=0.5, drop_path=0.3, auxiliary_head=True, weight_decay=5e-5`.

    Examples:
        >>> from nasnet_keras import NASNetLarge
        >>> NASNetLarge(weights=None, include_top=False, repeats=1, filters=8).name  # a small one
        'nasnet_large'
    """
    return _build("NASNetLarge", locals())


def NASNetCIFAR(
    input_shape=None,
    include_top=True,
    weights="cifar10",
    input_tensor=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="nasnet_cifar",
    **options,
):
    """NASNet-A (6 @ 768) for images of 32×32: 3.3 million parameters, 544 million multiply-adds.

    Nobody has released weights of that size. `weights="cifar10"`, the default, gives a smaller network that we
    have trained, NASNet-A (2 @ 384), `repeats=2, filters=16`; None gives 6 @ 768, untrained.

    Arguments, result and errors as for `NASNetMobile`. For training from scratch the released settings are
    `drop_path=0.4, auxiliary_head=True, weight_decay=5e-4`.

    Examples:
        >>> from nasnet_keras import NASNetCIFAR
        >>> NASNetCIFAR().class_names[:2]
        ('airplane', 'automobile')
    """
    return _build("NASNetCIFAR", locals())


def PNASNetLarge(
    input_shape=None,
    include_top=True,
    weights=None,
    input_tensor=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="pnasnet_large",
    **options,
):
    """PNASNet-5 large for images of 331×331: 86.1 million parameters, 24.9 billion multiply-adds.

    The released network strides two of its twelve cells; here those two are Reduction cells between
    stacks of 4, 3 and 3. Arguments, result and errors as for `NASNetMobile`.

    Examples:
        >>> from nasnet_keras import PNASNetLarge
        >>> PNASNetLarge(input_shape=(64, 64, 3), classes=5, repeats=1, filters=8).output_shape  # a small one
        (None, 5)
    """
    return _build("PNASNetLarge", locals())


def PNASNetMobile(
    input_shape=None,
    include_top=True,
    weights=None,
    input_tensor=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="pnasnet_mobile",
    **options,
):
    """PNASNet-5 mobile for images of 224×224: 5.1 million parameters, 587 million multiply-adds.

    The released network strides two of its nine cells; here those two are Reduction cells between
    stacks of 3, 2 and 2. Arguments, result and errors as for `NASNetMobile`.

    Examples:
        >>> from nasnet_keras import PNASNetMobile
        >>> PNASNetMobile(classes=5, classifier_activation=None).output_shape
        (None, 5)
    """
    return _build("PNASNetMobile", locals())


FACTORIES = {
    factory.__name__: factory for factory in (NASNetMobile, NASNetLarge, NASNetCIFAR, PNASNetLarge, PNASNetMobile)
}


def _build(factory, arguments):
    released, options = dict(weight_index.RELEASED[factory]), arguments.pop("options")
    weights, top = arguments.pop("weights"), arguments["include_top"] and not options.get("feature_pyramid")
    size = released.pop("size", 224)
    arguments = {**released, **arguments, **options}
    if options.get("penultimate_filters") is not None and "filters" not in options:
        arguments.pop("filters")
    if arguments["input_shape"] is None and arguments["input_tensor"] is None:
        arguments["input_shape"] = (size, size, 3)
    entry = None
    if weights is not None and not weight_index.is_file(weights):
        entry = weight_index.find(weights, factory, top)
        if top and entry.metric and arguments["classes"] != entry.outputs:
            raise ValueError(
                f"`classes` must be {entry.outputs} with `weights={weights!r}` and `include_top=True`. "
                f"Received: {arguments['classes']}"
            )
        fixed = [name for name in ("filters", "penultimate_filters") if name in entry.options]
        if fixed and options.get("penultimate_filters") is not None:
            raise ValueError(
                f"`penultimate_filters` must be left out with `weights={weights!r}`, which are of filters="
                f"{entry.options['filters']}. Received: {options['penultimate_filters']}"
            )
        entry.check_options(options)
    check_activation(given := arguments["classifier_activation"])
    ends = (keras.activations.linear, keras.activations.softmax)
    if entry and top and keras.activations.get(given) not in ends:
        raise ValueError(
            f"`classifier_activation` must be None or 'softmax' with pretrained `weights`. Received: {given!r}"
        )
    if entry:
        # Before the network is built: what cannot be downloaded is said at once.
        arguments = {**arguments, **entry.options, **options}
        if top and (names := arguments.get("class_names")) is not None:
            arguments["class_names"] = names_of("class_names", names)
            check_names(entry, arguments["class_names"])
        elif top and entry.classes:
            arguments["class_names"] = tuple(entry.classes)
        wiring = {name: arguments[name] for name in ("filters", "penultimate_filters", *WIRING) if name in arguments}
        wiring["genotype"] = load_genotype(arguments.get("genotype", "nasnet_a"))
        entry.check_network(Architecture(**wiring).arguments())
        weights = weight_files.fetch(entry)
    model = NASNet(arguments.pop("genotype", "nasnet_a"), **arguments)
    if weights is not None:
        weight_files.load(model, weights, entry.layout if entry else None)
    return model


def load_model(name_or_path):
    """A trained model: a directory that `train` wrote, a `.keras` or `.h5` file, or a name of the zoo.

    Args:
        name_or_path: a directory with `model.keras`, a file of a whole model, or a factory's name such as
            `"NASNetMobile"`, which then comes with its weights. A `Path`, or `"./NASNetMobile"`, is never such a name.

    Raises:
        ValueError: nothing of the kind, or a name whose weights nobody has: its factory builds it untrained.

    Examples:
        >>> from nasnet_keras import load_model
        >>> load_model("NASNetCIFAR").input_shape
        (None, 32, 32, 3)
    """
    path = model_file(name_or_path)
    check_trained(name_or_path)
    if path is None:
        tell_of_namesake(name_or_path)
        return FACTORIES[name_or_path]()
    check_archive(path)
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"cannot load {path}: {str(error).strip().splitlines()[0]}") from None


def preprocess_input(x, data_format=None, mode=None):
    """Images in 0–255 to the range that every network and weight file here expects, [-1, 1].

    Args:
        x: an array or tensor of any shape; it is left as it is.
        data_format: None, `"channels_last"` or `"channels_first"`, as in keras.applications: values are scaled alike.
        mode: None or `"tf"`, keras.applications' name for this range.

    Returns:
        x / 127.5 - 1: for a NumPy array a new floating-point array, for a tensor a tensor.

    Raises:
        ValueError: another format, or the mode of other networks.

    Examples:
        >>> import numpy as np
        >>> from nasnet_keras import preprocess_input
        >>> preprocess_input(np.array([0, 255])).tolist()
        [-1.0, 1.0]
    """
    check_one_of("data_format", data_format, (None, "channels_last", "channels_first"))
    check_one_of("mode", mode, (None, "tf"))
    if isinstance(x, np.ndarray | list | tuple):
        x = np.asarray(x)
        return x.astype(x.dtype if np.issubdtype(x.dtype, np.floating) else np.float32) / 127.5 - 1.0
    dtype = keras.backend.standardize_dtype(x.dtype)
    return keras.ops.cast(x, dtype if "float" in dtype else "float32") / 127.5 - 1.0


def decode_predictions(preds, top=5, class_names=None):
    """The best classes of each row of predictions, best first.

    Args:
        preds: scores [batch, classes], of any type of numbers: those of a quantised export are integers.
        top: how many classes to give, at most all.
        class_names: a name for each class. None means ImageNet's 1,000, which come with the package.

    Returns:
        For each row a list of (class id, class name, score): the id is a WordNet id for ImageNet, and the
        class's number otherwise.

    Raises:
        ValueError: another shape, or another number of names.

    Examples:
        >>> import numpy as np
        >>> from nasnet_keras import decode_predictions
        >>> [name for _, name, _ in decode_predictions(np.eye(1000)[[7]], top=1)[0]]
        ['cock']
    """
    preds = np.asarray(preds)
    if preds.ndim != 2:
        raise ValueError(f"`preds` must have the shape [batch, classes]. Received: {preds.shape}")
    top = as_integer(top)
    check_integer("top", top, least=1)
    classes = imagenet_classes() if class_names is None else list(enumerate(names_of("class_names", class_names)))
    if class_names is None and len(classes) != preds.shape[1]:
        raise ValueError(f"`preds` must have ImageNet's 1000 classes without `class_names`. Received: {preds.shape[1]}")
    if len(classes) != preds.shape[1]:
        raise ValueError(f"`class_names` must be {preds.shape[1]} names, one for each class. Received: {len(classes)}")
    best = np.argsort(-preds.astype("float64"), axis=1, kind="stable")[:, :top]
    return [[(*classes[index], float(row[index])) for index in order] for row, order in zip(preds, best, strict=True)]
