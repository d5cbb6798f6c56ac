"""Layers worked out by NumPy in float64, forward and backward: what the kernels of a machine are held against.

Images are [batch, height, width, channels]. `make_gradient(*shape)` gives the gradient of a result of that shape.
"""

import numpy as np


def windows(size, window, strides, padding):
    """For each window, its row and column in the result, and what it holds: slices of the image, and of itself."""
    axes = []
    for length, reach, step in zip(size, window, strides, strict=True):
        count = -(-length // step) if padding == "SAME" else (length - reach) // step + 1
        before = max((count - 1) * step + reach - length, 0) // 2 if padding == "SAME" else 0
        starts = [number * step - before for number in range(count)]
        axes.append([(max(start, 0), min(start + reach, length), start) for start in starts])
    for row, (top, bottom, above) in enumerate(axes[0]):
        for column, (left, right, beside) in enumerate(axes[1]):
            image = (slice(None), slice(top, bottom), slice(left, right))
            yield row, column, image, (slice(top - above, bottom - above), slice(left - beside, right - beside))


def depthwise(x, kernel, strides, make_gradient):
    """The convolution, and the gradients of image and kernel for the result's own `make_gradient(shape)`."""
    x, kernel = x.astype("float64"), kernel[..., 0].astype("float64")
    seen = list(windows(x.shape[1:3], kernel.shape[:2], strides, "SAME"))
    result = np.zeros((len(x), seen[-1][0] + 1, seen[-1][1] + 1, x.shape[-1]))
    for row, column, image, inside in seen:
        result[:, row, column] = (x[image] * kernel[inside]).sum((1, 2))
    gradient = make_gradient(*result.shape)
    to_x, to_kernel = np.zeros_like(x), np.zeros_like(kernel)
    for row, column, image, inside in seen:
        own = gradient[:, row, column][:, None, None]
        to_x[image] += own * kernel[inside]
        to_kernel[inside] += (own * x[image]).sum(0)
    return result, to_x, to_kernel[..., None]


def average_pool(x, window, strides, padding, make_gradient):
    """The mean over what each window holds of the image, and the gradient of the image."""
    x = x.astype("float64")
    seen = list(windows(x.shape[1:3], window, strides, padding))
    result = np.zeros((len(x), seen[-1][0] + 1, seen[-1][1] + 1, x.shape[-1]))
    for row, column, image, _ in seen:
        result[:, row, column] = x[image].mean((1, 2))
    gradient, to_x = make_gradient(*result.shape), np.zeros_like(x)
    for row, column, image, _ in seen:
        held = x[image].shape[1] * x[image].shape[2]
        to_x[image] += gradient[:, row, column][:, None, None] / held
    return result, to_x


def max_pool(x, window, strides, padding, make_gradient):
    """The maximum of each window, and the gradient of the image, which goes to the first of equal maxima."""
    x = x.astype("float64")
    seen = list(windows(x.shape[1:3], window, strides, padding))
    result = np.zeros((len(x), seen[-1][0] + 1, seen[-1][1] + 1, x.shape[-1]))
    for row, column, image, _ in seen:
        result[:, row, column] = x[image].max((1, 2))
    gradient, to_x = make_gradient(*result.shape), np.zeros_like(x)
    for row, column, image, _ in seen:
        batch, height, width, channels = x[image].shape
        first = x[image].reshape(batch, height * width, channels).argmax(1)
        share = np.eye(height * width)[first].transpose(0, 2, 1) * gradient[:, row, column][:, None]
        to_x[image] += share.reshape(batch, height, width, channels)
    return result, to_x


def conv(x, kernel, strides, padding, make_gradient):
    """The convolution, and the gradients of image and kernel."""
    x, kernel = x.astype("float64"), kernel.astype("float64")
    seen = list(windows(x.shape[1:3], kernel.shape[:2], strides, padding))
    result = np.zeros((len(x), seen[-1][0] + 1, seen[-1][1] + 1, kernel.shape[-1]))
    for row, column, image, inside in seen:
        result[:, row, column] = np.einsum("bhwi,hwio->bo", x[image], kernel[inside])
    gradient, to_x, to_kernel = make_gradient(*result.shape), np.zeros_like(x), np.zeros_like(kernel)
    for row, column, image, inside in seen:
        to_x[image] += np.einsum("bo,hwio->bhwi", gradient[:, row, column], kernel[inside])
        to_kernel[inside] += np.einsum("bo,bhwi->hwio", gradient[:, row, column], x[image])
    return result, to_x, to_kernel


def norm(x, scale, offset, epsilon, axes, make_gradient):
    """Normalisation over some axes, and the gradients of image, scale and offset."""
    x = x.astype("float64")
    deviation = np.sqrt(x.var(axes, keepdims=True) + epsilon)
    normal = (x - x.mean(axes, keepdims=True)) / deviation
    gradient = make_gradient(*x.shape).astype("float64")
    inner = gradient * scale
    shared = inner.mean(axes, keepdims=True) + normal * (inner * normal).mean(axes, keepdims=True)
    to_weights = (gradient * normal).sum((0, 1, 2)), gradient.sum((0, 1, 2))
    return normal * scale + offset, (inner - shared) / deviation, *to_weights
