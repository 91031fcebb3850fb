"""kw://NAME against a server on the loopback."""
import http.server
import io
import threading

import pytest
import torch
from golden import Golden
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain.models.backbones import ConvNeXt, MobileNetV2, ResNet

from kw_mm.backbones import DynamicMobileNetV2, KWResNet
from kw_mm.checkpoints import published_models
from kw_mm.checkpoints.convert import convert
from kw_mm.checkpoints.names import MOBILENET_V2, facebook_convnext, rename, reverse
from kw_mm.errors import CheckpointError
from kw_mm.warehouse.warehouse import list_cells


def file_of(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serves ``files``: {name: bytes}; the cache folder is empty."""
    files, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):

        def do_GET(self):
            name = self.path.strip('/')
            asked.append(name)
            self.send_response(200 if name in files else 404)
            self.send_header('Content-Length', str(len(files.get(name, b''))))
            self.end_headers()
            self.wfile.write(files.get(name, b''))

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setenv('KW_MM_MIRROR', f'http://127.0.0.1:{httpd.server_port}/{{name}}')
    monkeypatch.setenv('KW_MM_CACHE', str(tmp_path / 'cache'))
    httpd.files, httpd.asked, httpd.cache = files, asked, tmp_path / 'cache/weights'
    yield httpd
    httpd.shutdown()


def cached(server):
    return sorted(path.name for path in server.cache.iterdir() if not path.name.endswith('.lock'))


def test_the_table_has_every_published_model():
    models = published_models()
    assert len(models) == 38 and len({model.google_drive_id for model in models.values()}) == 38
    assert models['resnet50-kw1x-imagenet'].parameters == 28.05
    assert models['resnet50-kw1x-imagenet'].scores == (80.38, 95.19)
    assert models['mask-rcnn-resnet50-kw4x-coco'].scores == (42.4, 38.9)


def test_it_is_downloaded_converted_cached_and_loaded(server):
    published = Golden('kw1x_resnet18').state_dict()
    server.files['resnet18-kw1x-imagenet'] = file_of(dict(model=published, epoch=3))
    for _ in range(2):
        backbone = KWResNet(18, init_cfg=dict(type='Pretrained', checkpoint='kw://resnet18-kw1x-imagenet'))
        backbone.init_weights()
        assert torch.equal(list_cells(backbone.warehouses['stage1'].cells), published['warehouse_manager.weights.0'])
    assert server.asked == ['resnet18-kw1x-imagenet'] and cached(server) == ['resnet18-kw1x-imagenet.pth']
    content = CheckpointLoader.load_checkpoint('kw://resnet18-kw1x-imagenet')              # mmengine's own road
    assert torch.equal(content['state_dict']['head.fc.bias'], published['fc.bias'])


def test_odconv_is_converted_too(server):
    published = Golden('odconv4x_mobilenetv2_100').state_dict()
    wrapped = {f'module.{key}': value for key, value in published.items()}
    server.files['mobilenetv2-odconv4x-imagenet'] = file_of(dict(state_dict=wrapped))
    backbone = DynamicMobileNetV2(1.0, dict(type='ODConv2d', num_kernels=4),
                                  init_cfg=dict(type='Pretrained', checkpoint='kw://mobilenetv2-odconv4x-imagenet'))
    backbone.init_weights()
    assert torch.equal(backbone.conv2.conv.weight, published['features.18.0.weight'])
    assert torch.equal(backbone.conv2.conv.attention.norm.bias, published['features.18.0.attention.bn.bias'])
    content = CheckpointLoader.load_checkpoint('kw://mobilenetv2-odconv4x-imagenet')
    assert torch.equal(content['state_dict']['head.fc.weight'], published['classifier.1.weight'])


def test_static_baselines_get_mmpretrains_names(server):
    plain = ResNet(50)
    server.files['resnet50-imagenet'] = file_of({**plain.state_dict(), 'fc.weight': torch.zeros(1000, 2048)})
    baseline = MODELS.build(dict(type='mmpretrain.ResNet', depth=50, init_cfg=dict(
        type='Pretrained', checkpoint='kw://resnet50-imagenet', prefix='backbone.')))
    baseline.init_weights()
    assert torch.equal(baseline.layer4[2].conv3.weight, plain.layer4[2].conv3.weight)
    plain = MobileNetV2()
    names = reverse(MOBILENET_V2['torchvision'])
    server.files['mobilenetv2-imagenet'] = file_of({
        next(theirs + key[len(ours):] for ours, theirs in names if key.startswith(ours)): value
        for key, value in plain.state_dict().items()})
    baseline = MODELS.build(dict(type='StaticMobileNetV2', init_cfg=dict(
        type='Pretrained', checkpoint='kw://mobilenetv2-imagenet')))
    baseline.init_weights()
    assert torch.equal(baseline.conv2.conv.weight, plain.conv2.conv.weight)
    plain = ConvNeXt('tiny')
    names = reverse(facebook_convnext(plain.depths))
    published = {rename(key, names): value for key, value in plain.state_dict().items()}
    server.files['convnext-tiny-imagenet'] = file_of(published)
    for options in (dict(type='StaticConvNeXt'), dict(type='mmpretrain.ConvNeXt', arch='tiny')):
        init_cfg = dict(type='Pretrained', checkpoint='kw://convnext-tiny-imagenet', prefix='backbone.')
        baseline = MODELS.build(dict(options, init_cfg=init_cfg))
        baseline.init_weights()
        assert torch.equal(baseline.stages[2][8].depthwise_conv.weight, plain.stages[2][8].depthwise_conv.weight)


@pytest.mark.parametrize('content, reason', [
    (None, '404'), (b'<!DOCTYPE html><html>Google Drive - Quota exceeded' + bytes(2000), 'web page'), (b'PK', 'web page'),
    (b'PK\x03\x04' + bytes(5000), 'damaged or not a checkpoint'), (file_of({'a': torch.zeros(2000)}), 'unknown network'),
])
def test_what_is_no_checkpoint_says_what_to_do_and_leaves_nothing(server, content, reason):
    if content is not None:
        server.files['resnet18-kw1x-imagenet'] = content
    backbone = KWResNet(18, init_cfg=dict(type='Pretrained', checkpoint='kw://resnet18-kw1x-imagenet'))
    with pytest.raises(CheckpointError, match=reason) as error:
        backbone.init_weights()
    message = str(error.value)
    assert 'https://drive.google.com/file/d/1aLaO8QV9QYdfv5GE2tg9iDWLeEJfkrKY/view' in message
    assert str(server.cache / 'downloads/resnet18-kw1x-imagenet.pth') in message and '\n' not in message
    assert cached(server) == []


def test_a_file_fetched_by_hand_is_used(server):
    path = server.cache / 'downloads/resnet18-kw1x-imagenet.pth'
    path.parent.mkdir(parents=True)
    path.write_bytes(file_of(Golden('kw1x_resnet18').state_dict()))
    KWResNet(18, init_cfg=dict(type='Pretrained', checkpoint='kw://resnet18-kw1x-imagenet')).init_weights()
    assert server.asked == []


def test_no_gdown_says_how_to_get_it(server, monkeypatch):
    monkeypatch.delenv('KW_MM_MIRROR')
    monkeypatch.setitem(__import__('sys').modules, 'gdown', None)
    with pytest.raises(CheckpointError, match='pip install gdown.*in a browser'):
        CheckpointLoader.load_checkpoint('kw://resnet18-kw1x-imagenet')


def test_unknown_names_are_refused(server):
    with pytest.raises(CheckpointError, match='for example .*resnet50-kw'):
        CheckpointLoader.load_checkpoint('kw://resnet50-kw3x-imagenet')


def test_another_budget_in_the_file_is_refused_when_it_is_loaded(server):
    server.files['resnet18-kw1x-imagenet'] = file_of(convert(KWResNet(18, 2).state_dict()))
    backbone = KWResNet(18, init_cfg=dict(type='Pretrained', checkpoint='kw://resnet18-kw1x-imagenet'))
    with pytest.raises(CheckpointError, match='budget 2.*budget 1'):
        backbone.init_weights()
