"""The encoder of TerraMind 1.0 in plain torch, with the parameter names of terratorch's.

Weights of the one are weights of the other, and the outputs are the same bits (docs/design/models.md).
Source: Jakubik et al. 2025, arXiv 2504.11171; dimensions, names and start as in terratorch 1.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xglof.bands import MODALITIES

PATCH = 16
#: Side of the images that the network was pretrained on; positions of other sizes are interpolated.
IMAGE = 224
#: What the weights call the patch embedding of a modality.
_KEYS = {
    "S2L2A": "untok_sen2l2a@224",
    "S1GRD": "untok_sen1grd@224",
    "S1RTC": "untok_sen1rtc@224",
    "DEM": "untok_dem@224",
}
#: The modalities of a cube that the encoder has an embedding for.
ENCODED = tuple(_KEYS)


@dataclass(frozen=True, slots=True)
class Size:
    """Dimensions of an encoder; ``gated`` ones have SwiGLU feed-forwards and no biases."""

    dim: int
    depth: int
    heads: int
    gated: bool


SIZES = {
    "tiny": Size(192, 12, 3, gated=False),
    "small": Size(384, 12, 6, gated=False),
    "base": Size(768, 12, 12, gated=True),
    "large": Size(1024, 24, 16, gated=True),
}


class Encoder(nn.Module):
    """A transformer over the patches of all modalities at once.

    Parameters
    ----------
    size
        Dimensions.
    modalities
        Names out of :data:`ENCODED`, in the order in which their patches are lined up.
    layers
        The blocks whose outputs are handed on, counted from 0.
    """

    def __init__(self, size: Size, modalities: Sequence[str], layers: Sequence[int]) -> None:
        super().__init__()
        self.modalities, self.layers = tuple(modalities), tuple(layers)
        self.encoder_embeddings = nn.ModuleDict(
            {_KEYS[name]: _Embedding(len(MODALITIES[name].bands), size.dim) for name in self.modalities}
        )
        self.encoder = nn.ModuleList(_Block(size) for _ in range(size.depth))
        self.encoder_norm = _Norm(size.dim)
        self._start()

    def _start(self) -> None:
        # in the order of terratorch's draws: a seed gives both networks the same weights
        for name, layer in self.named_modules():
            if not isinstance(layer, nn.Linear):
                continue
            if name.endswith("qkv"):  # three square matrices in one
                bound = math.sqrt(6 / (layer.out_features // 3 + layer.in_features))
                nn.init.uniform_(layer.weight, -bound, bound)
            else:
                nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """Maps (B, dim, H / 16, W / 16), one a layer asked for, averaged over the modalities given.

        ``inputs`` holds standardised (B, C, H, W) by modality, H and W multiples of 16; a modality may be
        absent.
        """
        given = [name for name in self.modalities if name in inputs]
        height, width = inputs[given[0]].shape[-2:]
        x = torch.cat([self.encoder_embeddings[_KEYS[name]](inputs[name]) for name in given], dim=1)
        outputs = {}
        for index, block in enumerate(self.encoder):
            x = block(x)
            if index in self.layers:
                outputs[index] = x
        last = len(self.encoder) - 1
        if last in outputs:  # only the last one is normalised
            outputs[last] = self.encoder_norm(x)
        grid = (height // PATCH, width // PATCH)
        merged = [outputs[index].unflatten(1, (len(given), -1)).mean(dim=1) for index in self.layers]
        # in this order of views: torch chooses convolutions by strides, even by that of a batch of one
        return [tokens.transpose(1, 2).unflatten(2, grid) for tokens in merged]


class _Embedding(nn.Module):
    """Patches of one modality as tokens, with where they lie and of which modality they are."""

    pos_emb: Tensor

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        # fixed, and yet among the weights: terratorch's files hold it
        self.register_buffer("pos_emb", sincos_positions(IMAGE // PATCH, dim))
        self.mod_emb = nn.Parameter(nn.init.normal_(torch.empty(1, 1, dim), std=0.02))
        self.proj = nn.Linear(channels * PATCH**2, dim, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Tokens (B, N, dim), row by row, of (B, C, H, W)."""
        patches = image.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))  # B, C, rows, 16, columns, 16
        tokens = self.proj(patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2))
        return cast(Tensor, tokens + (self._positions(*image.shape[-2:]) + self.mod_emb))

    def _positions(self, height: int, width: int) -> Tensor:
        if (height, width) == (IMAGE, IMAGE):
            return self.pos_emb
        side = IMAGE // PATCH
        plane = self.pos_emb.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        plane = F.interpolate(plane, size=(height // PATCH, width // PATCH), mode="bicubic")
        return plane.permute(0, 2, 3, 1).flatten(1, 2)


def sincos_positions(side: int, dim: int) -> Tensor:
    """Fixed positions (1, side * side, dim): sines and cosines of the row, then of the column.

    Source: Chen et al. 2021, arXiv 2104.02057 (MoCo v3).
    """
    place = torch.arange(side**2)
    frequency = 1 / 10_000 ** (torch.arange(dim // 4) / (dim // 4))
    row, column = (place // side)[:, None] * frequency, (place % side)[:, None] * frequency
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)[None]


class _Block(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm1 = _Norm(size.dim)
        self.attn = _Attention(size)
        self.norm2 = _Norm(size.dim)
        self.mlp = _GatedFeedForward(size.dim) if size.gated else _FeedForward(size.dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return cast(Tensor, x + self.mlp(self.norm2(x)))


class _Attention(nn.Module):
    """Every token with every other, (B, N, D) to (B, N, D)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv = nn.Linear(size.dim, 3 * size.dim, bias=not size.gated)
        self.proj = nn.Linear(size.dim, size.dim, bias=not size.gated)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        return cast(Tensor, self.proj(seen.transpose(1, 2).flatten(2)))


class _FeedForward(nn.Module):
    """Two layers a token, (B, N, D) to (B, N, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(F.gelu(self.fc1(x))))


class _GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202), as wide as gives it the weights of a plain one."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        width = 8 * dim // 3
        self.fc1 = nn.Linear(dim, width, bias=False)
        self.fc2 = nn.Linear(width, dim, bias=False)
        self.fc3 = nn.Linear(dim, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(F.silu(self.fc1(x)) * self.fc3(x)))


class _Norm(nn.Module):
    """Layer normalisation whose bias is not learned; it stays among the weights as a buffer of zeros."""

    bias: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.register_buffer("bias", torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, eps=1e-6)
