"""Painting of many frames together: what `taptr_ros.training.scenes.painting` does one by one with OpenCV.

All pictures grow at once, from their farthest layers to their nearest. In each step, one layer per picture is drawn:
the pixels in all their boxes are listed one after the other and computed together, whatever the sizes of the boxes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from taptr_ros.training.scenes.motion import Floats, inverse
from taptr_ros.training.scenes.painting import PaintedLayer, Painter, shadow_softness

PICTURES = 64
"""Pictures painted at once, at least, where there are so many."""

_Whole = NDArray[np.int64]


def paint(views: Sequence[tuple[Painter, int]], device: torch.device) -> Tensor:
    """Return frames, uint8 [M,H,W,3] RGB, each a painter and the number of a frame; all have one size."""
    parts: list[Tensor] = []
    for chunk in _chunks(views):
        moments = [_Moment(painter, frame, offset) for painter, frame in chunk for offset in painter.offsets(frame)]
        by_view = _pictures(moments, device).split([len(painter.offsets(frame)) for painter, frame in chunk])
        parts += [pictures.mean(0).round() for pictures in by_view]
    return torch.stack(parts)[..., :3].to(torch.uint8)


@dataclasses.dataclass(frozen=True)
class _Moment:
    """What one picture shows."""

    painter: Painter
    frame: int
    offset: float
    """Frames after the frame's own time."""


def _chunks(views: Sequence[tuple[Painter, int]]) -> Iterator[list[tuple[Painter, int]]]:
    """Split views into runs of about `PICTURES` pictures."""
    chunk: list[tuple[Painter, int]] = []
    pictures = 0
    for painter, frame in views:
        chunk.append((painter, frame))
        pictures += len(painter.offsets(frame))
        if pictures >= PICTURES:
            yield chunk
            chunk, pictures = [], 0
    if chunk:
        yield chunk


@dataclasses.dataclass(frozen=True)
class _Drawings:
    """N layers to be drawn, each in one picture."""

    picture: Tensor
    """[N] int64 number of the picture."""
    step: Tensor
    """[N] int64 how many layers of the picture are drawn before."""
    box: Tensor
    """[N,4] int64 left, top, right and bottom of what it may cover; right and bottom are exclusive."""
    inverse: Tensor
    """[N,9] matrices from pixels to (bent) texels."""
    wave_amplitude: Tensor
    """[N,K,2] texels."""
    wave_number: Tensor
    """[N,K,2] radians per texel."""
    wave_phase: Tensor
    """[N,K] radians."""
    shrink: Tensor
    """[N,4] scale and offset of x, and of y, from texels to those of the copy that is drawn."""
    source: Tensor
    """[N,3] int64 where the copy begins in the atlas, its width and its height, without its rim."""
    endless: Tensor
    """[N] bool: continued by reflection."""
    gain: Tensor
    """[N] brightness."""
    shown: Tensor
    """[N] bool: False if only its shadow is seen."""
    shadow: Tensor
    """[N,3] displacement in pixels, and share of the light left."""
    softness: Tensor
    """[N] int64 side of the square over which half-size shadows are averaged; 0 for no shadow."""

    def rows(self, chosen: Tensor) -> _Drawings:
        """Return some of them: indices, or bools."""
        return _Drawings(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


class _Atlas:
    """Texels of all textures, one after the other, each with a rim of one texel."""

    def __init__(self) -> None:
        self._begin: dict[int, int] = {}
        self._parts: list[NDArray[np.int32]] = []
        self._size = 0

    def place(self, painted: PaintedLayer, level: int) -> tuple[int, int, int]:
        """Return where a level of a layer's mip begins, its width and its height; adds it if it is new."""
        texels = painted.layer.mip[level]
        height, width = texels.shape[:2]
        if id(texels) not in self._begin:
            # Beyond its edge an endless layer is reflected, any other is clear.
            endless = painted.layer.mask is None
            rim = ((1, 1), (1, 1), (0, 0))
            padded = np.pad(texels, rim, mode="edge") if endless else np.pad(texels, rim)
            self._begin[id(texels)] = self._size
            self._parts.append(padded.view(np.int32).ravel())
            self._size += padded.shape[0] * padded.shape[1]
        return self._begin[id(texels)], width, height

    def on(self, device: torch.device) -> Tensor:
        """Return the texels, RGB and opacity in one int32 each."""
        return torch.from_numpy(np.concatenate(self._parts)).to(device)


def _pictures(moments: Sequence[_Moment], device: torch.device) -> Tensor:
    """Return what is seen at P moments, float32 [P,H,W,4] of whole numbers; the fourth channel has no meaning."""
    atlas = _Atlas()
    drawings = _drawings(moments, atlas, device)
    texels = atlas.on(device)
    scene = moments[0].painter.scene
    canvas = torch.zeros((len(moments), scene.height, scene.width, 4), device=device)
    for step in range(int(drawings.step.max()) + 1):
        now = drawings.rows(torch.nonzero(drawings.step == step)[:, 0])
        _cast_shadows(canvas, now.rows(torch.nonzero(now.softness)[:, 0]), texels)
        _draw(canvas, now.rows(torch.nonzero(now.shown)[:, 0]), texels)
    return canvas


def _drawings(moments: Sequence[_Moment], atlas: _Atlas, device: torch.device) -> _Drawings:
    """Return all that is to be drawn."""
    parts: list[dict[str, NDArray[np.generic]]] = []
    for _, group in itertools.groupby(range(len(moments)), key=lambda picture: id(moments[picture].painter)):
        pictures = np.array(list(group))
        painter = moments[pictures[0]].painter
        frames, offsets = (
            np.array([getattr(moments[picture], part) for picture in pictures]) for part in ("frame", "offset")
        )
        order = painter.scene.order[frames]
        by_layer = [painted.shown[frames] | (painted.layer.shadow is not None) for painted in painter.layers]
        appears = np.stack(by_layer, axis=-1)
        in_order = np.take_along_axis(appears, order, axis=1)
        steps = np.empty_like(order)
        np.put_along_axis(steps, order, np.cumsum(in_order, axis=1) - in_order, axis=1)
        for index, painted in enumerate(painter.layers):
            rows = np.flatnonzero(appears[:, index])
            if len(rows):
                columns = _columns(painted, frames[rows], offsets[rows], atlas)
                parts.append({**columns, "picture": pictures[rows], "step": steps[rows, index]})
    waves = max(part["wave_phase"].shape[1] for part in parts)
    for part in parts:
        for name in ("wave_amplitude", "wave_number", "wave_phase"):
            short = waves - part[name].shape[1]
            part[name] = np.pad(part[name], [(0, 0), (0, short)] + [(0, 0)] * (part[name].ndim - 2))
    return _Drawings(
        *(_on(np.concatenate([part[field.name] for part in parts]), device) for field in dataclasses.fields(_Drawings))
    )


def _columns(painted: PaintedLayer, frames: _Whole, offsets: Floats, atlas: _Atlas) -> dict[str, NDArray[np.generic]]:
    """Return the fields of `_Drawings` of one layer at R moments, but for picture and step."""
    layer, count = painted.layer, len(frames)
    matrices = inverse(layer.homographies[frames] + offsets[:, np.newaxis, np.newaxis] * layer.velocities[frames])
    # Only the sign of the scale matters; float32 must hold all of it.
    matrices = matrices / np.abs(matrices).max(axis=(1, 2), keepdims=True)
    levels = painted.levels[frames]
    shrink = np.stack([matrix[[0, 0, 1, 1], [0, 2, 1, 2]] for matrix in painted.shrink])[levels]
    places = {level: atlas.place(painted, level) for level in set(levels.tolist())}
    waves, shadow = layer.waves, layer.shadow
    if waves is None:
        amplitude, number, phase = np.zeros((count, 0, 2)), np.zeros((count, 0, 2)), np.zeros((count, 0))
    else:
        amplitude, number = (np.tile(part, (count, 1, 1)) for part in (waves.amplitude, waves.number))
        # Whole turns are taken off: float32 would not tell large angles apart.
        phase = np.remainder(np.outer(layer.times[frames] + offsets, waves.frequency) + waves.phase, 2 * np.pi)
    return {
        "box": painted.boxes[frames],
        "inverse": matrices.reshape(count, 9),
        "wave_amplitude": amplitude,
        "wave_number": number,
        "wave_phase": phase,
        "shrink": shrink,
        "source": np.array([places[level] for level in levels.tolist()], np.int64),
        "endless": np.full(count, layer.mask is None),
        "gain": np.ones(count) if layer.gain is None else layer.gain[frames],
        "shown": painted.shown[frames],
        "shadow": np.tile((0.0, 0.0, 1.0) if shadow is None else (*shadow.offset, shadow.brightness), (count, 1)),
        "softness": np.full(count, 0 if shadow is None else shadow_softness(shadow)),
    }


def _on(array: NDArray[np.generic], device: torch.device) -> Tensor:
    kept = array.astype(np.float32) if array.dtype == np.float64 else array
    return torch.from_numpy(np.ascontiguousarray(kept)).to(device)


def _draw(canvas: Tensor, drawings: _Drawings, texels: Tensor) -> None:
    """Draw at most one layer over each picture of the canvas [P,H,W,4]."""
    left, top, right, bottom = drawings.box.T
    width, area = right - left, (right - left) * (bottom - top)
    drawing = torch.repeat_interleave(torch.arange(len(area), device=area.device), area)
    if not len(drawing):
        return
    within = torch.arange(len(drawing), device=area.device) - (area.cumsum(0) - area)[drawing]
    row = torch.div(within, width[drawing], rounding_mode="floor")
    x, y = left[drawing] + within - row * width[drawing], top[drawing] + row
    seen = _seen(drawings, drawing, x.float(), y.float(), texels, bent=True)
    brighter = (seen[:, :3] * drawings.gain[drawing].unsqueeze(-1)).clamp_(max=255.0).floor_()
    covered = seen[:, 3:] / 255.0
    pixels = canvas.view(-1, 4)
    place = (drawings.picture[drawing] * canvas.shape[1] + y) * canvas.shape[2] + x
    shining_through = (pixels[place, :3] * (1.0 - covered)).round_()
    pixels[place, :3] = (shining_through + brighter).clamp_(max=255.0)


def _seen(drawings: _Drawings, drawing: Tensor, x: Tensor, y: Tensor, texels: Tensor, *, bent: bool) -> Tensor:
    """Return RGB times opacity and opacity, 0..255 [R,4] whole numbers, of layers `drawing` [R] at pixels x, y [R].

    Without `bent` the layers' waves are left out.
    """
    matrix = drawings.inverse[drawing].unbind(-1)
    depth = matrix[6] * x + matrix[7] * y + matrix[8]
    u = (matrix[0] * x + matrix[1] * y + matrix[2]) / depth
    v = (matrix[3] * x + matrix[4] * y + matrix[5]) / depth
    if bent and drawings.wave_phase.shape[1]:
        number = drawings.wave_number[drawing]
        angle = number[..., 0] * u.unsqueeze(-1) + number[..., 1] * v.unsqueeze(-1) + drawings.wave_phase[drawing]
        moved = (angle.sin().unsqueeze(-1) * drawings.wave_amplitude[drawing]).sum(1)
        u, v = u + moved[:, 0], v + moved[:, 1]
    scale = drawings.shrink[drawing].unbind(-1)
    begin, width, height = drawings.source[drawing].unbind(-1)
    endless = drawings.endless[drawing]
    # Counted from the rim's first texel.
    u = _within(scale[0] * u + scale[1], width, endless) + 1.0
    v = _within(scale[2] * v + scale[3], height, endless) + 1.0
    left, above = u.floor(), v.floor()
    to_right, down = (u - left).unsqueeze(-1), (v - above).unsqueeze(-1)
    first = begin + above.long() * (width + 2) + left.long()
    across = (left < (width + 1)).long()
    below = (above < (height + 1)).long() * (width + 2)
    steps = (0, across, below, across + below)
    upper_left, upper_right, lower_left, lower_right = (
        texels[first + step].view(torch.uint8).view(-1, 4).float() for step in steps
    )
    upper = torch.lerp(upper_left, upper_right, to_right)
    lower = torch.lerp(lower_left, lower_right, to_right)
    # What would lie behind the camera is not there; endless layers are nowhere behind it.
    there = (endless | (depth > 0.0)).unsqueeze(-1)
    return torch.lerp(upper, lower, down).round_() * there


def _within(position: Tensor, extent: Tensor, endless: Tensor) -> Tensor:
    """Return texel positions [R] that lie in textures of `extent` [R] texels with a rim of one."""
    position = torch.nan_to_num(position, nan=-1.0, posinf=-1.0, neginf=-1.0)
    reflected = extent - (torch.remainder(position + 0.5, 2.0 * extent) - extent).abs() - 0.5
    clamped = torch.minimum(position.clamp(min=-1.0), extent.to(position.dtype))
    return torch.where(endless, reflected, clamped)


def _cast_shadows(canvas: Tensor, drawings: _Drawings, texels: Tensor) -> None:
    """Darken the canvas where layers, displaced, would cover it."""
    count = len(drawings.softness)
    if not count:
        return
    height, width = canvas.shape[1:3]
    # Soft edges need no fine picture.
    rows, columns = (height + 1) // 2, (width + 1) // 2
    y, x = torch.meshgrid(
        2.0 * torch.arange(rows, device=canvas.device) + 0.5,
        2.0 * torch.arange(columns, device=canvas.device) + 0.5,
        indexing="ij",
    )
    drawing = torch.arange(count, device=canvas.device).repeat_interleave(rows * columns)
    shifted = [(part.flatten() - drawings.shadow[:, axis : axis + 1]).flatten() for axis, part in enumerate((x, y))]
    shade = _seen(drawings, drawing, shifted[0], shifted[1], texels, bent=False)[:, 3].view(count, rows, columns)
    for axis in (1, 2):
        shade = _averaged(shade, drawings.softness // 2, axis)
    full = F.interpolate(shade.unsqueeze(1), scale_factor=2.0, mode="bilinear", align_corners=False)[:, 0]
    light = 1.0 + (drawings.shadow[:, 2].view(-1, 1, 1) - 1.0) * full[:, :height, :width] / 255.0
    canvas[drawings.picture] = (canvas[drawings.picture] * light.unsqueeze(-1)).round_()


def _averaged(images: Tensor, reach: Tensor, axis: int) -> Tensor:
    """Return images [N,h,w] averaged along an axis over each pixel and `reach` [N] ones before and after it.

    Beyond the image there is 0.
    """
    extent = images.shape[axis]
    totals = F.pad(images.movedim(axis, -1).cumsum(-1), (1, 0))
    place = torch.arange(extent, device=images.device)
    after = (place + reach.unsqueeze(-1) + 1).clamp(max=extent)
    before = (place - reach.unsqueeze(-1)).clamp(min=0)
    ends = (totals.gather(-1, part.unsqueeze(1).expand(-1, totals.shape[1], -1)) for part in (after, before))
    total = next(ends) - next(ends)
    return (total / (2 * reach + 1).view(-1, 1, 1)).movedim(-1, axis)
