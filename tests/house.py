"""The plan of the house: which module may import what, and the habits that all of them keep.

A new module gets a row in `HOUSE`, at its place in the reading order; a new habit a row
in `HABITS`. Nothing is executed: the modules are parsed, so a violation is found even
where the import hides in a function. `test_house.py` holds the plan against the package.
"""

import ast
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_LINES = 300
MAX_WEIGHT_BYTES = 20_000_000

# Modules in reading order: a reader who starts at the top never meets a name that was not explained.
#
#   outside   `standard library`: nothing else; `no framework`: other packages, but none of FRAMEWORKS;
#             otherwise the frameworks it may import beside other packages
#   inside    modules of this package; `above`: all above it in its own half (`search.…` or not), `checks`, and
#             the genotype, in which the halves meet; `-name`: not this one; `nothing`; `anything`
#
# The halves know of each other only a genotype and a float, the reward. Only `children`, which turns the one into the
# other, and the comparison after the search know both. Pictures are made of genotypes and numbers
# alone, and a genotype imports the plotter when a notebook asks for its picture. TensorFlow is for
# data, export and serving, for `turnaround`, the faster path that gives the same result, and for
# reading TF-slim's checkpoints; PyTorch for reading timm's.
HOUSE = """
module                       | outside             | inside
checks                       | standard library    | nothing
files                        | standard library    | nothing
genotype                     | standard library    | checks, files, plot
options                      | standard library    | nothing
architecture                 | standard library    | above
program                      | no framework        | above
operations                   | standard library    | above
cell                         | standard library    | above
kernels                      | tensorflow          | nothing
functions                    | keras, tensorflow   | above
layers                       | keras               | above
drop_path                    | keras               | above
heads                        | keras               | above
converters                   | tensorflow          | above
foreign                      | torch               | above
weight_index                 | standard library    | nothing
zoo                          | standard library    | files, weight_index
weights                      | keras               | above
body                         | keras               | above
plan                         | keras               | above
folding                      | no framework        | above
prediction                   | keras, tensorflow   | above
network                      | keras               | above
children.__init__            | standard library    | nothing
children.pieces              | tensorflow          | nothing
children.weighted_primitives | tensorflow          | kernels
children.primitives          | tensorflow          | above
children.flat                | no framework        | nothing
children.descent             | standard library    | checks
children.child               | keras               | above
children.turnaround          | tensorflow          | above
children.jax_child           | jax                 | above
children.start               | keras               | above
children.sharing             | no framework        | above
children.scores              | no framework        | above
applications                 | keras               | above
images                       | no framework        | nothing
augmentation                 | no framework        | checks
splits                       | no framework        | images, checks
sources                      | tensorflow_datasets | images, splits
data                         | no framework        | images, splits, sources, checks
batches                      | keras               | images, augmentation, splits, data, checks
recipes                      | no framework        | augmentation, checks, images
resumption                   | standard library    | files
compilation                  | keras               | functions
checkpoints                  | keras               | files, resumption
training                     | keras               | above, -genotype
reuse                        | keras               | above
transfer                     | keras               | above
serving.__init__             | standard library    | nothing
serving.exports              | standard library    | checks, files
serving.address              | standard library    | nothing
serving.files                | tensorflow          | nothing
export                       | keras, tensorflow   | above
serving.targets              | tensorflow          | above
serving.rest                 | no framework        | nothing
serving.batching             | no framework        | nothing
serving.servable             | tensorflow          | serving.rest, serving.files, serving.exports
serving.limits               | no framework        | serving.rest, serving.batching
serving.service              | no framework        | serving.rest, serving.batching, serving.limits
serve                        | no framework        | serving.address, serving.limits, serving.service, serving.servable
evaluation                   | no framework        | above
layering                     | standard library    | genotype
layout                       | standard library    | genotype, layering
plot                         | standard library    | genotype, layout
curve                        | standard library    | plot
confusion                    | standard library    | plot
report                       | standard library    | genotype, plot, curve
search.space                 | standard library    | genotype, checks
search.journal               | standard library    | files
search.proposal              | no framework        | above, files
search.policy_gradient       | no framework        | above
search.policy_network        | no framework        | above
search.controller            | no framework        | above
search.strategies            | no framework        | above
search.canonical             | standard library    | above
search.rules                 | standard library    | above
search.trials                | keras_tuner         | above
search.archive               | no framework        | above, files
search.ledger                | no framework        | above
search.resumable             | keras_tuner         | above
search.oracle                | keras_tuner         | above
search.roles                 | standard library    | checks
search.chief                 | keras_tuner         | above
search.worker                | keras_tuner         | above
search.inheritance           | no framework        | above, report
search.screen                | no framework        | above, children
search.child_description     | no framework        | above, recipes, architecture, children
search.children              | keras               | above, network, training, data, plan, children
search.shared                | no framework        | above, training, data, files, children
search.publication           | standard library    | above, files, plot, report, curve
search.directory             | standard library    | above, files
search.summaries             | no framework        | nothing
search.tuner                 | keras_tuner         | above, data, files, __init__
search.final                 | no framework        | above, network, training, files
search.__init__              | no framework        | above
launch                       | standard library    | checks
commands.__init__            | standard library    | nothing
commands.search_options      | standard library    | nothing
commands.progress            | no framework        | nothing
commands.speech              | standard library    | nothing
commands.datasets            | no framework        | data, images, commands.progress, commands.speech
commands.inputs              | no framework        | anything
commands.views               | no framework        | anything
commands.epoch_progress      | keras               | commands.progress
commands.models              | no framework        | anything
commands.exports             | no framework        | anything
commands.searches            | no framework        | anything
cli                          | standard library    | commands
__init__                     | standard library    | anything
"""
FRAMEWORKS = {"keras", "keras_tuner", "tensorflow", "tensorflow_datasets", "jax", "torch"}


@dataclass(frozen=True)
class Habit:
    """Names that no module uses, with everything below them."""

    never: tuple[str, ...]
    instead: str
    modules: tuple[str, ...] = ()  # where it is allowed all the same
    names: tuple[str, ...] = ()  # what is allowed of it all the same


SPEAKERS = ("cli", *(f"commands.{name}" for name in ("speech", "progress", "views", "models", "exports", "searches")))
HABITS = (
    Habit(("print", "sys.stdout"), "the library logs; only the command line speaks", modules=SPEAKERS),
    Habit(
        ("os.environ", "os.getenv"),
        "an argument; only the command line, and roles what KerasTuner sets",
        modules=("cli", "launch", "search.roles"),
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


def house():
    """{module: (outside, inside)} of the table, `above` and `anything` spelt out."""
    rows = [[field.strip() for field in line.split("|")] for line in HOUSE.strip().splitlines()[1:]]
    rooms, above = {}, {True: set(), False: set()}
    for name, outside, inside in rows:
        half = above[name.startswith("search.")]
        items = {item.strip() for item in inside.split(",")}
        allowed = {item for item in items if not item.startswith("-")} - {"above", "anything", "nothing"}
        allowed |= half | {"genotype", "checks"} if "above" in items else set()
        allowed |= {row[0] for row in rows} if "anything" in items else set()
        allowed |= {row[0] for row in rows if row[0].split(".")[0] in items}  # all of a folder
        rooms[name] = (outside, allowed - {item[1:] for item in items if item.startswith("-")})
        half.add(name)
    return rooms


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
    rooms = house()
    known = {name for name, _, _ in modules(package)}
    for name, tree, _ in modules(package):
        if name not in rooms:
            yield f"{name}: has no row in HOUSE; add it at its place in the reading order"
            continue
        outside, inside = rooms[name]
        for line, target in sorted(set(imports(name, tree, known))):
            root, _, inner = target.partition(".")
            if root == "nasnet_keras":
                if inner != name and inner not in inside:
                    yield f"{name}:{line}: must not import {inner}"
            elif root in sys.stdlib_module_names:
                continue
            elif outside == "standard library":
                yield f"{name}:{line}: must not import {root}, only the standard library"
            elif root in FRAMEWORKS and root not in outside.replace(" ", "").split(","):
                yield f"{name}:{line}: must not import {root}"


def wrong_habits(package):
    """What the modules do against the habits."""
    for name, tree, source in modules(package):
        if (length := len(source.splitlines())) > MAX_LINES:
            yield f"{name}: {length} lines; at most {MAX_LINES}, or it is two modules"
        used = sorted(set(uses(tree)))
        for habit in HABITS:
            for line, full in used if name not in habit.modules else ():
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
