"""The two hooks in Python's import: Keras finds this package's classes, and a module that moved says where to.

A saved model names its classes, and Keras finds those that are registered. Importing the package must stay cheap, so
the modules with the classes, and Keras with them, are not imported before somebody needs them; as soon as Keras
itself is there, by whoever's import, the classes are registered.

The modules lay side by side once, without folders. Who imports one from there is told its place of today. Where a
folder has the name that a module had, its names are still found through the folder: `nasnet_keras.training.fit`.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from contextlib import suppress

PACKAGE = __name__.partition(".")[0]
# The modules on the way to the networks' classes: while one of them is imported, it cannot be imported once more.
# Whoever takes one of the lower ones by its own name has to import `models.network` as well.
ON_THE_WAY = (
    "models.functions",
    "models.layers",
    "models.drop_path",
    "models.heads",
    "models.inference",
    "weights.loading",
    "models.network",
)
# A module's old place, and the new one.
MOVED = """
architecture                 program.architecture
body                         program.body
cell                         program.cell
folding                      program.folding
operations                   program.operations
options                      program.options
plan                         program.architecture
applications                 models.applications
drop_path                    models.drop_path
functions                    models.functions
heads                        models.heads
kernels                      models.kernels
layers                       models.layers
network                      models.network
prediction                   models.inference
converters                   weights.slim
foreign                      weights.foreign
weight_index                 weights.index
zoo                          weights.zoo
augmentation                 data.augmentation
batches                      data.batches
images                       data.images
sources                      data.sources
splits                       data.splits
checkpoints                  training.checkpoints
compilation                  training.compilation
evaluation                   training.evaluation
recipes                      training.recipes
resumption                   training.identity
reuse                        training.transfer
transfer                     training.transfer
children.descent             children.optimizer
children.flat                children.optimizer
children.sharing             children.shared_weights
children.start               children.settings
children.weighted_primitives children.primitives
search.resumable             search.oracle
commands.inputs              cli
commands.models              cli
commands.searches            cli
commands.views               cli
commands.exports             cli
commands.speech              commands.terminal
commands.epoch_progress      commands.progress
commands.search_options      commands.search
children.pieces              children.graph_assembly
children.turnaround          children.tensorflow_child
search.child_description     children.settings
search.children              children.settings
search.screen                children.screening
search.shared                children.shared_weights
search.canonical             genotype
search.controller            search.strategies.controller
search.policy_gradient       search.strategies.policy_gradient
search.policy_network        search.strategies.policy_network
search.proposal              search.strategies.strategy
search.archive               search.trials.logs
search.inheritance           search.trials.imported
search.journal               search.trials.log
search.ledger                search.trials.state
search.chief                 search.distributed.chief
search.roles                 search.distributed.roles
search.worker                search.distributed.worker
launch                       search.distributed.processes
search.final                 search.results.final
search.publication           search.results.publication
search.summaries             search.results.tensorboard
confusion                    pictures.confusion
curve                        pictures.curves
layering                     pictures.layout
layout                       pictures.layout
plot                         pictures.cells
report                       pictures.report
serve                        serving.server
serving.exports              export.folders
serving.files                export.serving_files
serving.targets              export.targets
"""
# Folders with the name of a module of old, and where that module is now, or what it held.
FOLDERS = """
data                         data.loading
export                       export.saved_model
program                      program.program
search.strategies            search.strategies.choice search.strategies.evolution search.strategies.random_search
search.trials                search.trials.format
training                     training.fitting children.settings
weights                      weights.loading
"""
# Functions that are no longer there, and what to write instead.
GONE = {f"{PACKAGE}.training.seed_everything": "write keras.utils.set_random_seed"}


def register_with_keras():
    """Register the classes now if Keras is there, else as soon as it comes."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _WhenKerasComes())


def _register():
    """Import the classes that saved models are made of, unless that is going on already."""
    importlib.import_module(f"{PACKAGE}.training.compilation")
    if not any(f"{PACKAGE}.{module}" in sys.modules for module in ON_THE_WAY):
        importlib.import_module(f"{PACKAGE}.models.network")


class _WhenKerasComes(importlib.abc.MetaPathFinder):
    """Registers the classes right after somebody imports Keras; to ask where it is, as many do, is no import."""

    def find_spec(self, fullname, path=None, target=None):
        """Give Keras' own spec, with the registration behind its execution."""
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                with suppress(ValueError):  # it was executed before
                    sys.meta_path.remove(self)
                execute(module)
                _register()

            spec.loader.exec_module = execute_and_register
        return spec


def moved():
    """{old place: new place}, full names, of the modules that are no longer where they were."""
    return _places(MOVED)


def homes():
    """{folder: [module, …]}, full names: where the names of the module are that had the folder's name."""
    rows = map(str.split, FOLDERS.strip().splitlines())
    return {f"{PACKAGE}.{old}": [f"{PACKAGE}.{new}" for new in places] for old, *places in rows}


def _places(table):
    return {f"{PACKAGE}.{old}": f"{PACKAGE}.{new}" for old, new in map(str.split, table.strip().splitlines())}


def names_of_old(folder):
    """The `__getattr__` of a folder that has the name of a module of old: gives its own modules, and that one's names.

    Args:
        folder: the folder's `__name__`.
    """
    modules = homes()[folder]

    def find(name):
        if f"{folder}.{name}" in GONE:
            raise AttributeError(f"{folder}.{name} is gone: {GONE[f'{folder}.{name}']}")
        if not name.startswith("__"):
            if importlib.util.find_spec(f"{folder}.{name}"):
                return importlib.import_module(f"{folder}.{name}")
            for module in map(importlib.import_module, modules):
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {folder!r} has no attribute {name!r}")

    return find


class _NewPlaces(importlib.abc.MetaPathFinder):
    """Names the new place of a module that has moved; asked first, so that no file left behind hides it."""

    def find_spec(self, fullname, path=None, target=None):
        """Raise `ModuleNotFoundError` for a module that has moved."""
        if fullname.startswith(f"{PACKAGE}.") and fullname in (places := moved()):
            raise ModuleNotFoundError(f"{fullname} is now {places[fullname]}")
        return None


def tell_new_places():
    """Let imports of modules that have moved fail with the place where they are now."""
    if not any(isinstance(finder, _NewPlaces) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NewPlaces())
