"""Stock OpenMMLab code that names a checkpoint gets our reader."""

import http.server
import io
import os
import shutil
import sys
import threading
import zipfile
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.fileio.backends.registry_utils import backends
from mmengine.runner import checkpoint as mmengines
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from kw_mm.checkpoints import schemes
from kw_mm.checkpoints.reading import read_checkpoint
from kw_mm.errors import CheckpointError


class Bomb:
    def __reduce__(self):
        return os.mkdir, ('exploded',)


def bytes_of(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of files that a server offers: weights, something dangerous, an archive of one checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'mmengine'))
    files = tmp_path / 'files'
    files.mkdir()
    weights = bytes_of(dict(state_dict={'backbone.a': torch.ones(2)}))
    (files / 'weights.pth').write_bytes(weights)
    (files / 'bomb.pth').write_bytes(bytes_of(dict(state_dict=Bomb())))
    with zipfile.ZipFile(files / 'packed.pth', 'w') as archive:
        archive.writestr('inner.pth', weights)
    return files


@pytest.fixture
def server(folder):
    """Address of a server of these files."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(Handler, directory=str(folder))
    )
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{httpd.server_port}'
    httpd.shutdown()


class Elsewhere(LocalBackend):
    """Object storage."""

    def get(self, filepath):
        return super().get(filepath.split('bucket/')[1])


@pytest.fixture(
    params=['local', 'http', 'torchvision', 'openmmlab', 'own file', 'mmcls', 's3', 'pavi']
)
def named(request, monkeypatch, folder, server):
    """A function from a file's name to how it is called in this scheme."""
    urls = {path.stem: f'{server}/{path.name}' for path in folder.iterdir()}
    monkeypatch.setattr(mmengines, 'get_torchvision_models', lambda: urls)
    monkeypatch.setattr(mmengines, 'get_mmcls_models', lambda: urls)
    external = {path.stem: str(path) for path in folder.iterdir()}
    monkeypatch.setattr(
        mmengines, 'get_external_models', lambda: external if request.param == 'own file' else urls
    )
    monkeypatch.setitem(backends, 'petrel', Elsewhere)
    cloud = SimpleNamespace(
        get=lambda name: SimpleNamespace(
            name='x.pth', download=lambda path: shutil.copy(folder / name, path)
        )
    )
    monkeypatch.setitem(sys.modules, 'pavi', SimpleNamespace(modelcloud=cloud))
    forms = {
        'local': f'{folder}/{{}}.pth',
        'http': f'{server}/{{}}.pth',
        'torchvision': 'torchvision://{}',
        'openmmlab': 'openmmlab://{}',
        'own file': 'open-mmlab://{}',
        'mmcls': 'mmcls://{}',
        's3': f'cluster:s3://bucket/{folder}/{{}}.pth',
        'pavi': 'pavi://{}.pth',
    }
    return forms[request.param].format


def test_weights_are_read_and_code_is_refused(named):
    content = CheckpointLoader.load_checkpoint(named('weights'), 'cpu', logger='silent')
    assert list(content) == ['state_dict']
    assert next(iter(content['state_dict'].values())).tolist() == [1, 1]
    with pytest.raises(CheckpointError, match=r'does not execute \(.*mkdir'):
        CheckpointLoader.load_checkpoint(named('bomb'), logger='silent')
    assert not os.path.exists('exploded')


def test_every_scheme_of_mmengine_is_read_by_ours():
    loaders = set(CheckpointLoader._schemes.values())
    assert {loader.__module__ for loader in loaders} == {
        'kw_mm.checkpoints.schemes',
        'kw_mm.checkpoints.zoo',
    }
    for loader in loaders:  # the log says 'Loads checkpoint by local backend'
        assert loader.__name__.startswith('load_from_')


def test_a_url_is_downloaded_once_into_torchs_cache(folder, server):
    for _ in range(2):
        content = schemes.load_from_http(f'{server}/weights.pth')
        assert content['state_dict']['backbone.a'].tolist() == [1, 1]
        (folder / 'weights.pth').unlink(missing_ok=True)
    assert os.listdir(torch.hub.get_dir() + '/checkpoints') == ['weights.pth']


def test_an_archive_of_one_checkpoint(server):
    content = schemes.load_from_http(f'{server}/packed.pth')
    assert content['state_dict']['backbone.a'].tolist() == [1, 1]


def test_stock_functions(folder):
    """A missing file is what it was, ~ is the home folder, the device is the caller's."""
    with pytest.raises(FileNotFoundError, match='nowhere.pth can not be found'):
        CheckpointLoader.load_checkpoint('nowhere.pth')
    model = torch.nn.Module()
    model.backbone = torch.nn.Module()
    model.backbone.a = torch.nn.Parameter(torch.zeros(2))
    load_checkpoint(model, str(folder / 'weights.pth'), map_location='cpu', strict=True)
    assert model.backbone.a.tolist() == [1, 1]
    meta = CheckpointLoader.load_checkpoint(str(folder / 'weights.pth'), 'meta')
    assert meta['state_dict']['backbone.a'].is_meta


def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder))
    assert 'state_dict' in CheckpointLoader.load_checkpoint('~/weights.pth')


@pytest.mark.parametrize('scheme', ['http://127.0.0.1:9/resnet50.pth', 'torchvision://resnet50'])
def test_without_a_network_it_is_not_called_damaged(folder, monkeypatch, scheme):
    urls = dict(resnet50='http://127.0.0.1:9/resnet50-1.pth', resnet101='x')  # nobody listens there
    monkeypatch.setattr(mmengines, 'get_torchvision_models', lambda: urls)
    for read in (read_checkpoint, CheckpointLoader.load_checkpoint):
        with pytest.raises(
            CheckpointError, match=r'cannot be fetched \(.+\); without a net'
        ) as error:
            read(scheme)
        text = str(error.value)
        assert 'damaged' not in text and 'checkpoints/resnet50' in text and '\n' not in text


def test_a_file_that_the_server_does_not_have(server):
    with pytest.raises(CheckpointError, match=r"nowhere.pth' cannot be fetched \(.*404"):
        read_checkpoint(f'{server}/nowhere.pth')


@pytest.mark.parametrize('scheme', ['torchvision', 'mmcls', 'openmmlab'])
def test_a_name_that_a_zoo_does_not_have(monkeypatch, scheme):
    for names in ('get_torchvision_models', 'get_mmcls_models', 'get_external_models'):
        monkeypatch.setattr(mmengines, names, lambda: dict(resnet50='x', vgg16='y'))
    with pytest.raises(CheckpointError, match=f'{scheme} has no .resnt50.; .*example resnet50'):
        read_checkpoint(f'{scheme}://resnt50')


def test_a_package_that_is_not_installed():
    with pytest.raises(CheckpointError, match=r'cannot be fetched .*pavi.*install that package'):
        read_checkpoint('pavi://x.pth')
