"""The search space: its order, its translations, and what it refuses."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasnet_keras.genotype import COMBINATIONS, OPERATIONS, Block, CellGenotype, Genotype, load_genotype
from nasnet_keras.search.space import SearchSpace


@st.composite
def spaces(draw):
    return SearchSpace(
        blocks=draw(st.integers(1, 12)),
        operations=draw(st.lists(st.sampled_from(OPERATIONS), min_size=1, unique=True)),
        combinations=draw(st.lists(st.sampled_from(COMBINATIONS), min_size=1, unique=True)),
    )


def test_the_paper_s_space_has_50_decisions_in_the_paper_s_order():
    decisions = SearchSpace().decisions
    assert len(decisions) == 50
    assert [decision.name for decision in decisions[:6]] == [
        "normal_block_0_input_left",
        "normal_block_0_input_right",
        "normal_block_0_operation_left",
        "normal_block_0_operation_right",
        "normal_block_0_combine",
        "normal_block_1_input_left",
    ]
    assert decisions[25].name == "reduction_block_0_input_left"
    assert decisions[49].name == "reduction_block_4_combine"
    assert [len(decision.choices) for decision in decisions[20:25]] == [6, 6, 13, 13, 2]
    assert decisions[20].choices == (0, 1, 2, 3, 4, 5)
    assert len({decision.name for decision in decisions}) == 50


def test_size_is_the_number_of_decision_strings():
    assert SearchSpace().size == (math.factorial(6) ** 2 * 13**10 * 2**5) ** 2
    assert SearchSpace(blocks=1, operations=("identity",), combinations=("add",)).size == 2**4


@settings(max_examples=50, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_the_three_ways_of_writing_agree(space, seed):
    decisions = space.random(np.random.default_rng(seed))
    genotype = space.decode(decisions)
    assert space.encode(genotype) == decisions
    values = space.to_values(decisions)
    assert {type(value) for value in values.values()} <= {int, str}
    assert space.decode_values(values) == genotype
    assert space.decode_values({"learning_rate": 0.1, **dict(reversed(values.items()))}) == genotype
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert SearchSpace.from_dict(space.to_dict()) == space


def test_decode_concatenates_the_block_states_that_nothing_reads():
    space = SearchSpace(blocks=3, operations=("identity", "conv_3x3"), combinations=("add",))
    normal = [1, 0, 0, 1, 0, *[2, 2, 1, 1, 0], *[2, 0, 0, 0, 0]]  # b0 is read, b1 and b2 are not
    reduction = [0, 0, 0, 0, 0, *[2, 0, 0, 0, 0], *[3, 3, 0, 0, 0]]  # a chain
    genotype = space.decode(normal + reduction)
    assert genotype.normal.blocks[1] == Block((2, 2), ("conv_3x3", "conv_3x3"), "add")
    assert genotype.normal.concat == (3, 4)
    assert genotype.reduction.concat == (4,)


def test_random_draws_every_choice_and_repeats_with_its_seed():
    space = SearchSpace(blocks=2)
    drawn = np.array([space.random(rng) for rng in [np.random.default_rng(1)] for _ in range(400)])
    for place, decision in enumerate(space.decisions):
        assert set(drawn[:, place]) == set(range(len(decision.choices)))
    assert space.random(random.Random(3)) == space.random(random.Random(3))
    assert all(type(index) is int for index in space.random(np.random.default_rng(0)))


def test_encode_takes_the_paper_s_figure_and_refuses_what_lies_outside():
    space = SearchSpace()
    figure = load_genotype("nasnet_a_figure4")
    assert space.decode(space.encode(figure)) == figure
    with pytest.raises(ValueError, match=r"normal cell: `concat`.*\[2, 3, 4, 5, 6\].*Received: \[0, 2"):
        space.encode(load_genotype("nasnet_a"))
    with pytest.raises(ValueError, match="normal cell: .*5 blocks"):
        space.encode(load_genotype("tiny"))
    with pytest.raises(ValueError, match="`normal_block_0_operation_left` must be one of identity. Received: 'sep"):
        SearchSpace(operations=("identity",)).encode(figure)
    with pytest.raises(ValueError, match="`normal_block_0_combine` must be one of concat"):
        SearchSpace(combinations=("concat",)).encode(figure)
    cell = figure.normal
    turned = Genotype(CellGenotype(cell.blocks, (6, 5, 4, 3, 2)), figure.reduction)
    with pytest.raises(ValueError, match="normal cell: `concat`"):
        space.encode(turned)
    wide = CellGenotype((Block((0, 3), ("identity", "identity")),), (1, 2, 3, 4), inputs=4)
    with pytest.raises(ValueError, match="4 inputs"):
        SearchSpace(blocks=1).encode(Genotype(wide, wide))
    with pytest.raises(ValueError, match="`genotype`"):
        space.encode("nasnet_a")


@pytest.mark.parametrize("value", [2, -1, True, 0.0, "0", None, np.int64(0)])
def test_decode_values_checks_what_kerastuner_does_not(value):
    space = SearchSpace()
    values = space.to_values(space.random(random.Random(0)))
    with pytest.raises(ValueError, match="`normal_block_0_input_left` must be one of 0, 1"):
        space.decode_values({**values, "normal_block_0_input_left": value})


def test_decode_values_names_what_is_missing():
    space = SearchSpace()
    values = space.to_values(space.random(random.Random(0)))
    del values["reduction_block_3_combine"]
    with pytest.raises(ValueError, match=r"Missing: reduction_block_3_combine$"):
        space.decode_values(values)


@pytest.mark.parametrize("decisions", [[], [0] * 49, [0] * 51, [2] + [0] * 49, [-1] + [0] * 49])
def test_decode_refuses_wrong_integers(decisions):
    for translate in (SearchSpace().decode, SearchSpace().to_values):
        with pytest.raises(ValueError, match="`decisions` must be"):
            translate(decisions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": 0}, "`blocks`.*1 to 12. Received: 0"),
        ({"blocks": 13}, "`blocks`"),
        ({"blocks": True}, "`blocks`"),
        ({"operations": ()}, "`operations`"),
        ({"operations": "identity"}, "`operations`"),
        ({"operations": 3}, "`operations`"),
        ({"operations": ("identity", "identity")}, "`operations`"),
        ({"operations": ("sep_9x9",)}, r"`operations`.*sep_conv_3x3.*Received: \['sep_9x9'\]"),
        ({"operations": (["identity"],)}, "`operations`"),
        ({"combinations": ("mul",)}, "`combinations`"),
        ({"combinations": []}, "`combinations`"),
    ],
)
def test_bad_spaces(arguments, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(**arguments)


@pytest.mark.parametrize("data", [None, [], {}, {"blocks": 5}, {**SearchSpace().to_dict(), "ops": 1}])
def test_from_dict_refuses_other_objects(data):
    with pytest.raises(ValueError, match="a space must have the keys"):
        SearchSpace.from_dict(data)
