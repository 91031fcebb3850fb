"""Two gloo processes on the CPU, and SyncBN's conversion (which trains only on GPUs)."""

import pytest
import torch
from distributed_worker import build, gradients, hooks_worker, images, train, worker
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.registry import MODELS
from processes import results, run_two
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kw_mm.ops.branch import check_batch
from kw_mm.warehouse import kw_layers

BACKBONES = [
    dict(type='KWResNet', depth=18, frozen_stages=1, norm_eval=True, with_cp=True),
    dict(type='KWResNet', depth=18, frozen_stages=1, norm_eval=True, freeze_warehouses='strict'),
    dict(
        type='KWMobileNetV2',
        widen_factor=0.5,
        frozen_stages=2,
        norm_eval=True,
        with_cp=True,
        freeze_warehouses='exclusive',
    ),
    dict(type='StaticMobileNetV2', widen_factor=0.5, frozen_stages=2, norm_eval=True),
]
SMALL = dict(type='KWResNet', depth=18, base_channels=8, stem_channels=8)


@pytest.mark.parametrize('cfg', BACKBONES, ids=lambda cfg: '-'.join(map(str, cfg.values())))
def test_two_processes_train_as_one(cfg, tmp_path):
    alone = build(cfg)
    start = {key: value.clone() for key, value in alone.state_dict().items()}
    torch.save(start, tmp_path / 'start.pth')
    run_two(worker, cfg, str(tmp_path))
    (first, found), (second, again) = results(tmp_path)
    train(alone, images())
    expected = gradients(alone)
    assert set(found) == set(again) == set(expected)
    for key, grad in expected.items():
        assert torch.equal(found[key], again[key]), key
        assert float((found[key] - grad).abs().max()) <= 1e-6 * float(grad.abs().max()), key
    moved = 0
    for key, expected in alone.state_dict().items():
        assert torch.equal(first[key], second[key]), key
        change = float((expected.double() - start[key].double()).abs().max())
        difference = float((first[key].double() - expected.double()).abs().max())
        assert difference <= 1e-4 * change + 1e-15, key
        moved += change > 0
    assert moved > 10


def test_averages_over_processes_and_iterations_leave_the_mechanism_as_it_is(tmp_path):
    run_two(hooks_worker, SMALL, str(tmp_path))
    (start, first, first_averaged), (_, second, second_averaged) = results(tmp_path)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    moved = [key for key, value in first.items() if not torch.equal(value, start[key])]
    averaged = [key for key, value in first.items() if not torch.equal(value, first_averaged[key])]
    assert (
        'backbone.warehouses.stage4.cells' in moved
        and 'backbone.layer4.0.conv1.attention.norm1.running_mean' in moved
    )
    assert set(moved) - set(averaged) <= {
        key for key in moved if key.endswith(('.temperature', 'num_batches_tracked'))
    }
    for state in (first, first_averaged, second_averaged):
        assert float(state['backbone.warehouses.temperature']) == pytest.approx(2 / 6)
        betas = {key: value for key, value in state.items() if key.endswith('.beta')}
        assert len(betas) == 19 and all(
            torch.equal(beta, start[key]) for key, beta in betas.items()
        )


def test_syncbn_conversion_covers_the_attention_branches():
    torch.manual_seed(0)
    plain, converted = MODELS.build(SMALL), MODELS.build(SMALL)
    converted.load_state_dict(plain.state_dict())
    converted = convert_sync_batchnorm(converted)
    assert {type(layer.attention.norm1) for layer in kw_layers(converted).values()} == {
        nn.SyncBatchNorm
    }
    assert not [
        norm
        for norm in converted.modules()
        if isinstance(norm, _BatchNorm) and not isinstance(norm, nn.SyncBatchNorm)
    ]
    x = torch.randn(4, 3, 64, 64)
    assert torch.equal(
        plain.train()(x)[0], converted.train()(x)[0]
    )  # outside of a process group it is BN
    reverted = revert_sync_batchnorm(converted).eval()
    assert torch.equal(plain.eval()(x)[0], reverted(x)[0])


def test_one_image_per_process_trains_with_syncbn_alone():
    hidden = torch.randn(1, 16)
    check_batch(
        convert_sync_batchnorm(nn.Sequential(nn.BatchNorm1d(16)))[0].train(),
        hidden,
        'KernelWarehouse',
    )
    with pytest.raises(ValueError, match='SyncBN over several GPUs'):
        check_batch(nn.BatchNorm1d(16).train(), hidden, 'KernelWarehouse')
