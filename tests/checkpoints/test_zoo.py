"""kw://NAME against a server on the loopback."""

import hashlib
import http.server
import io
import multiprocessing
import os
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from golden import Golden
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain.models.backbones import ConvNeXt, MobileNetV2, ResNet

from kw_mm.checkpoints import published_models, read_checkpoint, zoo
from kw_mm.checkpoints.convert import convert
from kw_mm.checkpoints.layouts import rename, reverse
from kw_mm.checkpoints.loading import load_weights
from kw_mm.checkpoints.zoo import fetch
from kw_mm.errors import CheckpointError
from kw_mm.models import DynamicMobileNetV2, KWResNet
from kw_mm.models.convnext import facebook_convnext
from kw_mm.models.mobilenet_v2 import NAMES
from kw_mm.warehouse.warehouses import list_cells


def file_of(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serves ``files``: {name: bytes} and ``redirects``: {name: URL}, under a bad file name.

    The cache folder is empty.
    """
    files, asked, redirects = {}, [], {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.strip('/')
            asked.append(name)
            self.send_response(302 if name in redirects else 200 if name in files else 404)
            self.send_header('Location', redirects.get(name, ''))
            self.send_header(
                'Content-Disposition', 'attachment; filename="../../../../escaped.pth"'
            )
            self.send_header('Content-Length', str(len(files.get(name, b''))))
            self.end_headers()
            self.wfile.write(files.get(name, b''))

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setenv('KW_MM_MIRROR', f'http://127.0.0.1:{httpd.server_port}/{{name}}')
    monkeypatch.setenv('KW_MM_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    httpd.files, httpd.asked, httpd.redirects, httpd.cache = (
        files,
        asked,
        redirects,
        tmp_path / 'cache/weights/downloads',
    )
    httpd.url = f'http://127.0.0.1:{httpd.server_port}'
    yield httpd
    httpd.shutdown()


FILES = ['resnet18-kw1x-imagenet.pth', 'resnet18-kw1x-imagenet.pth.sha256']


def classifier(backbone, channels):
    head = dict(type='LinearClsHead', num_classes=1000, in_channels=channels)
    neck = dict(type='GlobalAveragePooling')
    return MODELS.build(
        dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=neck, head=head)
    )


def cached(server):
    return sorted(path.name for path in server.cache.iterdir() if not path.name.endswith('.lock'))


def test_the_table_has_every_published_model():
    models = published_models()
    assert len(models) == 38 and len({model.google_drive_id for model in models.values()}) == 38
    assert models['resnet50-kw1x-imagenet'].parameters == 28.05
    assert models['resnet50-kw1x-imagenet'].scores == (80.38, 95.19)
    assert models['mask-rcnn-resnet50-kw4x-coco'].scores == (42.4, 38.9)


def test_the_table_takes_hashes():
    assert not any(model.sha256 for model in published_models().values())  # nobody has seen them
    assert zoo.TABLE.read_text().splitlines()[0].endswith(',google_drive_id,sha256')


def test_it_is_downloaded_cached_as_it_is_and_loaded(server):
    published = Golden('kw1x_resnet18').state_dict()
    server.files['resnet18-kw1x-imagenet'] = file_of(dict(model=published, epoch=3))
    for _ in range(2):
        backbone = KWResNet(
            18, init_cfg=dict(type='Pretrained', checkpoint='kw://resnet18-kw1x-imagenet')
        )
        backbone.init_weights()
        assert torch.equal(
            list_cells(backbone.warehouses['stage1'].cells),
            published['warehouse_manager.weights.0'],
        )
    assert server.asked == ['resnet18-kw1x-imagenet'] and cached(server) == FILES
    assert (server.cache / FILES[0]).read_bytes() == server.files['resnet18-kw1x-imagenet']
    content = CheckpointLoader.load_checkpoint('kw://resnet18-kw1x-imagenet')  # mmengine's own road
    assert torch.equal(content['model']['fc.bias'], published['fc.bias']) and content['epoch'] == 3
    model = classifier(dict(type='KWResNet', depth=18, _scope_='kw_mm'), 512)
    load_weights(model, 'kw://resnet18-kw1x-imagenet')
    assert torch.equal(model.head.fc.bias, published['fc.bias'])


def test_odconv_is_adapted_too(server):
    published = Golden('odconv4x_mobilenetv2_100').state_dict()
    wrapped = {f'module.{key}': value for key, value in published.items()}
    server.files['mobilenetv2-odconv4x-imagenet'] = file_of(dict(state_dict=wrapped))
    backbone = DynamicMobileNetV2(
        1.0,
        dict(type='ODConv2d', num_kernels=4),
        init_cfg=dict(type='Pretrained', checkpoint='kw://mobilenetv2-odconv4x-imagenet'),
    )
    backbone.init_weights()
    assert torch.equal(backbone.conv2.conv.weight, published['features.18.0.weight'])
    assert torch.equal(
        backbone.conv2.conv.attention.norm.bias, published['features.18.0.attention.bn.bias']
    )
    conv = dict(type='ODConv2d', num_kernels=4)
    model = classifier(dict(type='DynamicMobileNetV2', conv=conv, _scope_='kw_mm'), 1280)
    load_weights(model, 'kw://mobilenetv2-odconv4x-imagenet')
    assert torch.equal(model.head.fc.weight, published['classifier.1.weight'])


def test_static_baselines_adapt_the_authors_names(server):
    plain = ResNet(50)
    server.files['resnet50-imagenet'] = file_of(
        {**plain.state_dict(), 'fc.weight': torch.zeros(1000, 2048)}
    )
    baseline = MODELS.build(
        dict(
            type='mmpretrain.ResNet',
            depth=50,
            init_cfg=dict(type='Pretrained', checkpoint='kw://resnet50-imagenet'),
        )
    )
    baseline.init_weights()
    assert torch.equal(baseline.layer4[2].conv3.weight, plain.layer4[2].conv3.weight)
    plain = MobileNetV2()
    names = reverse(NAMES['torchvision'])
    server.files['mobilenetv2-imagenet'] = file_of(
        {
            next(theirs + key[len(ours) :] for ours, theirs in names if key.startswith(ours)): value
            for key, value in plain.state_dict().items()
        }
    )
    baseline = MODELS.build(
        dict(
            type='StaticMobileNetV2',
            init_cfg=dict(type='Pretrained', checkpoint='kw://mobilenetv2-imagenet'),
        )
    )
    baseline.init_weights()
    assert torch.equal(baseline.conv2.conv.weight, plain.conv2.conv.weight)
    plain = ConvNeXt('tiny')
    names = reverse(facebook_convnext(plain.depths))
    published = {rename(key, names): value for key, value in plain.state_dict().items()}
    server.files['convnext-tiny-imagenet'] = file_of(published)
    init_cfg = dict(type='Pretrained', checkpoint='kw://convnext-tiny-imagenet')
    baseline = MODELS.build(dict(type='StaticConvNeXt', init_cfg=init_cfg))
    baseline.init_weights()
    assert torch.equal(
        baseline.stages[2][8].depthwise_conv.weight, plain.stages[2][8].depthwise_conv.weight
    )


@pytest.mark.parametrize(
    'content, reason',
    [
        (None, '404'),
        (b'<!DOCTYPE html><html>Google Drive - Quota exceeded' + bytes(2000), 'web page'),
        (b'PK', 'web page'),
        (b'PK\x03\x04' + bytes(5000), 'damaged or not a checkpoint'),
        (file_of({'a': list(range(2000))}), 'no weights'),
    ],
)
def test_what_is_no_checkpoint_says_what_to_do_and_leaves_nothing(server, content, reason):
    if content is not None:
        server.files['resnet18-kw1x-imagenet'] = content
    backbone = KWResNet(
        18, init_cfg=dict(type='Pretrained', checkpoint='kw://resnet18-kw1x-imagenet')
    )
    with pytest.raises(CheckpointError, match=reason) as error:
        backbone.init_weights()
    message = str(error.value)
    assert 'https://drive.google.com/file/d/1aLaO8QV9QYdfv5GE2tg9iDWLeEJfkrKY/view' in message
    assert str(server.cache / 'resnet18-kw1x-imagenet.pth') in message and '\n' not in message
    assert cached(server) == []


def test_an_unknown_network_is_named_when_it_is_loaded(server):
    server.files['resnet18-kw1x-imagenet'] = file_of({'a': torch.zeros(2000)})
    backbone = KWResNet(
        18, init_cfg=dict(type='Pretrained', checkpoint='kw://resnet18-kw1x-imagenet')
    )
    with pytest.raises(CheckpointError, match='kw://resnet18-kw1x-imagenet.*unknown network'):
        backbone.init_weights()


def test_a_file_fetched_by_hand_is_used(server):
    path = server.cache / 'resnet18-kw1x-imagenet.pth'
    path.parent.mkdir(parents=True)
    path.write_bytes(file_of(Golden('kw1x_resnet18').state_dict()))
    KWResNet(
        18, init_cfg=dict(type='Pretrained', checkpoint='kw://resnet18-kw1x-imagenet')
    ).init_weights()
    assert server.asked == [] and cached(server) == FILES


def test_a_bad_file_fetched_by_hand_is_named_and_its_hash_not_kept(server):
    path = server.cache / 'resnet18-kw1x-imagenet.pth'
    path.parent.mkdir(parents=True)
    path.write_text('<html>quota exceeded</html>')
    with pytest.raises(CheckpointError, match='it is text.*in a browser'):
        fetch('resnet18-kw1x-imagenet')
    path.write_bytes(SMALL)
    assert fetch('resnet18-kw1x-imagenet') == path and cached(server) == FILES


def test_the_converted_files_of_earlier_versions_are_left_alone(server):
    old = server.cache.parent / 'resnet18-kw1x-imagenet.pth'
    old.parent.mkdir(parents=True)
    old.write_text('converted')
    server.files['resnet18-kw1x-imagenet'] = SMALL
    assert fetch('resnet18-kw1x-imagenet').read_bytes() == SMALL
    assert old.read_text() == 'converted'


SMALL = file_of(dict(a=torch.zeros(2000)))
OTHER = file_of(dict(a=torch.ones(2000)))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_the_hash_found_first_is_kept_as_sha256sum_checks_it(server):
    server.files['resnet18-kw1x-imagenet'] = SMALL
    fetch('resnet18-kw1x-imagenet')
    record = server.cache / FILES[1]
    assert record.read_text() == f'{sha256(SMALL)}  {FILES[0]}\n'


def test_a_file_that_changes_is_refused_with_both_hashes(server):
    server.files['resnet18-kw1x-imagenet'] = SMALL
    path = fetch('resnet18-kw1x-imagenet')
    path.write_bytes(OTHER)
    with pytest.raises(CheckpointError) as error:
        CheckpointLoader.load_checkpoint('kw://resnet18-kw1x-imagenet')
    message = str(error.value)
    assert f'{path} has changed' in message and '\n' not in message
    assert f'must be {sha256(SMALL)}' in message and f'got {sha256(OTHER)}' in message
    assert 'Remove it and try again' in message
    assert f'if you trust the file that is there now, remove {path}.sha256' in message
    (server.cache / FILES[1]).unlink()
    assert CheckpointLoader.load_checkpoint('kw://resnet18-kw1x-imagenet')['a'][0] == 1
    assert (server.cache / FILES[1]).read_text().startswith(sha256(OTHER))


def test_a_download_that_differs_from_the_one_before_is_refused_with_both_hashes(server):
    server.files['resnet18-kw1x-imagenet'] = SMALL
    fetch('resnet18-kw1x-imagenet').unlink()
    server.files['resnet18-kw1x-imagenet'] = OTHER
    with pytest.raises(CheckpointError) as error:
        fetch('resnet18-kw1x-imagenet')
    message = str(error.value)
    assert 'another file was downloaded than before' in message and '\n' not in message
    assert f'must be {sha256(SMALL)}' in message and f'got {sha256(OTHER)}' in message
    assert 'in a browser and save it as' in message and f'{FILES[1]}' in message
    assert cached(server) == FILES[1:]
    server.files['resnet18-kw1x-imagenet'] = SMALL
    assert fetch('resnet18-kw1x-imagenet').read_bytes() == SMALL


@pytest.mark.parametrize('by_hand', [False, True])
def test_the_tables_hash_is_binding(server, monkeypatch, by_hand):
    name = 'resnet18-kw1x-imagenet'
    known = replace(published_models()[name], sha256=sha256(SMALL))
    monkeypatch.setattr(zoo, 'published_models', lambda: {name: known})
    server.files[name] = OTHER
    if by_hand:
        server.cache.mkdir(parents=True)
        (server.cache / FILES[0]).write_bytes(OTHER)
    with pytest.raises(CheckpointError) as error:
        fetch(name)
    message = str(error.value)
    assert f'{sha256(SMALL)} (from published_models.csv), got {sha256(OTHER)}' in message
    assert 'if you trust' not in message
    assert cached(server) == (FILES[:1] if by_hand else [])
    if by_hand:
        (server.cache / FILES[0]).unlink()
    server.files[name] = SMALL
    assert fetch(name).read_bytes() == SMALL and cached(server) == FILES[:1]


def ask(name, ready, answers):
    ready.wait()
    answers.put(fetch(name).read_bytes() == SMALL)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_of_several_processes_one_downloads(server):
    server.files['resnet18-kw1x-imagenet'] = SMALL
    context = multiprocessing.get_context('fork')
    ready, answers = context.Event(), context.Queue()
    ranks = [
        context.Process(target=ask, args=('resnet18-kw1x-imagenet', ready, answers))
        for _ in range(4)
    ]
    for rank in ranks:
        rank.start()
    ready.set()
    assert [answers.get(timeout=60) for _ in ranks] == [True] * 4
    for rank in ranks:
        rank.join()
    assert server.asked == ['resnet18-kw1x-imagenet'] and cached(server) == FILES


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
    backbone = KWResNet(
        18, init_cfg=dict(type='Pretrained', checkpoint='kw://resnet18-kw1x-imagenet')
    )
    with pytest.raises(CheckpointError, match='budget 2.*budget 1'):
        backbone.init_weights()


@pytest.mark.parametrize(
    'name',
    [
        '../../escaped',
        '/etc/passwd',
        'resnet18-kw1x-imagenet/../../x',
        '..',
        '.',
        '',
        'a\0b',
        '{id}',
        'resnet18-kw1x-imagenet ',
        'RESNET18-KW1X-IMAGENET',
        'r\u00e9snet',
        'x' * 5000,
    ],
    ids=lambda name: name[:30],
)
def test_a_name_is_one_of_the_table_and_never_a_path(server, name):
    with pytest.raises(CheckpointError, match='is not a published model'):
        CheckpointLoader.load_checkpoint(f'kw://{name}')
    assert server.asked == [] and not server.cache.parent.exists()


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_file_names_of_servers_are_ignored(server, tmp_path):
    name = 'resnet18-kw1x-imagenet'
    server.redirects[name] = f'{server.url}/a/../../..%2f..%2fescaped.pth'
    server.files['a/../../..%2f..%2fescaped.pth'] = file_of(Golden('kw1x_resnet18').state_dict())
    CheckpointLoader.load_checkpoint(f'kw://{name}')
    assert len(server.asked) == 2
    assert written(tmp_path) == [
        f'cache/weights/downloads/.{name}.pth.lock',
        f'cache/weights/downloads/{name}.pth',
        f'cache/weights/downloads/{name}.pth.sha256',
    ]


def test_a_redirect_to_a_local_file_is_not_followed(server, tmp_path):
    (tmp_path / 'secret.pth').write_bytes(file_of(Golden('kw1x_resnet18').state_dict()))
    server.redirects['resnet18-kw1x-imagenet'] = f'file://{tmp_path}/secret.pth'
    with pytest.raises(CheckpointError, match='could not be downloaded'):
        CheckpointLoader.load_checkpoint('kw://resnet18-kw1x-imagenet')
    assert cached(server) == []


def test_gdown_is_told_where_to_write(server, monkeypatch, tmp_path):
    def download(id, output, quiet):
        assert id == published_models()['resnet18-kw1x-imagenet'].google_drive_id
        assert server.cache in Path(output).parents and not output.endswith('/')
        Path(output).write_bytes(file_of(Golden('kw1x_resnet18').state_dict()))

    monkeypatch.delenv('KW_MM_MIRROR')
    monkeypatch.setitem(sys.modules, 'gdown', SimpleNamespace(download=download))
    CheckpointLoader.load_checkpoint('kw://resnet18-kw1x-imagenet')
    assert cached(server) == FILES


@pytest.mark.parametrize(
    'path', ['..%2f..%2fescaped.pth', 'x/..', 'x/%2e%2e', 'x/..%5c..%5cescaped.pth']
)
def test_urls_stay_in_torchs_cache(server, tmp_path, path):
    server.files[path] = file_of(dict(state_dict=dict(a=torch.ones(1))))
    try:
        read_checkpoint(f'{server.url}/{path}')
    except CheckpointError:
        pass
    assert all(name.startswith('hub/') for name in written(tmp_path))
    assert not any('escaped.pth' == path.name for path in tmp_path.rglob('*'))


def test_an_archive_behind_a_url_stays_in_torchs_cache(server, tmp_path):
    """torch unpacks archives of one file, its oldest format, where it keeps downloads."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('../../../escaped.pth', b'x' * 1000)
    server.files['archive.pth'] = archive.getvalue()
    with pytest.raises(CheckpointError):
        read_checkpoint(f'{server.url}/archive.pth')
    assert server.asked and all(name.startswith('hub/') for name in written(tmp_path))
