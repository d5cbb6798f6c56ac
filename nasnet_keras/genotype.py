"""An architecture as a value: two cells, each a short list of blocks.

Nothing here knows a framework. The controller writes genotypes, the network is built from them, the
plotter draws them and the zoo stores them in `genotypes/`. The notation is that of Zoph et al. 2018
(arXiv 1707.07012), section 3.1: a block picks two hidden states, an operation for each and a
way to combine the results; the new state joins the candidates of later blocks.

States are numbered from the older to the newer: 0 is h_{i-1} (the output of the cell before the
previous one), 1 is h_i (the output of the previous cell), 2 is the first block's result, and so on.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from nasnet_keras.checks import check_integer, check_one_of
from nasnet_keras.files import expanded, write_atomically

FORMAT = "nasnet-genotype/1"
PAPER_OPERATIONS = ("identity", "conv_1x3_3x1", "conv_1x7_7x1", "dil_conv_3x3")
PAPER_OPERATIONS += ("avg_pool_3x3", "max_pool_3x3", "max_pool_5x5", "max_pool_7x7", "conv_1x1", "conv_3x3")
PAPER_OPERATIONS += ("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7")
OPERATIONS = PAPER_OPERATIONS  # and further ones, of which the paper's search space knows nothing
COMBINATIONS = ("add", "concat", "add_layer_norm", "add_instance_norm")
MAX_BLOCKS = 12
MAX_FILE_BYTES = 1 << 20
STORED = Path(__file__).parent / "genotypes"


@dataclass(frozen=True)
class Block:
    """Two hidden states, an operation on each, and how the results are combined.

    Args:
        inputs: the two states read, by number; they may be the same.
        operations: the operation applied to each input, names from `OPERATIONS`.
        combine: a name from `COMBINATIONS`.

    Raises `ValueError` for an unknown name or a wrong type.

    Examples:
        >>> from nasnet_keras import Block
        >>> Block((0, 1), ("sep_conv_3x3", "identity")).combine
        'add'
    """

    inputs: tuple[int, int]
    operations: tuple[str, str]
    combine: str = "add"

    def __post_init__(self):
        object.__setattr__(self, "inputs", _states("inputs", self.inputs, length=2))
        operations = _sequence("operations", self.operations, length=2)
        for operation in operations:
            check_one_of("operations", operation, OPERATIONS)
        object.__setattr__(self, "operations", operations)
        check_one_of("combine", self.combine, COMBINATIONS)

    def to_dict(self):
        """The block as JSON-able data."""
        return {"inputs": list(self.inputs), "operations": list(self.operations), "combine": self.combine}


@dataclass(frozen=True)
class CellGenotype:
    """One cell: its blocks, and which states leave it.

    Args:
        blocks: 1 to 12 `Block`s, each reading only states numbered below its own.
        concat: the states whose concatenation along the channels, in this order, is
            the cell's output. With `inputs` above 2 they are passed on one by one instead.
        inputs: how many states the cell receives. 2 means the outputs of the two
            previous cells; more means that the previous cell passes on that many states
            without concatenation, as NASNet-B and -C do (appendix A.4).

    Raises `ValueError` naming the block at fault.

    Examples:
        >>> from nasnet_keras import Block, CellGenotype
        >>> block = Block((0, 1), ("sep_conv_3x3", "identity"))
        >>> len(CellGenotype([block, block], concat=(2, 3)).blocks)
        2
    """

    blocks: tuple[Block, ...]
    concat: tuple[int, ...]
    inputs: int = 2

    def __post_init__(self):
        blocks = _sequence("blocks", self.blocks)
        object.__setattr__(self, "blocks", blocks)
        if not 1 <= len(blocks) <= MAX_BLOCKS:
            raise ValueError(f"`blocks` must hold 1 to {MAX_BLOCKS} blocks. Received: {len(blocks)}")
        check_integer("inputs", self.inputs, least=2, most=MAX_BLOCKS)
        for index, block in enumerate(blocks):
            if not isinstance(block, Block):
                raise ValueError(f"block {index}: must be a Block. Received: {block!r}")
            limit = self.inputs + index
            for state in block.inputs:
                if state >= limit:
                    raise ValueError(
                        f"block {index}: `inputs` must be states that exist before it, 0 to {limit - 1}. "
                        f"Received: {state}"
                    )
        concat = _states("concat", self.concat)
        object.__setattr__(self, "concat", concat)
        if not concat or len(set(concat)) != len(concat) or max(concat) >= self.states:
            raise ValueError(
                f"`concat` must list different states from 0 to {self.states - 1}, at least one. "
                f"Received: {list(concat)}"
            )
        if self.inputs > 2 and len(concat) != self.inputs:
            raise ValueError(
                f"`concat` must list as many states as the next cell's `inputs`, {self.inputs}. "
                f"Received: {list(concat)}"
            )
        # The cell before would compute what is not read for nothing, and its weights would never learn.
        if self.inputs > 2 and (unread := set(range(self.inputs)) - set(self.live_states())):
            raise ValueError(f"a cell of more than two inputs must use each of them. Received: none uses {min(unread)}")

    @property
    def states(self):
        """Number of hidden states: the inputs and one for each block."""
        return self.inputs + len(self.blocks)

    def live_states(self):
        """The states that reach the output, as a sorted tuple; others are never computed and get no weights."""
        live = set(self.concat)
        for index in reversed(range(len(self.blocks))):
            if self.inputs + index in live:
                live.update(self.blocks[index].inputs)
        return tuple(sorted(live))

    def to_dict(self):
        """The cell as JSON-able data; `inputs` appears only where it is not 2."""
        extra = {} if self.inputs == 2 else {"inputs": self.inputs}
        return {**extra, "blocks": [block.to_dict() for block in self.blocks], "concat": list(self.concat)}

    @classmethod
    def from_dict(cls, data):
        """The inverse of `to_dict`; raises `ValueError` naming the block at fault."""
        _keys("a cell", data, required=("blocks", "concat"), optional=("inputs",))
        blocks = []
        for index, block in enumerate(_sequence("blocks", data["blocks"])):
            try:
                _keys("a block", block, required=("inputs", "operations", "combine"))
                blocks.append(Block(**block))
            except ValueError as error:
                raise ValueError(f"block {index}: {error}") from None
        return cls(tuple(blocks), data["concat"], data.get("inputs", 2))


@dataclass(frozen=True)
class Genotype:
    """A Normal and a Reduction cell. Name and source are labels: they take no part in equality.

    Args:
        normal: the cell that keeps height and width.
        reduction: the cell that halves them.
        name: a short name, as in file names.
        source: where the cells come from.

    Raises `ValueError` naming the argument at fault.

    Examples:
        >>> from nasnet_keras import Genotype, load_genotype
        >>> known = load_genotype("nasnet_a")
        >>> Genotype(known.normal, known.reduction, name="mine") == known
        True
    """

    normal: CellGenotype
    reduction: CellGenotype
    name: str = field(default="", compare=False)
    source: str = field(default="", compare=False)

    def __post_init__(self):
        for label in ("normal", "reduction"):
            if not isinstance(getattr(self, label), CellGenotype):
                raise ValueError(f"`{label}` must be a CellGenotype. Received: {getattr(self, label)!r}")
        for label in ("name", "source"):
            if not isinstance(getattr(self, label), str):
                raise ValueError(f"`{label}` must be a string. Received: {getattr(self, label)!r}")
        if self.normal.inputs != self.reduction.inputs:
            raise ValueError(
                "reduction cell: `inputs` must be the normal cell's, since cells feed each other. "
                f"Received: {self.reduction.inputs}, not {self.normal.inputs}"
            )

    @property
    def digest(self):
        """16 hexadecimal digits that depend on the two cells alone."""
        text = json.dumps([self.normal.to_dict(), self.reduction.to_dict()], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self):
        """The genotype as JSON-able data."""
        labels = {"format": FORMAT, "name": self.name, "source": self.source}
        return {**labels, "normal": self.normal.to_dict(), "reduction": self.reduction.to_dict()}

    @classmethod
    def from_dict(cls, data):
        """The inverse of `to_dict`; raises `ValueError` naming the cell and the block at fault."""
        _keys("a genotype", data, required=("format", "normal", "reduction"), optional=("name", "source"))
        if data["format"] != FORMAT:
            raise ValueError(f"`format` must be {FORMAT!r}. Received: {data['format']!r}")
        cells = {}
        for label in ("normal", "reduction"):
            try:
                cells[label] = CellGenotype.from_dict(data[label])
            except ValueError as error:
                raise ValueError(f"{label} cell: {error}") from None
        return cls(**cells, name=data.get("name", ""), source=data.get("source", ""))

    def to_json(self):
        """The genotype as JSON text in the format `nasnet-genotype/1`, one block a line."""
        head = {key: value for key, value in self.to_dict().items() if key not in ("normal", "reduction")}
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        for label in ("normal", "reduction"):
            cell = getattr(self, label).to_dict()
            blocks = ",\n".join("      " + json.dumps(block) for block in cell.pop("blocks"))
            rest = "".join(f",\n    {json.dumps(key)}: {json.dumps(value)}" for key, value in cell.items())
            lines.append(f'  "{label}": {{\n    "blocks": [\n{blocks}\n    ]{rest}\n  }}')
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text):
        """Read JSON text. Raises `ValueError` that says what is wrong and where."""
        try:
            data = json.loads(text, object_pairs_hook=_without_duplicates)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"a genotype must be JSON text: {error}") from None
        return cls.from_dict(data)

    @classmethod
    def load(cls, path):
        """Read a JSON file of at most 1 MiB. Raises `ValueError` that names the file."""
        path = Path(expanded(path))
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ValueError(f"cannot read the genotype file {path}: {error.strerror}") from None
        if len(content) > MAX_FILE_BYTES:
            raise ValueError(f"{path}: a genotype file must have at most {MAX_FILE_BYTES} bytes")
        try:
            return cls.from_json(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def save(self, path):
        """Write the JSON file in one step: readers see the old file or the whole new one."""
        write_atomically(path, self.to_json().encode())

    def _repr_svg_(self):
        """Both cells as a picture, for notebooks."""
        from nasnet_keras.pictures.cells import genotype_svg

        return genotype_svg(self)


def list_genotypes():
    """Names of the stored genotypes, sorted.

    Examples:
        >>> from nasnet_keras import list_genotypes
        >>> "nasnet_a" in list_genotypes()
        True
    """
    return sorted(path.stem for path in STORED.glob("*.json"))


def load_genotype(name_or_path):
    """A `Genotype`, given as one already, as a stored name, or as the path of a JSON file.

    Raises `ValueError` naming the stored genotypes, or what is wrong with the file.

    Examples:
        >>> from nasnet_keras import load_genotype
        >>> len(load_genotype("nasnet_a").normal.blocks)
        5
    """
    if isinstance(name_or_path, Genotype):
        return name_or_path
    if not isinstance(name_or_path, str | os.PathLike):
        raise ValueError(f"`genotype` must be a Genotype, a stored name or a file. Received: {name_or_path!r}")
    text = expanded(os.fspath(name_or_path))
    is_path = isinstance(name_or_path, os.PathLike) and os.path.isfile(text)
    if text in list_genotypes() and not is_path:
        return Genotype.load(STORED / f"{text}.json")
    if Path(text).is_file():
        return Genotype.load(text)
    raise ValueError(f"`genotype` must be one of {', '.join(list_genotypes())} or a JSON file. Received: {text!r}")


def _sequence(label, value, length=None):
    if not isinstance(value, list | tuple) or length not in (None, len(value)):
        raise ValueError(f"`{label}` must be a list{f' of {length}' if length else ''}. Received: {value!r}")
    return tuple(value)


def _states(label, value, length=None):
    states = _sequence(label, value, length)
    if any(type(state) is not int or state < 0 for state in states):
        raise ValueError(f"`{label}` must be numbers of states, integers from 0. Received: {value!r}")
    return states


def _keys(what, data, required, optional=()):
    if not isinstance(data, dict):
        raise ValueError(f"{what} must be a JSON object. Received: {data!r}")
    missing = [key for key in required if key not in data]
    unknown = [key for key in data if key not in (*required, *optional)]
    if missing or unknown:
        fault = f"lacks {', '.join(missing)}" if missing else f"has unknown keys {', '.join(map(repr, unknown))}"
        raise ValueError(f"{what} {fault}; its keys are {', '.join((*required, *optional))}")


def _without_duplicates(pairs):
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError(f"a JSON object has a key twice: {', '.join(key for key, _ in pairs)}")
    return data


# Which genotypes are the same network. The order of the blocks and of the two halves of a block is a matter of
# notation, and so is the order of the concatenation, which only permutes channels. Blocks whose state reaches no
# output have no weights and do not count. What remains is a small labelled graph, and its canonical form is found as
# usual: colours are refined until they are stable, and where several blocks still look alike, each is tried as the
# first and the least result taken.


def canonical_name(genotype):
    """16 hexadecimal digits that two genotypes share if and only if their cells are isomorphic.

    Args:
        genotype: a `Genotype`.
    """
    form = [canonical_cell(cell) for cell in (genotype.normal, genotype.reduction)]
    return hashlib.sha256(repr(form).encode()).hexdigest()[:16]


def canonical_cell(cell):
    """The canonical form of a `CellGenotype`: a tuple of its blocks in an order that is not that of the writing.

    Each block is `(how it leaves the cell, combination, ((operation, state), (operation, state)))`, the states counted
    in the canonical order. A cell of more than two inputs hands its states on in order, which therefore counts.
    """
    first, live = cell.inputs, cell.live_states()
    blocks = {state: block for state, block in enumerate(cell.blocks, first) if state in live}
    leaves = {state: (1 + index if first != 2 else 1) for index, state in enumerate(cell.concat)}
    edges = {state: list(zip(block.operations, block.inputs, strict=True)) for state, block in blocks.items()}
    readers = {state: [] for state in (*range(first), *edges)}
    for state, pairs in edges.items():
        for operation, read in pairs:
            readers[read].append((operation, state))
    labels = {state: (leaves.get(state, 0), blocks[state].combine) for state in edges}
    colours = {state: (0, state) for state in range(first)} | {state: (1, *label) for state, label in labels.items()}
    return tuple(leaves.get(state, 0) for state in range(first)), _least(_ranked(colours), edges, readers, labels)


def _least(colours, edges, readers, labels):
    colours = _refined(colours, edges, readers)
    groups = {}
    for state, colour in colours.items():
        groups.setdefault(colour, []).append(state)
    alike = next((states for _, states in sorted(groups.items()) if len(states) > 1), None)
    if alike is None:
        return _written(colours, edges, labels)
    # Twins read the same and are read by the same: which of them comes first changes nothing.
    around = {repr((sorted(edges[state]), sorted(readers[state]))) for state in alike}
    tried = alike[:1] if len(around) == 1 else alike
    return min(
        _least({state: 2 * colour - (state == one) for state, colour in colours.items()}, edges, readers, labels)
        for one in tried
    )


def _refined(colours, edges, readers):
    """Colours split by those of the neighbours until nothing changes."""
    while True:
        around = {
            state: (
                colour,
                sorted((operation, colours[read]) for operation, read in edges.get(state, ())),
                sorted((operation, colours[reader]) for operation, reader in readers[state]),
            )
            for state, colour in colours.items()
        }
        finer = _ranked(around)
        if len(set(finer.values())) == len(set(colours.values())):
            return finer
        colours = finer


def _ranked(colours):
    """The same classes in the same order, named 1, 2, 3, …"""
    names = {}
    for colour in sorted(colours.values()):
        names.setdefault(repr(colour), len(names) + 1)
    return {state: names[repr(colour)] for state, colour in colours.items()}


def _written(colours, edges, labels):
    """The blocks in the order of their colours, which are all different."""
    rank = {state: number for number, state in enumerate(sorted(colours, key=colours.get))}
    return tuple(
        (*labels[state], tuple(sorted((operation, rank[read]) for operation, read in edges[state])))
        for state in sorted(edges, key=rank.get)
    )
