"""Exact values of the published FDConv, computed with its code; see data/golden/README.md."""

import json
import zlib

import golden
import numpy as np
import torch
from torch import Tensor


def meta(name: str) -> dict:
    """What a golden file is about."""
    return json.loads((golden.FOLDER / f'{name}.json').read_text())


def values(name: str) -> dict[str, np.ndarray]:
    """The arrays of a golden file."""
    return dict(np.load(golden.FOLDER / f'{name}.npz'))


def state_dict(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """A checkpoint in the published layout; every entry's values follow from its key."""
    return {
        key: torch.zeros((), dtype=torch.long)
        if key.endswith('num_batches_tracked')
        else torch.from_numpy(np.asarray(_fill(key, tuple(shape)), np.float32)).reshape(shape)
        for key, shape in shapes.items()
    }


def _fill(key: str, shape: tuple) -> np.ndarray:
    rng = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    if key.endswith('relu.scale'):
        return rng.uniform(0.5, 1.5, shape)
    if key.endswith('dft_weight'):
        _, rows, columns, _ = shape
        return rng.standard_normal(shape) * 2 * np.sqrt(rows) / min(rows, 2 * (columns - 1))
    factor = 1.0
    if key.endswith('_fc.weight'):
        factor = 0.3
    elif 'freq_weight_conv_list' in key and len(shape) == 4:
        factor = 0.5
    elif key.endswith('running_var') and 'KSM' not in key:
        factor = 3
    return factor * golden.fill(key, shape)


def layer_input(channels: int, height: int, width: int) -> Tensor:
    """Noise with a mean of its own in each channel of each of two samples."""
    rng = np.random.RandomState(0)
    x = rng.standard_normal((2, channels, height, width)) + rng.standard_normal((2, channels, 1, 1))
    return torch.from_numpy(x.astype(np.float32))


def loss(output: Tensor) -> Tensor:
    """The scalar whose gradients are recorded."""
    weights = np.random.RandomState(1).standard_normal(tuple(output.shape)).astype(np.float32)
    return (output * torch.from_numpy(weights).to(output.dtype)).sum() / output.numel()


def sample(tensor: Tensor) -> np.ndarray:
    """Up to 64 values of each first-axis entry, an odd step apart."""
    flat = tensor.detach().reshape(len(tensor), -1)
    return flat[:, :: max(1, flat.shape[1] // 64) | 1][:, :64].numpy()


def gradient_row(grad: Tensor) -> list[float]:
    """A gradient's norm, then up to 8 of its values, padded with zeros."""
    values = grad.flatten()[:: max(1, grad.numel() // 8) | 1][:8].tolist()
    return [float(grad.norm()), *values] + [0.0] * (8 - len(values))


def error(found: Tensor, expected: np.ndarray, largest: float | None = None) -> float:
    """Largest deviation of a sampled tensor, as a fraction of its largest value."""
    scale = np.abs(expected).max() if largest is None else largest
    return float(np.abs(sample(found).reshape(expected.shape) - expected).max() / scale)
