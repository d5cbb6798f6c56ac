"""The searching half: what may be chosen, who chooses, and the KerasTuner oracle and tuner that carry it out.

It knows networks only in `tuner` and `results`, by way of `nasnet_keras.children`; everything else works on a
`Genotype` and a number, its reward. The package is also its main function, `nasnet_keras.search(data, …)`: a folder and
a function of one name would hide each other, a module that can be called is both.
"""

import importlib
import inspect
import sys
import types


class _Search(types.ModuleType):
    """The module; `help`, completion and notebooks see the function in it, which is loaded when somebody asks."""

    def __call__(self, *args, **kwargs):
        """Run a search; see `nasnet_keras.search.tuner.search`."""
        return _function()(*args, **kwargs)

    @property
    def __signature__(self):
        """The function's, for `inspect` and for completion."""
        return inspect.signature(_function())

    @property
    def __doc__(self):
        """The function's, then the package's."""
        return f"search{inspect.signature(_function())}\n\n{inspect.getdoc(_function())}\n\n{_ABOUT}"


def _function():
    return importlib.import_module(f"{__name__}.tuner").search


_ABOUT = __doc__
sys.modules[__name__].__class__ = _Search
