"""Attention drawn from a config, a checkpoint and images."""

from argparse import Namespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadAnnotations
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.registry import TRANSFORMS

from kw_mm.attention.recording import record_attention
from kw_mm.attention.samples import file_samples
from kw_mm.attention.visualize import visualize_attention
from kw_mm.building import build_model
from kw_mm.errors import UserError
from kw_mm.run_config import load_config
from kw_mm.warehouse import kw_layers

CLASSIFIER = """
custom_imports = dict(imports=['kw_mm'], allow_failed_imports=False)
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier', data_preprocessor=dict(mean=[128] * 3, std=[64] * 3, to_rgb=True),
    backbone={backbone}, neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, {head}))
test_dataloader = dict(dataset=dict(type='CustomDataset', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=64),
    dict(type='CenterCrop', crop_size=64), dict(type='PackInputs')]))
"""


def classifier(tmp_path, backbone, channels=512):
    path = tmp_path / 'config.py'
    path.write_text(CLASSIFIER.format(backbone=backbone, head=f'in_channels={channels}'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(backbone)
        head = MODELS.build(dict(type='LinearClsHead', num_classes=10, in_channels=channels))
    weights = {
        **{f'backbone.{key}': value for key, value in backbone.state_dict().items()},
        **{f'head.{key}': value for key, value in head.state_dict().items()},
    }
    torch.save(dict(state_dict=weights), tmp_path / 'x.pth')
    for i in range(2):
        cv2.imwrite(
            str(tmp_path / f'image{i}.png'),
            np.random.default_rng(i).integers(0, 255, (80, 70, 3), np.uint8),
        )
    return path


def arguments(tmp_path, *images, **options):
    defaults = dict(
        config=str(tmp_path / 'config.py'),
        checkpoint=str(tmp_path / 'x.pth'),
        images=list(map(str, images)),
        number=8,
        checkpoints=[],
        out=str(tmp_path / 'out'),
        cfg_options=None,
    )
    return Namespace(**{**defaults, **options})


@pytest.mark.parametrize(
    'backbone, channels, warehouses',
    [
        (dict(type='KWResNet', depth=18, budget=0.5, base_channels=16, stem_channels=16), 128, 4),
        (dict(type='KWMobileNetV2', widen_factor=0.25, budget=4), 1280, 19),
        (
            dict(
                type='KWConvNeXt',
                arch=dict(depths=[1] * 4, channels=[16, 16, 32, 32]),
                gap_before_final_norm=False,
            ),
            32,
            12,
        ),
    ],
)
def test_classifiers(tmp_path, backbone, channels, warehouses):
    cfg = load_config(str(classifier(tmp_path, backbone, channels)))
    model = build_model(cfg)
    found = record_attention(
        model, file_samples(cfg, [str(tmp_path / 'image0.png'), str(tmp_path / 'image1.png')])
    )
    assert len(found) == warehouses
    assert sum(len(warehouse.layers) for warehouse in found) == len(kw_layers(model))
    for warehouse in found:
        assert len(warehouse.alpha) == 2 and torch.isfinite(warehouse.weights).all()
    assert sum(found[0].differences(0, 1).values()) > 0


def test_images_are_normalised_as_the_runner_does_it(tmp_path):
    """mmpretrain's configs have the preprocessor beside the model, which mmengine's runner gets."""
    path = classifier(
        tmp_path,
        dict(type='KWResNet', depth=18, budget=0.5, base_channels=16, stem_channels=16),
        128,
    )
    inside = load_config(str(path))
    beside = load_config(str(path))
    beside.data_preprocessor = beside.model.pop('data_preprocessor')
    (sample,) = file_samples(inside, [str(tmp_path / 'image0.png')])
    normalised = [
        build_model(cfg).data_preprocessor(pseudo_collate([sample.data]))['inputs']
        for cfg in (inside, beside)
    ]
    assert torch.equal(*normalised) and normalised[0].abs().max() <= 2
    assert 'data_preprocessor' not in beside.model


def test_a_pipeline_of_classes(tmp_path):
    """As in mmengine's pure Python configs."""
    cfg = load_config(str(classifier(tmp_path, dict(type='KWResNet', depth=18), 512)))
    by_name = file_samples(cfg, [str(tmp_path / 'image0.png')])
    for step in cfg.test_dataloader.dataset.pipeline:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            step.type = TRANSFORMS.get(step.type)
    by_class = file_samples(cfg, [str(tmp_path / 'image0.png')])
    assert np.array_equal(by_name[0].image, by_class[0].image)


def test_annotations_are_left_out_and_errors_without_words_named(tmp_path):
    cfg = load_config(str(classifier(tmp_path, dict(type='KWResNet', depth=18), 512)))

    class Truth(LoadAnnotations):
        """Known by its class."""

    class Annotations:
        """No kind of it, whatever it is called; without a message, too."""

        def __call__(self, data):
            raise RuntimeError()

    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type=Truth))
    assert len(file_samples(cfg, [str(tmp_path / 'image0.png')])) == 1
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type=Annotations))
    with pytest.raises(UserError, match=r'does not pass the test pipeline: .*RuntimeError'):
        file_samples(cfg, [str(tmp_path / 'image0.png')])


def test_what_cannot_be_drawn_is_said_in_one_sentence(tmp_path):
    classifier(tmp_path, dict(type='StaticResNet', depth=18), 512)
    with pytest.raises(
        UserError, match='has no warehouses to look into; give one with a KW backbone'
    ):
        visualize_attention(arguments(tmp_path, tmp_path / 'image0.png'))
    classifier(tmp_path, dict(type='KWResNet', depth=18, base_channels=16, stem_channels=16), 128)
    (tmp_path / 'text.png').write_text('no image')
    (tmp_path / 'empty').mkdir()
    for options, message in [
        (dict(images=[str(tmp_path / 'text.png')]), "text.png' does not pass the test pipeline"),
        (dict(images=[str(tmp_path / 'nowhere.png')]), "nowhere.png' does not exist"),
        (dict(images=[str(tmp_path / 'empty')]), "no image in '.*empty'"),
        (dict(), 'has no val_dataloader; name image files instead'),
        (dict(number=0), '--number 0'),
        (dict(checkpoint=str(tmp_path / 'empty')), 'no checkpoint epoch_'),
        (dict(checkpoints=['nowhere.pth']), "checkpoint 'nowhere.pth' does not exist"),
    ]:
        with pytest.raises(UserError, match=message):
            visualize_attention(arguments(tmp_path, **options))


def test_earlier_checkpoints_come_first(tmp_path):
    backbone = dict(
        type='KWResNet',
        depth=18,
        base_channels=16,
        stem_channels=16,
        budget=0.5,
        sharing_range='two_stages',
        max_attention=20,
    )
    classifier(tmp_path, backbone, 128)
    page = visualize_attention(arguments(tmp_path, tmp_path / 'image1.png'))
    assert page.read_text().count('<img ') == 2 * 3  # no run and nothing to compare
    weights = torch.load(tmp_path / 'x.pth')
    weights['state_dict']['backbone.warehouses.temperature'].fill_(0.5)
    torch.save(weights, tmp_path / 'early.pth')
    folder = arguments(
        tmp_path, tmp_path, checkpoints=[str(tmp_path / 'early.pth')]
    )  # both images of a folder
    text = visualize_attention(folder).read_text()
    assert 'Checkpoint x.' in text and '<td>0</td>' in text and text.count('<img ') == 2 + 2 * 5


def test_a_bad_image_or_checkpoint_does_not_end_the_others(tmp_path):
    backbone = dict(type='KWResNet', depth=18, budget=0.5, base_channels=16, stem_channels=16)
    model = build_model(load_config(str(classifier(tmp_path, backbone, 128))))
    (tmp_path / 'run').mkdir()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'run/epoch_2.pth')
    (tmp_path / 'run/epoch_1.pth').write_bytes(b'no checkpoint at all')
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    images = [str(tmp_path / name) for name in ('image0.png', 'broken.png', 'image1.png')]
    with pytest.raises(UserError, match='index.html is without .*broken.png.*epoch_1.pth'):
        visualize_attention(arguments(tmp_path, checkpoint=str(tmp_path / 'run'), images=images))
    assert (tmp_path / 'out/index.html').is_file()
    with pytest.raises(UserError, match='broken.png'):
        visualize_attention(arguments(tmp_path, images=images[1:2]))
