"""How Keras finds this package's classes, and why it takes a hook.

A saved model names its classes, and Keras finds those that are registered. Importing the package must stay cheap, so
the modules with the classes, and Keras with them, are not imported before somebody needs them; as soon as Keras
itself is there, by whoever's import, the classes are registered.
"""

import importlib
import importlib.abc
import importlib.util
import os
import sys

PACKAGE = __name__.partition(".")[0]
# The modules that are imported on the way to the classes: while one of them is, that registers them already.
ON_THE_WAY = (
    "models.functions",
    "models.layers",
    "models.drop_path",
    "models.heads",
    "weights.slim",
    "weights.foreign",
    "weights.loading",
    "program.body",
    "models.network",
    "training.compilation",
)


def register_with_keras():
    """Register the classes now if Keras is there, else as soon as it comes."""
    # By default all sessions of a process share the threads of its first computation. A child needs one of its own,
    # whatever ran before it, or its result would depend on that; TensorFlow reads this when it first computes.
    os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _WhenKerasComes())


def _register():
    """Import the classes that saved models are made of, unless that is going on already."""
    if not any(f"{PACKAGE}.{module}" in sys.modules for module in ON_THE_WAY):
        importlib.import_module(f"{PACKAGE}.models.network")
        importlib.import_module(f"{PACKAGE}.training.compilation")


class _WhenKerasComes(importlib.abc.MetaPathFinder):
    """Registers the classes right after somebody imports Keras."""

    def find_spec(self, fullname, path=None, target=None):
        """Give Keras' own spec, with the registration behind its execution."""
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                execute(module)
                _register()

            spec.loader.exec_module = execute_and_register
        return spec
