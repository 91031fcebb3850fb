"""Published models and a Mask R-CNN on the device. These need OpenMMLab, with mmcv's CUDA ops."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gpu import DEVICE, REHEARSED

pytest.importorskip('mmdet', reason='OpenMMLab is not installed')
pytest.importorskip('mmcv.ops', reason='mmcv has no compiled operators')

from golden import TEMPERATURES, Golden, images  # noqa: E402
from mmdet.testing import demo_mm_inputs  # noqa: E402
from mmengine.optim import AmpOptimWrapper  # noqa: E402
from mmengine.registry import MODELS, init_default_scope  # noqa: E402
from run_tools import ROOT, SHARED  # noqa: E402
from torch import nn  # noqa: E402

from kw_mm.models import KWResNet  # noqa: E402
from kw_mm.ops import use_backend  # noqa: E402
from kw_mm.run_config import load_config  # noqa: E402

pytestmark = pytest.mark.gpu
CONFIG = ROOT / 'configs/demo/mask_rcnn_kw_shapes.py'


@pytest.mark.parametrize('temperature', TEMPERATURES)
@pytest.mark.parametrize('backend', ['auto', 'torch', 'cuda'])
@pytest.mark.parametrize('depth', [18, 50])
@torch.no_grad()
def test_published_features_in_float64(depth, backend, temperature, device):
    golden, backbone = Golden(f'kw1x_resnet{depth}'), KWResNet(depth, 1, out_indices=(0, 1, 2, 3))
    backbone.load_state_dict(golden.state_dict())
    backbone.eval().to(device, torch.float64).set_temperature(float(temperature))
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    with use_backend(backend):
        found = backbone(images().to(device, torch.float64))
    for number, value in enumerate(found, start=1):
        assert golden.error(temperature, f'stage{number}', value.cpu()) < 1e-8


def detector(device):
    """A small Mask R-CNN with a KW backbone, the same weights each time."""
    cfg = load_config(str(CONFIG))
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.backbone.set_temperature(0.5)
    return model.to(device)


def inputs(model, training):
    data = demo_mm_inputs(
        2, [[3, 128, 128], [3, 96, 128]], num_items=[3, 4], num_classes=5, with_mask=True
    )
    return model.data_preprocessor(data, training)


def losses_of(device):
    model = detector(device).train()
    torch.manual_seed(1)  # of the samplers
    found = model(**inputs(model, True), mode='loss')
    total, parts = model.parse_losses(found)
    total.backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return {key: float(value) for key, value in parts.items()}, gradients


def test_a_training_step_has_the_losses_of_the_cpu(device):
    expected, _ = losses_of('cpu')
    found, gradients = losses_of(device)
    assert found.keys() == expected.keys() and len(found) > 5
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_training_steps_in_mixed_precision(dtype, device):
    if REHEARSED:
        pytest.skip("mmengine's AmpOptimWrapper asks for a GPU")
    model = detector(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    wrapper = AmpOptimWrapper(dtype=dtype, optimizer=optimizer)
    data = demo_mm_inputs(2, [[3, 128, 128]] * 2, num_items=[3, 4], num_classes=5, with_mask=True)
    for _ in range(3):
        found = model.train_step(data, wrapper)
        assert all(torch.isfinite(value).all() for value in found.values()), found


@torch.no_grad()
def test_a_prediction_is_that_of_the_cpu(device):
    predicted = []
    for where in ('cpu', device):
        model = detector(where).eval()
        torch.manual_seed(1)
        predicted.append(model(**inputs(model, False), mode='predict'))
    for expected, found in zip(*predicted):
        one, other = expected.pred_instances, found.pred_instances
        assert len(one) == len(other) and other.bboxes.isfinite().all()
        torch.testing.assert_close(other.scores.cpu(), one.scores, rtol=1e-3, atol=1e-4)


def test_real_images(device):
    """Detections in a real COCO image, where one is, are those of the CPU."""
    from mmdet.apis import inference_detector, init_detector

    folder = SHARED / 'data/coco_mini'
    if not folder.is_dir():
        pytest.skip(f'needs real COCO images in {folder}')
    picture, found = str(min(folder.rglob('*.jpg'))), []
    for where in ('cpu', DEVICE):
        torch.manual_seed(0)
        options = {'model.backbone.init_cfg': None, 'model.backbone.temperature': 1}
        config = load_config(str(ROOT / 'configs/mask_rcnn_kw_r50_1x_coco.py'))
        config.merge_from_dict(options)
        model = init_detector(config, None, device=where)
        found.append(inference_detector(model, picture).pred_instances.cpu())
    assert len(found[0]) == len(found[1])
    torch.testing.assert_close(found[1].scores, found[0].scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('first, second', [('cpu', 'device'), ('device', 'cpu')])
def test_a_run_goes_on_elsewhere(first, second, tmp_path):
    """``--resume`` of a run that was begun on a CPU, on the GPU, and the other way round."""
    pytest.importorskip('shapely', reason='the synthetic images are drawn with shapely')
    from shapes import write_shapes

    write_shapes(tmp_path / 'shapes', num_train=8, num_val=2, size=64)
    for place, epochs in ((first, 1), (second, 2)):
        env = dict(os.environ, PYTHONPATH=str(ROOT))
        if place == 'cpu':
            env['CUDA_VISIBLE_DEVICES'] = ''
        done = subprocess.run(
            [sys.executable, str(ROOT / 'tools/train.py'), str(CONFIG), '--work-dir', 'run']
            + (['--resume'] if epochs == 2 else [])
            + ['--cfg-options', f'data_root={tmp_path}/shapes/', f'train_cfg.max_epochs={epochs}']
            + ['train_dataloader.batch_size=4', 'default_hooks.logger.interval=1'],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert Path(tmp_path / 'run/epoch_2.pth').is_file()
    assert 'resumed' in (done.stdout + done.stderr).lower()
