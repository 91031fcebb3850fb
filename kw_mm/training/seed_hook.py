"""Makes a resumed run repeat the uninterrupted one."""

import random
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.data import DataLoader


def seed_everything(*keys: int) -> None:
    """Seed Python, NumPy and torch (all devices) from integers."""
    python_seed, numpy_seed, torch_seed = np.random.SeedSequence(keys).generate_state(3).tolist()
    random.seed(python_seed)
    np.random.seed(numpy_seed)
    torch.manual_seed(torch_seed)


def seed_worker(worker_id: int, seed: int, epoch: int, rank: int) -> None:
    """``worker_init_fn`` of a dataloader: its stream depends on seed, epoch, rank and worker."""
    torch.set_num_threads(1)
    seed_everything(seed, epoch, rank, worker_id)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Reseed the process and its data workers from (seed, epoch, rank) when an epoch starts.

    mmengine saves no random state. With this hook, training that resumes at an epoch's end draws
    the same shuffling, augmentation and drop path as training that never stopped. The run's seed is
    in its checkpoints, so it need not be in the config. Workers of a dataloader with
    ``persistent_workers`` are started anew each epoch: kept ones cannot be reseeded.

    Example:
        >>> custom_hooks = [dict(type='EpochSeedHook')]
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this epoch."""
        keys = dict(seed=runner.seed, epoch=runner.epoch, rank=get_rank())
        seed_everything(*keys.values())
        self._seed_loader(runner.train_dataloader, keys)

    @staticmethod
    def _seed_loader(loader: DataLoader, keys: Any) -> None:
        loader.worker_init_fn = partial(seed_worker, **keys)
        loader._iterator = None
        # the sampler was built before the checkpoint's seed was known
        if hasattr(loader.sampler, 'seed'):
            loader.sampler.seed = keys['seed']
