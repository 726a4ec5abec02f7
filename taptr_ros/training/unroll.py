"""The network over whole clips, frame by frame as the tracker runs it, with gradients."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from taptr_ros.model.constants import constant
from taptr_ros.model.decoder import DecoderInput
from taptr_ros.model.patches import FeatureLevels, GatheredPatches
from taptr_ros.model.rotary import rotary_phase, rotated_back
from taptr_ros.model.small_decoder import SmallDecoderOutput
from taptr_ros.model.small_network import SmallNetwork
from taptr_ros.tracking import context_renewal
from taptr_ros.training.batches import Batch

LOST = 24.0
"""Pixels of error at which a visible point counts as lost."""


@dataclasses.dataclass(frozen=True)
class Unrolled:
    """What the network made of a batch of B clips with N points each, in the L frames that are learnt from."""

    first: int
    """Number of the first of these frames; the last is the clip's."""
    positions: Tensor
    """[L,estimates,B,N,2] unit coordinates, as `taptr_ros.model.small_decoder.SmallDecoderOutput` orders them."""
    logits: Tensor
    """[L,estimates,B,N,2] of visibility and confidence."""
    levels: list[Tensor]
    """[L,B,h*w,C] features of each level, finest first."""
    queries: list[Tensor]
    """[B,N,C] features of each level at the query points."""
    sizes: list[tuple[int, int]]
    """(height, width) of each level."""
    heat: Tensor
    """[L,B,N,h*w] logits of the query points' heat maps over the middle level."""
    backward: Callable[[Tensor], None]
    """Computes the gradients of a loss of the above."""


def unroll(network: SmallNetwork, batch: Batch, *, lead: int = 0, fused: bool, bfloat16: bool) -> Unrolled:
    """Track the points of a batch from their true places in the first frame on.

    Gradients run through time by way of the memory; positions are handed on without. A visible point that is lost goes
    on from its true place, as one that the tracker has found again by global matching: lost points teach nothing.
    Some points are thought to be elsewhere after a frame, as the batch says, and are to be found by their heat map.

    Args:
        network: in training mode.
        batch: clips of more than `lead` + 1 frames.
        lead: frames after the first that are followed without learning from them. They make memories long, with long
            occlusions in them, for a third of the time that other frames take.
        fused: read features with `taptr_ros.training.fused_patches`, on a processor only.
        bfloat16: encode images in bfloat16.
    """
    clips, points = batch.visible.shape[1:]
    first = 1 + lead
    encode = functools.partial(_encode, network, bfloat16=bfloat16)
    maps = encode(torch.cat((batch.images[:1], batch.images[first:])))
    sizes = [(level.shape[2], level.shape[3]) for level in maps]
    encoded = [_rows(level, clips) for level in maps]
    # The tracks' graph ends at these leaves. What reads them a hundred times adds to one gradient, which then goes
    # through the encoder once.
    leaves = [level.detach().requires_grad_() for level in encoded]
    for leaf in leaves:
        leaf.grad = torch.zeros_like(leaf)
    image = torch.arange(clips, device=leaves[0].device).repeat_interleave(points)
    start, *learnt = _features_by_frame(leaves, sizes, image, fused=fused)
    network.patches_at = GatheredPatches
    if fused:
        from taptr_ros.training.fused_patches import FusedPatches

        network.patches_at = FusedPatches

    tracks = _UnrolledTracks(network, batch, FeatureLevels([leaf[0] for leaf in leaves], sizes, image))
    for frame in range(1, first):
        with torch.no_grad():
            rows = [_rows(level, clips)[0] for level in encode(batch.images[frame : frame + 1])]
            # The start's gradients stand in for the frame's: nothing is added to them.
            tracks.advance(frame, FeatureLevels(rows, sizes, image, start.gradients))
    outputs = [tracks.advance(frame, features) for frame, features in enumerate(learnt, first)]

    def backward(loss: Tensor) -> None:
        loss.backward()
        torch.autograd.backward(encoded, [leaf.grad for leaf in leaves])

    levels = [leaf[1:].unflatten(1, (clips, -1)) for leaf in leaves]
    queries = list(tracks.queries.view(clips, points, -1).split(network.config.level_channels, dim=-1))
    learnt_frames = len(levels[0])
    heat = network.decoder.heat_map.logits(
        [query.repeat(learnt_frames, 1, 1) for query in queries[1:]],
        [level.flatten(0, 1) for level in levels[1:]],
        sizes[1],
    )
    return Unrolled(
        first=first,
        positions=torch.stack([output.positions for output in outputs]).unflatten(2, (clips, points)),
        logits=torch.stack([output.logits for output in outputs]).unflatten(2, (clips, points)),
        levels=levels,
        queries=queries,
        sizes=sizes,
        heat=heat.unflatten(0, (learnt_frames, clips)),
        backward=backward,
    )


class _UnrolledTracks:
    """The tracks of a batch, B * N points one after the other, with all that they remember."""

    def __init__(self, network: SmallNetwork, batch: Batch, features: FeatureLevels) -> None:
        """Start at the true places in the first frame, whose features these are."""
        self._network, self._batch = network, batch
        self._content, self._query_context, self._state = network.init_queries(features, batch.xy[0].flatten(0, 1))
        self._context = self._query_context
        self.queries = self._query_context[:, 1, 1]
        """[B*N,E] features at the query points, level by level."""
        self._keys, self._values = [_rotated(self._content, 0)], [self._content]
        self._weights = [torch.ones_like(self._content[:, 0])]
        self._moving = torch.ones_like(self._content[:, 0], dtype=torch.bool)

    def advance(self, frame: int, features: FeatureLevels) -> SmallDecoderOutput:
        """Follow the points into a frame."""
        tracks = DecoderInput(
            content=self._content,
            context=self._context,
            state=self._state,
            keys=torch.stack(self._keys, dim=1),
            values=torch.stack(self._values, dim=1),
            weights=torch.stack(self._weights, dim=1),
            phase=_phase(frame, self._content),
            updated=self._moving,
        )
        output = self._network.decode(features, tracks)
        self._keys.append(_rotated(output.content, frame))
        self._values.append(output.content)
        # Like the tracker, which never writes a slot of weight 0.
        self._weights.append(output.logits[-1].detach().sigmoid().prod(-1).clamp(min=1e-7))
        true, visible = self._batch.xy[frame], self._batch.visible[frame]
        state = found_again(output.state, true, visible, self._batch.images.shape[2])
        displaced = self._batch.displaced[frame].flatten(0, 1)
        self._state = state + F.pad(displaced, (0, state.shape[1] - 2))
        config = self._network.config
        if config.context_renewal and context_renewal.due(frame, config.tuning):
            # What is learnt from later frames goes into the query's context also through frames that are only followed.
            with torch.enable_grad():
                self._renew_contexts(features, output)
        return output

    def _renew_contexts(self, features: FeatureLevels, output: SmallDecoderOutput) -> None:
        """Renew the contexts of visible points; nothing is learnt from what surrounds them."""
        xy, visibility, confidence = self._network.estimates(output)
        config = self._network.config
        seen = visibility * confidence >= config.tuning.renewal_visibility
        share = config.context_renewal * seen.view(-1, 1, 1, 1)
        with torch.no_grad():
            _, around, _ = self._network.init_queries(features, xy)
        self._context = context_renewal.renewed(self._context, self._query_context, around, share, config.tuning)


def _encode(network: SmallNetwork, images: Tensor, *, bfloat16: bool) -> list[Tensor]:
    """Return the levels [T*B,C,h,w] of images [T,B,S,S,3]."""
    images = images.flatten(0, 1).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
        return list(network.encoder(images))


def _rows(level: Tensor, clips: int) -> Tensor:
    """Return a level [T*B,C,h,w] of all frames and clips as rows [T,B*h*w,C]."""
    return level.float().permute(0, 2, 3, 1).reshape(len(level) // clips, -1, level.shape[1])


def _features_by_frame(
    leaves: list[Tensor], sizes: list[tuple[int, int]], image: Tensor, *, fused: bool
) -> list[FeatureLevels]:
    """Return the features of all clips in every frame, from levels [T,B*h*w,C]; `image` [B*N] tells a point's clip."""
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    if fused:
        return [
            FeatureLevels([leaf.detach()[frame] for leaf in leaves], sizes, image, [part[frame] for part in gradients])
            for frame in range(len(leaves[0]))
        ]
    return [
        FeatureLevels(list(levels), sizes, image) for levels in zip(*(leaf.unbind(0) for leaf in leaves), strict=True)
    ]


def found_again(state: Tensor, true: Tensor, visible: Tensor, size: int) -> Tensor:
    """Return `state` [N,state_dim] with lost points put to their true places, at rest."""
    true, visible = true.flatten(0, 1), visible.flatten()
    lost = visible & ((state[:, :2] - true).norm(dim=-1) * size > LOST)
    return torch.where(lost.unsqueeze(-1), F.pad(true, (0, state.shape[1] - 2)), state)


def _phase(frame: int, like: Tensor) -> Tensor:
    cosine, sine = rotary_phase(frame, like.shape[1]).tolist()
    return constant((tuple(cosine), tuple(sine)), like)


def _rotated(content: Tensor, frame: int) -> Tensor:
    """Rotate contents [N,D] by minus a frame number, de-interleaved, as the tracker's memory holds them."""
    cos, sin = _phase(frame, content)
    return torch.cat(rotated_back(content, cos, sin), dim=-1)
