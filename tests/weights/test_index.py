"""What weights are called, and what is no name of theirs."""

import keras
import numpy as np
import pytest

from nasnet_keras import NASNet, NASNetCIFAR, NASNetLarge
from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.models.answers import full_names
from nasnet_keras.training.transfer import load_source
from nasnet_keras.weights import loading, zoo
from nasnet_keras.weights.index import entries, find, is_file
from nasnet_keras.weights.slim import slim_variables
from nasnet_keras.weights.zoo import imagenet_classes, starting_weights


@pytest.mark.parametrize("name", ["cifar10", "imagenet", "auto", "none", "nasnet_cifar_cifar10"])
def test_a_folder_called_as_weights_are_is_not_meant(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert not is_file(name) and is_file(f"./{name}") and is_file(tmp_path / name)
    assert starting_weights("NASNetCIFAR") == "cifar10"
    if name == "cifar10":
        assert NASNetCIFAR(include_top=False).count_params() > 0


@pytest.mark.parametrize("weights", ["", True, 3.5])
def test_what_is_no_name_and_no_file_is_refused(weights):
    with pytest.raises(
        ValueError, match="`weights` of NASNetCIFAR must be None .`none` in fine-tuning., a file, or one of"
    ):
        NASNetCIFAR(weights=weights)


def test_stacks_may_be_written_one_by_one():
    (entry,) = (one for one in entries() if one.name == "nasnet_cifar_cifar10")
    find("cifar10", "NASNetCIFAR").check_options({"repeats": (2, 2, 2)})
    for repeats in ((2, 2), (2, 2, 3), 3):
        with pytest.raises(ValueError, match="`repeats` must be 2 with"):
            entry.check_options({"repeats": repeats})


def test_weights_for_three_channels_fill_a_network_on_any_tensor(tmp_path):
    network = {"repeats": 1, "filters": 4, "stem": "cifar", "classes": 3}
    NASNet("tiny", input_shape=(8, 8, 3), **network).save_weights(tmp_path / "a.weights.h5")
    image = keras.Input((8, 8, 1), name="scan")
    model = NASNet("tiny", input_tensor=keras.layers.Rescaling(2.0)(image), **network)
    plain = NASNet("tiny", input_shape=(8, 8, 1), **network)
    for one in (model, plain):
        loading.load(one, tmp_path / "a.weights.h5")
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        assert (one == other).all()


WIRINGS = {"skip_reduction": True, "batch_norm_epsilon": 1e-3, "bounded_activations": True}
WIRINGS |= {"genotype": "nasnet_a_figure4", "stem": "imagenet", "repeats": (2, 2, 1)}


@pytest.mark.parametrize("name", WIRINGS)
def test_weights_of_the_index_are_for_their_own_wiring(name):
    change = {name: WIRINGS[name]}
    size = {"input_shape": (64, 64, 3)}
    with pytest.raises(ValueError, match=f"`{name}` must be .* with the weights 'cifar10'; with none it may be any"):
        NASNetCIFAR(**size, **change)
    change |= {"skip_reduction": {name: False}, "stem": {name: "cifar"}, "batch_norm_epsilon": {name: 1}}.get(name, {})
    with pytest.raises(ValueError, match=f"`{name}` must be .* with the weights 'imagenet'"):  # nothing is downloaded
        NASNetLarge(**size, **change)


def test_weights_of_the_index_by_their_name_are_for_their_own_wiring():
    network = {"repeats": 2, "filters": 16, "stem": "cifar", "classes": 10, "weights": "nasnet_cifar_cifar10"}
    with pytest.raises(ValueError, match="`skip_reduction` must be False with the weights 'cifar10'"):
        NASNet(skip_reduction=True, **network)


def test_names_of_weights_of_the_index_stay_in_their_order():
    (entry,) = (one for one in entries() if one.name == "nasnet_cifar_cifar10")
    network = {"repeats": 2, "filters": 16, "stem": "cifar", "classes": 10}
    turned, other = entry.classes[::-1], list("abcdefghij")
    says = "`class_names` must be in the order of the weights 'cifar10', or left out. Received: 'truck' in between"
    for build in (
        lambda names: NASNetCIFAR(class_names=names),
        lambda names: NASNet(class_names=names, weights=entry.name, **network),
    ):
        with pytest.raises(ValueError, match=says):
            build(turned)
        assert build(other).class_names == tuple(other) and build(None).class_names == tuple(entry.classes)
    assert NASNetCIFAR(include_top=False, class_names=turned).class_names == tuple(turned)


def test_names_of_imagenet_stay_in_the_order_of_its_weights():
    ids, words = zip(*imagenet_classes(), strict=True)
    for names, first in ((ids[1:] + ids[:1], ids[1]), (sorted(words), "Afghan hound")):
        with pytest.raises(ValueError, match=f"in the order of the weights 'imagenet'.* Received: '{first}'"):
            NASNetLarge(class_names=names)  # nothing is downloaded


def test_a_classifier_of_1000_classes_of_ones_own_is_not_taken_for_imagenets(tmp_path):
    names = tuple(f"bird {number}" for number in range(1000))
    cifar(classes=1000, class_names=names).save(tmp_path / "m.keras")
    model = cifar(classes=1000, weights=tmp_path / "m.keras")
    assert full_names(model, 1000) == names


def test_what_changes_nothing_of_the_wiring_goes_with_weights_of_the_index():
    same = {"genotype": "nasnet_a", "repeats": (2, 2, 2), "stem": "cifar", "skip_reduction": False, "filters": 16}
    free = {"dropout": 0.5, "drop_path": 0.1, "batch_norm_momentum": 0.5, "input_shape": (16, 16, 3), "pooling": "avg"}
    assert NASNetCIFAR(include_top=False, batch_norm_epsilon=1e-5, **same, **free).output_shape == (None, 384)


def cifar(**options):
    usual = {"genotype": "tiny", "repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}
    return NASNet(**{**usual, **options})


def of_named_weights(model):
    return {name: np.asarray(value) for name, value in model.named_weights().items() if name.split("/")[0] != "before"}


BEFORE = {
    "conv": lambda channels: keras.layers.Conv2D(channels, 1, name="before"),
    "norm": lambda channels: keras.layers.Normalization(mean=None, variance=None, name="before"),
}


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", ["conv", "norm"])
@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "a.npz"])
def test_layers_before_the_input_keep_what_they_have(kind, channels, name, tmp_path):
    own = cifar()
    if name == "a.npz":  # as of another project
        np.savez(tmp_path / name, **{key: np.asarray(value) for key, value in slim_variables(own).items()})
    else:
        (own.save_weights if name == "a.weights.h5" else own.save)(tmp_path / name)
    image, layer = keras.Input((8, 8, channels if kind == "norm" else 1)), BEFORE[kind](channels)
    if kind == "norm":
        layer.adapt(np.random.default_rng(0).normal(3, 2, (16, 8, 8, channels)))
    tensor = layer(image)
    kept = layer.get_weights()
    model = cifar(input_shape=None, input_tensor=tensor, weights=tmp_path / name)
    wanted, stem = of_named_weights(own), "stem/conv/kernel"
    wanted[stem] = wanted[stem] if channels == 3 else loading.for_channels(wanted[stem], channels)
    for place, value in of_named_weights(model).items():
        np.testing.assert_array_equal(value, wanted[place], err_msg=place)
    for one, other in zip(kept, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_file_that_has_the_layers_before_the_input_fills_them_too(tmp_path):
    def model(**options):
        return cifar(input_shape=None, input_tensor=BEFORE["conv"](3)(keras.Input((8, 8, 1))), **options)

    first = model()
    first.save_weights(tmp_path / "a.weights.h5")
    for one, other in zip(first.get_weights(), model(weights=tmp_path / "a.weights.h5").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    second = model()
    before = second.get_weights()
    cifar(filters=6).save_weights(tmp_path / "b.weights.h5")
    with pytest.raises(ValueError, match="does not fit the network"):
        loading.load(second, tmp_path / "b.weights.h5")
    for one, other in zip(before, second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def behind(size, name=None, channels=3, **options):
    """A network behind a convolution of that size."""
    layer = keras.layers.Conv2D(channels, size, padding="same", name=name)
    return cifar(input_shape=None, input_tensor=layer(keras.Input((8, 8, 3))), **options)


@pytest.mark.parametrize("file", ["a.weights.h5", "a.keras"])
@pytest.mark.parametrize(("name", "channels"), [("before", 3), ("before", 4), (None, 3)])
def test_cells_that_learnt_behind_other_layers_of_a_name_are_refused(name, channels, file, tmp_path):
    first = behind(3, name, channels)
    (first.save if file == "a.keras" else first.save_weights)(tmp_path / file)
    model = behind(1, name, channels)
    before = model.get_weights()
    with pytest.raises(ValueError, match="does not fit the network: before its input is another (before|conv2d)"):
        loading.load(model, tmp_path / file)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("file", ["a.weights.h5", "a.keras", "a.h5"])
def test_layers_of_others_that_are_left_in_a_file_are_told(file, tmp_path, caplog):
    own, first = cifar(), behind(3, "before")
    for one, folder in ((own, "own"), (first, "first")):
        (tmp_path / folder).mkdir()
        (one.save_weights if file == "a.weights.h5" else one.save)(tmp_path / folder / file)
    left = f"first/{file}: its cells are taken, and what is not NASNet's is left: before"
    for model in (own, behind(1, "other"), cifar(include_top=False)):
        caplog.clear()
        loading.load(model, tmp_path / "first" / file)
        assert [record.getMessage().removeprefix(f"{tmp_path}/") for record in caplog.records] == [left]
        wanted = of_named_weights(first)
        for place, value in of_named_weights(model).items():
            assert place.startswith("other") or (value == wanted[place]).all()
    dropping = cifar(drop_path=0.1)  # whose schedule counts its steps
    (dropping.save_weights if file == "a.weights.h5" else dropping.save)(tmp_path / file)
    caplog.clear()
    for model in (first, own, cifar(include_top=False)):
        loading.load(model, tmp_path / ("first" if model is first else "own") / file)
    for model in (dropping, own):
        loading.load(model, tmp_path / file)
    assert not caplog.records


def test_cells_that_a_network_has_not_are_no_weights_of_it(tmp_path):
    cifar(repeats=(1, 2)).save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(
        ValueError, match="`weights` do not fit the network: cell_2 is not in it. Received: .*a.weights.h5"
    ):
        cifar(repeats=(1, 1), weights=tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="network: cell_1, cell_2, reduction_cell_0 are not in it"):
        cifar(repeats=(1,), weights=tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="does not fit the network"):
        cifar(repeats=(1, 3), weights=tmp_path / "a.weights.h5")
    less, path = cifar(repeats=(1, 1)), str(tmp_path / "a.weights.h5")
    before = less.get_weights()
    with pytest.raises(ValueError, match="`weights` do not fit the network: cell_2 is not in it"):
        less.load_weights(path)
    for one, other in zip(before, less.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    less.load_weights(path, skip_mismatch=True)
    cifar(repeats=(1, 2)).load_weights(path)
    with pytest.raises(FileNotFoundError):
        less.load_weights(tmp_path / "none.weights.h5")
    assert cifar(repeats=(1, 2), include_top=False, weights=tmp_path / "a.weights.h5").get_layer("cell_2")


def plain(image):
    return image


def scaled(image):
    """With a layer before the network, whose file is a graph."""
    return keras.layers.Rescaling(2.0)(image)


def load_weights(model, path):
    model.load_weights(path)


@pytest.mark.parametrize("kind", [{"bounded_activations": True}, {"pooling_compatibility": "keras"}], ids=str)
@pytest.mark.parametrize("front", [plain, scaled])
def test_a_factory_takes_on_the_bounds_and_the_pooling_of_a_file(front, kind, tmp_path):
    options = {"genotype": "nasnet_a", "repeats": (1, 1), "input_shape": None, **kind}
    first = cifar(**options, input_tensor=front(keras.Input((8, 8, 3))))
    first.save(tmp_path / "bounded.keras")
    size = {"repeats": (1, 1), "filters": 4, "stem_filters": first.architecture.stem_filters}
    source, _ = load_source("NASNetCIFAR", tmp_path / "bounded.keras", **size)
    assert kind.items() <= source.architecture.arguments().items()
    np.testing.assert_array_equal(*(one.get_layer("cell_1").get_weights()[0] for one in (source, first)))


def test_what_is_no_whole_model_is_keras_own_to_load_or_refuse(tmp_path):
    model, other = cifar(), cifar()
    model.save_weights(tmp_path / "shards.weights.json", max_shard_size=0.01)
    other.load_weights(tmp_path / "shards.weights.json")
    for one, kept in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, kept)
    with pytest.raises(FileNotFoundError, match="none.keras"):
        other.load_weights(tmp_path / "none.keras")


def test_files_of_earlier_versions_tell_their_arguments_as_they_were_given(monkeypatch, tmp_path):
    model = cifar(class_names=[str(number) for number in range(10)], classes=10)
    model.save(tmp_path / "m.keras")
    size = {"filters": None, "penultimate_filters": 6 * model.architecture.filters}
    config = {**model.get_config(), **size, "class_names": list(range(10))}
    monkeypatch.setattr(zoo, "_config", lambda path: {"config": config})
    other = cifar(classes=10)
    other.load_weights(tmp_path / "m.keras")
    assert other.class_names == tuple(map(str, range(10)))
    assert zoo.known_classes(tmp_path / "m.keras") == list(map(str, range(10)))
    with pytest.raises(ValueError, match="`class_names` must be in the order of"):
        cifar(classes=10, class_names=[str(9 - number) for number in range(10)]).load_weights(tmp_path / "m.keras")


# Pools have no weights.
OTHER_POOLS = Genotype.from_json(load_genotype("tiny").to_json().replace("max_pool_3x3", "avg_pool_3x3"))
CELLS = [
    ({"repeats": (1, 2)}, {"repeats": (1, 1)}, "`repeats` must be", "cell_2 is not in it"),
    ({"bounded_activations": True}, {}, "`bounded_activations` must be", "`bounded_activations` of cell_0 must be"),
    ({"pooling_compatibility": "keras"}, {}, "`pooling_compatibility` must", "`pooling_compatibility` of cell_0 must"),
    ({"batch_norm_epsilon": 0.01}, {}, "`batch_norm_epsilon` must be", "`batch_norm_epsilon` of cell_0 must be"),
    ({"genotype": OTHER_POOLS}, {}, "`genotype` must be", "`genotype` of .*cell_0 must be that .*, [0-9a-f]{16}. Rec"),
    ({"repeats": (2, 2), "skip_reduction": True}, {"repeats": (2, 2)}, "`skip_red", "`inputs` of cell_2 must be"),
]


@pytest.mark.parametrize(("trained", "asked", "said", "of_graph"), CELLS)
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.parametrize("front", [plain, scaled])
def test_whole_models_fill_networks_of_their_own_wiring(front, name, trained, asked, said, of_graph, tmp_path):
    def network(front=front, **options):
        return cifar(**{"repeats": (1, 1), "input_shape": None, **options}, input_tensor=front(keras.Input((8, 8, 3))))

    first, path = network(**trained), tmp_path / name
    first.save(path)
    says = f"`weights` do not fit the network: {said if front is plain else of_graph}"
    model, bare = network(**asked), network(plain, **asked)
    for way, one in ((load_weights, model), (loading.load, model), (loading.load, bare), (load_source, bare)):
        before = one.get_weights()
        with pytest.raises(ValueError, match=says):
            way(one, path)
        for value, kept in zip(one.get_weights(), before, strict=True):
            np.testing.assert_array_equal(value, kept)
    if name == "m.keras":
        model.load_weights(path, skip_mismatch=True)
    for way in (load_weights, loading.load):
        again = network(**trained)
        way(again, path)
        for value, kept in zip(again.get_weights(), first.get_weights(), strict=True):
            np.testing.assert_array_equal(value, kept)
    source, _ = load_source(network(plain, **trained), path)
    np.testing.assert_array_equal(*(one.get_layer("cell_1").get_weights()[0] for one in (source, first)))
