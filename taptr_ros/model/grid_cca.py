"""Context-aware cross-attention and position update on a fixed grid of sampling places (spec section 5, steps 2 and 3).

As in `taptr_ros.model.cca`, the 3x3 patch round every sampling place is compared with the 3x3 context of the point, the
81 similarities give one logit, and the logits weigh the features (CCA) and the offsets of the places (APU). Here the
places lie on a grid of whole level pixels, so that they share their similarities: the first layer of the patch MLP is a
3x3 convolution over nine similarity maps (`taptr_ros.model.patches`), here written as a matrix product over the windows
of all points at once: a convolution of many tiny images takes longer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taptr_ros.model.layers import MLP
from taptr_ros.model.patches import Patches
from taptr_ros.model.small_config import LEVEL_STRIDES, SmallConfig

CONTEXT_CELLS = 9
"""Cells of a context: 3x3, x offset first."""

MIXER_WIDTH = 64
"""Hidden width of the MLP that mixes the logits for the position update."""


class GridCrossAttention(nn.Module):
    """CCA and APU of N points."""

    offsets: Tensor
    """Offsets of the sampling places in input pixels, [places, 2] (x, y): those of all levels side by side."""
    windows: Tensor
    """Which values of the similarity maps lie in the patch of which sampling place, [81*side*side]."""

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        levels, dim, channels = len(LEVEL_STRIDES), config.hidden_dim, config.similarity_channels
        self.side = 2 * config.grid_radius + 1
        places = levels * self.side**2
        self.patch_embedding = nn.Linear(CONTEXT_CELLS**2, channels)
        self.logit = nn.Linear(channels, 1)
        self.place_logit = nn.Parameter(torch.zeros(places))
        self.value_projection = nn.Linear(config.context_dim, dim)
        self.summary = nn.Linear(channels, config.similarity_summary)
        self.content_update = MLP(places * config.similarity_summary + dim, dim, dim)
        self.logit_mixer = MLP(places, MIXER_WIDTH, places)
        self.register_buffer("offsets", grid_offsets(config.grid_radius), persistent=False)
        self.register_buffer("windows", window_indices(self.side), persistent=False)
        self._start_at_patch_similarity()

    def _start_at_patch_similarity(self) -> None:
        """Let a quarter of the channels start as the similarity of whole patches, cell by cell."""
        channels = self.patch_embedding.out_features // 4
        kernels = self.patch_embedding.weight.view(-1, CONTEXT_CELLS, 3, 3)
        with torch.no_grad():
            for cell in range(CONTEXT_CELLS):
                column, line = divmod(cell, 3)
                kernels[:channels, cell, line, column] += 0.1
            self.logit.weight[:, :channels] += 0.3

    def forward(self, x: Tensor, cells: Sequence[Tensor], patches: Patches) -> tuple[Tensor, Tensor]:
        """Attend from content `x` [N,D] with context `cells` [N,9,C] of each level to the patches round the points.

        Returns the change of content [N,D] and of position [N,2], in input pixels.
        """
        count = x.shape[0]
        similarity = patches.similarity(cells).flatten(3).flatten(0, 2)
        windows = similarity.index_select(0, self.windows).view(CONTEXT_CELLS**2, -1)
        embedded = F.relu(self.patch_embedding.weight @ windows + self.patch_embedding.bias.unsqueeze(1))
        logits = (self.logit.weight @ embedded + self.logit.bias).view(-1, count).t() + self.place_logit
        attention = logits.softmax(-1).t().reshape(self.side, self.side, len(cells), count)
        attended = self.value_projection(patches.weighted_sum(attention))
        summary = F.relu(self.summary.weight @ embedded + self.summary.bias.unsqueeze(1)).view(-1, count).t()
        update = self.content_update(torch.cat((summary, x), dim=-1))
        movement = (logits + self.logit_mixer(logits)).softmax(-1) @ self.offsets
        return attended + update, movement


def grid_offsets(radius: int) -> Tensor:
    """Return the offsets of all sampling places in input pixels, [(2*radius+1)^2*L,2] (x, y).

    Row by row; for every place of the grid, that on each of the L levels.
    """
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    grid = torch.stack((x, y), dim=-1).view(-1, 1, 2)
    return (grid * torch.tensor(LEVEL_STRIDES).view(-1, 1)).flatten(0, 1)


def window_indices(side: int) -> Tensor:
    """Return where a 3x3 convolution of nine maps of (side+2)^2 values, one after the other, reads them.

    [81 * side * side]: for every cell, y and x of the kernel, all places row by row.
    """
    maps = torch.arange(CONTEXT_CELLS * (side + 2) ** 2).view(1, CONTEXT_CELLS, side + 2, side + 2)
    return F.unfold(maps.to(torch.float64), kernel_size=3).long().flatten()
