"""Two gloo processes on the CPU."""
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.registry import MODELS
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

BACKBONES = [
    dict(type='KWResNet', depth=18, frozen_stages=1, norm_eval=True, with_cp=True),
    dict(type='KWResNet', depth=18, frozen_stages=1, norm_eval=True, freeze_warehouses='strict'),
    dict(type='KWMobileNetV2', widen_factor=0.5, frozen_stages=2, norm_eval=True, with_cp=True,
         freeze_warehouses='exclusive'),
    dict(type='StaticMobileNetV2', widen_factor=0.5, frozen_stages=2, norm_eval=True),
]


def build(cfg):
    """A backbone whose batch norms have seen data: untrained statistics would let the signal die."""
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg, norm_eval=False, frozen_stages=-1))
    model.train()
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.momentum = None
    model(images())
    ready = MODELS.build(dict(cfg))
    ready.load_state_dict(model.state_dict())
    return ready


def images():
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def loss_of(outputs):
    return outputs[-1].square().mean()


def train(model, x, steps=2):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model(x)).backward()
        optimizer.step()


def worker(rank, port, cfg, path):
    import kw_mm  # noqa: F401
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    model = DistributedDataParallel(build(cfg))                          # no find_unused_parameters
    train(model, images()[2 * rank:2 * rank + 2])
    torch.save(model.module.state_dict(), f'{path}/{rank}.pth')
    dist.destroy_process_group()


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


@pytest.mark.parametrize('cfg', BACKBONES, ids=lambda cfg: '-'.join(map(str, cfg.values())))
def test_two_processes_train_as_one(cfg, tmp_path):
    mp.spawn(worker, (free_port(), cfg, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    alone = build(cfg)
    start = {key: value.clone() for key, value in alone.state_dict().items()}
    train(alone, images())
    moved = 0
    for key, expected in alone.state_dict().items():
        assert torch.equal(first[key], second[key]), key
        change = float((expected.double() - start[key].double()).abs().max())
        difference = float((first[key].double() - expected.double()).abs().max())
        assert difference <= 1e-2 * change + 1e-6, key
        moved += change > 0
    assert moved > 10
