"""Numbers that the released TF-slim code computed, and our networks for them; see ../shared/golden/README.md."""

import json
import re

import numpy as np

from nasnet_keras.genotype import Block, CellGenotype, Genotype
from nasnet_keras.models.network import NASNet

TOLERANCE = 1e-4  # of each array's largest magnitude


def read(path):
    """The arrays of a case, and its description."""
    with np.load(path, allow_pickle=False) as stored:
        case = dict(stored)
    return case, json.loads(case.pop("config_json").item())


def cell_from_slim(cell):
    """TF-slim counts the newer input as state 0 and the older as 1; it marks the states that are not concatenated."""

    def ours(state):
        return {0: 1, 1: 0}.get(state, state)

    def name(operation):
        return re.sub(r"separable_(\dx\d)_2", r"sep_conv_\1", operation).replace("none", "identity")

    names, states = map(name, cell["operations"]), map(ours, cell["hiddenstate_indices"])
    blocks = [Block((next(states), next(states)), (next(names), next(names))) for _ in range(5)]
    return CellGenotype(tuple(blocks), tuple(ours(s) for s, used in enumerate(cell["used_hiddenstates"]) if not used))


def network(config, **kwargs):
    """The network that a case describes, for logits."""
    hparams = config["hparams"]
    cifar = config["stem_type"] == "cifar"
    stem_filters = hparams["stem_multiplier"] * (hparams["num_conv_filters"] if cifar else 32)
    arguments = {
        "genotype": Genotype(*(cell_from_slim(config["genotype"][name]) for name in ("normal", "reduction"))),
        "repeats": hparams["num_cells"] // 3,
        "filters": hparams["num_conv_filters"],
        "stem": config["stem_type"],
        "stem_filters": int(stem_filters),
        "skip_reduction": bool(hparams["skip_reduction_layer_input"]),
        "input_shape": tuple(config["image_shape"][1:]),
        "classes": config["num_classes"],
        "classifier_activation": None,
        "auxiliary_head": config["has_aux_head"],
        "batch_norm_epsilon": config["batch_norm_epsilon"],
    }
    return NASNet(**{**arguments, **kwargs})


def part(case, prefix):
    """{TF-slim name: array} of what stands under a prefix such as `var`."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in case.items() if name.startswith(f"{prefix}/")}


def compare(got, wanted, least=0.0, tolerance=TOLERANCE):
    """Hold an array against one of the same shape; `least` is the smallest magnitude that differences count against."""
    got = np.asarray(got)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * max(np.abs(wanted).max(), least)
