"""FullyShardedDataParallel on two gloo processes, directly and through mmengine's runner."""

from functools import partial

import pytest
import torch
from distributed_worker import build, hooks_worker, images, sharding_worker, strategy_worker, train
from mmengine.utils import digit_version
from processes import results, run_two
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy
from torch.multiprocessing import ProcessRaisedException

from kw_mm.models import KWResNet

pytestmark = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.3'), reason='older FSDP needs a GPU'
)
SMALL = dict(type='KWResNet', depth=18, base_channels=8, stem_channels=8)
FROZEN = dict(SMALL, frozen_stages=1, norm_eval=True, freeze_warehouses='strict')


@pytest.mark.parametrize(
    'cfg, policy, units',
    [
        (dict(SMALL, norm_eval=True), None, 1),
        (dict(SMALL, norm_eval=True, with_cp=True), 2000, 5),
        (dict(FROZEN, assemble_checkpoint=True), 2000, 5),
    ],
    ids=['one unit', 'units recomputed', 'frozen stage, kernels recomputed'],
)
def test_sharded_processes_train_as_one(cfg, policy, units, tmp_path):
    alone = build(cfg)
    torch.save(alone.state_dict(), tmp_path / 'start.pth')
    start = {key: value.clone() for key, value in alone.state_dict().items()}
    run_two(sharding_worker, cfg, policy, str(tmp_path))
    (first, some, found), (second, others, _) = results(tmp_path)
    total = sum(p.numel() for p in alone.parameters())
    assert some + others == total and abs(some - others) < 0.1 * total and found >= units
    train(alone, images())
    moved = 0
    for key, expected in alone.state_dict().items():
        assert torch.equal(first[key], second[key]), key
        change = float((expected.double() - start[key].double()).abs().max())
        difference = float((first[key].double() - expected.double()).abs().max())
        assert difference <= 1e-4 * change + 1e-15, key
        moved += change > 0
    assert moved > 10


def test_a_warehouse_sharded_by_itself_says_what_to_do(tmp_path):
    cfg = dict(SMALL, norm_eval=True)
    torch.save(build(cfg).state_dict(), tmp_path / 'start.pth')
    policy = partial(size_based_auto_wrap_policy, min_num_params=2000)
    with pytest.raises(
        ProcessRaisedException, match="sharded warehouse 'stage1'.*wrap_outside_warehouses"
    ):
        run_two(sharding_worker, cfg, policy, str(tmp_path))


def check_strategy(cfg, min_num_params, tmp_path):
    """Sharded training ends with the weights of DistributedDataParallel, in a usual checkpoint."""
    for name in ('ddp', 'fsdp'):
        (tmp_path / name).mkdir()
    run_two(hooks_worker, cfg, str(tmp_path / 'ddp'))
    run_two(strategy_worker, cfg, min_num_params, str(tmp_path / 'fsdp'))
    start, expected, _ = results(tmp_path / 'ddp')[0]
    saved = torch.load(tmp_path / 'fsdp/epoch_2.pth', weights_only=False)
    backbone = KWResNet(**{key: value for key, value in cfg.items() if key != 'type'})
    backbone.load_state_dict(saved['state_dict'])
    found = backbone.state_dict()
    assert len(saved['optimizer']['param_groups'][0]['params']) == len(list(backbone.parameters()))
    for key, value in expected.items():
        key = key[len('backbone.') :] if key.startswith('backbone.') else key
        if key in found and value.is_floating_point() and 'running' not in key:
            change = float((value - start[f'backbone.{key}']).abs().max())
            difference = float((found[key] - value).abs().max())
            assert difference <= 1e-2 * change + 1e-6, key
    assert float(backbone.temperature) == pytest.approx(2 / 6)


def test_flexible_runner(tmp_path):
    check_strategy(dict(SMALL, norm_eval=True), 2000, tmp_path)


@pytest.mark.slow
def test_flexible_runner_of_the_biggest_published_model(tmp_path):
    check_strategy(dict(type='KWResNet', depth=50, budget=4, norm_eval=True), 1_000_000, tmp_path)
