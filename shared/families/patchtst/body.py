"""The sizes of a PatchTST, for training and serving."""

from typing import NamedTuple


class PatchTSTBody(NamedTuple):
    """Sizes of the body. ``pad``: the newest vector is repeated for one more patch, as in the paper.

    ``classic``: the paper's encoder layer, with batch normalisation after each sum and residual attention scores.
    Otherwise layer normalisation comes before each part, which learns faster and costs a fifth. ``mixed``: one token is
    a patch of all channels, not of one."""

    channels: int
    window: int
    patch: int
    stride: int
    width: int
    heads: int
    layers: int
    feedforward: int
    dropout: float
    pad: bool
    classic: bool
    mixed: bool

    @property
    def tokens(self) -> int:
        """Return the number of patches in a window."""
        return (self.window + self.stride * self.pad - self.patch) // self.stride + 1

    @property
    def groups(self) -> int:
        """Return the number of token sequences with attention within each: one for each channel, or one in all."""
        return 1 if self.mixed else self.channels

    @property
    def pooled(self) -> int:
        """Return the number of inputs of the head: for each group the mean of its tokens and the newest token."""
        return 2 * self.width * self.groups
