"""What weights are called, and what is no name of theirs."""

import keras
import pytest

from nasnet_keras import NASNet, NASNetCIFAR, NASNetLarge
from nasnet_keras.weights import loading
from nasnet_keras.weights.index import entries, find, is_file
from nasnet_keras.weights.zoo import starting_weights


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


def test_what_changes_nothing_of_the_wiring_goes_with_weights_of_the_index():
    same = {"genotype": "nasnet_a", "repeats": (2, 2, 2), "stem": "cifar", "skip_reduction": False, "filters": 16}
    free = {"dropout": 0.5, "drop_path": 0.1, "batch_norm_momentum": 0.5, "input_shape": (16, 16, 3), "pooling": "avg"}
    assert NASNetCIFAR(include_top=False, batch_norm_epsilon=1e-5, **same, **free).output_shape == (None, 384)
