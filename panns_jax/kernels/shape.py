"""What is to be convolved, as far as the choice of a kernel depends on it."""

import dataclasses
import math
from typing import Any

# A whole number, or what stands for one in a program that is exported for sizes yet to be known.
Size = int | Any


@dataclasses.dataclass(frozen=True)
class ConvShape:
    """Sizes and steps of one convolution with zero padding, over one dimension (time) or two (time, mels).

    Attributes:
      batch: number of clips.
      space: time steps, and mels where there are two dimensions.
      in_channels: of the input.
      out_channels: of the result.
      window: taps of the kernel in each dimension.
      stride: steps of the input from one place to the next, in each dimension alike.
      padding: zeros put on every side.
      dilation: steps of the input from one tap to the next.
      dtype: of input and result; products are summed up in float32 in any case.
    """

    batch: Size
    space: tuple[Size, ...]
    in_channels: int
    out_channels: int
    window: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    dtype: str = "float32"

    @property
    def is_fixed(self) -> bool:
        """Whether all sizes are known."""
        return all(isinstance(size, int) for size in (self.batch, *self.space))

    @property
    def keeps_size(self) -> bool:
        """Whether the result is as long and as wide as the input, each place in the middle of what it sees."""
        centred = all(size % 2 == 1 and self.padding == self.dilation * (size // 2) for size in self.window)
        return centred and self.stride == 1

    @property
    def pointwise(self) -> bool:
        """Whether every place sees itself alone."""
        return set(self.window) == {1} and self.stride == 1 and self.padding == 0

    @property
    def weights(self) -> int:
        """Numbers in the kernel."""
        return math.prod(self.window) * self.in_channels * self.out_channels

    @property
    def places(self) -> int:
        """Number of input places of the whole batch."""
        return self.batch * math.prod(self.space)
