"""The order in which checkpoints are written and removed, against mmengine's hook."""

import errno
import io
import os
import re
import tempfile
from contextlib import contextmanager

import pytest
import torch
from mmengine import fileio
from mmengine.evaluator import BaseMetric
from mmengine.fileio import BaseStorageBackend, FileClient, LocalBackend, register_backend
from mmengine.model import BaseModel
from mmengine.runner import Runner
from run_tools import ROOT
from torch.utils.data import Dataset

from kw_mm.errors import CheckpointError


class Numbers(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.ones(1)


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(1, 1)

    def forward(self, *inputs, mode='loss'):
        return dict(loss=self.fc(torch.stack(inputs)).sum() ** 2) if mode == 'loss' else [0]


class Score(BaseMetric):
    """Rises, except in the third epoch."""

    values = (1.0, 2.0, 0.0, 3.0, 4.0)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        self.calls = getattr(self, 'calls', 0) + 1
        return dict(top1=self.values[self.calls - 1], other=-self.values[self.calls - 1])


def runner(work_dir, kind='SafeCheckpointHook', epochs=3, resume=False, train_cfg=None, **hook):
    loader = dict(
        batch_size=1, dataset=Numbers(), sampler=dict(type='DefaultSampler', shuffle=False)
    )
    return Runner(
        Line(),
        str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        val_evaluator=[Score()],
        train_cfg=train_cfg or dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(checkpoint=dict(type=kind, **hook)),
        resume=resume,
        log_level='ERROR',
        experiment_name=f'{work_dir}{kind}{resume}{epochs}'.replace('/', '_'),
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py')


def content(folder):
    """What the files hold, without times and absolute paths."""
    files = {}
    for path in folder.glob('*.pth'):
        checkpoint = torch.load(path, weights_only=False)
        info = checkpoint['message_hub']['runtime_info']
        files[path.name] = dict(
            keys=sorted(checkpoint),
            epoch=checkpoint['meta']['epoch'],
            iter=checkpoint['meta']['iter'],
            best=os.path.basename(info.get('best_ckpt') or ''),
            score=info.get('best_score'),
        )
    return files


@pytest.mark.parametrize(
    'options',
    [
        dict(interval=1),
        dict(interval=2),
        dict(interval=1, max_keep_ckpts=2),
        dict(interval=1, max_keep_ckpts=1, save_best='top1'),
        dict(interval=1, max_keep_ckpts=2, save_best=['top1', 'other'], rule=['greater', 'less']),
        dict(interval=1, save_best='auto', save_optimizer=False),
        dict(interval=-1, save_last=True),
        dict(interval=2, by_epoch=False, max_keep_ckpts=3, filename_tmpl='at_{}.pth', save_begin=3),
        dict(interval=1, save_best='top1', published_keys=['meta', 'state_dict']),
    ],
    ids=str,
)
def test_it_leaves_what_mmengines_hook_leaves(tmp_path, options):
    for kind in ('CheckpointHook', 'SafeCheckpointHook'):
        torch.manual_seed(0)
        runner(tmp_path / kind, kind, epochs=5, **options).train()
    stock, safe = tmp_path / 'CheckpointHook', tmp_path / 'SafeCheckpointHook'
    hashed = re.compile('-[0-9a-f]{8}')  # of published files, which hold the time
    assert [hashed.sub('', name) for name in names(safe)] == [
        hashed.sub('', name) for name in names(stock)
    ]
    if 'published_keys' not in options:
        assert content(safe) == content(stock)
    for folder in (stock, safe):
        record = (folder / 'last_checkpoint').read_text()
        assert os.path.dirname(record) == str(folder) and os.path.isfile(record)


class Cloud(BaseStorageBackend):
    """Object storage: keys and contents; it knows neither folders nor renaming."""

    content, log = {}, []

    def get(self, filepath):
        return self.content[filepath]

    def get_text(self, filepath):
        return self.get(filepath).decode()

    def put(self, obj, filepath):
        assert filepath.startswith('cloud://')
        self.log.append(('put', os.path.basename(filepath)))
        self.content[filepath] = obj

    def isfile(self, filepath):
        return filepath in self.content

    def isdir(self, filepath):
        return False

    def remove(self, filepath):
        self.log.append(('remove', os.path.basename(filepath)))
        del self.content[filepath]

    def join_path(self, *parts):
        return '/'.join(parts)

    @contextmanager
    def get_local_path(self, filepath):
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.get(filepath))
            file.flush()
            yield file.name


for register in (register_backend, FileClient.register_backend):  # mmengine asks both
    register('cloud', Cloud, prefixes='cloud', force=True)


class Mapped(Cloud):
    """Storage that maps paths without a prefix, as petrel's ``path_mapping`` does."""

    def put(self, obj, filepath):
        self.content[str(filepath)] = obj


register_backend('mapped', Mapped, force=True)


@pytest.mark.parametrize('out_dir', [None, 'data/run'])
@pytest.mark.parametrize('save_best', ['top1', ['top1', 'other']], ids=str)
def test_storage_behind_local_paths(tmp_path, monkeypatch, out_dir, save_best):
    left = []
    for kind in ('CheckpointHook', 'SafeCheckpointHook'):
        monkeypatch.setattr(Cloud, 'content', {})
        options = dict(
            backend_args=dict(backend='mapped'), save_best=save_best, rule='greater',
            max_keep_ckpts=1, interval=3, out_dir=out_dir,
        )  # fmt: skip
        runner(tmp_path / kind / 'run', kind, epochs=5, **options).train()
        left.append(sorted(path.rpartition('run/')[2] for path in Cloud.content))
        assert not list((tmp_path / kind / 'run').glob('*.pth'))
        record = (tmp_path / kind / 'run/last_checkpoint').read_text()
        assert record in Cloud.content and not os.path.exists('data/run')
    assert left[0] == left[1] and 'epoch_5.pth' in left[1]
    assert any(name.startswith('best_top1') for name in left[1])


def in_the_cloud(tmp_path, monkeypatch, kind, **hook):
    """What a run leaves there, and the order of what it did."""
    monkeypatch.setattr(Cloud, 'content', {})
    monkeypatch.setattr(Cloud, 'log', [])
    runner(tmp_path / kind / 'run', kind, epochs=5, out_dir='cloud://bucket', **hook).train()
    record = (tmp_path / kind / 'run/last_checkpoint').read_text()
    assert record == 'cloud://bucket/run/epoch_5.pth'
    return sorted(Cloud.content), Cloud.log


@pytest.mark.parametrize('backend', [{}, dict(backend_args=dict(backend='cloud'))], ids=str)
@pytest.mark.parametrize(
    'options',
    [
        dict(interval=1, max_keep_ckpts=1),
        dict(interval=1, max_keep_ckpts=1, save_best='top1'),
        dict(interval=1, max_keep_ckpts=2, save_best=['top1', 'other'], rule=['greater', 'less']),
    ],
    ids=str,
)
def test_remote_storage_holds_what_mmengines_hook_leaves(tmp_path, monkeypatch, options, backend):
    options = {**options, **backend}
    stock, _ = in_the_cloud(tmp_path, monkeypatch, 'CheckpointHook', **options)
    safe, log = in_the_cloud(tmp_path, monkeypatch, 'SafeCheckpointHook', **options)
    assert safe == stock and 'cloud://bucket/run/epoch_5.pth' in safe
    for done in log:
        if done[0] == 'remove' and done[1].startswith('epoch'):
            number = int(done[1][len('epoch_') : -len('.pth')]) + options['max_keep_ckpts']
            assert ('put', f'epoch_{number}.pth') in log[: log.index(done)]
    if 'save_best' in options:
        removed = log.index(('remove', 'best_top1_epoch_1.pth'))
        assert ('put', 'best_top1_epoch_2.pth') in log[:removed]


def test_remote_storage_publishes(tmp_path, monkeypatch):
    """mmengine's hook cannot read what it has put there."""
    options = dict(interval=1, published_keys='state_dict', save_best='top1')
    left, _ = in_the_cloud(tmp_path, monkeypatch, 'SafeCheckpointHook', **options)
    published = [name for name in left if '-' in name]
    assert [name.split('-')[0] for name in published] == [
        'cloud://bucket/run/best_top1_epoch_5',
        'cloud://bucket/run/epoch_5',
    ]
    for name in published:
        assert list(torch.load(io.BytesIO(Cloud.content[name]))) == ['state_dict']


def test_the_backend_serves_others_too(tmp_path, monkeypatch):
    backend = dict(backend='atomic_local')
    path = tmp_path / 'new/x.txt'
    fileio.put_text('old', str(path), backend_args=backend)
    fileio.put(b'newer', str(path), backend_args=backend)
    assert path.read_text() == 'newer' and names(path.parent) == ['x.txt']
    monkeypatch.setattr(LocalBackend, 'put', fail_halfway)
    with pytest.raises(CheckpointError, match='x.txt.*No space left'):
        fileio.put(b'lost', str(path), backend_args=backend)
    assert path.read_text() == 'newer' and names(path.parent) == ['x.txt']


def fail_halfway(self, data, path):
    with open(path, 'wb') as file:
        file.write(data[: len(data) // 2])
    raise OSError(errno.ENOSPC, 'No space left on device')


def test_checkpoints_go_to_out_dir(tmp_path):
    runner(tmp_path / 'run', interval=1, max_keep_ckpts=1, out_dir=str(tmp_path / 'out')).train()
    assert names(tmp_path / 'out/run') == ['epoch_3.pth']
    assert (tmp_path / 'run/last_checkpoint').read_text() == str(tmp_path / 'out/run/epoch_3.pth')


class Death(BaseException):
    """No handler sees it, as none sees a kill."""


def steps_of(monkeypatch, folder, die_at=None):
    """Record which files there are at every rename and removal of a run; die at the n-th."""
    seen = []

    def watched(function):

        def call(*args):
            if len(seen) == die_at:
                raise Death
            function(*args)
            seen.append(names(folder))

        return call

    monkeypatch.setattr(os, 'replace', watched(os.replace))
    monkeypatch.setattr(os, 'remove', watched(os.remove))
    return seen


def test_older_files_go_last(tmp_path, monkeypatch):
    seen = steps_of(monkeypatch, tmp_path)
    runner(tmp_path, interval=1, max_keep_ckpts=1, epochs=2).train()
    both = ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']
    assert seen[-3:] == [both, both, ['epoch_2.pth', 'last_checkpoint']]


@pytest.mark.parametrize('die_at', range(14))
def test_death_at_any_step_leaves_a_whole_checkpoint_and_resuming_tidies_up(
    tmp_path, monkeypatch, die_at
):
    options = dict(interval=1, max_keep_ckpts=1, save_best='top1', epochs=3)
    with monkeypatch.context() as patch:
        steps_of(patch, tmp_path, die_at)
        try:
            runner(tmp_path, **options).train()
            pytest.fail('there are more steps than that')
        except Death:
            pass
    record = tmp_path / 'last_checkpoint'
    if record.exists():
        assert torch.load(record.read_text(), weights_only=False)['meta']['epoch'] >= 1
    else:
        assert die_at < 2
    for path in tmp_path.glob('*.pth'):
        assert 'state_dict' in torch.load(path, weights_only=False)
    leftovers = ['.epoch_9.pth.part', '.best_top1_epoch_9.pth.part', '.last_checkpoint.part']
    for name in leftovers:
        (tmp_path / name).write_text('left over')
    runner(tmp_path, resume=True, **options).train()
    assert [name for name in names(tmp_path) if not name.startswith('best')] == [
        'epoch_3.pth',
        'last_checkpoint',
    ]


def test_only_parts_of_checkpoints_are_leftovers(tmp_path):
    """Others may be another process's, which is still writing."""
    others = ['.predictions.json.part', '.curves.png.part']
    for name in (*others, '.at_9.part', '.best_top1_at_9.part'):
        (tmp_path / name).write_text('a part')
    (tmp_path / '.old.pth.part').mkdir()
    runner(tmp_path, interval=3, filename_tmpl='at_{:d}').train()
    assert names(tmp_path) == sorted([*others, 'at_3', 'last_checkpoint'])


@pytest.mark.parametrize(
    'error, words',
    [
        (OSError(errno.ENOSPC, 'No space left on device'), 'No space left'),
        (
            RuntimeError(
                '[enforce fail at inline_container] PytorchStreamWriter failed writing file data/1'
            ),
            'failed writing',
        ),
    ],
)
def test_a_write_that_fails_is_one_sentence_and_older_files_are_intact(
    tmp_path, monkeypatch, error, words
):
    put = 'mmengine.fileio.LocalBackend.put'

    def full(self, data, path):
        if 'epoch_3' not in str(path):
            with open(path, 'wb') as file:
                file.write(data)
            return
        with open(path, 'wb') as file:
            file.write(data[: len(data) // 2])
        raise error

    monkeypatch.setattr(put, full)
    with pytest.raises(
        CheckpointError, match=f'epoch_3.pth.*{words}.*earlier checkpoints are intact.*--resume'
    ) as caught:
        runner(tmp_path, interval=1, max_keep_ckpts=1).train()
    assert '\n' not in str(caught.value)
    assert names(tmp_path) == ['epoch_2.pth', 'last_checkpoint']
    assert torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['meta']['epoch'] == 2


def test_other_errors_stay_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(
        torch, 'save', lambda *args: (_ for _ in ()).throw(RuntimeError('CUDA error'))
    )
    with pytest.raises(RuntimeError, match='CUDA error') as caught:
        runner(tmp_path, interval=1).train()
    assert not isinstance(caught.value, CheckpointError)


def test_every_config_uses_it():
    """Those that begin from OpenMMLab's say so; the others inherit from them."""
    beginnings = [path for path in (ROOT / 'configs').rglob('*.py') if '::' in path.read_text()]
    assert len(beginnings) >= 6
    assert not [
        path
        for path in beginnings
        if "checkpoint=dict(type='SafeCheckpointHook'" not in compact(path.read_text())
    ]


def compact(text):
    return re.sub(r'\(\s+', '(', text)
