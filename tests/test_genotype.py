"""The genotype: what is valid, how it is written down, and what a broken file is answered with."""

import copy
import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_genotypes import random_genotype

from nasnet_keras.genotype import (
    MAX_FILE_BYTES,
    OPERATIONS,
    PAPER_OPERATIONS,
    Block,
    CellGenotype,
    Genotype,
    list_genotypes,
    load_genotype,
)


@st.composite
def genotypes(draw, inputs=(2, 4)):
    """Valid genotypes of any wiring, with one of these numbers of inputs."""
    count = draw(st.sampled_from(inputs))
    return random_genotype(lambda low, high: draw(st.integers(low, high)), inputs=count)


# --- the value ---


@given(genotypes(), st.text(), st.text())
def test_json_round_trip(genotype, name, source):
    genotype = dataclasses.replace(genotype, name=name, source=source)
    again = Genotype.from_json(genotype.to_json())
    assert again == genotype and hash(again) == hash(genotype)
    assert (again.name, again.source) == (name, source)
    assert again.to_json() == genotype.to_json()
    assert Genotype.from_json(genotype.to_json().encode()) == genotype


@given(genotypes(), genotypes())
def test_digest_tells_cells_apart_and_nothing_else(one, other):
    assert (one.digest == other.digest) == (one == other)
    renamed = dataclasses.replace(one, name="another", source="elsewhere")
    assert renamed == one and renamed.digest == one.digest
    assert len(one.digest) == 16 and int(one.digest, 16) >= 0


def test_digest_stays_the_same_between_releases():
    assert {name: load_genotype(name).digest for name in ("nasnet_a", "nasnet_a_figure4", "pnasnet_5", "tiny")} == {
        "nasnet_a": "bb231e4a30115c80",
        "nasnet_a_figure4": "fd6d6865aa7cee9a",
        "pnasnet_5": "74a4e79b1e29cc30",
        "tiny": "f6afe23a620e9305",
    }


def test_digest_depends_on_every_part_of_a_cell():
    genotype = load_genotype("tiny")
    block = genotype.normal.blocks[0]
    changed = [
        dataclasses.replace(block, inputs=(0, 1)),
        dataclasses.replace(block, operations=block.operations[::-1]),
        dataclasses.replace(block, combine="concat"),
    ]
    cells = [dataclasses.replace(genotype.normal, blocks=(new, *genotype.normal.blocks[1:])) for new in changed]
    cells.append(dataclasses.replace(genotype.normal, concat=genotype.normal.concat[::-1]))
    variants = [genotype, *(dataclasses.replace(genotype, normal=cell) for cell in cells)]
    variants.append(Genotype(genotype.reduction, genotype.normal))
    assert len({variant.digest for variant in variants}) == len(set(variants)) == 6


def test_genotype_is_frozen_and_hashable():
    genotype = load_genotype("tiny")
    with pytest.raises(dataclasses.FrozenInstanceError):
        genotype.name = "mine"
    with pytest.raises(dataclasses.FrozenInstanceError):
        genotype.normal.blocks[0].combine = "concat"
    assert {genotype: 1}[load_genotype("tiny")] == 1


def test_lists_become_tuples():
    block = Block([0, 1], ["identity", "conv_3x3"])
    cell = CellGenotype([block], [2, 0])
    assert block == Block((0, 1), ("identity", "conv_3x3"), "add") and cell.concat == (2, 0)


@given(genotypes())
def test_live_states_are_those_that_a_walk_from_the_output_meets(genotype):
    for cell in (genotype.normal, genotype.reduction):
        met, waiting = set(), list(cell.concat)
        while waiting:
            state = waiting.pop()
            met.add(state)
            if state >= cell.inputs:
                waiting.extend(cell.blocks[state - cell.inputs].inputs)
        assert cell.live_states() == tuple(sorted(met))
        assert cell.states == cell.inputs + len(cell.blocks)


# --- the stored ones: the wiring of FACTS, "NASNet-A as the released code builds it", in its own notation ---

SHORT = {"sep": "sep_conv", "avg": "avg_pool", "max": "max_pool"}


def cell_from_notation(text, concat):
    """Blocks like `sep5(1)+max3(b0)`, where b0 is the first block, as a `CellGenotype`."""
    blocks = []
    for block in text.split():
        sides = [side.rstrip(")").split("(") for side in block.split("+")]
        inputs = tuple(int(state[1:]) + 2 if state.startswith("b") else int(state) for _, state in sides)
        names = ("identity" if op == "id" else f"{SHORT[op[:3]]}_{op[3:]}x{op[3:]}" for op, _ in sides)
        blocks.append(Block(inputs, tuple(names), "add"))
    return CellGenotype(tuple(blocks), concat)


NASNET_A_NORMAL = "sep5(1)+sep3(0) sep5(0)+sep3(0) avg3(1)+id(0) avg3(0)+avg3(0) sep3(1)+id(1)"
NASNET_A_REDUCTION = "sep5(1)+sep7(0) max3(1)+sep7(0) avg3(1)+sep5(0) id(b1)+avg3(b0) sep3(b0)+max3(1)"
PNASNET_5 = "sep5(0)+max3(0) sep7(1)+max3(1) sep5(1)+sep3(1) sep3(b2)+max3(1) sep3(0)+id(1)"
STORED = {
    "nasnet_a": (NASNET_A_NORMAL, (0, 2, 3, 4, 5, 6), NASNET_A_REDUCTION, (3, 4, 5, 6)),
    "nasnet_a_figure4": (NASNET_A_NORMAL, (2, 3, 4, 5, 6), NASNET_A_REDUCTION, (4, 5, 6)),
    "pnasnet_5": (PNASNET_5, (2, 3, 4, 5, 6), PNASNET_5, (2, 3, 4, 5, 6)),
}


@pytest.mark.parametrize("name", STORED)
def test_stored_genotype_is_wired_as_published(name):
    normal, normal_concat, reduction, reduction_concat = STORED[name]
    expected = Genotype(cell_from_notation(normal, normal_concat), cell_from_notation(reduction, reduction_concat))
    assert load_genotype(name) == expected
    assert load_genotype(name).name == name and load_genotype(name).source


def test_figure_4_concatenates_the_loose_ends():
    for cell in (load_genotype("nasnet_a_figure4").normal, load_genotype("nasnet_a_figure4").reduction):
        read = {state for block in cell.blocks for state in block.inputs}
        assert set(cell.concat) == set(range(2, 7)) - read


def test_stored_genotypes_are_listed_and_written_as_we_write():
    assert {"nasnet_a", "nasnet_a_figure4", "pnasnet_5", "tiny"} <= set(list_genotypes())
    assert list_genotypes() == sorted(list_genotypes())
    for name in list_genotypes():
        genotype = load_genotype(name)
        assert genotype.name == name


def test_a_file_that_is_called_as_a_stored_genotype_is_meant_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load_genotype("pnasnet_5").save("tiny")
    assert load_genotype(Path("tiny")).name == "pnasnet_5" and load_genotype("tiny").name == "tiny"
    assert load_genotype(Path("nasnet_a")).name == "nasnet_a"  # where there is no such file


def test_load_genotype_takes_names_files_and_genotypes(tmp_path):
    genotype = load_genotype("pnasnet_5")
    assert load_genotype(genotype) is genotype
    genotype.save(tmp_path / "mine.json")
    assert load_genotype(tmp_path / "mine.json") == load_genotype(str(tmp_path / "mine.json")) == genotype
    with pytest.raises(ValueError, match=r"`genotype` must be one of .*nasnet_a.* Received: 'nasnet_z'"):
        load_genotype("nasnet_z")
    with pytest.raises(ValueError, match="`genotype`.*Received: 3"):
        load_genotype(3)


# --- what is broken ---


def changed(*path, to=None, drop=False):
    """The JSON text of `tiny` with one value replaced or dropped."""
    data = copy.deepcopy(load_genotype("tiny").to_dict())
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    if drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return json.dumps(data)


B0, B1 = ("normal", "blocks", 0), ("normal", "blocks", 1)
IN_B0, IN_B1 = "normal cell: block 0: ", "normal cell: block 1: "
BLOCK = {"inputs": [0, 1], "operations": ["identity", "identity"], "combine": "add"}
BROKEN = {
    "unknown operation": (
        changed(*B0, "operations", 0, to="conv_9x9"),
        IN_B0,
        "`operations`",
        "conv_3x3",
        "'conv_9x9'",
    ),
    "operation that only stems use": (changed(*B0, "operations", 0, to="stem_cifar"), IN_B0, "`operations`"),
    "operation is a number": (changed(*B1, "operations", 1, to=3), IN_B1, "`operations`", "Received: 3"),
    "operation is a list": (changed(*B1, "operations", 1, to=["identity"]), IN_B1, "`operations`"),
    "three operations": (changed(*B0, "operations", to=["identity"] * 3), IN_B0, "`operations`", "list of 2"),
    "operations are a string": (changed(*B0, "operations", to="ab"), IN_B0, "`operations`"),
    "unknown combination": (changed(*B1, "combine", to="multiply"), IN_B1, "`combine`", "concat", "'multiply'"),
    "combination is null": (changed(*B1, "combine", to=None), IN_B1, "`combine`", "None"),
    "forward reference": (changed(*B1, "inputs", to=[3, 0]), IN_B1, "`inputs`", "0 to 2", "Received: 3"),
    "negative state": (changed(*B1, "inputs", to=[-1, 0]), IN_B1, "`inputs`", "[-1, 0]"),
    "state is a bool": (changed(*B0, "inputs", to=[True, 0]), IN_B0, "`inputs`", "True"),
    "state is a float": (changed(*B0, "inputs", to=[1.0, 0]), IN_B0, "`inputs`", "1.0"),
    "state is a string": (changed(*B0, "inputs", to=["1", 0]), IN_B0, "`inputs`", "'1'"),
    "state is NaN": (changed(*B0, "inputs", to=[float("nan"), 0]), IN_B0, "`inputs`", "nan"),
    "state is infinite": (changed(*B0, "inputs", to=[float("inf"), 0]), IN_B0, "`inputs`", "inf"),
    "state is huge": (changed(*B0, "inputs", to=[10**30, 0]), IN_B0, "`inputs`"),
    "one input": (changed(*B0, "inputs", to=[0]), IN_B0, "`inputs`", "list of 2"),
    "inputs are an object": (changed(*B0, "inputs", to={"0": 1}), IN_B0, "`inputs`"),
    "block without a key": (changed(*B1, "combine", drop=True), IN_B1, "lacks combine"),
    "block with an unknown key": (changed(*B1, "strides", to=2), IN_B1, "unknown keys 'strides'"),
    "block is a list": (changed(*B1, to=[0, 1]), IN_B1, "JSON object"),
    "block is null": (changed(*B1, to=None), IN_B1, "JSON object"),
    "no blocks": (changed("reduction", "blocks", to=[]), "reduction cell: ", "`blocks`", "Received: 0"),
    "13 blocks": (changed("reduction", "blocks", to=[BLOCK] * 13), "reduction cell: ", "1 to 12", "Received: 13"),
    "blocks are null": (changed("reduction", "blocks", to=None), "reduction cell: ", "`blocks`"),
    "state twice in concat": (changed("normal", "concat", to=[2, 2]), "normal cell: ", "`concat`", "[2, 2]"),
    "empty concat": (changed("normal", "concat", to=[]), "normal cell: ", "`concat`", "at least one"),
    "concat of an unknown state": (changed("normal", "concat", to=[4]), "normal cell: ", "`concat`", "0 to 3", "[4]"),
    "concat of a bool": (changed("normal", "concat", to=[True]), "normal cell: ", "`concat`", "True"),
    "concat of a float": (changed("normal", "concat", to=[2.0]), "normal cell: ", "`concat`", "2.0"),
    "concat is a number": (changed("normal", "concat", to=2), "normal cell: ", "`concat`", "Received: 2"),
    "one cell input": (changed("normal", "inputs", to=1), "normal cell: ", "`inputs`", "Received: 1"),
    "cell inputs are a bool": (changed("normal", "inputs", to=True), "normal cell: ", "`inputs`", "True"),
    "cell inputs are a float": (changed("normal", "inputs", to=2.0), "normal cell: ", "`inputs`", "2.0"),
    "13 cell inputs": (changed("normal", "inputs", to=13), "normal cell: ", "`inputs`", "13"),
    "three inputs, two passed on": (changed("normal", "inputs", to=3), "normal cell: ", "`concat`", "3"),
    "cell with an unknown key": (changed("normal", "filters", to=3), "normal cell: ", "'filters'"),
    "cell without blocks": (changed("normal", "blocks", drop=True), "normal cell: ", "lacks blocks"),
    "cell is a string": (changed("normal", to="nasnet_a"), "normal cell: ", "JSON object", "'nasnet_a'"),
    "no reduction cell": (changed("reduction", drop=True), "lacks reduction"),
    "no format": (changed("format", drop=True), "lacks format"),
    "another format": (changed("format", to="nasnet-genotype/2"), "`format`", "nasnet-genotype/1", "/2"),
    "format is a list": (changed("format", to=[]), "`format`", "[]"),
    "unknown key": (changed("comment", to="hello"), "unknown keys 'comment'"),
    "name is a number": (changed("name", to=7), "`name`", "7"),
    "source is null": (changed("source", to=None), "`source`", "None"),
    "a list": ("[]", "JSON object", "[]"),
    "a number": ("NaN", "JSON object"),
    "no JSON": ("normal: {}", "JSON text"),
    "cut off": (load_genotype("tiny").to_json()[:-20], "JSON text"),
    "empty": ("", "JSON text"),
    "two documents": (load_genotype("tiny").to_json() * 2, "JSON text"),
    "a key twice": ('{"format": "nasnet-genotype/1", "format": 1}', "twice", "format"),
    "a key twice further in": ('{"normal": {"concat": [2], "concat": [0]}}', "twice", "concat"),
    "deep nesting": ("[" * 100_000, "JSON text"),
    "deep nesting in a value": ('{"format": ' + "[" * 100_000 + "]" * 100_000 + "}", "JSON text"),
    "a number of many digits": ('{"format": ' + "9" * 10_000 + "}", "digits"),
    "another encoding": ("\ufffe".encode("utf-16"), "JSON text"),
    "bytes that are no text": (b"\xff\xfe\xff", "JSON text"),
}


@pytest.mark.parametrize("text, parts", [(text, parts) for text, *parts in BROKEN.values()], ids=list(BROKEN))
def test_broken_json_says_what_and_where(text, parts, tmp_path):
    with pytest.raises(ValueError) as raised:
        Genotype.from_json(text)
    message = str(raised.value)
    assert type(raised.value) is ValueError
    assert all(part in message for part in parts), message
    assert message.startswith(parts[0]) or "cell" not in parts[0]
    path = tmp_path / "broken.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="broken.json"):
        Genotype.load(path)


@settings(max_examples=100)
@given(
    genotypes(inputs=(2,)),
    st.randoms(use_true_random=False),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.integers(), lambda s: st.lists(s, max_size=3)
    ),
)
def test_any_value_anywhere_is_read_or_refused(genotype, random, value):
    data = genotype.to_dict()
    places = []

    def walk(inner):
        for key, item in inner.items() if isinstance(inner, dict) else enumerate(inner):
            places.append((inner, key))
            if isinstance(item, dict | list):
                walk(item)

    walk(data)
    inner, key = random.choice(places)
    inner[key] = value
    try:
        read = Genotype.from_json(json.dumps(data))
    except ValueError as error:
        assert type(error) is ValueError and str(error)
    else:
        assert Genotype.from_json(read.to_json()) == read


def test_cells_that_feed_each_other_have_the_same_inputs():
    blocks = tuple(Block((0, 1), ("identity", "identity")) for _ in range(4))
    with pytest.raises(ValueError, match="reduction cell: `inputs`"):
        Genotype(CellGenotype(blocks, (2, 3)), CellGenotype(blocks, (2, 5, 6), inputs=3))


def test_a_cell_of_many_states_uses_each():
    """What it left out, the cell before would compute for nothing."""
    blocks = (Block((0, 1), ("identity", "identity")),)
    with pytest.raises(ValueError, match="must use each of them. Received: none uses 2"):
        CellGenotype(blocks, (0, 1, 3), inputs=3)


def test_wrong_python_types_are_value_errors():
    tiny = load_genotype("tiny")
    with pytest.raises(ValueError, match="`normal`"):
        Genotype(tiny, tiny.reduction)
    with pytest.raises(ValueError, match="block 0"):
        CellGenotype(({"inputs": [0, 1]},), (2,))
    with pytest.raises(ValueError, match="`name`"):
        Genotype(tiny.normal, tiny.reduction, name=None)


# --- files ---


def test_save_and_load(tmp_path):
    path = tmp_path / "genotype.json"
    for name in ("tiny", "nasnet_a"):
        load_genotype(name).save(path)
        assert Genotype.load(str(path)) == load_genotype(name)
    assert os.listdir(tmp_path) == ["genotype.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_failing_save_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "genotype.json"
    load_genotype("tiny").save(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        load_genotype("nasnet_a").save(path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["genotype.json"] and Genotype.load(path) == load_genotype("tiny")

    monkeypatch.setattr(Genotype, "to_json", lambda self: "\ud800")
    with pytest.raises(UnicodeEncodeError):
        load_genotype("nasnet_a").save(path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["genotype.json"] and Genotype.load(path) == load_genotype("tiny")


def test_unreadable_files(tmp_path):
    with pytest.raises(ValueError, match="cannot read the genotype file .*missing.json: No such file"):
        Genotype.load(tmp_path / "missing.json")
    with pytest.raises(ValueError, match="cannot read the genotype file .*: Is a directory"):
        Genotype.load(tmp_path)
    huge = tmp_path / "huge.json"
    huge.write_text(load_genotype("tiny").to_json() + " " * MAX_FILE_BYTES)
    with pytest.raises(ValueError, match=f"huge.json: .*at most {MAX_FILE_BYTES} bytes"):
        Genotype.load(huge)


def test_every_operation_is_a_valid_choice():
    assert len(PAPER_OPERATIONS) == 13 and set(PAPER_OPERATIONS) <= set(OPERATIONS)
    for operation in OPERATIONS:
        assert Block((0, 1), (operation, "identity")).operations[0] == operation
