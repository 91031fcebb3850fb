"""Which checkpoint --resume takes, and what is executed on the way."""

import copy
import logging
import os
import random
from functools import partial

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from torch import nn

from kw_mm.errors import CheckpointError, UserError
from kw_mm.training.diagnosis import full_disk_explained
from kw_mm.training.resuming import (
    checkpoints_of,
    newest_intact,
    problem_of,
    read_to_resume,
    reorder_old_state,
)
from kw_mm.warehouse import apply_kernel_warehouse


class Bomb:
    def __reduce__(self):
        return os.mkdir, ('exploded',)


def save(folder, *names, last=None, content=None):
    folder.mkdir(exist_ok=True)
    for name in names:
        torch.save(content or dict(state_dict=dict(a=torch.rand(3000))), folder / name)
    if last is not None:
        (folder / 'last_checkpoint').write_text(str(last))


def found(work_dir):
    return [path.name for path in checkpoints_of(str(work_dir))]


def test_newest_first_then_those_before_it(tmp_path):
    save(
        tmp_path,
        'epoch_2.pth',
        'epoch_9.pth',
        'epoch_10.pth',
        'best_top1_epoch_4.pth',
        'iter_4.pth',
        'x_epoch_3.pth',
        '.epoch_8.pth.part',
        last=tmp_path / 'epoch_10.pth',
    )
    assert found(tmp_path) == ['epoch_10.pth', 'epoch_9.pth', 'epoch_2.pth']


def test_what_an_earlier_run_left_with_larger_numbers_does_not_count(tmp_path):
    save(tmp_path, 'epoch_1.pth', 'epoch_12.pth', last=tmp_path / 'epoch_1.pth')
    assert found(tmp_path) == ['epoch_1.pth']


def test_names_of_the_users_own_template(tmp_path):
    save(
        tmp_path,
        'run3_at_500.pth',
        'run3_at_1000.pth',
        'run2_at_900.pth',
        last=tmp_path / 'run3_at_1000.pth',
    )
    assert found(tmp_path) == ['run3_at_1000.pth', 'run3_at_500.pth']
    save(tmp_path, 'newest.pth', last=tmp_path / 'newest.pth')
    assert found(tmp_path) == ['newest.pth']


@pytest.mark.parametrize('last', [None, ''])
def test_without_a_record_the_largest_number_is_newest(tmp_path, last):
    """As after death between the first checkpoint and last_checkpoint.

    Or after a torn write of the latter by mmengine's hook.
    """
    save(tmp_path, 'epoch_2.pth', 'epoch_10.pth', last=last)
    assert found(tmp_path) == ['epoch_10.pth', 'epoch_2.pth']
    assert found(tmp_path / 'nowhere') == []


def test_a_moved_work_dir(tmp_path):
    save(tmp_path / 'new', 'epoch_1.pth', 'epoch_2.pth', last=tmp_path / 'old/epoch_2.pth')
    assert [str(path) for path in checkpoints_of(str(tmp_path / 'new'))] == [
        str(tmp_path / f'new/epoch_{n}.pth') for n in (2, 1)
    ]


def truncate(path, rng):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def flip(path, rng):
    data = bytearray(path.read_bytes())
    at = data.index(
        bytes(torch.load(path)['state_dict']['a'][:4].numpy().tobytes())
    ) + rng.randrange(12000)
    data[at] ^= 0xFF
    path.write_bytes(data)


def replace_by_text(path, rng):
    path.write_text('not a checkpoint')


def remove(path, rng):
    path.unlink()


@pytest.mark.parametrize('harm', [truncate, flip, replace_by_text, remove])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_taken(tmp_path, caplog, harm):
    for seed in range(20):
        save(tmp_path, 'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', last=tmp_path / 'epoch_3.pth')
        harm(tmp_path / 'epoch_3.pth', random.Random(seed))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert newest_intact(str(tmp_path), logging.getLogger('test')) == str(
                tmp_path / 'epoch_2.pth'
            )
        assert (
            len(caplog.messages) == 1
            and 'epoch_3.pth' in caplog.messages[0]
            and '\n' not in caplog.messages[0]
        )


def test_nothing_and_nothing_intact(tmp_path):
    logger = logging.getLogger('test')
    assert newest_intact(str(tmp_path), logger) is None
    save(tmp_path, 'epoch_1.pth', last=tmp_path / 'epoch_1.pth')
    truncate(tmp_path / 'epoch_1.pth', random.Random(0))
    with pytest.raises(
        CheckpointError, match="1 tried, newest 'epoch_1.pth'.*start without --resume"
    ):
        newest_intact(str(tmp_path), logger)


@pytest.mark.parametrize(
    'content', [dict(a=torch.rand(3)), dict(a=torch.rand(()), b=[1, 'x']), {}, Bomb()]
)
def test_whole_files_have_no_problem_and_are_not_executed(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    save(tmp_path, 'x.pth', content=content or dict(empty=True))
    assert problem_of(tmp_path / 'x.pth') == ''
    assert not os.path.exists('exploded')


def load(path, work_dir):
    return read_to_resume(str(path), str(work_dir))


def test_files_of_the_own_work_dir_are_read_in_full(tmp_path):
    log = HistoryBuffer([3.0], [1])
    for folder in (tmp_path / 'run', tmp_path / 'out'):
        save(folder, 'epoch_1.pth', content=dict(log=log))
    save(tmp_path / 'run', last=tmp_path / 'out/epoch_1.pth')  # the hook's out_dir
    for folder in ('run', 'out', 'run/../run'):
        assert load(tmp_path / folder / 'epoch_1.pth', tmp_path / 'run')['log'].current() == 3


def test_a_file_from_elsewhere_is_resumed_without_executing_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    (tmp_path / 'run').mkdir()
    save(tmp_path, 'strange.pth', content=dict(state_dict=dict(a=torch.ones(1)), bomb=Bomb()))
    for path in (tmp_path / 'strange.pth', 'run/../strange.pth', 'strange.pth'):
        with pytest.raises(
            CheckpointError, match=r"does not execute.*mkdir.*lies in its work dir, here '.*run'"
        ):
            load(path, tmp_path / 'run')
    assert not os.path.exists('exploded')
    save(tmp_path, 'plain.pth', content=dict(state_dict=dict(a=torch.ones(1)), meta=dict(epoch=3)))
    assert load('plain.pth', tmp_path / 'run')['meta'] == dict(epoch=3)
    (tmp_path / 'run/link.pth').symlink_to(
        tmp_path / 'strange.pth'
    )  # who puts it into the work dir trusts it
    load('run/link.pth', tmp_path / 'run')
    assert os.path.exists('exploded')


def test_logs_of_a_run_from_elsewhere_are_left_out(tmp_path):
    logged = HistoryBuffer([3.0], [1])
    save(tmp_path, 'x.pth', content=dict(message_hub=dict(log_scalars=dict(loss=logged))))
    log = load(tmp_path / 'x.pth', tmp_path / 'run')['message_hub']['log_scalars']['loss']
    assert not isinstance(log, HistoryBuffer)  # mmengine then begins a new one


def test_a_full_disk_is_one_sentence():
    with (
        open('/dev/full', 'wb', buffering=0) as file,
        pytest.raises(UserError, match='disk is full.*No space.*--resume'),
    ):
        with full_disk_explained():
            file.write(b'x')
    with pytest.raises(FileNotFoundError), full_disk_explained():
        open('/nowhere/x')


class Network(nn.Sequential):
    """Three layers, two warehouses (the first not square, the second is), and an optimizer."""

    def __init__(self, optimizer):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, (2, 1)), nn.Conv2d(2, 2, 1))
        apply_kernel_warehouse(
            self, {'a': ['0'], 'b': ['1']}, attention_norm='LN', init='published'
        )
        self.wrapper = OptimWrapper(optimizer(self.parameters()))

    def step(self):
        torch.manual_seed(1)
        self.wrapper.update_params(self(torch.randn(2, 8, 5, 5)).square().mean())


@pytest.mark.parametrize(
    'optimizer',
    [partial(torch.optim.SGD, lr=0.1, momentum=0.9), partial(torch.optim.AdamW, lr=0.1)],
)
def test_runs_of_kw_mm_0_1_go_on(optimizer):
    """Its cells, and the optimizer's state of them, had the shape (cell_out, n, cell_in)."""
    net, resumed = Network(optimizer), Network(optimizer)
    net.step()
    weights, state = copy.deepcopy((net.state_dict(), net.wrapper.state_dict()))
    for key in weights:
        if key.endswith('.cells'):
            weights[key] = weights[key].transpose(0, 1).contiguous()
    for entry in weights._metadata.values():
        entry['version'] = 1
    names = [name for name, _ in net.named_parameters()]
    for index, values in state['state'].items():
        if names[index].endswith('.cells'):
            values.update(
                {
                    name: value.transpose(0, 1).contiguous()
                    for name, value in values.items()
                    if value.dim() == 3
                }
            )
    resumed.load_state_dict(weights)
    resumed.wrapper.load_state_dict(state)
    reorder_old_state(resumed, resumed.wrapper)
    net.step(), resumed.step()
    for (name, expected), found in zip(net.named_parameters(), resumed.parameters()):
        assert torch.equal(found, expected), name
