"""NASNet for Keras 3: the released networks, the search that finds such cells, and the way to a served model.

Importing the package is cheap: a name brings its module, and with it Keras, when it is first
used. Keras still finds the classes of saved models after a plain `import nasnet_keras`, whichever
is imported first: as soon as Keras is there, they are registered.
"""

import importlib
import importlib.abc
import importlib.util
import sys

__version__ = "0.1.0"

_HOME = {
    "genotype": "Block CellGenotype Genotype list_genotypes load_genotype",
    "network": "NASNet multiply_adds",
    "applications": "NASNetMobile NASNetLarge NASNetCIFAR PNASNetLarge PNASNetMobile decode_predictions load_model "
    "preprocess_input",
    "zoo": "list_models",
    "converters": "load_slim_weights",
    "foreign": "load_keras_applications_weights load_timm_weights",
    "data": "Data load_data read_image",
    "batches": "Batches",
    "recipes": "RECIPES Recipe",
    "training": "ScheduledDropPath",
    "transfer": "fine_tune",
    "evaluation": "evaluate_classes",
    "export": "export_saved_model",
    "serving.targets": "export_target",
    "plot": "cell_svg genotype_svg",
    "confusion": "confusion_svg",
    "report": "search_report",
    "search.space": "SearchSpace",
    "search.controller": "Controller ControllerSettings",
    "search.oracle": "NASNetOracle",
    "search.children": "ChildSettings",
    "search.tuner": "NASNetTuner SearchResult",
}
_HOMES = {name: module for module, names in _HOME.items() for name in names.split()}
__all__ = sorted([*_HOMES, "search"])


def __getattr__(name):
    if name == "search":
        return importlib.import_module(f"{__name__}.search")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__():
    return __all__


def _register():
    """Import the classes that saved models are made of, unless that is going on already."""
    chain = (
        "functions",
        "layers",
        "drop_path",
        "heads",
        "converters",
        "foreign",
        "weights",
        "body",
        "network",
        "compilation",
    )
    if not any(f"{__name__}.{module}" in sys.modules for module in chain):
        importlib.import_module(f"{__name__}.network")
        importlib.import_module(f"{__name__}.compilation")


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


if "keras" in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _WhenKerasComes())
