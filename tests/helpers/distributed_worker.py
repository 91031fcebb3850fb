"""What each process of test_distributed.py and test_fsdp.py does; a module that it can import."""

import os
from functools import partial

import torch
import torch.distributed as dist
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import FlexibleRunner
from torch.distributed.fsdp import FullStateDictConfig, StateDictType
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

import kw_mm  # noqa: F401
from kw_mm.training.fsdp import wrap_outside_warehouses
from kw_mm.training.runner import KWRunner


def build(cfg):
    """A backbone whose batch norms have seen data, without which the signal would die."""
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg, norm_eval=False, frozen_stages=-1))
    model.train()
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.momentum = None
    model(images().float())
    ready = MODELS.build(dict(cfg))
    ready.load_state_dict(model.state_dict())
    return ready.double()  # four images leave statistics that amplify float32's rounding


def images():
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()


def loss_of(outputs):
    return outputs[-1].square().mean()


def gradients(model):
    return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}


def train(model, x):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    model.train()
    optimizer.zero_grad()
    loss_of(model(x)).backward()
    optimizer.step()


def join(rank, port):
    """Become one of two processes."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
    )
    dist.init_process_group('gloo')


def worker(rank, port, cfg, path):
    join(rank, port)
    model = MODELS.build(dict(cfg)).double()
    model.load_state_dict(torch.load(f'{path}/start.pth'))
    model = DistributedDataParallel(model)  # no find_unused_parameters
    train(model, images()[2 * rank : 2 * rank + 2])
    torch.save((model.module.state_dict(), gradients(model.module)), f'{path}/{rank}.pth')
    dist.destroy_process_group()


class Classifier(BaseModel):
    """A backbone, and a loss for mmengine's runners."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)

    def forward(self, *inputs, mode='tensor'):
        return dict(loss=loss_of(self.backbone(torch.stack(inputs))))


def run_options(path, side=64):
    """What both runners of mmengine take: two epochs of two iterations on two processes."""
    dataset = list(torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(2)))
    return dict(
        work_dir=path,
        default_scope='mmengine',
        train_cfg=dict(by_epoch=True, max_epochs=2),
        experiment_name='run',
        train_dataloader=dict(
            dataset=dataset, batch_size=2, sampler=dict(type='DefaultSampler', shuffle=True)
        ),
        randomness=dict(seed=0),
        launcher='pytorch',
    )


def hooks_worker(rank, port, cfg, path):
    """mmengine's hooks average buffers over processes, and weights and buffers over time."""
    join(rank, port)
    torch.manual_seed(0)
    runner = KWRunner(
        Classifier(cfg),
        **run_options(path),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
        custom_hooks=[
            dict(type='AttentionTemperatureHook', duration=6, by_epoch=False),
            dict(type='SyncBuffersHook'),
            dict(type='EMAHook', momentum=0.1, update_buffers=True),
        ],
    )
    start = {key: value.clone() for key, value in runner.model.module.state_dict().items()}
    runner.train()
    averaged = next(hook.ema_model for hook in runner.hooks if hasattr(hook, 'ema_model'))
    torch.save(
        (start, runner.model.module.state_dict(), averaged.module.state_dict()),
        f'{path}/{rank}.pth',
    )
    dist.destroy_process_group()


def sharding_worker(rank, port, cfg, policy, path):
    """One step with parameters sharded over both; ``policy`` is a size for ours, or torch's own."""
    join(rank, port)
    model = MODELS.build(dict(cfg)).double()
    model.load_state_dict(torch.load(f'{path}/start.pth'))
    policy = (
        partial(wrap_outside_warehouses, min_num_params=policy)
        if isinstance(policy, int)
        else policy
    )
    model = FSDP(
        model, use_orig_params=True, device_id=torch.device('cpu'), auto_wrap_policy=policy
    )
    own = sum(p.numel() for p in model.parameters())
    units = sum(isinstance(module, FSDP) for module in model.modules())
    train(model, images()[2 * rank : 2 * rank + 2])
    with FSDP.state_dict_type(
        model, StateDictType.FULL_STATE_DICT, FullStateDictConfig(rank0_only=False)
    ):
        torch.save((model.state_dict(), own, units), f'{path}/{rank}.pth')
    dist.destroy_process_group()


def strategy_worker(rank, port, cfg, min_num_params, path):
    """mmengine's own way to FSDP."""
    join(rank, port)
    torch.manual_seed(0)
    wrapper = dict(
        device_id=torch.device('cpu'),
        use_orig_params=True,
        auto_wrap_policy=dict(type='wrap_outside_warehouses', min_num_params=min_num_params),
    )
    runner = FlexibleRunner(
        Classifier(cfg),
        **run_options(path),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
        strategy=dict(type='FSDPStrategy', model_wrapper=wrapper, state_dict_cfg='full'),
        custom_hooks=[dict(type='AttentionTemperatureHook', duration=6, by_epoch=False)],
    )
    runner.train()
    dist.destroy_process_group()
