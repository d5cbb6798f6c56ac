"""Several devices: copies of a network that learn together, each from its part of every batch.

TensorFlow keeps a copy on each device (`tf.distribute.MirroredStrategy`); JAX keeps each weight on all of them
(`keras.distribution.DataParallel`), also where they belong to several hosts, a process each. Copies are made, compiled,
restored and fitted within one scope, here: what is made in a scope and fitted outside drifts apart in silence.
"""

import hashlib
import threading
from contextlib import contextmanager, nullcontext
from functools import cache

import keras
import numpy as np

from nasnet_keras.models.inference import is_lora
from nasnet_keras.models.nesting import layers_within, seed_generators
from nasnet_keras.models.network import NASNet
from nasnet_keras.models.seeds import drawn_from
from nasnet_keras.training.checkpoints import Checkpoints
from nasnet_keras.training.recipes import check_devices
from nasnet_keras.weights.loading import weights_file

WAIT = 45  # seconds that hosts wait for each other when they begin


def number_of(devices):
    """How many devices `None` (one), `"all"` or a number of them are.

    Raises:
        ValueError: another value, more than there are, or some of those that several hosts have.
    """
    check_devices(devices)
    if devices is None:
        return 1
    there = keras.distribution.list_devices()
    number = len(there) if devices == "all" else devices
    if number > len(there):
        raise ValueError(f"`devices` must be at most {len(there)}, as many as there are. Received: {devices}")
    if hosts() > 1 and number != len(there):
        raise ValueError(f"`devices` must be 'all' where several hosts train together. Received: {devices}")
    if number > 1 and keras.backend.backend() not in ("tensorflow", "jax"):
        raise ValueError(f"`devices` must be 1 on the backend {keras.backend.backend()}. Received: {devices}")
    return number


@contextmanager
def spread(model, number):
    """A context with a model's copies on several devices, which are one model and have the weights back in the end.

    Inside is the scope of the copies, in which they are compiled, restored and fitted; the model itself stays as it is,
    a model for one device. With one device it is the model itself.

    Args:
        model: a built Keras model that can be made again from what it says of itself.
        number: how many devices.

    Raises:
        ValueError: a model that is spread already, or that cannot be made again.
    """
    _check_not_spread(model)
    if number == 1:
        yield model
        return
    with _scope(number):
        copies = _made_again(model)
        _assign(copies, model)
        yield copies
    _assign(model, copies)


@cache
def _mirrored(*names):
    """One strategy a process for the same devices: a second one would number its reductions as the first one did.

    TensorFlow knows a reduction by that number, and fails where the second one's has another shape.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy([name.upper() for name in names])


def _scope(number):
    names = keras.distribution.list_devices()[:number]
    if keras.backend.backend() == "tensorflow":
        return _mirrored(*names).scope()
    return keras.distribution.DataParallel(devices=names, auto_shard_dataset=False).scope()


def _check_not_spread(model):
    """Raise `ValueError` for a model made within a scope of somebody else's, or where one is."""
    own = keras.distribution.distribution()
    number = 1 if own is None else own.device_mesh.devices.size
    if keras.backend.backend() == "tensorflow":
        number = model.distribute_strategy.num_replicas_in_sync
    if number > 1:
        rule = "built, and given, outside of a scope of several devices: `devices` spreads it"
        raise ValueError(f"`model` must be {rule}. Received: {model.name!r} on {number} devices")


def _made_again(model):
    """A model with the same layers and weights of its own, of which the same learn."""
    network = isinstance(model, NASNet) and model.stands_alone
    try:
        changes = {change for change in model.changes() if not is_lora(change)} if network else set()
        if changes := changes - {"predictions.activation"}:
            raise ValueError(f"{', '.join(sorted(changes)[:5])} is not as it was built")
        with drawn_from(0):  # the weights are replaced, and the caller's random numbers stay
            copies = type(model).from_config(model.get_config()) if network else keras.models.clone_model(model)
        for one, other in zip(layers_within(copies), layers_within(model), strict=True):
            one.trainable = other.trainable
            if hasattr(other, "frozen_statistics"):
                one.frozen_statistics = other.frozen_statistics
        if [weight.path for weight in copies.weights] != [weight.path for weight in model.weights]:
            raise ValueError("its weights have other names then")
        for one, other in zip(copies.weights, model.weights, strict=True):
            one.trainable = other.trainable  # single ones of a layer may stand still
            one.regularizer = other.regularizer  # what is to hold only in a file does not hold yet
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"`model` must be one that can be made again on `devices`. Received: {reason}") from None
    return copies


def _assign(model, source):
    for variable, value in zip(model.variables, source.variables, strict=True):
        variable.assign(keras.ops.convert_to_numpy(value))


def _strategy(model):
    """TensorFlow's strategy for a model of several copies; None elsewhere."""
    if keras.backend.backend() != "tensorflow" or model.distribute_strategy.num_replicas_in_sync == 1:
        return None
    return model.distribute_strategy


def adapt(model):
    """Let a compiled model of several copies take the steps that one device would take.

    Raises:
        ValueError: a loss that is scaled: Keras looks at one copy's gradient to tell whether it is finite; or
            accumulated gradients: Keras sums those of the copies within a condition, where TensorFlow cannot.
    """
    if _strategy(model) is None:
        return
    import tensorflow as tf

    model.jit_compile = False  # XLA finds the weights of one device only
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        rule = "another one on several devices, such as mixed_bfloat16"
        raise ValueError(f"`dtype` must be {rule}. Received: mixed_float16")
    if optimizer.gradient_accumulation_steps:
        received = optimizer.gradient_accumulation_steps
        raise ValueError(f"`gradient_accumulation` must be 1 on several devices with TensorFlow. Received: {received}")
    if optimizer.global_clipnorm:
        clip = optimizer._clip_gradients

        def clip_sum(gradients):
            context = tf.distribute.get_replica_context()
            return clip(context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients)))

        # Keras clips each copy's part by itself, and sums afterwards: twice the limit with two devices.
        optimizer._clip_gradients = clip_sum
        optimizer._all_reduce_sum_gradients = lambda pairs: pairs


def level(model):
    """Give all copies the mean of what they have counted for themselves on TensorFlow: the statistics of batch norms.

    Moving averages are linear, so this is what they would be, had the means of all copies' batches gone into them.
    Before a model is saved or evaluated it has to be done; learning does not depend on it.
    """
    strategy = _strategy(model)
    for variable in model.non_trainable_variables if strategy else ():
        copies = strategy.experimental_local_results(variable.value)
        if len(copies) > 1 and "float" in variable.dtype:
            variable.assign(keras.ops.mean(keras.ops.stack([keras.ops.convert_to_tensor(one) for one in copies]), 0))


class Copies(keras.callbacks.Callback):
    """What copies need while they are trained; it comes before callbacks that save, or validate other weights.

    On TensorFlow each copy drops other paths and units than the first: its generators start that many seeds further on.
    The images that fill up a batch are taken out of the validation's loss, which Keras divides by them, too.

    Args:
        added: how many images of weight 0 there are for each one of the validation.
    """

    def __init__(self, added=0.0):
        super().__init__()
        self.added = added
        self._begins, self._fixed = False, 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """The generators get their seeds now, in whatever order callbacks are called."""
        self._begins = True

    def on_train_batch_begin(self, batch, logs=None):
        """Take the seeds of each copy."""
        if self._begins and (strategy := _strategy(self.model)):
            for generator in seed_generators(self.model):
                first, *others = strategy.experimental_local_results(generator.state.value)
                for number, copy in enumerate(others, 1):
                    copy.assign(first.numpy() + np.array([number, 0], first.dtype.as_numpy_dtype))
        self._begins = False

    def on_test_begin(self, logs=None):
        """Evaluate with the statistics of all copies."""
        level(self.model)

    def on_test_end(self, logs=None):
        """Take what of the loss does not depend on images, with the weights that were evaluated."""
        if self.added:
            self._fixed = float(sum(self.model.losses))

    def on_epoch_end(self, epoch, logs=None):
        """Save the statistics of all copies; say the loss of the validation's own images."""
        level(self.model)
        losses = [name for name in logs or {} if name.startswith("val_") and name.endswith("loss")]
        for name in losses if self.added else ():
            fixed = self._fixed if name == "val_loss" else 0.0
            logs[name] = (logs[name] - fixed) * (1 + self.added) + fixed


class Parts(keras.utils.PyDataset):
    """Batches as several devices take them: filled up until these divide them; of several hosts, the rows of this one.

    Images that fill up have the weight 0, so batches always have weights.

    Args:
        batches: the whole batches, (images, labels) or (images, labels, weights).
        number: how many devices all hosts have.
    """

    def __init__(self, batches, number):
        super().__init__()
        self.batches, self.number = batches, number

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        images, labels, *weights = self.batches[index]
        weights = weights[0] if weights else np.ones(len(images), "float32")
        missing = -len(images) % self.number
        if missing:
            filled = np.minimum(np.arange(len(images) + missing), len(images) - 1)
            images, labels = images[filled], labels[filled]
            weights = np.concatenate([weights, np.zeros(missing, "float32")])
        rows = len(images) // hosts()
        own = slice(host() * rows, (host() + 1) * rows)
        return images[own], labels[own], weights[own]

    def on_epoch_begin(self):
        """Called by Keras."""
        self.batches.on_epoch_begin()

    def on_epoch_end(self):
        """Called by Keras."""
        self.batches.on_epoch_end()


def parts(batches, number):
    """Batches as so many devices take them."""
    return batches if number == 1 else Parts(batches, number)


def filling(count, number):
    """Images that fill up an epoch of so many, in `Parts` whose batches the devices divide, as a share of them."""
    return -count % number / max(count, 1)


def predict(model, batches, count, number):
    """Keras' `predict` of batches with `count` images, of which devices divide all but the last."""
    if number == 1:
        return model.predict(batches, verbose=0)
    with spread(model, number) as copies:
        outputs = copies.predict(parts(batches, number), verbose=0)
    return keras.tree.map_structure(lambda one: one[:count], outputs)


def join(others, missing=None):
    """Let this process train together with those of other hosts, from now on; on JAX alone.

    Nothing of JAX may have been computed before.

    Args:
        others: None for none; `"auto"`: what SLURM, MPI or Kubernetes say of this process's place;
            or (address and port of the first, how many there are, which this one is, from 0).
        missing: called in a thread of its own if some have not come within `WAIT` seconds. It has to end the process:
            at three times that JAX does, with a page of its own, and nothing can be raised from in there.

    Raises:
        ValueError: another backend, or nothing says what this process's place is.
    """
    if others is None:
        return
    if keras.backend.backend() != "jax":
        rule = "left out unless KERAS_BACKEND=jax: Keras supports no training on several hosts with TensorFlow"
        raise ValueError(f"`hosts` must be {rule}. Received: {others!r}")
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # it would keep SIGTERM to itself
    names = ("coordinator_address", "num_processes", "process_id")
    place = {} if others == "auto" else dict(zip(names, others, strict=True))
    timer = threading.Timer(WAIT, missing) if missing else None
    if timer:
        timer.start()
    try:
        jax.distributed.initialize(**place, initialization_timeout=3 * WAIT, shutdown_timeout_seconds=WAIT)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        rule = "auto where SLURM, MPI or Kubernetes say what this process's place is, or an address that is free"
        raise ValueError(f"`hosts` must be {rule}. Received: {others!r}: {reason}") from None
    finally:
        if timer:
            timer.cancel()


def leave():
    """Wait for the other hosts and go: whoever ended first would take the others with it."""
    if hosts() > 1:
        import jax
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("the end")
        jax.distributed.shutdown()


def batch_of(size, number):
    """The greatest batch up to a size that devices divide, or one image for each of them."""
    return number * max(1, size // number)


def hosts():
    """How many processes train together; 1 unless JAX says more."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()


def host():
    """Which of them this process is, from 0; the first is the one that writes."""
    if keras.backend.backend() != "jax":
        return 0
    import jax

    return jax.process_index()


def agree(known):
    """Raise `ValueError` unless all hosts know the same of their training, JSON-able text of each name."""
    if hosts() == 1:
        return
    from jax.experimental import multihost_utils

    digests = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in known.values()]
    everywhere = np.asarray(multihost_utils.process_allgather(np.array(digests, "uint32")))
    for name, column in zip(known, everywhere.reshape(hosts(), -1).T, strict=True):
        if len(set(column.tolist())) > 1:
            raise ValueError(f"`hosts` must all have the same {name}, and the same folders. Received: others")


class Shared(Checkpoints):
    """The `Checkpoints` of copies: they are saved with the statistics of all, within epochs as well."""

    def interruptible(self):
        """Of several hosts each ends at once: none can keep a step alone."""
        return super().interruptible() if hosts() == 1 else nullcontext()

    def _save(self, inside=None):
        level(self.model)
        super()._save(inside)

    def _measured(self):
        """The seconds of the first host, so that all do as many epochs."""
        seconds = super()._measured()
        if hosts() == 1:
            return seconds
        from jax.experimental import multihost_utils

        return multihost_utils.broadcast_one_to_all(np.array(seconds, "float32")).tolist()


class Following(Shared):
    """The `Checkpoints` of a host that is not the first: it reads what the first one writes.

    What that one asks of JAX for a file, all hosts have to ask: each array that is made for all devices is compared.
    """

    def fail(self, error):
        """The first one says it."""

    def _save(self, inside=None):
        weights_file(self.model)


def checkpoints(directory, *arguments, **options):
    """The `Checkpoints` of this host."""
    kind = Shared if host() == 0 else Following
    return kind(directory, *arguments, **options)


def only_first(context):
    """A context for the host that writes; for others one that does nothing."""
    return context if host() == 0 else nullcontext()
