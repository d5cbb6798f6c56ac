"""The derivatives of `nasnet_keras.models.kernels` beside TensorFlow's own, in turn, inside compiled functions.

    python benchmarks/kernels.py [--runs 9]

Milliseconds of one call, medians; the cost of making the inputs is taken off.
"""

import argparse
import os
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
CALLS = 10  # in one function
SIZES = [(32, 8, 8, 8), (32, 32, 32, 8), (32, 16, 16, 16), (64, 32, 32, 32), (64, 16, 16, 64), (64, 8, 8, 128)]


def main():
    """Measure and print."""
    import tensorflow as tf

    from nasnet_keras.models import kernels

    raw = tf.raw_ops
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="rounds of each function")
    runs = parser.parse_args().runs
    pool = {"ksize": [1, 3, 3, 1], "strides": [1, 1, 1, 1], "padding": "SAME"}
    for size in SIZES:
        for columns, stride in ((5, 1), (7, 1), (5, 2), (7, 2)):
            shape, strides = [columns, columns, size[3], 1], [1, stride, stride, 1]
            whole = {"filter_sizes": shape, "strides": strides, "padding": "SAME"}

            def theirs(x, g, whole=whole):
                return raw.DepthwiseConv2dNativeBackpropFilter(input=x, out_backprop=g, **whole)

            def ours(x, g, shape=shape, stride=stride):
                return kernels.depthwise_filter_gradient(x, shape, g, (stride, stride))

            report(f"depthwise filter {columns}×{columns} / {stride}", size, stride, theirs, ours, runs)
        report(
            "mean pool 3×3 / 1",
            size,
            1,
            lambda x, g: raw.AvgPoolGrad(orig_input_shape=x.shape.as_list(), grad=g, **pool),
            lambda x, g: kernels.average_pool_gradient(x, g, **pool),
            runs,
        )


def report(name, size, stride, theirs, ours, runs):
    """One line: name, size, both medians, ratio."""
    import tensorflow as tf

    count, height, width, channels = size
    x = tf.random.normal(size, seed=1)
    gradient = tf.random.normal((count, height // stride, width // stride, channels), seed=2)
    functions = [repeated(theirs), repeated(ours), repeated(lambda x, g: g)]
    times = [[] for _ in functions]
    for function in functions:
        function(x, gradient)
        function(x, gradient)
    for _ in range(runs):
        for function, own in zip(functions, times, strict=True):
            start = time.perf_counter()
            function(x, gradient).numpy()
            own.append(time.perf_counter() - start)
    theirs, ours, rest = (1000 * float(np.median(own)) / CALLS for own in times)
    ratio = (ours - rest) / (theirs - rest)
    print(
        f"{name:24} {size!s:20} TensorFlow {theirs - rest:6.2f} ms  ours {ours - rest:6.2f} ms  {ratio:5.2f}",
        flush=True,
    )


def repeated(function):
    """A compiled function that calls another a few times on values that differ."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def run(x, gradient):
        return sum(tf.reduce_sum(function(x, gradient + float(number))) for number in range(CALLS))

    return run


if __name__ == "__main__":
    main()
