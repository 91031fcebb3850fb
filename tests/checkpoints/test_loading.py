"""Files of other projects as weights of whole OpenMMLab models, as ``load_from`` takes them."""

import pytest
import torch
from golden import Golden
from mmengine.registry import MODELS

from kw_mm.checkpoints.layouts import rename, reverse
from kw_mm.checkpoints.loading import load_weights, read_model_checkpoint
from kw_mm.errors import CheckpointError

ODCONV = dict(type='ODConv2d', num_kernels=4)
KW_HEAD = dict(type='KWLinearClsHead', num_classes=1000, in_channels=1280)
# the authors' files: backbone and head that they are of
PUBLISHED = {
    'kw1x_resnet18': (dict(type='KWResNet', depth=18), 512),
    'kw1x_mobilenetv2_100': (dict(type='KWMobileNetV2'), 1280),
    'kw1d2x_mobilenetv2_100': (dict(type='KWMobileNetV2', budget=1 / 2), KW_HEAD),
    'kw1x_convnext_tiny': (dict(type='KWConvNeXt'), 768),
    'odconv4x_resnet50': (dict(type='DynamicResNet', depth=50, conv=ODCONV), 2048),
    'odconv4x_mobilenetv2_100': (dict(type='DynamicMobileNetV2', conv=ODCONV), 1280),
}
# plain networks: the project whose names they have there, and the classifier's
STATIC = {
    'resnet': (dict(type='StaticResNet', depth=18), 'torchvision', 'fc.', 512),
    'mobilenet': (
        dict(type='StaticMobileNetV2', widen_factor=0.5),
        'torchvision',
        'classifier.1.',
        1280,
    ),
    'mobilenet, timm': (dict(type='StaticMobileNetV2'), 'timm', 'classifier.', 1280),
    'convnext': (dict(type='StaticConvNeXt', arch='atto'), 'facebook', 'head.', 320),
    'convnext, timm': (dict(type='StaticConvNeXt', arch='atto'), 'timm', 'head.fc.', 320),
    'convnext, torchvision': (
        dict(type='StaticConvNeXt', arch='atto'),
        'torchvision',
        'classifier.2.',
        320,
    ),
}


def classifier(backbone, head):
    if isinstance(head, int):
        head = dict(type='LinearClsHead', num_classes=1000, in_channels=head)
    return MODELS.build(
        dict(
            type='ImageClassifier',
            _scope_='mmpretrain',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=head,
        )
    )


def initialised(backbone, path):
    """A backbone that begins with the weights of a file."""
    made = MODELS.build(dict(backbone, init_cfg=dict(type='Pretrained', checkpoint=str(path))))
    made.init_weights()
    return made


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize('name', PUBLISHED)
def test_an_authors_file_is_a_whole_classifiers_checkpoint(name, tmp_path):
    backbone, head = PUBLISHED[name]
    published, model, other = (
        Golden(name).state_dict(),
        classifier(backbone, head),
        classifier(backbone, head),
    )
    torch.save(dict(state_dict=published, epoch=3), tmp_path / 'file.pth')
    load_weights(model, str(tmp_path / 'file.pth'))  # strict
    other.backbone.load_state_dict(published)
    assert_equal(model.backbone.state_dict(), other.backbone.state_dict())
    made = initialised(backbone, tmp_path / 'file.pth')
    assert_equal(made.state_dict(), other.backbone.state_dict())
    if head is KW_HEAD:
        other.head.load_state_dict(published)
        assert_equal(model.head.state_dict(), other.head.state_dict())
    else:
        bias = next(
            key for key in published if key.endswith('.bias') and len(published[key]) == 1000
        )
        assert torch.equal(model.head.fc.bias, published[bias])
        assert torch.equal(model.head.fc.weight, published[bias.replace('bias', 'weight')])


def test_nothing_is_converted_on_the_way(tmp_path):
    published = Golden('odconv4x_mobilenetv2_100').state_dict()
    torch.save(published, tmp_path / 'file.pth')
    found = read_model_checkpoint(str(tmp_path / 'file.pth'))['state_dict']
    expected = {
        f'head.fc.{key.removeprefix("classifier.1.")}'
        if key.startswith('classifier.')
        else f'backbone.{key}': value
        for key, value in published.items()
    }
    assert_equal(found, expected)


@pytest.mark.parametrize('name', STATIC)
def test_a_plain_file_is_a_whole_classifiers_checkpoint(name, tmp_path):
    backbone, project, prefix, channels = STATIC[name]
    source, model = (classifier(backbone, channels) for _ in range(2))
    pairs = reverse(source.backbone.layout_names().static[project])
    entries = {rename(key, pairs): value for key, value in source.backbone.state_dict().items()}
    entries.update({prefix + key: value for key, value in source.head.fc.state_dict().items()})
    torch.save(entries, tmp_path / 'file.pth')
    load_weights(model, str(tmp_path / 'file.pth'))
    assert_equal(model.state_dict(), source.state_dict())
    made = initialised(backbone, tmp_path / 'file.pth')
    assert_equal(made.state_dict(), source.backbone.state_dict())


def test_openmmlabs_own_files_stay_as_they_are(tmp_path):
    model = classifier(dict(type='StaticResNet', depth=18), 512)
    content = dict(state_dict=model.state_dict(), meta=dict(epoch=3))
    torch.save(content, tmp_path / 'file.pth')
    found = read_model_checkpoint(str(tmp_path / 'file.pth'))
    assert found['meta'] == dict(epoch=3)
    assert_equal(found['state_dict'], content['state_dict'])


def test_a_file_of_another_network_is_named(tmp_path):
    torch.save(Golden('kw1x_resnet18').state_dict(), tmp_path / 'file.pth')
    model = classifier(dict(type='KWResNet', depth=50), 2048)
    with pytest.raises(CheckpointError, match='file.pth.* ResNet-18 .*KWResNet is ResNet-50'):
        load_weights(model, str(tmp_path / 'file.pth'))


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', '_orig_mod.module.'])
def test_openmmlabs_own_files_load_from_inside_wrappers(prefix, tmp_path):
    source, model = (classifier(dict(type='StaticResNet', depth=18), 512) for _ in range(2))
    wrapped = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save(dict(state_dict=wrapped, epoch=3), tmp_path / 'file.pth')
    content = load_weights(model, str(tmp_path / 'file.pth'), strict=False)
    assert content['epoch'] == 3
    assert_equal(model.state_dict(), source.state_dict())


def test_a_file_of_which_nothing_fits_is_refused(tmp_path):
    path, model = str(tmp_path / 'file.pth'), classifier(dict(type='ResNet', depth=18), 512)
    others = {f'student.{key}': value for key, value in model.state_dict().items()}
    torch.save(dict(state_dict={**others, 'neck.x': torch.zeros(1)}), path)
    with pytest.raises(CheckpointError, match='keys must be .*backbone.conv1.*got student.back'):
        load_weights(model, path, strict=False, logger='silent')
