"""The network's configuration: one documented dataclass, free of PyTorch so that every backend can read it."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from taptr_ros.errors import InvalidConfigError
from taptr_ros.model.limits import MOST, MOST_LAYERS, check_input_size
from taptr_ros.model.tuning import Tuning
from taptr_ros.settings import check_settings, setting

Backbone = Literal["resnet18", "resnet50"]

STAGE_BLOCKS: dict[str, tuple[int, int, int, int]] = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
"""Residual blocks in each of the four stages of a backbone."""

STAGE_EXPANSION: dict[str, int] = {"resnet18": 1, "resnet50": 4}
"""Output channels of a residual block divided by its width."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape and conventions of one TAPTRv3 network.

    The defaults describe a network without the quirks of the released code. `released()` gives the configuration
    that released weights need.

    Raises `InvalidConfigError` if a value is out of range or two contradict each other.
    """

    name: str = setting(
        "taptrv3",
        "Name under which the model reports itself.",
    )
    backbone: Backbone = setting(
        "resnet18",
        "Residual network whose four stages (strides 4, 8, 16, 32) give the feature levels.",
    )
    backbone_width: int = setting(
        64,
        "Channels of the backbone's stem; later stages double it.",
        limits=(1, MOST),
    )
    hidden_dim: int = setting(
        256,
        "Channels D of every token, content feature and memory slot.",
        limits=(1, MOST),
    )
    heads: int = setting(
        8,
        "Attention heads; each has hidden_dim / heads channels.",
        limits=(1, MOST),
    )
    sampling_points: int = setting(
        4,
        "Sampling locations per head and level in deformable attention and in CCA.",
        limits=(1, MOST),
    )
    encoder_layers: int = setting(
        2,
        "Layers of multi-scale deformable self-attention over the image tokens.",
        limits=(1, MOST_LAYERS),
    )
    decoder_layers: int = setting(
        4,
        "Layers of VLTA, CCA with APU, self-attention and feed-forward that refine a point in one frame.",
        limits=(1, MOST_LAYERS),
    )
    feedforward_dim: int = setting(
        2048,
        "Hidden width of the feed-forward blocks.",
        limits=(1, MOST),
    )
    sine_features: int = setting(
        128,
        "Sine embedding channels per box coordinate.",
        limits=(1, MOST),
    )
    height: int = setting(
        384,
        "Input height in pixels; images are stretched to it.",
        limits=(1, MOST),
    )
    width: int = setting(
        512,
        "Input width in pixels; images are stretched to it.",
        limits=(1, MOST),
    )
    visible_threshold: float = setting(
        0.5,
        "Visibility probability above which a point counts as visible.",
        limits=(0.0, 1.0),
        excluded=(0.0, 1.0),
    )
    tuning: Tuning = Tuning()
    """How the tracker searches with these weights."""
    self_attention: bool = setting(
        True,
        "Let the points attend to each other in every decoder layer. Off, every track is independent of the others.",
    )

    # Quirks: each exists only because released weights were trained with it.
    corner_aligned_coordinates: bool = setting(
        False,
        "Normalise x to x / (W - 1), with pixel centres at integers, although images are resized and features are "
        "sampled half-pixel aligned (spec sections 1 and 4). Off: (x + 0.5) / W everywhere.",
    )
    position_update_divides_by_swapped_size: bool = setting(
        False,
        "APU divides the x offset by the level's height and the y offset by its width (spec section 5, step 3).",
    )
    corner_aligned_key_patch: bool = setting(
        False,
        "The 3x3 key patch of CCA is spaced w / (w - 1) level pixels instead of 1 (spec section 5, step 2).",
    )
    current_frame_in_memory: bool = setting(
        False,
        "VLTA also attends to the initial content feature, as the current frame's slot, with visibility weight "
        "0.000999001 (spec section 5, step 1). Off: past frames only, as in the paper.",
    )
    starting_queries_join_decoder: bool = setting(
        False,
        "A query passes the decoder, position frozen, already in its start frame if another track is updated there, "
        "and its decoded content then enters the memory (spec sections 5 and 6). Off: the initial content does.",
    )
    box_clamped_twice: bool = setting(
        False,
        "The box carried to the next frame passes the clamp of the inverse sigmoid twice (spec section 6).",
    )

    # What other architectures let their configuration choose.
    context_renewal: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        check_settings(self)
        check_input_size(self.height, self.width)
        if self.hidden_dim % self.heads or self.hidden_dim % 4:
            raise InvalidConfigError(
                f"hidden_dim {self.hidden_dim} must be a multiple of heads ({self.heads}) and of 4; change one of them."
            )
        if self.hidden_dim % GROUP_NORM_GROUPS:
            raise InvalidConfigError(f"hidden_dim {self.hidden_dim} must be a multiple of {GROUP_NORM_GROUPS}.")
        if self.sine_features % 2:
            raise InvalidConfigError(f"sine_features is {self.sine_features}; use an even number.")

    @property
    def levels(self) -> int:
        """Feature levels L: one per backbone stage."""
        return len(STAGE_BLOCKS[self.backbone])

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of the backbone's stage outputs, finest first."""
        expansion = STAGE_EXPANSION[self.backbone]
        return tuple(self.backbone_width * 2**stage * expansion for stage in range(self.levels))

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the feature levels at the configured input size, finest first."""
        return level_sizes(self.height, self.width, self.levels)

    @property
    def context_dim(self) -> int:
        """Channels of a context cell."""
        return self.hidden_dim

    @property
    def state_dim(self) -> int:
        """Numbers that a track carries from frame to frame: box logits x, y and two latent ones (spec section 4)."""
        return 4

    @property
    def feature_shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape [S,D] of the tokens, which are all that `encode` returns."""
        return ((sum(height * width for height, width in self.level_sizes), self.hidden_dim),)

    @classmethod
    def released(cls, **changes: Any) -> ModelConfig:
        """Return the configuration of released weights: every quirk on, threshold 0.45 (spec section 6).

        `changes` overrides single fields, for instance `backbone="resnet50", height=512, width=512`.
        """
        quirks: dict[str, Any] = {
            "name": "taptrv3_r18",
            "visible_threshold": 0.45,
            "corner_aligned_coordinates": True,
            "position_update_divides_by_swapped_size": True,
            "corner_aligned_key_patch": True,
            "current_frame_in_memory": True,
            "starting_queries_join_decoder": True,
            "box_clamped_twice": True,
        }
        return cls(**{**quirks, **changes})


GROUP_NORM_GROUPS = 32
"""Groups of the GroupNorm after each input projection (spec section 2)."""


def level_sizes(height: int, width: int, levels: int) -> tuple[tuple[int, int], ...]:
    """Return (height, width) of each feature level for an input of height x width pixels, finest first.

    The backbone's stem and every later stage halve the size, rounding up; the stem does so twice (stride 4).
    """
    sizes: list[tuple[int, int]] = []
    for _ in range(levels + 1):
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append((height, width))
    return tuple(sizes[1:])
