"""Two gloo processes on the CPU."""
import socket

import pytest
import torch
import torch.multiprocessing as mp
from distributed_worker import build, images, train, worker

BACKBONES = [
    dict(type='KWResNet', depth=18, frozen_stages=1, norm_eval=True, with_cp=True),
    dict(type='KWResNet', depth=18, frozen_stages=1, norm_eval=True, freeze_warehouses='strict'),
    dict(type='KWMobileNetV2', widen_factor=0.5, frozen_stages=2, norm_eval=True, with_cp=True,
         freeze_warehouses='exclusive'),
    dict(type='StaticMobileNetV2', widen_factor=0.5, frozen_stages=2, norm_eval=True),
]


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


@pytest.mark.parametrize('cfg', BACKBONES, ids=lambda cfg: '-'.join(map(str, cfg.values())))
def test_two_processes_train_as_one(cfg, tmp_path):
    alone = build(cfg)
    start = {key: value.clone() for key, value in alone.state_dict().items()}
    torch.save(start, tmp_path / 'start.pth')
    mp.spawn(worker, (free_port(), cfg, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    train(alone, images())
    moved = 0
    for key, expected in alone.state_dict().items():
        assert torch.equal(first[key], second[key]), key
        change = float((expected.double() - start[key].double()).abs().max())
        difference = float((first[key].double() - expected.double()).abs().max())
        assert difference <= 1e-4 * change + 1e-15, key
        moved += change > 0
    assert moved > 10
