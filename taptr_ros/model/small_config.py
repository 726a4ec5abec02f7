"""The configuration of the small network, free of PyTorch so that every backend can read it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from taptr_ros.errors import InvalidConfigError
from taptr_ros.model.limits import MOST, MOST_LAYERS, check_input_size
from taptr_ros.model.tuning import TAPTR_SMALL_TUNING, Tuning
from taptr_ros.settings import check_settings, setting

LEVEL_STRIDES = (2, 8, 16)
"""Input pixels per pixel of each feature level, finest first."""

HISTORY = 3
"""Past displacements that a track carries beside its position."""


@dataclasses.dataclass(frozen=True)
class SmallConfig:
    """Shape of one `SmallNetwork`: TAPTRv3 for processors without a GPU.

    Raises `InvalidConfigError` if a value is out of range or two contradict each other.
    """

    name: str = setting(
        "taptr_small",
        "Name under which the model reports itself.",
    )
    level_channels: tuple[int, int, int] = setting(
        (32, 64, 64),
        "Channels of the feature levels, strides 2, 8 and 16.",
        limits=(1, MOST),
    )
    fine_channels: int = setting(
        24,
        "Channels that lead to the finest level.",
        limits=(1, MOST),
    )
    hidden_dim: int = setting(
        128,
        "Channels D of content features and memory slots.",
        limits=(1, MOST),
    )
    heads: int = setting(
        4,
        "Attention heads of VLTA; each has hidden_dim / heads channels.",
        limits=(1, MOST),
    )
    decoder_layers: int = setting(
        3,
        "Layers that refine a point in one frame.",
        limits=(1, MOST_LAYERS),
    )
    temporal_layers: int = setting(
        1,
        "Decoder layers, counted from the first, that attend to the memory: each reads all of it, which is what most "
        "of the time goes into when the memory is long.",
        limits=(1, MOST_LAYERS),
    )
    feedforward_dim: int = setting(
        256,
        "Hidden width of the feed-forward blocks.",
        limits=(1, MOST),
    )
    grid_radius: int = setting(
        2,
        "CCA samples a grid of (2 * grid_radius + 1) squared places round the point, 1 level pixel apart.",
        limits=(1, 64),
    )
    similarity_channels: int = setting(
        16,
        "Channels that the 81 similarities of a sampling place are embedded in.",
        limits=(1, MOST),
    )
    similarity_summary: int = setting(
        8,
        "Channels per sampling place that go into the content feature.",
        limits=(1, MOST),
    )
    context_renewal: float = setting(
        0.3,
        "How much of a context is replaced, every few frames, by what surrounds the point there: CCA compares with how "
        "a point looked lately then, not with how it looked when it was chosen. 0 never renews, as in the paper.",
        limits=(0.0, 1.0),
        excluded=(1.0,),
    )
    height: int = setting(
        512,
        "Input height in pixels; images are stretched to it.",
        limits=(1, MOST),
    )
    width: int = setting(
        512,
        "Input width in pixels; images are stretched to it.",
        limits=(1, MOST),
    )
    visible_threshold: float = setting(
        0.3,
        "Probability of being visible and close above which a point counts as visible. Reporting a point raises the "
        "Jaccard J exactly if that probability is above J / (1 + J).",
        limits=(0.0, 1.0),
        excluded=(0.0, 1.0),
    )
    tuning: Tuning = TAPTR_SMALL_TUNING
    """How the tracker searches with these weights and renews contexts."""

    # What other architectures let their configuration choose.
    corner_aligned_coordinates: ClassVar[bool] = False
    self_attention: ClassVar[bool] = False
    starting_queries_join_decoder: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.level_channels, list):
            # JSON and YAML have no tuples.
            object.__setattr__(self, "level_channels", tuple(self.level_channels))
        check_settings(self)
        check_input_size(self.height, self.width)
        if self.hidden_dim % self.heads or self.hidden_dim % 2:
            raise InvalidConfigError(
                f"hidden_dim {self.hidden_dim} must be even and a multiple of heads ({self.heads}); change one of them."
            )
        if self.height % LEVEL_STRIDES[-1] or self.width % LEVEL_STRIDES[-1]:
            raise InvalidConfigError(
                f"The input size {self.height}x{self.width} must be a multiple of {LEVEL_STRIDES[-1]} both ways."
            )
        if self.temporal_layers > self.decoder_layers:
            raise InvalidConfigError(
                f"temporal_layers is {self.temporal_layers}, but there are only {self.decoder_layers} decoder layers."
            )

    @property
    def context_dim(self) -> int:
        """Channels of a context cell: those of all levels."""
        return sum(self.level_channels)

    @property
    def state_dim(self) -> int:
        """Numbers that a track carries from frame to frame: its position and its last displacements."""
        return 2 + 2 * HISTORY

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the feature levels at the configured input size, finest first."""
        return tuple((self.height // stride, self.width // stride) for stride in LEVEL_STRIDES)

    @property
    def feature_shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes of what `encode` returns: the levels' pixels and their channels, finest first."""
        sizes = zip(self.level_sizes, self.level_channels, strict=True)
        return tuple((height * width, channels) for (height, width), channels in sizes)
