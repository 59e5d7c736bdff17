"""Resample learned position embeddings for another image size where timm's own filters do not.

Embeddings are resized bicubically as images, as in timm's `resample_abs_pos_embed`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

_MAX_PREFIX_TOKENS = 2  # class and distillation


def resample_pos_embed(name: str, table: Tensor, like: Tensor) -> Tensor | None:
    """Resize a position embedding; None if `name` is not a known one or its size does not fit.

    Supported: `pos_embed…` as (1, tokens, D) with up to two prefix tokens, (1, D, H, W), (1, H, W, D) and
    (1, blocks, tokens, D); relative positions as (offsets, heads) or (heads, offsets); one axis as (offsets, D).

    table: the tensor in the file. like: the tensor in the model.
    """
    if table.ndim != like.ndim:
        return None
    kind = name.rpartition(".")[2]
    values = table.float()
    resized: Tensor | None = None
    if kind.startswith("pos_embed"):
        resized = _tokens(values, like) if table.ndim == 3 else _spatial(values, like) if table.ndim == 4 else None
    elif kind == "relative_position_bias_table" and table.shape[1] == like.shape[1]:
        resized = _square(values.T, like.shape[0])
        resized = None if resized is None else resized.T
    elif kind == "attention_biases" and table.shape[0] == like.shape[0]:
        resized = _square(values, like.shape[1])
    elif kind in ("rel_pos_h", "rel_pos_w") and table.shape[1] == like.shape[1]:
        resized = interpolate(values.T[None], size=like.shape[0], mode="linear")[0].T
    return None if resized is None else resized.contiguous().to(table.dtype)


def _tokens(table: Tensor, like: Tensor) -> Tensor | None:
    """(1, tokens, D), with up to two prefix tokens."""
    if table.shape[::2] != like.shape[::2]:
        return None
    for extra in range(_MAX_PREFIX_TOKENS + 1):
        resized = _square(table[0, extra:].T, like.shape[1] - extra)
        if resized is not None:
            return torch.cat([table[:, :extra], resized.T[None]], dim=1)
    return None


def _spatial(table: Tensor, like: Tensor) -> Tensor | None:
    if table.shape[:2] == like.shape[:2] and table.shape[3] == like.shape[3]:  # blocks of tokens
        resized = _square(table[0].transpose(1, 2).flatten(0, 1), like.shape[2])
        if resized is not None:
            return resized.unflatten(0, (table.shape[1], table.shape[3])).transpose(1, 2)[None]  # type: ignore[no-untyped-call, no-any-return]
    if table.shape[:2] == like.shape[:2]:
        return _resize(table, like.shape[2], like.shape[3])
    if table.shape[::3] == like.shape[::3]:
        return _resize(table.permute(0, 3, 1, 2), like.shape[1], like.shape[2]).permute(0, 2, 3, 1)
    return None


def _square(table: Tensor, target_length: int) -> Tensor | None:
    """(D, side²) → (D, `target_length`); None if one of them is not a square."""
    before, after = math.isqrt(table.shape[1]), math.isqrt(target_length)
    if before**2 != table.shape[1] or after**2 != target_length or not before or not after:
        return None
    return _resize(table.reshape(1, -1, before, before), after, after).reshape(-1, target_length)


def _resize(table: Tensor, height: int, width: int) -> Tensor:
    return interpolate(table, size=(height, width), mode="bicubic", antialias=True)
