"""Exact values of the published models, computed with their code; see data/golden/README.md."""

import json
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / 'data/golden'
TEMPERATURES = ('0', '0.37', '1')  # of KernelWarehouse
SOFTMAX_TEMPERATURES = ('1', '30')  # of ODConv


class Golden:
    """One published model."""

    def __init__(self, name: str):
        self.name = name
        self.meta = json.loads((FOLDER / f'{name}.json').read_text())
        self.outputs = dict(np.load(FOLDER / f'{name}.npz'))
        assert all(value.dtype in (np.float64, np.int64) for value in self.outputs.values())

    def state_dict(self) -> dict[str, Tensor]:
        """A checkpoint in the published layout; every entry's values follow from its key."""
        return {key: value.clone() for key, value in _state_dict(self.name).items()}

    def error(self, temperature: str, feature: str, value: Tensor) -> float:
        """Largest deviation from the published output, relative to its largest value."""
        symbol = 'T' if self.name.startswith('odconv') else 'tau'
        expected = self.outputs[f'{symbol}{temperature}/{feature}']
        flat = value.flatten(1)
        sampled = (
            flat[:, ::37]
            if feature == 'logits'
            else flat[:, :: max(1, flat.shape[1] // 64)][:, :64]
        )
        return float(np.abs(sampled.double().numpy() - expected).max() / np.abs(expected).max())


@lru_cache(maxsize=6)
def _state_dict(name: str) -> dict[str, Tensor]:
    shapes = json.loads((FOLDER / f'{name}.json').read_text())['state_dict']
    return {key: _entry(key, tuple(shape)) for key, shape in shapes.items()}


def images() -> Tensor:
    """The batch all outputs were computed from."""
    return torch.from_numpy(
        np.random.RandomState(0).standard_normal((2, 3, 96, 96)).astype(np.float32)
    )


def _entry(key: str, shape: tuple) -> Tensor:
    if key.endswith('num_batches_tracked'):
        return torch.zeros((), dtype=torch.long)
    return torch.from_numpy(np.asarray(fill(key, shape), np.float32)).reshape(shape)


def fill(key: str, shape: tuple) -> np.ndarray:
    """A state-dict entry's values, whose random stream depends on its key only."""
    rng = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    scale = (
        len(shape) == 1
        and key.endswith('weight')
        and any(part in key for part in ('norm', 'bn', '.1.weight'))
    )
    if scale or key.endswith('running_var'):
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) > 1:
        return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return 0.1 * rng.standard_normal(shape)
