"""Where every warehouse has as many cells as output channels, only the version in a file tells the
order of kw_mm 0.1: it must survive every road by which weights come in."""

import copy

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_checkpoint
from run_tools import ROOT
from torch import nn

from kw_mm.checkpoints.architectures import Recognised
from kw_mm.checkpoints.convert import convert
from kw_mm.checkpoints.loading import load_weights
from kw_mm.checkpoints.state_dicts import under_prefix, unwrap, version_of, whole_network
from kw_mm.export import Options, pipeline
from kw_mm.run_config import load_config

# 9 cells of 9 output channels for the 9 pixels of a kernel
SQUARE = dict(
    type='KWResNet',
    depth=18,
    stem_channels=9,
    base_channels=9,
    sharing={'a': ['layer1.0.conv1'], 'b': ['layer1.0.conv2']},
)
RETINANET = {
    **{f'model.backbone.{key}': value for key, value in SQUARE.items()},
    'model.neck.in_channels': [9, 18, 36, 72],
    'model.neck.out_channels': 16,
    'model.bbox_head.in_channels': 16,
    'model.bbox_head.feat_channels': 16,
}


class Model(nn.Module):
    """A whole model, or a wrapper, with one part of the name."""

    def __init__(self, part, name='backbone'):
        super().__init__()
        self.add_module(name, part)


def square(**options):
    return MODELS.build({**SQUARE, **options})


def saved(module, version):
    """A state dict as kw_mm 0.1 (version 1) or the present one saved it."""
    state_dict = copy.deepcopy(module.state_dict())
    if version == 1:
        for key in state_dict:
            if key.endswith('.cells'):
                state_dict[key] = state_dict[key].transpose(0, 1).contiguous()
        for about in state_dict._metadata.values():
            about['version'] = 1
    return state_dict


def same(found, expected):
    assert {len(cells.squeeze()) for cells in cells_of(expected)} == {9}
    pairs = zip(cells_of(found), cells_of(expected), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def cells_of(backbone):
    return [warehouse.cells for warehouse in backbone.warehouses.values()]


WRAPPINGS = {
    'alone': lambda backbone, version: saved(backbone, version),
    'wrapped': lambda backbone, version: dict(state_dict=saved(backbone, version), epoch=3),
    'parallel': lambda backbone, version: saved(Model(backbone, 'module'), version),
    'model': lambda backbone, version: saved(Model(backbone), version),
    'wrapped model': lambda backbone, version: dict(
        state_dict=saved(Model(Model(backbone), 'module'), version)
    ),
}


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('wrap', WRAPPINGS.values(), ids=WRAPPINGS)
def test_a_backbone_loads_either_order(wrap, version, tmp_path):
    source, loaded, path = square(), square(), str(tmp_path / 'x.pth')
    content = wrap(source, version)
    torch.save(content, path)
    loaded.load_state_dict(content)
    assert same(loaded, source)
    initialised = square(init_cfg=dict(type='Pretrained', checkpoint=path))
    initialised.init_weights()
    assert same(initialised, source)


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('name', ['alone', 'wrapped', 'model'])
def test_a_backbone_loads_either_order_by_mmengine(name, version, tmp_path):
    source, loaded, path = square(), square(), str(tmp_path / 'x.pth')
    torch.save(WRAPPINGS[name](source, version), path)
    load_checkpoint(loaded, path, logger='silent')
    assert same(loaded, source)


def test_without_a_version_the_order_is_the_present_one():
    source, loaded = square(), square()
    loaded.load_state_dict(dict(state_dict=dict(Model(source).state_dict())))
    assert same(loaded, source)


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('prefix', ['backbone', 'backbone.'])
def test_a_part_of_a_file_by_its_prefix_with_or_without_a_dot(prefix, version, tmp_path):
    source, path = square(), str(tmp_path / 'x.pth')
    torch.save(saved(Model(source), version), path)
    loaded = square(init_cfg=dict(type='Pretrained', checkpoint=path, prefix=prefix))
    loaded.init_weights()
    assert same(loaded, source)


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('wrap', WRAPPINGS.values(), ids=WRAPPINGS)
def test_a_whole_model_loads_either_order(wrap, version, tmp_path):
    source, model, path = square(), Model(square()), str(tmp_path / 'x.pth')
    torch.save(wrap(source, version), path)
    load_weights(model, path, logger='silent')
    assert same(model.backbone, source)


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('wrap', WRAPPINGS.values(), ids=WRAPPINGS)
def test_conversion_reads_either_order(wrap, version, monkeypatch):
    monkeypatch.setattr(Recognised, 'build', lambda *args: square())
    source, loaded = square(), square()
    loaded.load_state_dict(convert(wrap(source, version)))
    assert same(loaded, source)


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('part', ['backbone', 'maps'])
def test_export_reads_either_order(part, version, tmp_path):
    cfg = load_config(str(ROOT / 'configs/retinanet_kw_r50_1x_coco.py'), RETINANET)
    source, config, path = pipeline.build_model(cfg), tmp_path / 'x.py', str(tmp_path / 'x.pth')
    cfg.dump(config)
    torch.save(dict(state_dict=saved(source, version)), path)
    loaded = pipeline._load(str(config), path, Options(part=part))
    assert same(loaded.network.backbone, source.backbone)


def test_versions_go_with_their_modules():
    state_dict = saved(square(), 1)
    whole = whole_network(unwrap(dict(model=state_dict)))
    assert version_of(whole, 'backbone.warehouses') == 1
    assert version_of(under_prefix(whole, 'backbone.'), 'warehouses') == 1
    assert version_of(whole, 'warehouses') is None


def test_a_file_may_hold_anything_in_place_of_versions():
    state_dict = saved(square(), 2)
    for damaged in (3, {'warehouses': 2}):
        state_dict._metadata = damaged
        assert version_of(unwrap(state_dict), 'warehouses') is None
