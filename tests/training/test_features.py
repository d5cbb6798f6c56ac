"""Features that are computed once: the same training to the bit, whatever ends it, and nothing wrong in silence."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image
from test_transfer import NAMES, RECIPE, Killed, colours, dies, source, values
from test_transfer import tune as tune_model

from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.loading import Split, load_data
from nasnet_keras.training import features, fitting
from nasnet_keras.training.transfer import fine_tune

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
TRAIN = colours(50)  # three batches of 16, and two images are left out in each epoch
HEAD = {"unfreeze": "head", "epochs": 3, "patience": None, "train": TRAIN}
SHIFTED = replace(RECIPE, augmentation="digits", cutout=2, erasing=0.3)


def network():
    return source(repeats=(1,))


def tune(model=None, **options):
    return tune_model(model or network(), **options)


def trained(directory, **options):
    """({path: array} of the head, its history) of a phase of the head."""
    model = tune(**{**HEAD, **options}, directory=directory)
    history = json.loads((directory / "head" / "history.json").read_text())["epochs"]
    assert not list(directory.rglob("features-*"))
    return values(model, ("logits",)), history


def same(one, other):
    for path, value in one[0].items():
        np.testing.assert_array_equal(value, other[0][path])
    assert one[1] == other[1]


@pytest.fixture
def computed(monkeypatch):
    """A list of how many images each batch had whose features were computed."""
    counts, compiled = [], features._compiled

    def counting(model):
        function = compiled(model)
        return lambda images: counts.append(len(images)) or function(images)

    monkeypatch.setattr(features, "_compiled", counting)
    return counts


LABELS = np.eye(3, dtype=bool)[TRAIN.labels]
HEADS = [
    {"dropout": 0.4},
    {"classifier_activation": None, "weight_decay": 0.01, "class_weights": [1, 2, 3]},
    {"train": Split(TRAIN.images, LABELS), "validation": Split(TRAIN.images[:12], LABELS[:12])},
    {"validation": None, "layer_decay": 0.5, "recipe": replace(RECIPE, moving_average=0.9, optimizer="rmsprop")},
    {"include_preprocessing": True},
]


NAMES_OF_HEADS = ["dropout", "logits", "several labels", "no validation", "pixels"]
QUICK = [pytest.param(head, marks=() if "dropout" in head or "train" in head else pytest.mark.long) for head in HEADS]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("options", QUICK, ids=NAMES_OF_HEADS)
def test_one_view_is_the_undisturbed_training_to_the_bit(options, tmp_path, computed):
    whole = trained(tmp_path / "whole", **options)
    assert not computed
    same(trained(tmp_path / "kept", **options, head_views=1), whole)
    assert sum(computed) == 50 + (12 if "validation" not in options or options["validation"] else 0)


@pytest.mark.jax
def test_in_a_graph_as_well(tmp_path):
    kept, whole = trained(tmp_path / "kept", head_views=1), trained(tmp_path / "whole")
    if keras.backend.backend() == "tensorflow":
        same(kept, whole)
    for path, value in whole[0].items():  # JAX compiles cells and head as one, and rounds otherwise
        np.testing.assert_allclose(kept[0][path], value, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("eager")
@pytest.mark.long
def test_as_many_views_as_epochs_are_the_augmented_training(tmp_path, computed):
    whole = trained(tmp_path / "whole", recipe=SHIFTED)
    same(trained(tmp_path / "kept", recipe=SHIFTED, head_views=9), whole)
    assert sum(computed) == 3 * 50 + 12
    two = trained(tmp_path / "two", recipe=SHIFTED, head_views=2)  # the third epoch sees the first one's again
    assert two[1][:2] == whole[1][:2] and two[1][2] != whole[1][2]


@pytest.mark.usefixtures("eager")
def test_whatever_ends_it_the_result_is_the_same(tmp_path, computed):
    options = {"recipe": SHIFTED, "head_views": 2, "dropout": 0.3, "checkpoint_every": 2}
    whole = trained(tmp_path / "whole", **options)
    images, place = sum(computed), tmp_path / "killed"
    computed.clear()
    moments = [
        dies(features.Features, "keep", 2),  # while the first view fills, a batch computed and not kept
        dies(features.Features, "keep", 2, after=True),
        dies(keras.callbacks.Callback, "on_train_batch_end", 2),  # in the first epoch
        dies(features.Features, "keep", 1),  # while the second view fills
        dies(fitting, "compile_model", 1, after=True),  # before anything
        dies(features, "clear", 1),  # the phase is over, its file is still there
    ]
    for moment in moments:
        with pytest.MonkeyPatch.context() as patches, pytest.raises(Killed):
            moment(patches)
            tune(**HEAD, **options, directory=place, callbacks=[keras.callbacks.Callback()])
        (file,) = (place / "head").glob("features-*")
        assert file.stat().st_size == (2 * 50 + 12) * (4 * features_of(network()) + 1)
    same(trained(place, **options), whole)
    assert sum(computed) == images + 2 * 16  # batches that were computed and lost are all that was done twice


def features_of(model):
    return model.get_layer(features.POOL).output.shape[-1]


@pytest.mark.usefixtures("eager")
@pytest.mark.long
def test_features_of_others_are_not_used(tmp_path, computed):
    """A run that was killed before its first epoch has left no history that could tell."""
    changed = network()
    changed.get_layer("stem").set_weights([value + 0.1 for value in changed.get_layer("stem").get_weights()])
    others = {
        "images": {"train": colours(50, 3)},
        "weights": {"model": changed},
        "seed": {"seed": 5},
        "augmentation": {"recipe": SHIFTED},
    }
    for name, other in others.items():
        place, options = tmp_path / name, {"head_views": 1, **other}
        with pytest.MonkeyPatch.context() as patches, pytest.raises(Killed):
            dies(features.Features, "keep", 4, after=True)(patches)
            tune(**HEAD, head_views=1, directory=place)
        computed.clear()
        trained(place, **options)
        assert sum(computed) == 62, name


@pytest.mark.usefixtures("eager")
def test_a_broken_file_has_no_weight(tmp_path):
    for label in NAMES:
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(10):
            pixels = colours(3, number).images[NAMES.index(label)]
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    data = load_data(tmp_path / "photos", image_size=8, memory_limit=0, test=0, validation=0.2)
    broken = data.train.images.sources[5]
    with open(broken, "wb") as file:
        file.write(b"no image")
    results = []
    for views in (None, 1):
        options = {"recipe": replace(RECIPE, batch_size=8), "epochs": 3, "unfreeze": "head", "patience": None}
        place = tmp_path / str(views)
        model = fine_tune(
            network(), data.train, data.validation, NAMES, **options, head_views=views, seed=4, directory=place
        )
        results.append((values(model, ("logits",)), json.loads((place / "head/history.json").read_text())["epochs"]))
    same(*results)


@pytest.mark.long
@pytest.mark.usefixtures("eager")
def test_both_phases_and_a_directory_that_was_begun_otherwise(tmp_path):
    options = {"epochs": 2, "head_epochs": 1, "patience": None}
    for one, other in ((1, None), (None, 1)):
        place = tmp_path / f"{one} {other}"
        tune(**options, head_views=one, directory=place)
        with pytest.raises(ValueError, match="`directory`.*other `head_views`"):
            tune(**{**options, "epochs": 3}, head_views=other, directory=place)
    earlier = tmp_path / "1 None" / "head" / "history.json"
    state = json.loads(earlier.read_text())
    del state["identity"]["`head_views`"]
    earlier.write_text(json.dumps(state))
    with pytest.raises(ValueError, match="`directory`.*other `head_views`"):
        tune(**{**options, "epochs": 3}, head_views=1, directory=tmp_path / "1 None")
    kept, whole = tune(**options, head_views=1), tune(**options)  # without a directory
    for path, value in values(whole).items():
        np.testing.assert_array_equal(value, values(kept)[path])


def test_no_room_is_said_at_once_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match="`head_views` must leave room on the disk of .*: the features take .* GB"):
        tune(**HEAD, head_views=1, directory=tmp_path)
    assert not list(tmp_path.rglob("features-*"))


BAD = [
    ({"head_views": 0}, "`head_views` must be None or an integer from 1"),
    ({"head_views": 1, "weights": "none"}, "`head_views` needs a phase of the head alone"),
    ({"head_views": 1, "head_epochs": 0}, "`head_views` needs a phase of the head alone"),
    ({"head_views": 1, "recipe": replace(RECIPE, mixup=0.2)}, "`head_views` needs `mixup` and `cutmix` to be 0"),
    ({"head_views": 1, "auxiliary_head": True}, "`head_views` needs `auxiliary_head` to be False"),
    ({"head_views": 1, "hours": 1.0}, "`head_views` needs `hours` to be left out"),
    ({"head_views": 1, "devices": "all"}, "`head_views` needs `devices` to be left out"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tune(**options)


def test_a_call_that_is_refused_leaves_the_features_of_the_training_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_fit", lambda *_: 1 / 0)  # nothing is trained here
    monkeypatch.setattr(features, "_compiled", lambda model: None)
    (place := tmp_path / "head").mkdir()
    kept = place / "features-0123456789abcdef.bin"
    kept.write_bytes(b"hours of work")
    identity = {"`learning_rate`": 123.0, "`head_views`": 1}
    (place / "history.json").write_text(json.dumps({"identity": identity, "epochs": [{"epoch": 1}]}))
    with pytest.raises(ValueError, match="other `learning_rate`"):
        tune(**HEAD, head_views=1, directory=tmp_path)
    assert [path.name for path in place.glob("*.bin")] == [kept.name] and kept.read_bytes() == b"hours of work"


def test_what_could_not_be_read_is_read_again_by_the_next_run(tmp_path):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    path = tmp_path / "features-0.bin"
    for _ in range(2):
        one = features.Features(None, model, path, 1, 3, 1)
        assert not path.exists() or path.stat().st_size == 36
        one.open()
        assert one.states.tolist() in ([0, 0, 0, 0], [features.READ, 0, 0, 0])
        one.keep(np.arange(2), np.ones((2, 2)), np.array([1, 0]))
        assert one.states.tolist() == [features.READ, features.BROKEN, 0, 0]


@pytest.mark.parametrize("training", [False, True], ids=["validation", "training"])
def test_images_that_go_with_their_drive_are_not_missing_for_the_whole_phase(training, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_compiled", lambda model: lambda images: images.mean((1, 2)))
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    split = Split(ImageFiles(tuple(map(str, paths)), (8, 8)), np.arange(20) % 2)

    def filled(first, batch_size=20):
        for path in paths:
            Image.new("RGB", (8, 8), "red").save(path)
        places = 1, 20, 20
        one = features.Features(None, SimpleNamespace(output_shape=(None, 3)), tmp_path / "features-0.bin", *places)
        batches = one(split, batch_size, training=training)
        for number in batches._indices(0, 0)[first:]:
            paths[number].unlink()
        batches.fill(0)
        return one.states[batches._rows(0, np.arange(20))]

    part = "training" if training else "validation"
    with pytest.raises(OSError, match=f"none of the last 8 of 20 images for {part} can be read"):
        filled(12)
    assert (filled(13) == features.READ).sum() == 13
    assert (filled(20, batch_size=7) == features.READ).all()
