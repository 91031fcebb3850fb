"""The configs of docs/siblings.md, in the projects they are for, where those are installed."""

import pytest
import torch
from doc_blocks import blocks
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from run_tools import ROOT

from kw_mm.models import KWResNet, StaticResNet
from kw_mm.warehouse import kw_layers

BLOCKS = blocks((ROOT / 'docs/siblings.md').read_text())


def build(package, place, **changes):
    """The model of the page's config, with a plain network's weights in place of a download."""
    (text,) = [b.text for b in BLOCKS if b.value == package and '_base_' in b.text]
    (place / 'config.py').write_text(text)
    cfg = Config.fromfile(place / 'config.py')
    cfg.merge_from_dict(changes)
    init_default_scope(package)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    assert type(model.backbone) is KWResNet and len(kw_layers(model.backbone)) == 50
    plain = StaticResNet(50, deep_stem=model.backbone.deep_stem)
    model.backbone.load_state_dict(plain.state_dict())
    return model


def check_step(model, data):
    """One step of training moves every parameter of the backbone that it should."""
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
    losses = model.train().train_step(data, optimizer)
    assert all(torch.as_tensor(value).isfinite().all() for value in losses.values())
    after = model.backbone.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    kernels = {key for key in before if key.endswith(('.cells', '.fc2.weight'))}
    assert len(kernels) > 50 and kernels <= moved


def test_mmseg(tmp_path):
    pytest.importorskip('mmseg.models', reason='needs MMSegmentation')
    from mmseg.structures import SegDataSample

    size = dict(size=(65, 65))
    model = build('mmseg', tmp_path, **{'model.pretrained': None, 'model.data_preprocessor': size})
    assert model.backbone.deep_stem and model.backbone.layer4[2].conv2.dilation == (4, 4)
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(0, 19, (1, 65, 65))),
            metainfo=dict(img_shape=(65, 65), ori_shape=(65, 65)),
        )
        for _ in range(2)
    ]
    images = [torch.randint(0, 256, (3, 65, 65), dtype=torch.uint8) for _ in samples]
    check_step(model, dict(inputs=images, data_samples=samples))
    with torch.no_grad():
        found = model.eval().test_step(dict(inputs=images, data_samples=samples))
    assert all(one.pred_sem_seg.data.shape == (1, 65, 65) for one in found)
    assert all(one.seg_logits.data.isfinite().all() for one in found)


def test_mmaction(tmp_path):
    pytest.importorskip('mmaction.models', reason='needs MMAction2')
    from mmaction.structures import ActionDataSample

    model = build('mmaction', tmp_path, **{'model.backbone.pretrained': None})
    samples = [ActionDataSample().set_gt_label(label) for label in (3, 17)]
    clips = [torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8) for _ in samples]
    check_step(model, dict(inputs=clips, data_samples=samples))
    with torch.no_grad():
        found = model.eval().test_step(dict(inputs=clips, data_samples=samples))
    for one in found:
        assert one.pred_score.shape == (400,) and float(one.pred_score.sum()) == pytest.approx(1)
    with pytest.raises(TypeError, match="KWResNet has no option 'shift_div'"):
        KWResNet(50, shift_div=8)


def test_mmpose(tmp_path):
    pytest.importorskip('mmpose.models', reason='needs MMPose')
    from mmpose.testing import get_packed_inputs

    model = build('mmpose', tmp_path, **{'model.backbone.init_cfg': None})
    check_step(model, get_packed_inputs(2, img_shape=(256, 192)))
    with torch.no_grad():
        found = model.eval().test_step(get_packed_inputs(2, img_shape=(256, 192)))
    for one in found:
        assert one.pred_instances.keypoints.shape == (1, 17, 2)
