"""What users of the package may rely on, as a value: public names and signatures, the command line, exit codes.

`fixtures/write.py` stores it as it was before the package was rebuilt; `test_interface.py` compares
it with what there is now.
"""

import argparse
import dataclasses
import functools
import importlib
import inspect
import re
from pathlib import Path

import nasnet_keras

PACKAGE = nasnet_keras.__name__
# A dotted name of the package, in whatever text.
DOTTED = re.compile(rf"\b{PACKAGE}(?:\.[A-Za-z_]\w*)+")
IMPORTED = re.compile(rf"from ({PACKAGE}(?:\.\w+)*) import (\w+(?:, \w+)*)")

# What is refused before TensorFlow is loaded, in a copy of the fixtures.
REFUSED = (
    [],
    ["train", "--genotype", "nasnet_z", "--directory", "new"],
    ["train", "--genotype", "photos/red/00.png", "--directory", "new"],
    ["train", "--dtype", "float33", "--directory", "new"],
    ["train", "--epochs", "0", "--directory", "new"],
    ["train", "--recipe", "best", "--directory", "new"],
    ["train", "--validation", "1", "--data", "photos", "--directory", "new"],
    ["train", "--genotype", "tiny", "--data", "photos", "--epochs", "2", "--directory", "interrupted_training"],
    ["search", "--data", "missing", "--directory", "new"],
    ["search", "--data", "photos/red/00.png", "--directory", "new"],
    ["search", "--data", "tfds:", "--directory", "new"],
    ["search", "--controller", "luck", "--directory", "new"],
    ["search", "--max-trials", "0", "--directory", "new"],
    ["search", "--max-trials", "six", "--directory", "new"],
    ["search", "--blocks", "1", "--controller-batch", "2", "--filters", "5", "--directory", "search_finished"],
    ["search", "--blocks", "1", "--controller-batch", "2", "--seed", "1", "--directory", "search_finished"],
    ["finetune", "--directory", "new"],
    ["finetune", "--model", "missing", "--directory", "new"],
    ["finetune", "--genotype", "tiny", "--batch-norm", "often", "--directory", "new"],
    ["evaluate", "--model", "missing"],
    ["evaluate", "--model", "finetuned", "--data", "digits"],
    ["predict", "--model", "finetuned", "missing.png"],
    ["predict", "--model", "finetuned", "finetuned.json"],
    ["export", "--model", "missing", "--output", "new"],
    ["export", "--model", "finetuned", "--output", "new", "--version", "0"],
    ["serve", "--model", "missing"],
    ["plot", "nasnet_z"],
    ["report", "photos"],
)


def collect():
    """`{"names": …, "commands": …}`, JSON-able: without types' modules, addresses or paths."""
    return {"names": {name: _described(name) for name in nasnet_keras.__all__}, "commands": _commands()}


def documented_paths(root):
    """The dotted names that the README, the documentation and the notebooks tell users of, deeper than the package.

    Args:
        root: the folder of the repository.
    """
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md")), *sorted((root / "notebooks").glob("*.py"))]
    found = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found.update(DOTTED.findall(text))
        for module, names in IMPORTED.findall(text):
            found.update(f"{module}.{name}" for name in names.split(", "))
    public = {f"{PACKAGE}.{name}" for name in nasnet_keras.__all__} - {f"{PACKAGE}.search"}
    return sorted(found - public)


def resolve(path):
    """What a dotted name stands for, its modules imported on the way.

    Raises:
        ImportError, AttributeError: there is no such thing.
    """
    parts = path.split(".")
    found = importlib.import_module(parts[0])
    for count, name in enumerate(parts[1:], 2):
        try:
            found = getattr(found, name)
        except AttributeError:
            inner = ".".join(parts[:count])
            try:
                found = importlib.import_module(inner)
            except ModuleNotFoundError as error:
                if error.name != inner:
                    raise
                raise ImportError(f"{path} does not exist: {error}") from None
    return found


def leaves(tree, path=""):
    """{path: value} of everything in nested dicts; a path is the keys with ` / ` between."""
    if not isinstance(tree, dict):
        return {path: tree}
    found = {}
    for key, value in tree.items():
        found.update(leaves(value, f"{path} / {key}" if path else key))
    return found


def refusal(main, words, capture):
    """The exit code of a command, and the first line of what it says on stderr, without the working directory.

    Args:
        main: `cli.main`.
        words: the command's words.
        capture: function of nothing that gives (stdout, stderr) since it was called last.
    """
    capture()
    try:
        code = main(list(words))
    except SystemExit as ending:
        code = ending.code
    said = capture()[1].splitlines()[:1]
    return {"words": list(words), "code": code, "says": "".join(said).replace(f"{Path.cwd()}/", "")}


def _described(name):
    value = getattr(nasnet_keras, name)
    if inspect.isclass(value):
        return _class(value)
    if name == "search":  # a package that can be called; behind it stands a function
        value = getattr(importlib.import_module(f"{PACKAGE}.search.tuner"), "search", value)
    if callable(value):
        return _signature(value)
    if isinstance(value, dict):
        return {key: repr(entry) for key, entry in value.items()}
    return repr(value)


def _class(kind):
    """The constructor, the fields of a dataclass, and what the package itself defines of public methods."""
    found = {"constructor": _signature(kind)}
    if dataclasses.is_dataclass(kind):
        found["fields"] = {field.name: _default(field) for field in dataclasses.fields(kind)}
    for base in reversed(kind.__mro__):
        if base.__module__.split(".")[0] == PACKAGE:
            for name, member in vars(base).items():
                if not name.startswith("_") and name not in found.get("fields", ()):
                    found[name] = _member(member)
    return found


def _member(member):
    if isinstance(member, property | functools.cached_property):
        return "property"
    if isinstance(member, classmethod | staticmethod):
        return f"{type(member).__name__} {_signature(member.__func__)}"
    if inspect.isclass(member):
        return f"class {member.__name__}"
    return _signature(member) if inspect.isfunction(member) else repr(member)


def _signature(function):
    """Names, kinds and defaults, without annotations and addresses: they say where a thing lies today."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r"<(?:\w+\.)+(\w+) object at 0x\w+>", r"\1 object", text)


def _default(field):
    if field.default_factory is not dataclasses.MISSING:
        return f"made by {field.default_factory.__qualname__}"
    return "required" if field.default is dataclasses.MISSING else repr(field.default)


def _commands():
    """{command: {option: what argparse knows of it}}."""
    top = importlib.import_module(f"{PACKAGE}.cli").parser()
    sub = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in sub._choices_actions}
    found = {"": {"prog": top.prog, "description": top.description, "commands": ", ".join(sub.choices)}}
    for name, parser in sub.choices.items():
        options = {", ".join(action.option_strings) or action.dest: _option(action) for action in parser._actions}
        about = {"help": helps.get(name), "description": parser.description, "epilog": parser.epilog}
        found[name] = {**about, **options, "set by the command": repr(parser._defaults)}
    return found


def _option(action):
    return {
        "kind": type(action).__name__.strip("_"),
        "dest": action.dest,
        "default": repr(action.default),
        "choices": None if action.choices is None else [str(choice) for choice in action.choices],
        "type": getattr(action.type, "__name__", None),
        "nargs": action.nargs,
        "required": action.required,
        "metavar": action.metavar,
        "help": action.help,
    }
