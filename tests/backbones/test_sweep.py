"""Every backbone and budget: shapes, gradients, finite values, independence of images."""
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

RESNETS = [dict(type='KWResNet', depth=depth, budget=budget)
           for depth, budgets in ((18, (1 / 4, 1 / 2, 1, 2, 4)), (34, (1, )), (50, (1 / 2, 1, 4)), (101, (1, )))
           for budget in budgets]
MOBILENETS = [dict(type='KWMobileNetV2', widen_factor=width, budget=budget)
              for width in (1.0, 0.5) for budget in (1 / 2, 1, 4)]
OTHERS = [dict(type='KWResNet', depth=18, budget=3 / 4, attention_norm='LN'),
          dict(type='KWResNet', depth=50, base_channels=16, stem_channels=16, deep_stem=True, avg_down=True),
          dict(type='KWMobileNetV2', budget=2, nonlocal_basis_ratio=1 / 8),
          dict(type='KWMobileNetV2', budget=1, init='plain'),
          dict(type='KWResNet', depth=18, partition=False, attention_function='softmax', zero_cell=False),
          dict(type='KWResNet', depth=50, sharing_range='layer', attention_function='relu'),
          dict(type='KWMobileNetV2', budget=1, sharing_range='two_stages', start='all_to_all', temperature=0.5)]


def name(cfg):
    return '-'.join(str(value) for value in cfg.values())


@pytest.fixture(params=RESNETS + MOBILENETS + OTHERS, ids=name, scope='module')
def backbone(request):
    cfg = dict(request.param)
    indices = (0, 1, 2, 3) if 'ResNet' in cfg['type'] else (1, 2, 4, 7)
    model = MODELS.build(dict(cfg, out_indices=indices))
    model.init_weights()
    return model


def test_shapes_and_gradients(backbone):
    backbone.train()
    outputs = backbone(torch.randn(2, 3, 64, 64))
    assert [tuple(out.shape[-2:]) for out in outputs] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert all(out.isfinite().all() for out in outputs)
    sum(out.square().mean() for out in outputs).backward()
    without = [key for key, p in backbone.named_parameters() if p.grad is None]
    assert not without, without
    broken = [key for key, p in backbone.named_parameters() if not p.grad.isfinite().all()]
    assert not broken, broken


@torch.no_grad()
def test_images_are_independent_in_eval_mode(backbone):
    backbone.eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):                       # untrained statistics would let the signal die
            module.train()
            module.momentum = None
    backbone(torch.randn(4, 3, 64, 64))
    backbone.eval()
    x = torch.randn(3, 3, 64, 64)
    together = backbone(x)
    for image in range(3):
        for one, all_ in zip(backbone(x[image:image + 1]), together):
            torch.testing.assert_close(one[0], all_[image], rtol=1e-3, atol=1e-4 * float(all_.abs().max()))
