"""Contexts that follow what points look like: an addition to TAPTRv3, whose contexts stay those of the query frame.

CCA compares what lies round a point with the point's context. A context that moves towards what the point looks like
lets it be recognised after it has turned or come closer; it goes back to the query's context as far as the point looks
as it did there, so that errors do not add up. The content feature still restarts from the query on every frame.

The functions take numpy arrays and torch tensors alike. How much of a context is replaced is the model's
`context_renewal`; when, and from which difference on, is in the model's `Tuning`.
"""

from __future__ import annotations

from typing import Any

from taptr_ros.model.tuning import Tuning

Array = Any
"""A numpy array or a torch tensor."""


def due(age: Array, tuning: Tuning) -> Array:
    """Return which of the tracks that started `age` [N] (or one number) frames ago have their turn, bool likewise."""
    return (age > 0) & (age % tuning.renewal_interval == 0)


def renewed(context: Array, query: Array, around: Array, share: Array | float, tuning: Tuning) -> Array:
    """Return contexts moved by `share` towards what surrounds their points now, or back to those of the queries.

    The more alike the surroundings are to the query's, the nearer the target is to the query's context.

    Args:
        context: [N,3,3,E] contexts.
        query: [N,3,3,E] contexts in the query frames.
        around: [N,3,3,E] what surrounds the points now.
        share: 0..1, one number or [N,1,1,1].
        tuning: the model's.
    """
    cells = (1, 2, 3)
    changed = tuning.renewal_similarity
    # Surroundings outside the image are zero, where a root has no finite gradient.
    length = ((query * query).sum(cells) * (around * around).sum(cells) + 1e-12) ** 0.5
    similarity = (query * around).sum(cells) / length
    back = ((similarity - changed) / (1.0 - changed)).clip(0.0, 1.0).reshape(-1, 1, 1, 1)
    return context + share * (around + back * (query - around) - context)
