"""The role of a process in a distributed search, and KerasTuner's environment variables that name it.

`KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT` are the chief's address, for all; the
process whose `KERASTUNER_TUNER_ID` contains "chief" is the chief, the others are workers.
Without the first, a process searches alone. The data that they must have alike they know by `data_description`.
"""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field

from nasnet_keras.checks import check_integer, is_loopback, take_integers

logger = logging.getLogger(__name__)

LEASE, PATIENCE = 120.0, 600.0  # seconds; many machines are not started at once
VARIABLES = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID")


@dataclass(frozen=True)
class Role:
    """A process's role.

    Args:
        tuner_id: its name, of ASCII's letters and signs, as gRPC sends it; one that contains "chief" is the chief's.
        host: of the chief.
        port: of the chief; 0 lets a chief choose a free one.
        secret: what the chief and its workers alike know, see `files.read_secret`; None only on the loopback address.

    Raises:
        ValueError: naming the argument at fault.
    """

    tuner_id: str
    host: str = "127.0.0.1"
    port: int = 7877
    secret: bytes | None = field(default=None, repr=False)

    def __post_init__(self):
        if not self.tuner_id or not self.tuner_id.isascii() or not self.tuner_id.isprintable():
            raise ValueError(f"`tuner_id` must be a name of ASCII characters. Received: {self.tuner_id!r}")
        take_integers(self, "port")
        check_integer("port", self.port, most=2**16 - 1)

    @property
    def is_chief(self):
        """Whether this is the chief; otherwise it is a worker."""
        return "chief" in self.tuner_id

    @property
    def address(self):
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def check_secret(self):
        """Raise `ValueError` where other machines could take part without knowing a secret."""
        if self.secret is None and not is_loopback(self.host):
            raise ValueError(
                "`secret` must be a file that the chief and its workers have where the chief's address is not the "
                "loopback's. Other ways: an SSH tunnel to 127.0.0.1, or `--engine ray`. "
                f"Received: the address {self.address} and no secret"
            )

    def to_environment(self):
        """KerasTuner's variables."""
        return dict(zip(VARIABLES, (self.host, str(self.port), self.tuner_id), strict=True))


def current_role(environment=None):
    """The `Role` that KerasTuner's variables give, None where a process searches alone.

    Args:
        environment: a dict, by default that of the process.

    Raises:
        ValueError: the variables are incomplete or make no sense.
    """
    environment = os.environ if environment is None else environment
    if VARIABLES[0] not in environment:
        return None
    missing = [name for name in VARIABLES if not environment.get(name)]
    if missing:
        raise ValueError(f"`{missing[0]}` must be set where {VARIABLES[0]} is. Received: nothing")
    host, port, tuner_id = (environment[name] for name in VARIABLES)
    if not port.isdigit():
        raise ValueError(f"`{VARIABLES[1]}` must be a port. Received: {port!r}")
    return Role(tuner_id, host, int(port))


def data_description(data, is_ours):
    """What a chief and its workers know data by, JSON-able; None of somebody's own that say nothing of themselves.

    Args:
        data: whatever a tuner's `search` was given.
        is_ours: whether it is a `data.Data`; others tell what they have of its attributes.
    """
    names, shape, train = (getattr(data, name, None) for name in ("class_names", "image_shape", "train"))
    known = {
        "classes": _length(names),
        "image_shape": list(shape) if isinstance(shape, list | tuple) else None,
        "train_images": _length(train),
    }
    if is_ours:
        # Not above: where a pool's workers run, this is imported before it is said how many threads NumPy has.
        from nasnet_keras.search.directory import images_of

        return {**known, **images_of(data)}
    digest = getattr(data, "digest", None)
    known["images"] = digest if isinstance(digest, str) else None
    return {key: value for key, value in known.items() if value is not None} or None


def _length(value):
    """How many there are; None of what has no length, or does not know it."""
    with suppress(TypeError):
        return len(value)
    return None


def check_waiting(lease, patience, role, engine, given):
    """Say it where a time does nothing; the same call may have a role elsewhere, by KerasTuner's variables.

    Args:
        lease, patience, role: of `search`.
        engine: where children run elsewhere, or None.
        given: the argument `engine`.

    Raises:
        ValueError: `engine` has another patience of its own.
    """
    if lease != LEASE and role is None:
        logger.warning("`lease` %g is not used: it is for a `role`", lease)
    if patience == PATIENCE or role is not None:
        return
    if not hasattr(engine, "patience"):
        logger.warning("`patience` %g is not used: it is for a `role`, or for `engine` ray", patience)
    elif not isinstance(given, str) and patience != engine.patience:
        raise ValueError(f"`patience` must be left out where `engine` has its own, {engine!r}. Received: {patience!r}")
