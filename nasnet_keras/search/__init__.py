"""The searching half: what may be chosen, who chooses, and the KerasTuner oracle and tuner that carry it out.

It knows networks only in `tuner` and `results`, by way of `nasnet_keras.children`; everything else works on a
`Genotype` and a number, its reward. The package is also its main function, `nasnet_keras.search(data, …)`: a folder and
a function of one name would hide each other, a module that can be called is both.
"""

import sys
import types


class _Search(types.ModuleType):
    def __call__(self, *args, **kwargs):
        """Run a search; see `nasnet_keras.search.tuner.search`."""
        from nasnet_keras.search.tuner import search

        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Search
