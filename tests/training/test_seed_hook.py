import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader, Dataset

from kw_mm.training.seed_hook import EpochSeedHook, seed_everything


class Draws(Dataset):
    """Every item is what the three random generators give."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])


class FakeRunner:
    def __init__(self, loader, seed=3, epoch=0):
        self.train_dataloader, self.seed, self.epoch = loader, seed, epoch


def epoch_of(loader, **state):
    EpochSeedHook().before_train_epoch(FakeRunner(loader, **state))
    return torch.cat(list(loader))


@pytest.mark.parametrize(
    'options', [dict(), dict(num_workers=2), dict(num_workers=2, persistent_workers=True)]
)
def test_an_epoch_depends_on_seed_and_epoch_alone(options):
    loader, other = DataLoader(Draws(), **options), DataLoader(Draws(), **options)
    first, second = epoch_of(loader, epoch=0), epoch_of(loader, epoch=1)
    assert torch.equal(epoch_of(other, epoch=1), second)
    assert not torch.equal(first, second)
    assert not torch.equal(epoch_of(other, epoch=1, seed=4), second)
    assert len(first.flatten().unique()) == first.numel()  # workers and generators differ


def test_the_sampler_gets_the_seed_of_the_resumed_run():
    sampler = DefaultSampler(Draws(), seed=11)
    epoch_of(DataLoader(Draws(), sampler=sampler), seed=3)
    assert sampler.seed == 3


def test_generators_are_reproducible_and_differ_between_ranks():
    def draws(*keys):
        seed_everything(*keys)
        return random.random(), np.random.rand(), torch.rand(()).item()

    assert draws(1, 2, 0) == draws(1, 2, 0) != draws(1, 2, 1)
