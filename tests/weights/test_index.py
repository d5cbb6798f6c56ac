"""What weights are called, and what is no name of theirs."""

import keras
import pytest

from nasnet_keras import NASNet, NASNetCIFAR
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
    with pytest.raises(ValueError, match="`weights` of NASNetCIFAR must be None, a file, or one of"):
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
