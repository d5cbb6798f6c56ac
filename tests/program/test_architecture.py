"""A network as a value: complete, equal where the network is, and the same as its dict."""

import json
import subprocess
import sys

import numpy as np
import pytest
from described import described
from random_genotypes import random_genotype

from nasnet_keras.genotype import Block, CellGenotype, Genotype, load_genotype
from nasnet_keras.program.architecture import Architecture
from nasnet_keras.program.options import Options

TINY = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}


def test_nothing_is_left_open():
    mobile = described("nasnet_a", repeats=4, penultimate_filters=1056)
    assert (mobile.stacks, mobile.filters, mobile.stem_filters) == ((4, 4, 4), 44, 32)
    assert mobile.input_shape == (224, 224, 3)
    assert (mobile.options.batch_norm_momentum, mobile.options.batch_norm_epsilon) == (0.9997, 1e-3)
    assert described("nasnet_a", repeats=6, filters=32, stem="cifar").stem_filters == 96


def test_one_network_is_one_value():
    one = described("nasnet_a", repeats=4, filters=44)
    other = described("nasnet_a", repeats=[4, 4, 4], penultimate_filters=1056, stem_filters=32, batch_norm_epsilon=1e-3)
    assert one == other and hash(one) == hash(other) and {one: "here"}[other] == "here"
    assert one != one.changed(filters=45) and one != one.changed(genotype=load_genotype("tiny"))


def test_the_dict_is_the_value(rng):
    genotype = random_genotype(lambda low, high: int(rng.integers(low, high + 1)))
    one = Architecture(genotype, repeats=(1, 2), filters=6, drop_path=0.2, class_names=["a", "b"], classes=2)
    text = json.dumps(one.to_dict())
    assert Architecture.from_dict(json.loads(text)) == one
    assert json.dumps(Architecture.from_dict(json.loads(text)).to_dict()) == text


def test_what_numpy_gives_becomes_plain_json():
    rates = dict.fromkeys(("dropout", "drop_path", "batch_norm_momentum", "batch_norm_epsilon"), np.float32(0.5))
    rates |= {"weight_decay": np.float16(0.5), "thresholds": np.full(3, 0.5, "float32")}
    flags = dict.fromkeys(("skip_reduction", "bounded_activations", "include_preprocessing"), np.True_)
    of_numpy = {**rates, **flags, "class_names": np.arange(3), "grey_range": (np.uint16(3), np.uint16(4095))}
    plain = {**dict.fromkeys(rates, 0.5), "thresholds": (0.5,) * 3, **dict.fromkeys(flags, True)}
    plain |= {"class_names": ("0", "1", "2"), "grey_range": (3, 4095)}
    one, other = (described(**{**TINY, "classes": 3, **given}) for given in (of_numpy, plain))
    assert one == other and json.dumps(one.to_dict()) == json.dumps(other.to_dict())
    assert (
        Options.of({"weight_decay": np.float32(0.5), "bounded_activations": np.True_}).to_dict()["weight_decay"] == 0.5
    )
    assert type(Options(weight_decay=np.float32(0.5)).weight_decay) is float
    for name, value, rule in (("thresholds", 0.5, "None or 3 probabilities"), ("dropout", np.float32(1), "a rate in"),
                              ("thresholds", np.full(3, 1.5), "None or 3"), ("class_names", 3, "a list of names"),
                              ("grey_range", (np.uint8(9), np.uint8(9)), "None or .low, high."),
                              ("weight_decay", np.float32(-1), "a number from 0")):  # fmt: skip
        with pytest.raises(ValueError, match=f"`{name}` must be {rule}"):
            described(**{**TINY, "classes": 3, name: value})


@pytest.mark.parametrize("names", [{"a", "b", "c"}, dict.fromkeys("abc"), "abc"])
def test_names_of_classes_have_an_order(names):
    with pytest.raises(ValueError, match="`class_names` must be a list of names, one for each class. Received: "):
        described("tiny", **TINY, class_names=names)
    numbered = described("tiny", **TINY, class_names=range(3))
    assert numbered.class_names == ("0", "1", "2")
    assert Architecture.from_dict({**numbered.to_dict(), "class_names": [0, 1, 2]}) == numbered  # as once kept


def test_what_followed_follows_anew():
    cifar = described("nasnet_a", repeats=2, filters=16, stem="cifar")
    assert cifar.changed(filters=32).stem_filters == 96
    assert cifar.changed(stem="imagenet").stem_filters == 32
    assert cifar.changed(penultimate_filters=768).filters == 32
    with pytest.raises(ValueError, match="`filter` is no argument of NASNet. Received: 3"):
        cifar.changed(filter=3)
    with pytest.raises(ValueError, match="an architecture has no `filter`"):
        Architecture.from_dict({**cifar.to_dict(), "filter": 3})


def test_a_float32_of_numpy_is_the_number_that_it_was_written_as():
    given = {"batch_norm_momentum": np.float32(0.9997), "batch_norm_epsilon": np.float32(1e-3)}
    whole, same = (described("nasnet_a", repeats=1, filters=8, **options) for options in (given, {}))
    assert whole == same and whole.arguments() == same.arguments()
    one, other = (described("nasnet_a", **TINY, batch_norm_epsilon=value) for value in (np.float32(1e-3), 1e-3))
    one.check_weights_of(other)
    other.check_weights_of(one.to_dict())
    with pytest.raises(ValueError, match="`batch_norm_epsilon` must be that which they were trained with, 0.0011"):
        one.check_weights_of(other.changed(batch_norm_epsilon=0.0011))


def test_weights_may_have_been_trained_with_any_pooling_where_nothing_says_it():
    network = described("nasnet_a", **TINY)
    other, known = network.changed(pooling_compatibility="keras"), network.to_dict()
    for one, trained in ((network, other), (other, network), (other, known)):
        with pytest.raises(ValueError, match="fit the network: `pooling_compatibility` must be that which they were"):
            one.check_weights_of(trained)
    del known["pooling_compatibility"]  # of another project's
    for one in (network, other):
        one.check_weights_of(known)


def test_its_program_has_what_the_released_network_has():
    program = described("nasnet_a", repeats=4, filters=44).program()
    assert sum(weight.size for weight in program.weights if weight.trainable) == 5_289_978
    assert program.multiply_adds((224, 224)) == 563_638_816


def test_the_program_does_not_depend_on_what_is_for_training():
    plain = described("nasnet_a", **TINY)
    training = plain.changed(drop_path=0.4, dropout=0.5, auxiliary_head=True, weight_decay=0.1)
    assert [step.name for step in training.program().steps] == [step.name for step in plain.program().steps]


def test_it_needs_no_framework():
    code = (
        "import sys; from nasnet_keras import load_genotype\n"
        "from nasnet_keras.program.architecture import Architecture\n"
        "Architecture(load_genotype('nasnet_a'), repeats=1, filters=8).program()\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_no_1x1_kernel_has_strides(stem):
    """Its gradient would be wrong on some processors; the image is thinned before instead."""
    reduced = Block((0, 1), ("conv_1x1", "conv_1x1"))
    cell = CellGenotype((reduced,), (2,))
    program = described(Genotype(cell, cell), repeats=1, filters=4, stem=stem, input_shape=(64, 64, 3)).program()
    steps = [step.primitive for step in program.steps if getattr(step.primitive, "kernel", None) == (1, 1)]
    assert len(steps) > 8 and all(step.strides == (1, 1) for step in steps)
    assert "subsample" in {step.primitive.kind for step in program.steps}
