"""Real ImageNet weights on real ImageNet images, and the ImageNet configs."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.models.backbones import MobileNetV2, ResNet
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.registry import DATASETS
from reading_configs import read_config
from run_tools import ROOT, SHARED

from kw_mm.checkpoints.convert import convert
from kw_mm.checkpoints.state_dicts import under_prefix
from kw_mm.run_config import load_config

CONFIGS = sorted(path.name for path in (ROOT / 'configs/imagenet').glob('*.py'))
NETWORKS = {
    'resnet50': (
        lambda: ResNet(50),
        2048,
        'resnet50_imagenet.npz',
        dict(type='KWResNet', depth=50),
    ),
    'mobilenetv2': (MobileNetV2, 1280, 'mobilenet_v2_imagenet.npz', dict(type='KWMobileNetV2')),
}


@pytest.fixture(scope='module')
def images():
    """All 200 images as the networks see them, and their classes."""
    folder = SHARED / 'data/imagenet_mini'
    if not folder.is_dir():
        pytest.skip(f'needs real ImageNet images in {folder}')
    init_default_scope('mmpretrain')
    cfg = load_config(
        str(ROOT / 'configs/demo/kw_r50_imagenet_mini.py'), dict(data_root=str(folder))
    )
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    mean, std = (
        torch.tensor(cfg.data_preprocessor[name]).view(3, 1, 1) for name in ('mean', 'std')
    )
    samples = [dataset[i] for i in range(len(dataset))]
    pixels = torch.stack([(sample['inputs'].flip(0).float() - mean) / std for sample in samples])
    return pixels, torch.tensor([int(sample['data_samples'].gt_label) for sample in samples])


@torch.no_grad()
def logits(backbone, head, pixels):
    backbone.eval(), head.eval()
    return torch.cat([head((backbone(batch)[-1].mean(dim=(2, 3)),)) for batch in pixels.split(10)])


def plain_network(name, plain_weights):
    make, channels, file, cfg = NETWORKS[name]
    backbone, head, weights = make(), LinearClsHead(1000, channels), plain_weights(file)
    state_dict = convert(weights, 'static')['state_dict']
    load_state_dict(
        backbone, under_prefix(state_dict, 'backbone.'), strict=True
    )  # mmengine's: counters may be missing
    head.load_state_dict(under_prefix(state_dict, 'head.'))
    return backbone, head, weights, cfg


@pytest.mark.parametrize(
    'name, budget', [('resnet50', 1), ('mobilenetv2', 1), ('mobilenetv2', 4)]
)  # the others with all images below
def test_a_kw_network_starts_with_the_plain_logits(name, budget, images, plain_weights):
    backbone, head, weights, cfg = plain_network(name, plain_weights)
    started = MODELS.build(dict(cfg, budget=budget))
    started.load_state_dict(weights)
    pixels = images[0][::20]
    expected = logits(backbone, head, pixels)
    torch.testing.assert_close(logits(started, head, pixels), expected, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, budget, right',
    [
        ('resnet50', 1, 186),
        ('resnet50', 2, 186),
        ('resnet50', 4, 186),
        ('mobilenetv2', 1, 170),
        ('mobilenetv2', 4, 170),
    ],
)
@pytest.mark.parametrize('start, temperature', [('plain', 0.0), ('published', 1.0)])
def test_a_kw_network_starts_classifying_all_images_as_the_plain_one(
    name, budget, right, start, temperature, images, plain_weights
):
    backbone, head, weights, cfg = plain_network(name, plain_weights)
    options = dict(budget=budget, attention_start=start, temperature=temperature)
    started = MODELS.build(dict(cfg, **options))
    started.load_state_dict(weights)
    pixels, classes = images
    expected, found = logits(backbone, head, pixels), logits(started, head, pixels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert (
        int((found.argmax(1) == classes).sum())
        == int((expected.argmax(1) == classes).sum())
        == right
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, options, file, right',
    [
        ('kw_r50_imagenet_mini', [], 'resnet50_imagenet.npz', 186),
        ('kw_r50_imagenet_mini', ['model.backbone.budget=4'], 'resnet50_imagenet.npz', 186),
        ('kw_mbv2_imagenet_mini', [], 'mobilenet_v2_imagenet.npz', 170),
        ('kw_mbv2_imagenet_mini', ['model.backbone.budget=4'], 'mobilenet_v2_imagenet.npz', 170),
    ],
)
def test_tools_test_says_the_same(
    config, options, file, right, plain_weights, images, tool, tmp_path
):
    torch.save(plain_weights(file), tmp_path / 'plain.pth')
    done = tool(
        'test',
        ROOT / f'configs/demo/{config}.py',
        tmp_path / 'plain.pth',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        f'data_root={SHARED / "data/imagenet_mini"}',
        *options,
    )
    assert f'accuracy/top1: {right / 2:.4f}' in done.stdout


def test_all_imagenet_configs_are_there():
    resnets = [
        f'{kind}r{depth}_{recipe}'
        for recipe in ('100e', '300e')
        for depth, kinds in (
            (18, ('', 'kw_', 'kw2x_', 'kw4x_', 'kw1d2x_', 'kw1d4x_')),
            (50, ('', 'kw_', 'kw4x_', 'kw1d2x_')),
        )
        for kind in kinds
    ]
    mobilenets = [
        f'{kind}mbv2{width}_150e'
        for width in ('', '-050')
        for kind in ('', 'kw_', 'kw4x_', 'kw1d2x_')
    ]
    compared = (
        'cbam',
        'cgc',
        'condconv8x',
        'dcd',
        'dyconv4x',
        'eca',
        'odconv4x',
        'se',
        'weightnet',
    )
    dynamic = [
        *(f'{kind}_r18_100e' for kind in compared),
        *(f'{kind}_r50_100e' for kind in ('dyconv4x', 'odconv1x', 'odconv4x')),
        *(f'{kind}_mbv2_150e' for kind in ('dyconv4x', 'odconv4x')),
    ]
    others = [
        f'{name}_300e'
        for name in ('convnext-t', 'kw_convnext-t', 'kw3d4x_convnext-t', 'deit-t', 'kw_deit-t')
    ]
    assert CONFIGS == sorted(f'{name}_in1k.py' for name in resnets + mobilenets + dynamic + others)


@pytest.mark.parametrize('name', CONFIGS)
def test_recipe(name):
    cfg = read_config(f'imagenet/{name}')
    optimizer, temperature = (
        cfg.optim_wrapper.optimizer,
        [h for h in cfg.custom_hooks if 'Temperature' in h.type],
    )
    epochs = int(name.split('_')[-2][:-1])
    assert cfg.train_cfg.max_epochs == epochs
    softmax = name.startswith(('dyconv', 'odconv'))
    assert bool(temperature) == (name.startswith('kw') or softmax)
    for hook in temperature:
        assert hook.duration == (10 if softmax else {300: 20, 150: 15, 100: 10}[epochs])
        assert (hook.get('begin', 1), hook.get('end', 0)) == ((30, 1) if softmax else (1, 0))
    assert ('EMAHook' in [hook.type for hook in cfg.custom_hooks]) == ('convnext' in name)
    if epochs == 300:
        total, lr = (1024, 1e-3) if 'deit' in name else (4096, 4e-3)
        assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', lr, 0.05)
        assert cfg.train_dataloader.batch_size * 8 * cfg.optim_wrapper.accumulative_counts == total
        no_drop_path = 'deit' in name or name in (
            'r18_300e_in1k.py',
            'kw1d4x_r18_300e_in1k.py',
            'kw1d2x_r18_300e_in1k.py',
        )
        drop_path = 0.3 if 'kw' in name and 'convnext' in name else 0.1
        assert cfg.model.backbone.get('drop_path_rate', 0) == (0 if no_drop_path else drop_path)
        assert bool(cfg.model.get('train_cfg')) == (name != 'kw1d4x_r18_300e_in1k.py')
        assert cfg.param_scheduler[0].end == 20 and cfg.param_scheduler[1].eta_min == (
            1e-5 if 'deit' in name else 1e-6
        )
        assert (
            cfg.optim_wrapper.paramwise_cfg.flat_decay_mult
            == cfg.optim_wrapper.paramwise_cfg.bias_decay_mult
            == 0
        )
        assert cfg.model.head.loss.label_smooth_val == 0.1
    else:
        expected = (
            dict(lr=0.05, weight_decay=4e-5) if epochs == 150 else dict(lr=0.1, weight_decay=1e-4)
        )
        assert optimizer.type == 'SGD' and expected == {key: optimizer[key] for key in expected}
        assert (
            cfg.model.head.loss.type == 'CrossEntropyLoss'
            and cfg.train_dataloader.batch_size * 8 == 256
        )
    heads = {
        'kw1d2x_mbv2': 'KWLinearClsHead',
        'odconv4x_r18': 'DynamicLinearClsHead',
        'odconv4x_mbv2': 'DynamicLinearClsHead',
        'condconv': 'DynamicLinearClsHead',
        'dcd': 'DynamicLinearClsHead',
    }
    assert cfg.model.head.type == next(
        (head for start, head in heads.items() if name.startswith(start)), 'LinearClsHead'
    )
    assert cfg.model.head.get('dropout', 0) == (
        0.2 if name.startswith(('odconv4x_r18', 'odconv4x_mbv2')) else 0
    )


def test_a_pretraining_checkpoint_starts_the_detection_config(tool, tmp_path):
    """Two iterations of the 300-epoch recipe on real images.

    The backbone arrives in the detector with nothing lost.
    """
    folder = SHARED / 'data/imagenet_mini'
    if not folder.is_dir():
        pytest.skip(f'needs real ImageNet images in {folder}')
    config = tmp_path / 'small.py'
    config.write_text(f"""
_base_ = {str(ROOT / 'configs/imagenet/kw_r50_300e_in1k.py')!r}
data_root = 'data/imagenet'
files = dict(split='', data_prefix='val', ann_file='val.txt', indices=8)
train_dataloader = dict(batch_size=4, num_workers=1, persistent_workers=False, dataset=files)
val_dataloader = dict(batch_size=4, num_workers=1, persistent_workers=False, dataset=files)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
""")
    tool('train', config, '--work-dir', tmp_path, '--cfg-options', f'data_root={folder}')
    path = str(tmp_path / 'epoch_1.pth')
    cfg = load_config(
        str(ROOT / 'configs/mask_rcnn_kw_r50_1x_coco.py'),
        {'model.backbone.init_cfg.checkpoint': path},
    )
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    saved = torch.load(path, weights_only=False)['state_dict']
    own = backbone.state_dict()
    assert {f'backbone.{key}' for key in own} == {
        key for key in saved if key.startswith('backbone.')
    }
    assert all(torch.equal(value, saved[f'backbone.{key}']) for key, value in own.items())
    assert 0.9 < float(backbone.temperature) < 1  # 2 of 20 epochs' iterations
