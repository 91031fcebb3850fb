"""What each of the two processes of test_distributed.py does; a module of its own, so that they can import it."""
import torch
import torch.distributed as dist
from mmengine.registry import MODELS
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

import kw_mm  # noqa: F401


def build(cfg):
    """A backbone whose batch norms have seen data: untrained statistics would let the signal die."""
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg, norm_eval=False, frozen_stages=-1))
    model.train()
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.momentum = None
    model(images().float())
    ready = MODELS.build(dict(cfg))
    ready.load_state_dict(model.state_dict())
    return ready.double()                    # four images leave statistics that amplify float32's rounding


def images():
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()


def loss_of(outputs):
    return outputs[-1].square().mean()


def train(model, x):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    model.train()
    optimizer.zero_grad()
    loss_of(model(x)).backward()
    optimizer.step()


def worker(rank, port, cfg, path):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    model = MODELS.build(dict(cfg)).double()
    model.load_state_dict(torch.load(f'{path}/start.pth'))
    model = DistributedDataParallel(model)                                # no find_unused_parameters
    train(model, images()[2 * rank:2 * rank + 2])
    torch.save(model.module.state_dict(), f'{path}/{rank}.pth')
    dist.destroy_process_group()
