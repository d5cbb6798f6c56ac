"""The plan of the house: which folder may import what, and the habits that all modules keep.

A new folder gets a row in `HOUSE`, at its place in the reading order; a new habit a row in `HABITS`. Nothing is
executed: the modules are parsed, so a violation is found even where the import hides in a function. `test_house.py`
holds the plan against the package.
"""

import ast
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

from nasnet_keras._registration import moved

ROOT = Path(__file__).parents[1]
MAX_LINES = 500
MAX_WEIGHT_BYTES = 20_000_000

# Folders, and the modules at the top, in reading order: a row names only what stands above it, so there are no circles.
#
#   outside   `standard library`: nothing else; `no framework`: other packages, but none of FRAMEWORKS;
#             otherwise the frameworks it may import beside other packages
#   inside    folders or modules of this package beside its own and COMMON; `anything`: all above
#   + place   what a module or a folder in it may import beyond its folder's row
#
# The learning half and the searching half know of each other only a genotype and a float, the reward; `children` turns
# the one into the other. Pictures are made of genotypes and numbers alone. TensorFlow is for data, export and serving,
# and for faster paths that give the same result; it reads TF-slim's checkpoints, and PyTorch reads timm's.
HOUSE = """
place                       | outside             | inside
_registration               | standard library    | nothing
checks                      | standard library    | nothing
files                       | standard library    | nothing
genotype                    | standard library    | checks, files
pictures                    | standard library    | nothing
+ pictures.heat_maps        | no framework        | nothing
program                     | no framework        | nothing
weights                     | keras               | nothing
+ weights.slim              | tensorflow          | nothing
+ weights.foreign           | torch               | nothing
models                      | keras               | program, weights
+ models.kernels            | tensorflow          | nothing
+ models.functions          | tensorflow          | nothing
+ models.inference          | tensorflow          | nothing
+ models.traced             | tensorflow          | nothing
data                        | no framework        | nothing
+ data.sources              | tensorflow_datasets | nothing
+ data.batches              | keras               | nothing
+ data.mixing               | keras, jax          | nothing
+ data.decoding             | tensorflow          | nothing
training                    | keras               | models, data, weights
+ training.devices          | tensorflow, jax     | nothing
+ training.features         | tensorflow          | nothing
+ training.gradients        | tensorflow, jax     | nothing
+ training.explanations     | keras               | pictures.heat_maps
+ training.card             | keras               | pictures.learning
children                    | keras               | program, models, data, training
+ children.threads          | tensorflow          | nothing
+ children.primitives       | tensorflow          | nothing
+ children.graphs           | tensorflow          | nothing
+ children.graph_assembly   | tensorflow          | nothing
+ children.tensorflow_child | tensorflow          | nothing
+ children.jax_child        | jax                 | nothing
search.space                | standard library    | nothing
search.strategies           | no framework        | search.space
search                      | keras_tuner         | pictures
+ search.results            | no framework        | children
+ search.running            | no framework        | children
+ search.distributed.pool     | no framework      | __init__
+ search.tuner              | no framework        | children, data.loading, data.arrays, data.records, __init__
export                      | keras, tensorflow   | program, models, data.images, data.decoding, data.left_out
+ export.heat_maps          | no framework        | pictures.heat_maps
serving.client              | standard library    | nothing
serving                     | tensorflow          | data.images, export
commands                    | keras               | anything
cli                         | standard library    | commands
__init__                    | standard library    | children.threads
"""
COMMON = ("_registration", "checks", "files", "genotype")
# A genotype draws itself in a notebook: the one arrow against the order.
AGAINST_THE_ORDER = ("genotype", "pictures.cells")
# What the command line imports before it knows that the arguments are right, so without a framework.
AT_ONCE = ("cli", "children.settings", "data.loading", "search.directory", "training.recipes")
FRAMEWORKS = {"keras", "keras_tuner", "tensorflow", "tensorflow_datasets", "jax", "torch"}


@dataclass(frozen=True)
class Habit:
    """Names that no module uses, with everything below them."""

    never: tuple[str, ...]
    instead: str
    modules: tuple[str, ...] = ()  # modules or folders where it is allowed all the same
    names: tuple[str, ...] = ()  # what is allowed of it all the same


HABITS = (
    Habit(("print", "sys.stdout"), "the library logs; only the command line speaks", modules=("cli", "commands")),
    Habit(
        ("os.environ", "os.getenv"),
        "an argument; only the command line, and roles what KerasTuner sets",
        modules=("cli", "children.threads", "search.distributed.roles", "search.distributed.processes"),
    ),
    Habit(("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"), "JSON or npz: reading a file runs no code"),
    Habit(
        ("numpy.random", "random"),
        "a generator made from a passed seed",
        names=(
            "numpy.random.default_rng",
            "numpy.random.Generator",
            "numpy.random.SFC64",
            "numpy.random.SeedSequence",
            "random.Random",
        ),
        modules=("models.seeds",),  # keeps the caller's global generators as they are
    ),
    Habit(("keras.layers.Lambda",), "a registered layer: Keras' safe mode does not load a Lambda"),
)
# Methods that Keras or KerasTuner calls and documents.
OVERRIDES = {"build", "call", "compute_output_shape", "get_config", "from_config", "get_build_config"}


def modules(package):
    """(name, syntax tree, source) of every module; `search/space.py` is `search.space`."""
    for path in sorted(package.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        yield ".".join(path.relative_to(package).with_suffix("").parts), ast.parse(source), source


@dataclass(frozen=True)
class Row:
    """A row of `HOUSE`; `adds` where it adds to its folder's."""

    place: str
    adds: bool
    outside: tuple[str, ...]
    inside: tuple[str, ...]


def house():
    """The rows of the table, `anything` spelt out."""
    rows = []
    for line in HOUSE.strip().splitlines()[1:]:
        place, outside, inside = (field.strip() for field in line.split("|"))
        named = tuple(item.strip() for item in inside.split(",") if item.strip() not in ("nothing", "anything"))
        named += tuple(row.place for row in rows if inside == "anything")
        rows.append(Row(place.removeprefix("+ "), place.startswith("+"), tuple(outside.split(", ")), named))
    return rows


def rights(name, rows):
    """(outside, inside) of a module, by the row of the innermost place that it lies in and all that add to it."""
    own = max(
        (row for row in rows if not row.adds and below(name, [row.place])), key=lambda r: len(r.place), default=None
    )
    if own is None:
        return None
    added = [row for row in rows if row.adds and below(name, [row.place])]
    outside = {root for row in (own, *added) for root in row.outside}
    inside = {own.place, *(place for row in (own, *added) for place in row.inside)}
    return outside, inside | (set() if own.place in COMMON else set(COMMON))


def imports(name, tree, known):
    """(line, dotted name) of everything imported; of this package, the module that the name comes from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = ["nasnet_keras", *name.split(".")]
                base = ".".join([*parts[: len(parts) - node.level], *filter(None, [node.module])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target.split(".")[0] == "nasnet_keras":
                inner = target.split(".")[1:]
                while inner and ".".join(inner) not in known:
                    if ".".join([*inner, "__init__"]) in known:
                        inner.append("__init__")
                    else:
                        inner.pop()
                target = "nasnet_keras." + (".".join(inner) or "__init__")
            yield node.lineno, target


def uses(tree):
    """(line, full dotted name) of every name imported or used, aliases resolved: `np.add` is `numpy.add`."""
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                aliases[alias.asname or alias.name] = base + alias.name
                yield node.lineno, base + alias.name
    starts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and node not in starts:
            head, _, rest = (whole := ast.unparse(node)).partition(".")
            if whole.isidentifier() or (head in aliases and rest.replace(".", "_").isidentifier()):
                yield node.lineno, f"{aliases.get(head, head)}.{rest}".rstrip(".")


def below(name, roots):
    """Whether a dotted name is one of `roots` or stands below one."""
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def wrong_imports(package):
    """What the modules import against the table."""
    rows = house()
    known = {name for name, _, _ in modules(package)}
    for name, tree, _ in modules(package):
        if (found := rights(name, rows)) is None:
            yield f"{name}: its folder has no row in HOUSE; add it at its place in the reading order"
            continue
        outside, inside = found
        for line, target in sorted(set(imports(name, tree, known))):
            root, _, inner = target.partition(".")
            if root == "nasnet_keras":
                if not below(inner, inside) and (name, inner) != AGAINST_THE_ORDER:
                    yield f"{name}:{line}: must not import {inner}"
            elif root in sys.stdlib_module_names:
                continue
            elif outside == {"standard library"}:
                yield f"{name}:{line}: must not import {root}, only the standard library"
            elif root in FRAMEWORKS and root not in outside:
                yield f"{name}:{line}: must not import {root}"


def circle(package):
    """Modules that import each other in a circle, the first one twice; empty if there is none."""
    known = {name for name, _, _ in modules(package)}
    graph = {
        name: {
            inner
            for _, target in imports(name, tree, known)
            if (inner := target.removeprefix("nasnet_keras.")) in known
        }
        for name, tree, _ in modules(package)
    }
    for name, targets in graph.items():
        targets -= {name, AGAINST_THE_ORDER[1] if name == AGAINST_THE_ORDER[0] else name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def wrong_habits(package):
    """What the modules do against the habits."""
    for name, tree, source in modules(package):
        if (length := len(source.splitlines())) > MAX_LINES:
            yield f"{name}: {length} lines; at most {MAX_LINES}, or it is two modules"
        used = sorted(set(uses(tree)))
        for habit in HABITS:
            for line, full in used if not below(name, habit.modules) else ():
                leads_to_allowed = any(below(allowed, [full]) for allowed in habit.names)
                if below(full, habit.never) and not below(full, habit.names) and not leads_to_allowed:
                    yield f"{name}:{line}: {full}: {habit.instead}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                yield f"{name}:{node.lineno}: global: no state in a module"
            if isinstance(node, ast.Assert):
                yield f"{name}:{node.lineno}: assert: a user's error is a ValueError that says what is allowed"
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", 1):
                yield f"{name}:{node.value.lineno}: allow_pickle: reading a file runs no code"
        yield from (f"{name}:{line}: {what} has no docstring" for line, what in undocumented(tree))


def undocumented(tree, inside=""):
    """(line, name) of the public modules, classes, functions and methods without a docstring."""
    if not inside and not ast.get_docstring(tree):
        yield 1, "the module"
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and not (inside and node.name in OVERRIDES):
            yield node.lineno, inside + node.name
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node, f"{inside}{node.name}.")


def wrong_references(package):
    """Names in backticks, as `module.Class`, that no module has, or of a module that has moved away."""
    defined, gone = {}, {old.removeprefix("nasnet_keras.") for old in moved()}
    for name, tree, _ in modules(package):
        classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        for depth in range(name.count(".") + 1):  # a folder has the classes of its modules
            defined.setdefault(name.rsplit(".", depth)[0], set()).update(classes)
    for name, _, source in modules(package):
        for line, text in enumerate(source.splitlines(), 1):
            for module, used in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)\.(\w+)", text):
                module = module.removeprefix("nasnet_keras.")
                homes = [classes for place, classes in defined.items() if f".{place}".endswith(f".{module}")]
                if (
                    homes
                    and used[0].isupper()
                    and used[1:] != used[1:].upper()
                    and not any(used in classes for classes in homes)
                ):
                    yield f"{name}:{line}: `{module}.{used}`: no such class there"
                if not homes and any(f".{old}".endswith(f".{module}") for old in gone):
                    yield f"{name}:{line}: `{module}.{used}`: the module has moved"


def wrong_weights(folder):
    """What in the folder of weights contradicts its index, or the table of keys in its README."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    if set(index) != {"format", "weights"} or index["format"] != "nasnet-weights/1":
        yield "index.json: must hold `format`, nasnet-weights/1, and `weights`"
    readme = (ROOT / "weights/README.md").read_text(encoding="utf-8")
    required = set(re.findall(r"^\| `(\w+)` \|", readme, re.M)) - {"file", "url"}  # one of the two
    entries = index["weights"]
    for entry in entries:
        if set(entry) not in (required | {"file"}, required | {"url"}):
            yield f"{entry.get('name')}: must have the README's keys, one of `file` and `url` among them"
    names = [entry.get("name") for entry in entries]
    yield from (f"{name}: stands in the index twice" for name in set(names) if names.count(name) > 1)
    present = {path.name for path in folder.iterdir()} - {"index.json", "README.md", "__init__.py", "__pycache__"}
    listed = {entry["file"]: entry for entry in entries if "file" in entry}
    yield from (f"{name}: is not in the index" for name in sorted(present - set(listed)))
    yield from (f"{name}: is in the index but not in the folder" for name in sorted(set(listed) - present))
    for name in sorted(present & set(listed)):
        content = (folder / name).read_bytes()
        if len(content) != listed[name].get("size") or len(content) > MAX_WEIGHT_BYTES:
            yield f"{name}: `size` must be {len(content)}, and at most {MAX_WEIGHT_BYTES}"
        if listed[name].get("hash") != f"sha256:{hashlib.sha256(content).hexdigest()}":
            yield f"{name}: has another sha256 than its `hash`"


def strings(path):
    """Every string that stands in a Python file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def undeclared(package, setup):
    """Imports that no requirement in setup.py brings: what works here and fails on a fresh machine."""
    declared = {re.match(r"[\w.-]*", string).group().lower().replace("_", "-") for string in strings(setup)}
    distributions = packages_distributions()
    known = {name for name, _, _ in modules(package)}
    for name, tree, _ in modules(package):
        for line, target in sorted(set(imports(name, tree, known))):
            root = target.split(".")[0]
            if root in sys.stdlib_module_names or root == "nasnet_keras":
                continue
            providers = {provider.lower().replace("_", "-") for provider in distributions.get(root, [root])}
            if not providers & declared and "tensorflow-cpu" not in providers:
                yield f"{name}:{line}: {root} is not declared in setup.py"


def unpackaged(package, setup):
    """Data files that setup.py does not put into a wheel."""
    patterns = strings(setup)
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if path.is_file() and path.suffix not in (".py", ".pyc") and not any(fnmatch(name, p) for p in patterns):
            yield f"{name}: is not in setup.py's package_data"
