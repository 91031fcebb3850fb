"""Files are read, never executed."""

import argparse
import os
import random
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from kw_mm.checkpoints import read_checkpoint, reading
from kw_mm.checkpoints.reading import Inert, own_run
from kw_mm.checkpoints.state_dicts import unwrap
from kw_mm.errors import CheckpointError
from kw_mm.models import KWResNet


@pytest.fixture(autouse=True, params=['torch', 'kw_mm'])
def unpickler(request, monkeypatch):
    """Torch's, where it knows stand-ins, and ours for older torch."""
    if request.param == 'torch' and not reading.TORCH_KNOWS_STAND_INS:
        pytest.skip('torch before 2.7 knows no stand-ins, and a fork of mmengine knows others')
    monkeypatch.setattr(reading, 'TORCH_KNOWS_STAND_INS', request.param == 'torch')


class Bomb:
    def __reduce__(self):
        return os.mkdir, ('exploded',)


def test_training_checkpoints_load_and_their_extras_are_inert(tmp_path):
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


def test_code_in_a_file_is_refused_with_advice_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1'
    )  # even where the user's shell says otherwise
    torch.save(dict(state_dict=dict(a=torch.ones(2)), bomb=Bomb()), 'x.pth')
    with pytest.raises(CheckpointError, match='does not execute.*mkdir.*save its weights alone'):
        read_checkpoint('x.pth')
    assert not os.path.exists('exploded')
    assert os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] == '1'


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


def test_own_runs_read_everything_and_leave_the_environment_alone(tmp_path, monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', raising=False)
    torch.save(argparse.Namespace(lr=1), tmp_path / 'x.pth')
    with own_run():
        assert torch.load(tmp_path / 'x.pth').lr == 1
    assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ


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
    small = dict(base_channels=8, stem_channels=8)
    source = KWResNet(18, **small)
    torch.save(
        dict(state_dict=source.state_dict()), path, _use_new_zipfile_serialization=not legacy
    )
    whole = (tmp_path / 'x.pth').read_bytes()
    refused = 0
    for _ in range(60):
        (tmp_path / 'x.pth').write_bytes(damage(whole, rng))
        target = KWResNet(18, **small, init_cfg=dict(type='Pretrained', checkpoint=path))
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
