"""A child network that starts training at once, on JAX; see `tensorflow_child`.

XLA takes tens of seconds to compile a network, so no network is compiled: each primitive is, forward and
backward, once for every shape that it meets. After a few children all have been met, and a child is some
hundred calls of what is there. What XLA computes slowly on a CPU, windows and depthwise convolutions, is written as
sums and maxima of shifted images, which it fuses.
"""

from functools import cache, partial, reduce
from itertools import product
from math import sqrt

import jax
import numpy as np
from jax import numpy as jnp

from nasnet_keras.children.child import BaseChild
from nasnet_keras.models.functions import FUNCTIONS, Run


class Child(BaseChild):
    """A small network that is trained for a few steps and judged, on JAX.

    Args:
        architecture: an `Architecture`.
        seed: seed of the initial weights.
        optimizer: an `Optimizer`.
    """

    def _prepare(self):
        """For every step of the program its functions and the numbers of its weights."""
        self._steps, first = [], 0
        for step in self.program.steps:
            trained = sum(weight.trainable for weight in step.weights)
            numbers = range(first, first + len(step.weights))
            first += len(step.weights)
            reads = [value.number for value in step.reads]
            self._steps.append((step.primitive, reads, step.result.number, numbers[:trained], numbers[trained:]))

    def get_weights(self):
        """All weights as NumPy arrays, in the order of `program.weights`, which the caller may write into."""
        return [np.array(value) for value in self._weights]

    def set_weights(self, weights):
        """Replace all weights and start the optimiser anew; see `get_weights`."""
        self._check_weights(weights)
        self._weights = [jnp.asarray(value, jnp.float32) for value in weights]
        self._velocity = [jnp.zeros(np.shape(value), jnp.float32) for value in weights]
        self.step = 0

    def _forward(self, images, training):
        """Logits; while training, also what each step read and the statistics of its batch."""
        values, statistics = {0: jnp.asarray(images)}, {}
        for primitive, reads, result, trained, moving in self._steps:
            inputs = [values[number] for number in reads]
            weights = [self._weights[number] for number in (*trained, *(() if training else moving))]
            values[result], batch = _forward(primitive, training)(inputs, weights)
            statistics.update(zip(moving, batch, strict=bool(batch)))
        return values, statistics

    def _gradient(self, images, labels):
        """Mean loss, {weight: gradient} and {weight: statistics of the batch}."""
        values, statistics = self._forward(images, training=True)
        last = self._steps[-1][2]
        loss, gradient = _loss(values[last], jnp.asarray(labels))
        gradients, result = {last: gradient}, {}
        for primitive, reads, made, trained, _ in reversed(self._steps):
            if made not in gradients:  # a state that a cell passes on, but the next one does not read
                result.update((number, jnp.zeros_like(self._weights[number])) for number in trained)
                continue
            inputs, weights = [values[number] for number in reads], [self._weights[number] for number in trained]
            to_inputs, to_weights = _backward(primitive)(inputs, weights, gradients.pop(made))
            result.update(zip(trained, to_weights, strict=True))
            for number, piece in zip(reads, to_inputs, strict=True):
                if number:
                    gradients[number] = _add(gradients[number], piece) if number in gradients else piece
        return loss, result, statistics

    def loss_and_gradient(self, images, labels):
        """Arrays; see `BaseChild`."""
        loss, gradients, _ = self._gradient(images, labels)
        return float(loss), [np.asarray(gradients[number]) for number in sorted(gradients)]

    def train_step(self, images, labels):
        """The loss is a scalar array; see `BaseChild`."""
        loss, gradients, statistics = self._gradient(images, labels)
        optimizer, rate = self.optimizer, np.float32(self.optimizer.rate(self.step))
        if optimizer.clip_norm is not None:
            squares = [_square(gradient) for gradient in gradients.values()]
            norm = sqrt(sum(float(square) for square in squares))
            rate *= np.float32(optimizer.clip_norm / max(norm, optimizer.clip_norm))
        for number, gradient in gradients.items():
            self._weights[number], self._velocity[number] = _descend(
                self._weights[number], self._velocity[number], gradient, rate, optimizer.momentum, optimizer.nesterov
            )
        keep = self.program.options.batch_norm_momentum
        for number, batch in statistics.items():
            self._weights[number] = _move(self._weights[number], batch, keep)
        self.step += 1
        return loss

    def logits(self, images, batch_statistics=False):
        """Logits [batch, classes] at inference.

        Args:
            images: as for `train_step`.
            batch_statistics: normalise by the statistics of these images, not by the moving ones.
        """
        return self._forward(images, training=batch_statistics)[0][self._steps[-1][2]]

    def activations(self, images):
        """What each ReLU makes of some images, with their own statistics: arrays [batch, …]."""
        values, _ = self._forward(images, training=True)
        return [np.asarray(values[made]) for primitive, _, made, *_ in self._steps if primitive.kind == "relu"]


@cache
def _forward(primitive, training):
    """A compiled function of (inputs, weights): the result, and a batch norm's statistics while it is trained."""
    return jax.jit(lambda inputs, weights: _compute(primitive, inputs, weights, training))


@cache
def _backward(primitive):
    """A compiled function of (inputs, trained weights, gradient): the gradients of inputs and weights."""

    def gradients(inputs, weights, gradient):
        _, pull = jax.vjp(lambda *arguments: _compute(primitive, *arguments, True)[0], inputs, weights)
        return pull(gradient)

    return jax.jit(gradients)


def _compute(primitive, inputs, weights, training):
    kind, settings = primitive.kind, dict(primitive.settings)
    if kind == "norm" and training:
        return _norm(primitive.epsilon, inputs[0], *weights)
    if jax.default_backend() == "cpu" and kind == "depthwise":
        return _depthwise(inputs[0], weights[0], settings["strides"]), ()
    if jax.default_backend() == "cpu" and kind == "max_pool":
        return _max_pool(inputs[0], settings["size"], settings["strides"], settings["padding"]), ()
    return FUNCTIONS[kind](primitive, inputs, weights, Run()), ()


def _norm(epsilon, x, scale, offset):
    """Batch normalisation by the batch, its mean, and its unbiased variance, which the moving one takes."""
    mean = jnp.mean(x, (0, 1, 2))
    variance = jnp.mean(jnp.square(x - mean), (0, 1, 2))
    result = (x - mean) * (jax.lax.rsqrt(variance + epsilon) * scale) + offset
    count = x.size // x.shape[-1]
    return result, (mean, variance * (count / max(count - 1, 1)))


def _shifted(x, window, strides, padding, border):
    """For every place in the window, row by row, the pixels that windows have there."""
    pairs = [(0, 0), *jax.lax.padtype_to_pads(x.shape[1:3], window, strides, padding), (0, 0)]
    x = jnp.pad(x, pairs, constant_values=border)
    rows, columns = ((x.shape[1 + axis] - window[axis]) // strides[axis] + 1 for axis in (0, 1))
    return [
        x[:, i : i + (rows - 1) * strides[0] + 1 : strides[0], j : j + (columns - 1) * strides[1] + 1 : strides[1]]
        for i, j in product(*map(range, window))
    ]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x, kernel, strides):
    """A convolution of each channel by itself, SAME."""
    taps = kernel.reshape(-1, kernel.shape[2])
    return sum(view * tap for view, tap in zip(_shifted(x, kernel.shape[:2], strides, "SAME", 0.0), taps, strict=True))


def _depthwise_forward(x, kernel, strides):
    return _depthwise(x, kernel, strides), (x, kernel)


def _depthwise_backward(strides, saved, gradient):
    """The kernel's gradient is the diagonal of an ordinary convolution's, which XLA has a fast kernel for."""
    x, kernel = saved
    taps = kernel.reshape(-1, kernel.shape[2])
    (dx,) = jax.linear_transpose(lambda x: _shifted(x, kernel.shape[:2], strides, "SAME", 0.0), x)(
        [gradient * tap for tap in taps]
    )

    def convolve(full):
        return jax.lax.conv_general_dilated(x, full, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    channels = kernel.shape[2]
    full = jnp.zeros((*kernel.shape[:2], channels, channels), kernel.dtype)
    (everything,) = jax.linear_transpose(convolve, full)(gradient)
    return dx, jnp.diagonal(everything, axis1=2, axis2=3)[..., None]


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, window, strides, padding):
    """The maximum over a window."""
    return reduce(jnp.maximum, _shifted(x, window, strides, padding, -jnp.inf))


def _max_pool_forward(x, window, strides, padding):
    best, *views = _shifted(x, window, strides, padding, -jnp.inf)
    place = jnp.zeros(best.shape, jnp.int8)
    for number, view in enumerate(views, 1):
        place = jnp.where(view > best, jnp.int8(number), place)  # the first of equal maxima stays
        best = jnp.maximum(best, view)
    return best, (x, place)


def _max_pool_backward(window, strides, padding, saved, gradient):
    """Each pixel collects the gradients of the windows around it in which it stood at the maximum's place."""
    x, place = saved
    sides, pairs = x.shape[1:3], jax.lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    made = [(count - 1) * stride + 1 for count, stride in zip(gradient.shape[1:3], strides, strict=True)]
    ends = [
        (size - 1 - before, side - length + before, stride - 1)
        for size, before, side, length, stride in zip(
            window, (pair[0] for pair in pairs), sides, made, strides, strict=True
        )
    ]
    ends = [(0, 0, 0), *ends, (0, 0, 0)]
    gradient = jax.lax.pad(gradient, 0.0, ends)
    place = jax.lax.pad(place, jnp.int8(-1), ends)
    result = jnp.zeros(x.shape)
    for number, (i, j) in enumerate(product(*map(range, window))):
        top, left = window[0] - 1 - i, window[1] - 1 - j
        part = (slice(None), slice(top, top + sides[0]), slice(left, left + sides[1]))
        result += jnp.where(place[part] == number, gradient[part], 0.0)
    return (result,)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@jax.jit
def _loss(logits, labels):
    """The mean cross-entropy and its gradient."""

    def mean(logits):
        if labels.ndim == 2:  # independent labels, as `tensorflow_child` has them
            return jnp.mean(jnp.sum(jax.nn.softplus(logits) - logits * labels, -1))
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1))

    return jax.value_and_grad(mean)(logits)


@jax.jit
def _add(left, right):
    return left + right


@jax.jit
def _square(gradient):
    return jnp.sum(gradient * gradient)


@jax.jit
def _descend(weights, velocity, gradient, rate, momentum, nesterov):
    """The numbers of `optimizer.descend`."""
    change = gradient * rate
    velocity = velocity * momentum - change
    return weights + jnp.where(nesterov, velocity * momentum - change, velocity), velocity


@jax.jit
def _move(moving, batch, keep):
    return batch + keep * (moving - batch)
