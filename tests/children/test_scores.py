"""Cheap scores, and the screen that refuses children by them."""

import numpy as np
import pytest
from described import described

from nasnet_keras.children import screening
from nasnet_keras.children.scores import SCORES, score
from nasnet_keras.children.screening import ScreenedOut, child_score, threshold
from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.children.tensorflow_child import Child
from nasnet_keras.data.loading import load_data
from nasnet_keras.genotype import load_genotype
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.tuner import search

SPACE = SearchSpace(blocks=1, operations=("identity", "conv_1x1", "conv_3x3", "sep_conv_3x3"), combinations=("add",))


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", limit=200)


@pytest.fixture
def child():
    return Child(described("tiny", repeats=(1, 1), filters=4, stem="cifar", input_shape=(8, 8, 3), classes=10))


def settings(name, share=0.5):
    return ChildSettings(repeats=(1, 1), filters=4, screen=name, screen_share=share)


def test_scores_are_what_they_say(child, rng):
    images, labels = rng.normal(size=(6, 8, 8, 3)).astype("float32"), rng.integers(0, 10, 6)
    model = child.to_model()
    assert score("parameters", child, images, labels) == sum(np.prod(v.shape) for v in model.trainable_variables)
    _, gradients = child.loss_and_gradient(images, labels)
    norm = np.linalg.norm(np.concatenate([gradient.ravel() for gradient in gradients]))
    np.testing.assert_allclose(score("gradient_norm", child, images, labels), -norm, rtol=1e-5)
    codes = np.concatenate([(a > 0).reshape(6, -1) for a in child.activations(images)], axis=1)
    agreements = (codes[:, None] == codes[None]).sum(-1)
    expected = np.linalg.slogdet(agreements)[1]
    np.testing.assert_allclose(score("naswot", child, images, labels), expected, rtol=1e-5)
    assert len(child.activations(images)) == sum(step.primitive.kind == "relu" for step in child.program.steps)
    with pytest.raises(ValueError, match="`score` must be one of .*Received"):
        score("beauty", child, images, labels)


def test_images_that_look_alike_have_a_low_score(child, rng):
    images = rng.normal(size=(6, 8, 8, 3)).astype("float32")
    alike = images[:1] + rng.normal(0, 0.01, images.shape).astype("float32")
    assert score("naswot", child, alike, np.zeros(6, int)) < score("naswot", child, images, np.zeros(6, int))


def test_images_that_are_there_twice_count_once(child, rng):
    """As blank tiles are; the determinant would be 0 for every network."""
    images = rng.normal(size=(6, 8, 8, 3)).astype("float32")
    images[4] = 0.5
    twice = images[[0, 1, 0, 2, 3, 4, 4, 5, 5]]
    assert score("naswot", child, twice, np.zeros(9, int)) == score("naswot", child, images, np.zeros(6, int))
    assert np.isfinite(score("naswot", child, images[[4, 4]], np.zeros(2, int)))


@pytest.mark.parametrize(
    ("scores", "share", "says"),
    [
        ([-np.inf] * 3 + [1.0, 2.0], 0.5, "3 of 5 random ones have no finite one"),
        ([-np.inf] * 5, 0.3, "5 of 5"),
        ([np.nan, 1.0, 2.0, 3.0, 4.0], 0.5, "1 of 5"),
        ([-np.inf, 1.0, 2.0, 3.0, 4.0], 0.5, None),
    ],
)
def test_a_screen_whose_score_tells_no_cells_apart_says_so(scores, share, says, monkeypatch):
    def child_score(settings, cell, data, seed):
        made.append(cell)
        return scores[seed]

    monkeypatch.setattr(screening, "child_score", child_score)
    threshold.cache_clear()
    made, chosen = [], settings("naswot", share)
    for _ in range(2):  # what says nothing is found out once
        if says is None:
            screening.check(chosen, "own", None, 4, range(5))
            continue
        with pytest.raises(ValueError, match=f"`screen` must be a score that tells .*, and {says}.*Received: 'naswot"):
            screening.check(chosen, "own", None, 4, range(5))
    assert made == [0, 1, 2, 3, 4, *["own"] * 2 * (says is None)]


@pytest.mark.parametrize("name", SCORES)
def test_the_screen_refuses_its_share_of_random_cells(name, digits):
    chosen, rng = settings(name), np.random.default_rng(7)
    space = SearchSpace(blocks=1)
    among = space.sample(32, np.random.default_rng(0))
    least, _ = found = threshold(chosen, digits, among)
    cells = [space.decode(space.random(rng)) for _ in range(16)]
    below = sum(child_score(chosen, one, digits, seed) < least for seed, one in enumerate(cells))
    assert 2 <= below <= 14
    assert threshold.__wrapped__(chosen, digits, among) == found


def test_a_refused_child_is_a_failed_trial_that_was_not_trained(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(Child, "train_step", lambda *_: pytest.fail("trained"))
    result = search(digits, 2, tmp_path / "s", "random", 0, space=SPACE, child=settings("parameters", 1.0))
    assert [trial["reward"] for trial in result.trials] == [None, None]
    assert all("not trained: its parameters" in trial["reason"] for trial in result.trials)


def test_who_beats_the_share_is_trained(digits):
    among = SearchSpace(blocks=1).sample(8, np.random.default_rng(0))
    assert settings("naswot", 0.0).evaluate(load_genotype("tiny"), digits, 0, among=among)["reward"] >= 0
    with pytest.raises(ScreenedOut, match="not trained: its naswot"):
        settings("naswot", 1.0).evaluate(load_genotype("tiny"), digits, 0, among=among)
    with pytest.raises(ValueError, match="`among` must be a tuple of genotypes"):
        settings("naswot").evaluate(load_genotype("tiny"), digits, 0)


def test_children_are_compared_with_the_space_that_is_searched(digits, tmp_path):
    """Where every child is small, among large cells of another space the screen would refuse them all."""
    small = SearchSpace(blocks=1, operations=("identity", "max_pool_3x3"), combinations=("add",))
    result = search(digits, 6, tmp_path / "s", "random", 0, space=small, child=settings("parameters", 0.5), rules=())
    counts = [trial["parameters"] for trial in result.trials if trial["reward"] is not None]
    assert len(counts) >= 2


@pytest.mark.parametrize(
    ("arguments", "name"), [({"screen": "beauty"}, "screen"), ({"screen_share": 1.5}, "screen_share")]
)
def test_bad_screens_are_refused(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received"):
        ChildSettings(**arguments)
