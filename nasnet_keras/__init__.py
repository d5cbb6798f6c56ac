"""NASNet for Keras 3: the released networks, the search that finds such cells, and the way to a served model.

Importing the package is cheap: a name brings its module, and with it Keras, when it is first
used. Keras still finds the classes of saved models after a plain `import nasnet_keras`, whichever
is imported first: as soon as Keras is there, they are registered.
"""

import importlib

from nasnet_keras import _registration
from nasnet_keras.children.threads import give_sessions_own_threads

__version__ = "0.1.0"

_HOME = {
    "genotype": "Block CellGenotype Genotype list_genotypes load_genotype",
    "models.counting": "multiply_adds",
    "models.network": "NASNet",
    "models.freezing": "freeze",
    "models.drop_path": "ScheduledDropPath",
    "models.applications": "NASNetMobile NASNetLarge NASNetCIFAR PNASNetLarge PNASNetMobile decode_predictions "
    "load_model preprocess_input",
    "weights.zoo": "list_models",
    "weights.slim": "load_slim_weights",
    "weights.foreign": "load_keras_applications_weights load_timm_weights",
    "data.loading": "Data load_data read_image",
    "data.batches": "Batches",
    "training.recipes": "RECIPES Recipe",
    "training.transfer": "fine_tune",
    "training.evaluation": "evaluate_classes",
    "training.explanations": "Explanation explain",
    "export.saved_model": "export_saved_model",
    "export.targets": "export_target",
    "pictures.cells": "cell_svg genotype_svg",
    "pictures.confusion": "confusion_svg",
    "pictures.report": "search_report",
    "search.space": "SearchSpace",
    "search.strategies.controller": "Controller ControllerSettings",
    "search.oracle": "NASNetOracle",
    "search.callbacks": "SearchCallback",
    "children.settings": "ChildSettings",
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


_registration.register_with_keras()
_registration.tell_new_places()
give_sessions_own_threads()
