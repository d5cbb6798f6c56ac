"""What models answer with and how they want their images, told from their layers, for models of every make."""

import keras
import numpy as np
import pytest
from keras import layers

from nasnet_keras.models import answers
from nasnet_keras.models.network import NASNet

IMAGENET = {"mean": [0.485, 0.456, 0.406], "variance": [0.229**2, 0.224**2, 0.225**2]}


def net(**options):
    size = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}
    return NASNet("tiny", **{**size, **options})


def stack(*parts):
    """A Sequential for images of 8×8."""
    return keras.Sequential([keras.Input((8, 8, 3)), *parts])


def functional(head, prepare=lambda x: x):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, head(layers.Flatten()(layers.Conv2D(2, 3)(prepare(image)))))


def bare():
    """A network whose last activation was taken away, as recipes for heat maps do."""
    model = net()
    model.layers[-1].activation = None
    return model


def adapted():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype("float32"))
    return layer


def normed():
    """A batch norm on the images, which has learnt that they are in 0–255."""
    model = stack(layers.BatchNormalization(), layers.Flatten(), layers.Dense(3))
    model.layers[0].set_weights([np.ones(3), np.zeros(3), np.full(3, 120.0), np.full(3, 60.0**2)])
    return model


class Own(keras.Model):
    """A model whose call is code."""

    def __init__(self):
        super().__init__()
        self.flat, self.dense = layers.Flatten(), layers.Dense(3, activation="softmax")

    def call(self, images):
        return self.dense(self.flat(images))


def ensemble():
    image = keras.Input((8, 8, 3))
    members = [stack(layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3, activation="softmax"))(image)]
    return keras.Model(image, layers.Average()([*members, functional(layers.Dense(3, activation="softmax"))(image)]))


HALF = layers.Rescaling(1 / 127.5, offset=-1)
MOBILE, RESNET = keras.applications.mobilenet_v2.preprocess_input, keras.applications.resnet.preprocess_input
# (how it is made, what it answers with, whether it wants 0–255)
MODELS = {
    "network": (net, "softmax", False),
    "network of logits": (lambda: net(classifier_activation=None), "logits", False),
    "network of sigmoids": (lambda: net(classifier_activation="sigmoid"), "sigmoid", False),
    "logarithms": (lambda: net(classifier_activation="log_softmax"), "logits", False),
    "activation taken away": (bare, "logits", False),
    "network that scales": (lambda: net(include_preprocessing=True, drop_path=0.2), "softmax", True),
    "drop path": (lambda: net(drop_path=0.2), "softmax", False),
    "Sequential around a network": (lambda: keras.Sequential([net(include_preprocessing=True)]), "softmax", True),
    "Sequential that scales": (lambda: keras.Sequential([HALF, net()]), "softmax", True),
    "logits around which a softmax": (
        lambda: functional(lambda x: layers.Softmax()(layers.Dense(3)(x)), HALF), "softmax", True),
    "activation in a layer": (
        lambda: stack(layers.Flatten(), layers.Dense(3), layers.Activation("softmax")), "softmax", False),
    "linear after softmax": (
        lambda: stack(layers.Flatten(), layers.Dense(3, activation="softmax"), layers.Activation("linear")),
        "softmax", False),
    "temperature": (lambda: stack(layers.Flatten(), layers.Dense(3), layers.Rescaling(0.5)), "logits", False),
    "operation": (lambda: functional(lambda x: keras.ops.softmax(layers.Dense(3)(x))), "softmax", False),
    "one unit": (lambda: stack(layers.Flatten(), layers.Dense(1, activation="sigmoid")), "sigmoid", False),
    "not built": (lambda: keras.Sequential([layers.Rescaling(1 / 255), layers.Dense(3)]), "logits", True),
    "augmentation first": (
        lambda: stack(keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)]), layers.Rescaling(1 / 255),
                      layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()), "logits", True),
    "arithmetic": (lambda: functional(layers.Dense(3), MOBILE), "logits", True),
    "colours about their mean": (lambda: functional(layers.Dense(3), RESNET), "logits", True),
    "normalization": (lambda: stack(adapted(), layers.Flatten(), layers.Dense(3)), "logits", True),
    "scaled and normalized": (
        lambda: stack(layers.Rescaling(1 / 255), layers.Normalization(**IMAGENET), layers.Flatten(), layers.Dense(3)),
        "logits", True),
    "batch norm": (normed, "logits", True),
    "back to 0–255": (
        lambda: stack(layers.Rescaling(127.5, offset=127.5), layers.Flatten(), layers.Dense(3)), "logits", False),
    "ensemble": (ensemble, "softmax", True),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_answers_and_wants_follows_from_its_layers(name):
    make, kind, pixels = MODELS[name]
    model = make()
    assert (answers.output_kind(model), answers.takes_pixels(model)) == (kind, pixels)


REFUSED = {
    "relu": (lambda: stack(layers.Flatten(), layers.Dense(3, activation="relu")), "the activation relu of dense"),
    "own function": (lambda: functional(layers.Dense(3, activation=lambda x: x * x)), "the activation <lambda>"),
    "tanh": (lambda: net(classifier_activation="tanh"), "the activation tanh of predictions"),
    "features": (lambda: net(include_top=False, pooling="avg"), "activation, a ReLU"),
    "softmax over one": (lambda: stack(layers.Flatten(), layers.Dense(1, activation="softmax")), "always 1"),
    "code": (Own, "code of its own"),
    "several": (lambda: functional(lambda x: [layers.Dense(3)(x), layers.Dense(3)(x)]), "2 outputs without names"),
    "pyramid": (lambda: net(feature_pyramid=True), "the outputs P0, P1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_with_the_reason(name):
    make, reason = REFUSED[name]
    with pytest.raises(ValueError, match=r"^`model` must end in softmax, in sigmoid, or in a linear layer") as error:
        answers.output_kind(make())
    assert reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("layer", "about"),
    [
        (layers.Rescaling(2, offset=-1), "2 · x - 1"),
        (layers.Rescaling(255), "255 · x"),
        (layers.Normalization(**IMAGENET), "4.4"),
    ],
    ids=["0 to 1", "0 to 1, made 0 to 255", "0 to 1, normalized"],
)
def test_another_range_of_images_is_refused(layer, about):
    with pytest.raises(ValueError, match=r"`model` must take images in 0 to 255 or in \[-1, 1\]") as error:
        answers.takes_pixels(stack(layer, layers.Flatten(), layers.Dense(3)))
    assert about in str(error.value)


def test_each_head_answers_for_itself():
    model = net(auxiliary_head=True, input_shape=(16, 16, 3), classifier_activation=None)
    assert answers.heads(model) == ("predictions", "auxiliary")
    assert [answers.output_kind(model, head) for head in answers.heads(model)] == ["logits", "logits"]
    model.get_layer("predictions").activation = "softmax"
    assert [answers.output_kind(model, head) for head in answers.heads(model)] == ["softmax", "logits"]


def test_names_come_from_the_network_that_answers():
    named = net(class_names=("a", "b", "c"))
    assert answers.class_names(keras.Sequential([named])) == ("a", "b", "c") == answers.labels_of(named, 3)
    assert answers.class_names(keras.Sequential([named, layers.Dense(2)])) is None
    assert answers.labels_of(stack(layers.Flatten(), layers.Dense(2)), 2) == ("0", "1")
    assert answers.labels_of(net(classes=1000), 1000) is None  # ImageNet's
    assert answers.full_names(net(classes=1000), 1000)[7] == "cock" and answers.full_names(named, 3) == ("a", "b", "c")
    assert answers.labels_of(stack(layers.Flatten(), layers.Dense(1000)), 1000)[999] == "999"


NAMES, CUTS = ("a", "b", "c"), (0.25, 0.5, 0.75)


def member(thresholds=None, **options):
    return net(**{"class_names": NAMES, "thresholds": thresholds, **options})


def joined(*members, end=lambda x: x):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, end(layers.Average()([one(image) for one in members])))


def around_two_heads():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, member(auxiliary_head=True, input_shape=(16, 16, 3))(image))


SIGMOID = {"classifier_activation": "sigmoid"}
# (how a model is made of networks that name their classes, the names and the thresholds that it has itself)
BEHIND = {
    "sigmoid": (
        lambda: stack(member(CUTS, classifier_activation=None), layers.Activation("sigmoid")), NAMES, CUTS),
    "softmax": (lambda: keras.Sequential([member(classifier_activation=None), layers.Softmax()]), NAMES, None),
    "no labels any more": (lambda: stack(member(CUTS, classifier_activation=None), layers.Softmax()), NAMES, None),
    "deep": (
        lambda: stack(keras.Sequential([member(CUTS, **SIGMOID), layers.Flatten()]), layers.Dropout(0.1)), NAMES, CUTS),
    "temperature": (
        lambda: stack(member(classifier_activation=None), layers.Rescaling(0.5), layers.Softmax()), NAMES, None),
    "temperature of labels": (
        lambda: stack(member(CUTS, classifier_activation=None), layers.Rescaling(0.5), layers.Activation("sigmoid")),
        NAMES, None),
    "logits": (lambda: stack(member(CUTS, classifier_activation=None), layers.Dropout(0.1)), NAMES, None),
    "arithmetic": (lambda: joined(member(), end=lambda x: keras.ops.clip(x, 0.0, 1.0)), NAMES, None),
    "some classes": (lambda: joined(member(), end=lambda x: x[:, :2]), None, None),
    "average of logits": (
        lambda: joined(
            member(CUTS, classifier_activation=None), member((0.5, 0.5, 0.5), classifier_activation=None, name="b"),
            end=keras.ops.sigmoid),
        NAMES, (0.375, 0.5, 0.625)),
    "operation": (
        lambda: joined(
            member(classifier_activation=None), member(classifier_activation=None, name="b"), end=keras.ops.softmax),
        NAMES, None),
    "average": (lambda: joined(member(), member(name="b")), NAMES, None),
    "average of labels": (lambda: joined(member(CUTS, **SIGMOID), member(CUTS, **SIGMOID, name="b")), NAMES, CUTS),
    "means of thresholds": (
        lambda: joined(member((0.5, 0.5, 0.5), **SIGMOID), member((0.25, 1, 0.5), **SIGMOID, name="b")), NAMES,
        (0.375, 0.75, 0.5)),
    "other names": (lambda: joined(member(), member(class_names=("a", "c", "b"), name="b")), None, None),
    "no names": (lambda: joined(member(CUTS, **SIGMOID), member(class_names=None, **SIGMOID, name="b")), None, None),
    "other classes": (lambda: stack(member(CUTS, **SIGMOID), layers.Dense(3)), None, None),
    "a second head": (around_two_heads, NAMES, None),
}  # fmt: skip


@pytest.mark.parametrize("name", BEHIND)
def test_names_and_thresholds_come_through_what_passes_an_answer_on(name):
    make, names, cuts = BEHIND[name]
    model = make()
    found = answers.thresholds(model)
    assert (answers.class_names(model), found if found is None else tuple(found.tolist())) == (names, cuts)


def test_one_of_several_outputs_counts_or_it_is_said():
    image = keras.Input((16, 16, 3))
    network = net(auxiliary_head=True, input_shape=(16, 16, 3))
    inside = keras.Model(image, network(image))
    rows = np.eye(3, dtype="float32")
    assert answers.units(inside) == 3 and answers.output_kind(inside) == "softmax"
    assert answers.answered(inside, {"auxiliary": None, "predictions": rows})[0] is rows
    alone = keras.Model(image, [layers.Softmax()(layers.Dense(4)(layers.Flatten()(image)))])
    assert answers.units(alone) == 4 and answers.output_kind(alone) == "softmax"
    assert answers.outputs_of(alone, [rows]) is rows is answers.outputs_of(alone, rows)
    own = keras.Model(image, {"colour": layers.Dense(2)(image), "shape": layers.Dense(3)(image)})
    two = keras.Model(image, [layers.Dense(2)(image), layers.Dense(3)(image)])
    rule = r"^`model` must end in softmax.* Received: '\w+', with "
    for model, outputs, reason in (
        (own, {"colour": rows, "shape": rows}, "the outputs colour, shape"),
        (two, [rows, rows], "2 outputs without names"),
        (net(feature_pyramid=True), {"P1": rows}, "the outputs P0, P1"),
    ):
        with pytest.raises(ValueError, match=rule + reason):
            answers.units(model)
        with pytest.raises(ValueError, match=rule + reason[:11]):
            answers.probabilities(model, outputs)


def test_probabilities_by_hand():
    logits = np.array([[2.0, -1.0, 0.5], [30.0, -80.0, 0.0]], "float32")
    shares = np.exp(logits.astype("float64"))
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose(answers.as_probabilities(logits, "logits"), shares, rtol=1e-6, atol=1e-30)
    unit = np.array([[0.9], [0.2]], "float32")
    np.testing.assert_allclose(answers.as_probabilities(unit, "sigmoid"), [[0.1, 0.9], [0.8, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(answers.as_probabilities(np.array([[0.0]]), "logits"), [[0.5, 0.5]])


def test_a_model_in_code_is_known_by_its_answers():
    images = np.zeros((2, 8, 8, 3), "float32")
    model = Own()
    outputs = model.predict(images, verbose=0)
    np.testing.assert_array_equal(answers.probabilities(model, outputs), outputs)
    with pytest.raises(ValueError, match="code of its own"):
        answers.probabilities(model, 2 * outputs)


FORMS = (
    {},
    {"include_top": False, "pooling": "avg"},
    {"include_top": False, "pooling": "max"},
    {"include_preprocessing": True},
    {"feature_pyramid": True},
)


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_the_global_format_of_images_changes_nothing(options):
    """A NASNet has its channels last, whatever Keras' global says: it once pooled the wrong axes then."""
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype("float32")
    keras.utils.set_random_seed(1)
    expected = keras.tree.flatten(net(**options)(images))
    keras.config.set_image_data_format("channels_first")
    try:
        keras.utils.set_random_seed(1)
        model = net(**options)
        found = keras.tree.flatten(model(images))
        trained = keras.tree.flatten(model(images, training=True))
    finally:
        keras.config.set_image_data_format("channels_last")
    assert [tuple(one.shape) for one in trained] == [tuple(one.shape) for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))


def test_the_layer_whose_activation_ends_a_model_is_found():
    head = layers.Dense(3, activation="softmax")
    assert answers.activation_at_end(stack(layers.Flatten(), head, layers.Dropout(0.5))) is head
    hidden = stack(layers.Flatten(), layers.Dense(4, activation="sigmoid"), layers.Dense(3))
    assert answers.activation_at_end(hidden) is None
    base = net()
    assert answers.activation_at_end(base) is base.get_layer("predictions")
    assert answers.activation_at_end(keras.Model(base.input, layers.Dense(2)(base.output))) is None


def test_a_range_of_greys_is_found_at_any_depth():
    base = net(grey_range=(0, 4095), include_top=False, pooling="avg", classes=1000)
    assert answers.grey_range(base) == (0, 4095)
    assert answers.grey_range(keras.Sequential([base, layers.Dense(2)])) == (0, 4095)
    assert answers.grey_range(stack(layers.Flatten())) is None


def test_one_unit_tells_two_classes_apart():
    network = net(classes=1, classifier_activation="sigmoid", class_names=("cat", "dog"))
    assert answers.labels_of(network, 2) == ("cat", "dog")
    with pytest.raises(ValueError, match="`class_names` must be None or 2 names"):
        net(classes=1, class_names=("cat",))


def test_names_may_be_an_array():
    model = stack(layers.Flatten(), layers.Dense(2))
    model.class_names = np.array(["cat", "dog"])
    assert answers.class_names(model) == ("cat", "dog")


def test_the_size_of_images_is_that_of_the_input_or_of_the_stem():
    assert answers.image_size(net(input_shape=(None, 40, 3))) == (32, 40)
    assert answers.image_size(keras.Sequential([net(input_shape=(None, None, 3))])) == (32, 32)
    assert answers.image_size(net(input_shape=(None, None, 3), stem="imagenet")) == (224, 224)
