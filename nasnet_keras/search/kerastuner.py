"""The door to KerasTuner's inside: every name that it does not promise, and that a search needs all the same.

The rest of `search` imports these names from here. `tests/search/test_kerastuner.py` holds each of them, and what is
overridden or called of their classes, against the signature that is relied on: a release that changes one fails there.
"""

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.metrics_tracking import infer_metric_direction
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer
from keras_tuner.src.distribute.oracle_client import OracleClient

__all__ = ["BaseTuner", "OracleClient", "OracleServicer", "Trial", "TrialStatus", "infer_metric_direction", "protos"]
