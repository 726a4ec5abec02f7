"""The camera and the recording of many clips together: what `taptr_ros.training.scenes.imaging` does frame by frame."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from taptr_ros.training.scenes.batched.compression import recompressed
from taptr_ros.training.scenes.imaging import Compression, Film, blur_side, noise_pattern


def develop(films: Sequence[Film], painted: Tensor) -> Tensor:
    """Return the painted frames, uint8 [C,T,H,W,3] of C clips, as their films record them, uint8 of the same shape."""
    clips, frames = painted.shape[:2]
    shots = [(film, index) for film in films for index in range(frames)]
    images = painted.flatten(0, 1)
    for effect in (_lit, _blurred, _exposed, _noisy):
        images = effect(images, shots)
    return _compressed([film.compression for film in films], images.unflatten(0, (clips, frames)))


_Shots = Sequence[tuple[Film, int]]
"""A film and the number of a frame, for every image."""


def _to_bytes(images: Tensor) -> Tensor:
    return images.round_().clamp_(0.0, 255.0).to(torch.uint8)


def _lit(images: Tensor, shots: _Shots) -> Tensor:
    """Return images [M,H,W,3] in uneven light."""
    maps = [film.light.map(index) for film, index in shots]
    lit = [row for row, light in enumerate(maps) if light is not None]
    if not lit:
        return images
    light = torch.from_numpy(np.stack([light for light in maps if light is not None])).to(images.device)
    full = F.interpolate(light.unsqueeze(1), images.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    images = images.clone()
    images[lit] = _to_bytes(images[lit] * full.unsqueeze(-1))
    return images


def _blurred(images: Tensor, shots: _Shots) -> Tensor:
    """Return images [M,H,W,3] out of focus."""
    sigmas = [film.focus.sigma(index) for film, index in shots]
    blurred = [row for row, sigma in enumerate(sigmas) if sigma]
    if not blurred:
        return images
    reach = blur_side(max(sigmas)) // 2
    kernels = []
    for row in blurred:
        side = blur_side(sigmas[row])
        kernel = cv2.getGaussianKernel(side, sigmas[row], cv2.CV_32F)[:, 0]
        kernels.append(np.pad(kernel, reach - side // 2))
    weights = torch.from_numpy(np.stack(kernels)).to(images.device).repeat_interleave(3, dim=0)
    # Every channel of every image has a kernel of its own.
    channels = images[blurred].permute(0, 3, 1, 2).flatten(0, 1).float().unsqueeze(0)
    channels = F.pad(channels, (reach,) * 4, mode="reflect")
    channels = F.conv2d(channels, weights.view(-1, 1, 1, 2 * reach + 1), groups=len(weights))
    channels = F.conv2d(channels, weights.view(-1, 1, 2 * reach + 1, 1), groups=len(weights))
    images = images.clone()
    images[blurred] = _to_bytes(channels[0].unflatten(0, (len(blurred), 3)).permute(0, 2, 3, 1))
    return images


def _exposed(images: Tensor, shots: _Shots) -> Tensor:
    """Return images [M,H,W,3] with their exposures and colours."""
    tables = torch.from_numpy(np.stack([film.exposure.table(index) for film, index in shots])).to(images.device)
    looked_up = tables.gather(1, images.flatten(1, 2).long())
    return looked_up.view_as(images)


def _noisy(images: Tensor, shots: _Shots) -> Tensor:
    """Return images [M,H,W,3] with noise."""
    height, width = images.shape[1:3]
    extent = max(height, width)
    noisy, pieces, strengths = [], [], []
    for row, (film, _) in enumerate(shots):
        if film.noise.strength:
            top, left = film.noise.place(height, width)
            noisy.append(row)
            pattern = _noise_pattern(extent, film.noise.grey, images.device)
            pieces.append(pattern[top : top + height, left : left + width])
            strengths.append(film.noise.strength)
    if not noisy:
        return images
    strength = torch.tensor(strengths, device=images.device).view(-1, 1, 1, 1)
    images = images.clone()
    images[noisy] = (torch.stack(pieces) * strength + images[noisy]).clamp_(0.0, 255.0).to(torch.uint8)
    return images


@functools.lru_cache(maxsize=4)
def _noise_pattern(extent: int, grey: bool, device: torch.device) -> Tensor:
    """Return the noise pattern [side,side,3] on a device."""
    return torch.tensor(noise_pattern(extent, grey), device=device)


def _compressed(compressions: Sequence[Compression | None], images: Tensor) -> Tensor:
    """Return images [C,T,H,W,3] after lossy compression, clip by clip as `Compression` tells."""
    clips = [row for row, compression in enumerate(compressions) if compression is not None]
    used = [compression for compression in compressions if compression is not None]
    if not clips:
        return images
    device = images.device
    quality = torch.tensor([compression.quality for compression in used], device=device)
    images = images.clone()
    last = images[clips, 0]
    for index in range(images.shape[1]):
        by_itself = torch.tensor([compression.by_itself(index) for compression in used], device=device)
        by_itself = by_itself.view(-1, 1, 1, 1)
        frame = images[clips, index].float()
        difference = _to_bytes(0.5 * frame - 0.5 * last + 128.0)
        coded = recompressed(torch.where(by_itself, frame.to(torch.uint8), difference), quality).float()
        last = torch.where(by_itself, coded, _to_bytes(2.0 * coded + last - 256.0).float()).to(torch.uint8)
        images[clips, index] = last
    return images
