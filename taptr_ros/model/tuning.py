"""Numbers of the tracker that fit one model's features: how similar is similar, how sure is sure.

They belong to the weights, as `visible_threshold` does, and travel in the model's configuration.
"""

from __future__ import annotations

import dataclasses

from taptr_ros.settings import check_settings, setting


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How the tracker searches with a model and renews its contexts.

    The defaults are for models that nobody has tuned: a search must be surer than a tuned one. Raises
    `InvalidConfigError` for values out of range.
    """

    match_gate: float = setting(
        0.8, "Patch similarity (cosine, -1..1) that a global match must reach.", limits=(-1.0, 1.0)
    )
    match_margin: float = setting(
        0.1, "How far a global match must stand out from the next best place.", limits=(0.0, 2.0)
    )
    match_contrast: float = setting(
        1e-2,
        "Difference from a frame's mean feature below which a patch counts as featureless and is similar to nothing.",
        limits=(0.0, 1e6),
    )
    match_peaks: int = setting(3, "Peaks of similarity per point that are looked at more closely.", limits=(1, 64))
    match_promising: float = setting(
        0.2,
        "How much less similar than would do, and than the best one, a peak may be to be looked at more closely.",
        limits=(0.0, 2.0),
    )
    match_close_looks: int = setting(
        64,
        "Peaks of all points together that are looked at more closely: as much work as the candidate places are.",
        limits=(0, 65536),
    )
    renewal_interval: int = setting(4, "Frames between two renewals of a context.", limits=(1, 65536))
    renewal_visibility: float = setting(
        0.8, "Product of visibility and confidence from which on a point's context is renewed.", limits=(0.0, 1.0)
    )
    renewal_similarity: float = setting(
        0.8,
        "Patch similarity (cosine) with the query's context up to which a point counts as one that looks different.",
        limits=(-1.0, 0.999),
    )

    def __post_init__(self) -> None:
        check_settings(self)


TAPTR_SMALL_TUNING = Tuning(match_gate=0.65, renewal_interval=2, renewal_visibility=0.9)
"""What was found for the weights of `taptr_small`: docs/accuracy.md."""
