"""The sizes of a PatchTST, alike for training and serving."""

from typing import NamedTuple


class PatchTSTBody(NamedTuple):
    """Sizes of the body. ``pad``: the window's end is repeated for one more patch, as in the paper.
    ``classic``: the paper's encoder layer (batch normalisation after each sum, residual attention
    scores); without it layer normalisation comes before each part, which learns faster and costs a
    fifth. ``mixed``: one token holds the patch of all channels, instead of one token a channel."""

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
        """Patches a window is cut into."""
        return (self.window + self.stride * self.pad - self.patch) // self.stride + 1

    @property
    def groups(self) -> int:
        """Sequences of tokens that attend to each other: one a channel, or one in all."""
        return 1 if self.mixed else self.channels

    @property
    def found(self) -> int:
        """Numbers that the head is given, of each group the mean of its tokens and the newest."""
        return 2 * self.width * self.groups
