import pytest
import torch
from mmengine.registry import MODELS

from kw_mm.building import building
from kw_mm.command_line import advice_on, command
from kw_mm.errors import ConfigError, ImageError, UserError, one_line


def raise_(error):
    raise error


@pytest.mark.parametrize(
    'error',
    [
        torch.cuda.OutOfMemoryError(
            'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB'
        ),
        RuntimeError(
            "[fail at alloc.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate "
            '9 bytes'
        ),
        MemoryError(),
    ],
)
def test_memory_advice(error, capsys):
    with pytest.raises(SystemExit) as ended:
        command(raise_)(error)
    said = capsys.readouterr().err
    assert (
        ended.value.code == 2 and said.startswith('error: out of memory') and said.count('\n') == 1
    )
    for option in ('batch_size', 'smaller images', '--amp', 'assemble_checkpoint', 'with_cp'):
        assert option in said


def test_memory_that_this_machine_does_not_have():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**58)
    assert 'assemble_checkpoint' in advice_on(raised.value)


def test_a_batch_norm_with_one_value():
    with pytest.raises(ValueError) as raised:
        torch.nn.BatchNorm1d(4)(torch.zeros(1, 4))
    assert 'drop_last=True' in advice_on(raised.value)


def test_other_errors_keep_their_stack_trace():
    for error in (RuntimeError('shapes differ'), ValueError('x'), KeyError('y')):
        with pytest.raises(type(error)):
            command(raise_)(error)


def test_a_workers_error_is_its_message():
    text = (
        'Caught ImageError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        'last):\n  File "x.py", line 1, in f\n'
        "kw_mm.errors.ImageError: image 'a.jpg' cannot be read\n"
    )
    assert advice_on(ImageError(text)) == "image 'a.jpg' cannot be read"


def test_messages_on_one_line():
    assert one_line(ValueError('a\n  b')) == 'a b'
    assert one_line(KeyError('bbox')) == "there is no 'bbox'"
    with pytest.raises(AssertionError) as raised:
        exec(compile('assert 1 > 2', 'none', 'exec'))
    assert one_line(raised.value) == 'AssertionError'


@pytest.mark.parametrize(
    'kind, words',
    [
        ('KWResnet', 'close to it are .*KWResNet'),
        ('Qwertyuiop', r".*custom_imports=dict\(imports=\['kw_mm'\]\)"),
    ],
)
def test_a_type_that_is_not_registered(kind, words):
    with pytest.raises(
        ConfigError, match=f"^model cannot be built: type='{kind}' is registered nowhere; {words}"
    ):
        with building('model'):
            MODELS.build(dict(type=kind))


def test_errors_that_name_what_to_fix_pass_through():
    with pytest.raises(UserError, match='^fix this$'):
        with building('model'):
            raise UserError('fix this')


def test_a_file_that_the_disk_refuses(tmp_path, capsys):
    for place in (tmp_path, tmp_path / 'file/x', tmp_path / ('x' * 300)):
        (tmp_path / 'file').write_text('')
        with pytest.raises(SystemExit) as ended:
            command(lambda place=place: place.write_text('x'))()
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith(f"error: '{place}' cannot be read or ")
    with pytest.raises(FileNotFoundError):  # what is missing has its own words where it is read
        command(lambda: (tmp_path / 'nowhere/x').read_text())()
