"""Files are read, never executed."""

import argparse
import copy
import os
import random
import sys
import tarfile
import zipfile
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from kw_mm.checkpoints import read_checkpoint
from kw_mm.checkpoints.reading import read_file, read_own_checkpoint
from kw_mm.checkpoints.state_dicts import unwrap
from kw_mm.checkpoints.unpickling import Inert
from kw_mm.errors import CheckpointError
from kw_mm.models import KWResNet

SHELLS = {
    'no variable': {},
    'full': dict(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1'),
    'weights': dict(TORCH_FORCE_WEIGHTS_ONLY_LOAD='1'),
    'both': dict(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1', TORCH_FORCE_WEIGHTS_ONLY_LOAD='1'),
}


@pytest.fixture(params=SHELLS)
def shell(request, monkeypatch):
    """What users set in their shells does not change what is read."""
    for name in SHELLS['both']:
        monkeypatch.delenv(name, raising=False)
    for name, value in SHELLS[request.param].items():
        monkeypatch.setenv(name, value)
    return request.param


class Bomb:
    def __reduce__(self):
        return os.mkdir, ('exploded',)


def test_training_checkpoints_load_and_their_extras_are_inert(tmp_path, shell):
    log = HistoryBuffer()
    log.update(1.0)
    content = dict(
        state_dict=dict(a=torch.ones(2)),
        args=argparse.Namespace(lr=1),
        message_hub=dict(log=log),
        meta=dict(classes=('a',), time=np.float64(3), array=np.arange(3)),
        param_schedulers=[dict(milestones=Counter([8, 11]))],
    )
    torch.save(content, tmp_path / 'x.pth')
    read = read_checkpoint(str(tmp_path / 'x.pth'))
    assert torch.equal(read['state_dict']['a'], torch.ones(2))
    assert isinstance(read['args'], Inert) and isinstance(read['message_hub']['log'], Inert)
    assert (
        read['meta']['array'].tolist() == [0, 1, 2]
        and read['param_schedulers'][0]['milestones'][11] == 1
    )


def test_code_in_a_file_is_refused_with_advice_not_executed(tmp_path, monkeypatch, shell):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    torch.save(dict(state_dict=dict(a=torch.ones(2)), bomb=Bomb()), 'x.pth')
    with pytest.raises(CheckpointError, match='does not execute.*mkdir.*save only its weights'):
        read_checkpoint('x.pth')
    assert not os.path.exists('exploded')
    assert dict(os.environ) == before


def unicode(text):
    return b'X' + len(text).to_bytes(4, 'little') + text.encode()


def crafted(path, instructions):
    """A checkpoint file with such a pickle."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in content.items():
            archive.writestr(
                name, b'\x80\x02' + instructions if name.endswith('data.pkl') else data
            )
    return str(path)


def test_a_file_cannot_change_what_it_names(tmp_path):
    state_of_a_function = (
        b'ctorch._utils\n_rebuild_tensor_v2\nN}' + unicode('changed') + b'\x88s\x86b.'
    )
    with pytest.raises(CheckpointError, match='does not execute|damaged'):
        read_checkpoint(crafted(tmp_path / 'x.pth', state_of_a_function))
    assert not hasattr(torch._utils._rebuild_tensor_v2, 'changed')


ADDRESS = b'\x8a\x08AAAAAAAA'
TYPE_V8 = b'cnumpy\ndtype\n' + unicode('V8') + b'\x89\x88\x87R'
POINTERS = (
    b'(K\x03'
    + unicode('|')
    + b'N('
    + unicode('a')
    + b't}'
    + unicode('a')
    + b'cnumpy\ndtype\n'
    + unicode('O')
    + b'\x89\x88\x87RK\x00\x86sK\x08K\x01K\x00tb.'
)


@pytest.mark.parametrize(
    'instructions',
    [
        b'ctorch.storage\nUntypedStorage\n)}' + unicode('allocator') + ADDRESS + b's\x92.',
        b'ctorch\nTensor\n)}' + unicode('cdata') + ADDRESS + b's\x92.',
        TYPE_V8 + POINTERS,
    ],
    ids=['allocator', 'tensor', 'records of objects'],
)
def test_a_file_cannot_name_addresses(tmp_path, instructions):
    with pytest.raises(CheckpointError, match='does not execute|damaged'):
        read_checkpoint(crafted(tmp_path / 'x.pth', instructions))


def test_own_runs_read_everything_and_leave_the_environment_alone(tmp_path, shell):
    before = dict(os.environ)
    torch.save(argparse.Namespace(lr=1), tmp_path / 'x.pth')
    assert read_own_checkpoint(str(tmp_path / 'x.pth')).lr == 1
    assert dict(os.environ) == before
    with pytest.raises(CheckpointError, match='does not execute'):
        torch.save(Bomb(), tmp_path / 'x.pth')
        read_checkpoint(str(tmp_path / 'x.pth'))


FILLS = dict(
    # element 10 ** 6 of a tensor's storage of none; a dict that is none
    setitem=b'ctorch\nTensor\n)\x81K\x00K\x01s.',
    setitems=b'ctorch\nTensor\n)\x81(K\x00K\x01u.',
    append=b'cbuiltins\nbytearray\n)RK\x01a.',
    appends=b'cbuiltins\nbytearray\n)R(K\x01e.',
    reduce=b'ctorch\nTensor\n)\x81)R.',
    newobj=b'ctorch\nTensor\n)\x81)\x81.',
    reference=b'(' + unicode('module') + b'ctorch\nTensor\n' + unicode('x') * 2 + b'tQ.',
    sparse=b'ctorch.sparse\nFloatTensor\n)R.',
    instruction=b'\x8c\x01a.',
)


@pytest.mark.parametrize('fill', FILLS)
def test_instructions_apply_to_what_a_checkpoint_has(tmp_path, fill):
    with pytest.raises(CheckpointError, match='does not execute.*Unsupported'):
        read_checkpoint(crafted(tmp_path / 'x.pth', FILLS[fill]))


class Marked:
    """A class that the user has marked as safe."""


@pytest.mark.skipif(
    not hasattr(torch.serialization, 'safe_globals'), reason='newer torch can mark classes'
)
def test_what_the_user_has_marked_as_safe_is_built(tmp_path):
    torch.save(dict(a=Marked(), b=argparse.Namespace()), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='does not execute.*Marked'):
        read_checkpoint(str(tmp_path / 'x.pth'))
    with torch.serialization.safe_globals([Marked, argparse.Namespace]):
        content = read_checkpoint(str(tmp_path / 'x.pth'))
    assert type(content['a']) is Marked and type(content['b']) is Inert


class Double(torch.nn.Module):
    def forward(self, x):
        return 2 * x


def test_programs_are_refused(tmp_path):
    """torch.load would run TorchScript's loader; before torch 2.6, even to read weights only."""
    torch.jit.script(Double()).save(str(tmp_path / 'x.pth'))
    with pytest.raises(CheckpointError, match='does not execute.*TorchScript'):
        read_checkpoint(str(tmp_path / 'x.pth'))


def test_archives_of_early_torch_are_refused(tmp_path):
    (tmp_path / 'storages').write_bytes(b'')
    with tarfile.open(tmp_path / 'x.pth', 'w') as archive:
        archive.add(tmp_path / 'storages', 'storages')
    with pytest.raises(CheckpointError, match='does not execute.*tar archive'):
        read_checkpoint(str(tmp_path / 'x.pth'))


@pytest.mark.parametrize('legacy', [False, True])
def test_tensors_are_read_as_torch_reads_them(tmp_path, legacy):
    base = torch.rand(4, 6)
    content = dict(
        view=base[1:, ::2],
        shared=base,
        half=torch.rand(3).half(),
        number=torch.tensor(3),
        parameter=torch.nn.Parameter(torch.rand(2)),
        sparse=torch.eye(3).to_sparse(),
        quantized=torch.quantize_per_tensor(torch.rand(5), 0.1, 0, torch.quint8),
        size=torch.Size([1, 2]),
        dtype=torch.bfloat16,
        words=dict(none=None, tuple=(1, 2.5), bytes=b'x', set={1}, big=2**70),
    )
    if 'torch._utils._rebuild_qtensor' not in torch._weights_only_unpickler._get_allowed_globals():
        content['quantized'] = torch.empty(0)  # which torch 2.1 does not read
    path = str(tmp_path / 'x.pth')
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    for read in (read_checkpoint(path), read_own_checkpoint(path)):
        expected = torch.load(path, weights_only=False)
        assert read.keys() == content.keys() and read['words'] == content['words']
        assert read['size'] == content['size'] and read['dtype'] is torch.bfloat16
        assert type(read['parameter']) is torch.nn.Parameter
        assert read['view'].stride() == content['view'].stride()
        assert read['view'].untyped_storage().data_ptr() == read['shared'].data_ptr()
        for name in ('view', 'shared', 'half', 'number', 'parameter', 'quantized'):
            assert torch.equal(read[name], expected[name]), name
        assert torch.equal(read['sparse'].to_dense(), torch.eye(3))


def test_nothing_of_a_refused_file_is_left(tmp_path):
    """torch checks sparse tensors in the end, all that are waiting."""
    bad, good = str(tmp_path / 'bad.pth'), str(tmp_path / 'good.pth')
    torch.save(dict(sparse=torch.eye(3).to_sparse(), object=SimpleNamespace()), bad)
    torch.save(dict(a=torch.ones(1)), good)
    with pytest.raises(CheckpointError, match='does not execute'):
        read_checkpoint(bad)
    assert not torch._utils._sparse_tensors_to_validate
    assert read_checkpoint(good, 'meta')['a'].is_meta


def test_safetensors_are_read_by_their_own_library(tmp_path, monkeypatch):
    asked = []
    library = SimpleNamespace(load_file=lambda *args: asked.append(args) or dict(a=torch.ones(1)))
    monkeypatch.setitem(sys.modules, 'safetensors', SimpleNamespace(torch=library))
    monkeypatch.setitem(sys.modules, 'safetensors.torch', library)
    path = tmp_path / 'x.safetensors'
    path.write_bytes(bytes(100))
    assert read_checkpoint(str(path))['a'] == 1 and asked == [(str(path), 'cpu')]
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(CheckpointError, match='x.safetensors.*safetensors'):
        read_checkpoint(str(path))


def test_devices_are_the_callers(tmp_path):
    path = str(tmp_path / 'x.pth')
    torch.save(dict(a=torch.ones(2)), path)
    asked = []

    def here(storage, location):
        asked.append(location)
        return storage

    for where in (None, 'cpu', torch.device('cpu'), dict(cpu='cpu'), here):
        assert read_checkpoint(path, where)['a'].device.type == 'cpu'
    assert asked == ['cpu']
    assert read_checkpoint(path, 'meta')['a'].is_meta
    with open(path, 'rb') as file:
        assert read_file(file, 'meta', name='x')['a'].is_meta


def test_a_missing_file_is_named():
    with pytest.raises(CheckpointError, match="'nowhere.pth' does not exist"):
        read_checkpoint('nowhere.pth')


@pytest.mark.parametrize(
    'content', [b'', b'<html>quota exceeded</html>', b'PK\x03\x04' + bytes(100)]
)
def test_something_else_is_no_checkpoint(tmp_path, content):
    path = tmp_path / 'x.pth'
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match="x.pth' is damaged or not a checkpoint|does not execute"
    ):
        read_checkpoint(str(path))


@pytest.mark.parametrize(
    'text', ['<html>quota exceeded</html>', 'Traceback (most recent call last):\n']
)
def test_text_is_named_without_advice_to_execute_it(tmp_path, text):
    path = tmp_path / 'x.pth'
    path.write_text(text)
    with pytest.raises(CheckpointError, match="x.pth' is damaged or not a checkpoint .it is text"):
        read_checkpoint(str(path))


@pytest.mark.parametrize('content', [{}, {'epoch': 3}, {'state_dict': {}}, [1, 2], 'text'])
def test_a_file_without_weights_says_what_it_has(content):
    with pytest.raises(ValueError, match='no weights|not a checkpoint'):
        unwrap(content)


def damage(data, rng):
    """Truncate, overwrite, or cut out a piece."""
    data, kind, at = bytearray(data), rng.randrange(3), rng.randrange(len(data))
    if kind == 0:
        return bytes(data[:at])
    end = min(len(data), at + rng.randrange(1, 2000))
    if kind == 1:
        data[at:end] = bytes(rng.randrange(256) for _ in range(end - at))
        return bytes(data)
    return bytes(data[:at] + data[end:])


@pytest.mark.parametrize('legacy', [False, True])
def test_damaged_files_give_a_clear_error_or_load_completely(tmp_path, legacy):
    """Fuzzing: never another exception, never a part of the weights."""
    rng, path = random.Random(0), str(tmp_path / 'x.pth')
    small = dict(base_channels=8, stem_channels=8, num_stages=2, out_indices=(1,))
    small.update(strides=(1, 2), dilations=(1, 1))
    source = KWResNet(18, **small)
    torch.save(
        dict(state_dict=source.state_dict()), path, _use_new_zipfile_serialization=not legacy
    )
    whole = (tmp_path / 'x.pth').read_bytes()
    refused = 0
    new = KWResNet(18, **small, init_cfg=dict(type='Pretrained', checkpoint=path))
    for _ in range(60):
        (tmp_path / 'x.pth').write_bytes(damage(whole, rng))
        target = copy.deepcopy(new)
        before = {key: value.clone() for key, value in target.state_dict().items()}
        try:
            target.init_weights()
        except CheckpointError as error:
            refused += 1
            assert 'x.pth' in str(error)
            assert all(
                torch.equal(value, target.state_dict()[key]) for key, value in before.items()
            )
        else:
            assert {key: value.shape for key, value in target.state_dict().items()} == {
                key: value.shape for key, value in before.items()
            }
    assert refused > 20


def test_a_zip_bomb_of_names_does_not_leave_the_folder(tmp_path):
    path = tmp_path / 'x.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('../../escaped', 'x')
    with pytest.raises(CheckpointError):
        read_checkpoint(str(path))
    assert not (tmp_path.parent.parent / 'escaped').exists()
