"""Measures how far each kernel is from a convolution in float64, and prints a Markdown table.

python scripts/bench/errors.py [--kernels "winograd 2x2" …]

A figure is the largest error over the largest value of the result, for inputs as a ReLU leaves them. In bfloat16, what
inputs and weights lose when they are rounded counts, too.
"""

import argparse
import dataclasses
import functools
from collections.abc import Iterator

import common  # noqa: F401 (finds this checkout's package)
import jax
import jax.numpy as jnp
import numpy as np

from panns_jax.kernels.choice import Choice
from panns_jax.kernels.direct import xla_convolution
from panns_jax.kernels.kernel import KERNELS, Kernel
from panns_jax.kernels.shape import ConvShape
from panns_jax.kernels.tiles import Tiles

# Channels, and time and mels of an image with so many in Cnn14.
SPACES = {64: (250, 32), 256: (250, 16), 1024: (62, 4)}
TYPES = ("float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kernels", nargs="+", choices=KERNELS, metavar="NAME", default=list(KERNELS), help="only these"
    )
    options = parser.parse_args()
    print(f"| kernel | weights beside the layer's | {' | '.join(f'{channels} channels' for channels in SPACES)} |")
    print("|" + "---|" * (len(SPACES) + 2))
    for dtype in TYPES:
        for name in options.kernels:
            print_row(KERNELS[name], dtype)


def print_row(kernel: Kernel, dtype: str) -> None:
    """Prints the line of a kernel, if there is a typical shape that it does in this type."""
    shapes = [next(shapes_for(kernel, channels, dtype), None) for channels in SPACES]
    suited = [shape for shape in shapes if shape is not None]
    if not suited:
        return
    name = kernel.name if dtype == "float32" else f"{kernel.name}, {dtype}"
    growth = kernel.growth(suited[0])
    errors = ("–" if shape is None else f"{error(kernel, shape):.1e}" for shape in shapes)
    print(f"| {name} | {f'× {growth:.1f}' if growth else 'none'} | {' | '.join(errors)} |", flush=True)


def shapes_for(kernel: Kernel, channels: int, dtype: str) -> Iterator[ConvShape]:
    """The typical shapes that a kernel can do: windows of 3 × 3 over a usual image, one of two mels, and small ones of
    both kinds; windows of one place; one input channel."""
    height, width = SPACES[channels]
    usual = ConvShape(1, (height, width), channels, channels, (3, 3), padding=1, dtype=dtype)
    spaces = ((height, width), (height, 2), (8, 8), (16, 2))
    shapes = [dataclasses.replace(usual, space=space) for space in spaces]
    shapes += [dataclasses.replace(usual, window=(1, 1), padding=0), dataclasses.replace(usual, in_channels=1)]
    yield from filter(kernel.suits, shapes)


def error(kernel: Kernel, shape: ConvShape) -> float:
    """The largest error over the largest value."""
    x, weights, expected = exact(dataclasses.replace(shape, dtype="float32"))
    ready = Choice(kernel, shape).transform(jnp.asarray(weights))
    y = jax.jit(lambda x, ready: kernel(x, ready, shape))(jnp.asarray(x, shape.dtype), ready)
    found = np.asarray(y.whole() if isinstance(y, Tiles) else y, np.float64)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@functools.cache
def exact(shape: ConvShape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs and weights in float32, and the result in float64."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((shape.batch, *shape.space, shape.in_channels), np.float32), 0)
    weights = rng.standard_normal((*shape.window, shape.in_channels, shape.out_channels), np.float32)
    with jax.enable_x64(True):
        values = (jnp.asarray(array, "float64") for array in (x, weights))
        y = xla_convolution(*values, stride=shape.stride, padding=shape.padding, dilation=shape.dilation)
        return x, weights, np.asarray(y)


if __name__ == "__main__":
    main()
