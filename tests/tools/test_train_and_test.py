"""tools/train.py and tools/test.py on synthetic images: training, evaluation, pictures, resume."""

import json
import os
import pickle
import socket
import subprocess
import sys
from functools import partial

import pytest
import torch
from in_process import run_here
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from run_tools import ROOT, scalars


@pytest.fixture
def here(capsys, monkeypatch):
    """Function: run a command line of ``tools/`` in this process, which saves its start."""
    return partial(run_here, capsys=capsys, monkeypatch=monkeypatch)


@pytest.fixture(scope='module')
def trained(tool, small_config, shapes, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('run')
    tool('train', small_config, '--work-dir', work_dir, '--cfg-options', f'data_root={shapes}')
    return work_dir


def test_training_logs_saves_and_evaluates(trained):
    losses, evaluations = scalars(trained)
    assert [line['step'] for line in losses] == list(range(1, 10))
    assert [line['temperature'] for line in losses] == pytest.approx(
        [(12 - t) / 12 for t in range(1, 10)]
    )
    assert all(torch.isfinite(torch.tensor(line['loss'])) for line in losses)
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(evaluations[0])
    checkpoint = torch.load(trained / 'epoch_2.pth', weights_only=False)
    assert float(checkpoint['state_dict']['backbone.warehouses.temperature']) == 0.5


def test_test_scores_the_checkpoint_as_training_did(
    tool, here, trained, small_config, shapes, tmp_path
):
    tool(
        'test',
        small_config,
        trained / 'epoch_3.pth',
        '--work-dir',
        tmp_path,
        '--show-dir',
        tmp_path / 'show',
        '--out',
        tmp_path / 'out.pkl',
        '--cfg-options',
        f'data_root={shapes}',
    )
    during = scalars(trained)[1][-1]
    after = json.loads(next(tmp_path.glob('[0-9]*/*.json')).read_text().splitlines()[-1])
    for key in ('coco/bbox_mAP', 'coco/segm_mAP', 'coco/bbox_mAP_50'):
        assert after[key] == during[key]
    assert len(list((tmp_path / 'show').glob('*.jpg'))) == 4
    assert len(pickle.loads((tmp_path / 'out.pkl').read_bytes())) == 4
    for kind, stripped in (('bbox', ()), ('segm', ('bbox',))):
        truth = COCO(str(shapes / 'annotations/instances_val2017.json'))
        results = [
            {key: value for key, value in result.items() if key not in stripped}
            for result in json.loads((tmp_path / 'show/predictions.json').read_text())
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
        assert round(evaluation.stats[0], 3) == after[f'coco/{kind}_mAP'] and results[0][
            'file_name'
        ].endswith('.jpg')
    sheet = ['make_gallery', tmp_path / 'show', tmp_path / 'sheet.png', '--most', 3, '--columns', 2]
    assert here(*sheet).code == 0
    assert (tmp_path / 'sheet.png').stat().st_size > 1000


def test_a_resumed_run_repeats_the_uninterrupted_one(tool, trained, small_config, shapes, tmp_path):
    """Shuffling, augmentation in workers, drop path, and a seed that is only in the checkpoint."""
    for name in ('epoch_1.pth', 'last_checkpoint'):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    tool(
        'train',
        small_config,
        '--work-dir',
        tmp_path,
        '--resume',
        '--cfg-options',
        f'data_root={shapes}',
    )
    uninterrupted, resumed = scalars(trained)[0][3:], scalars(tmp_path)[0]
    assert [line['step'] for line in resumed] == [4, 5, 6, 7, 8, 9]
    for expected, found in zip(uninterrupted, resumed):
        for key in ('loss', 'loss_mask', 'lr', 'temperature', 'grad_norm'):
            assert found[key] == pytest.approx(expected[key], rel=1e-4), (found['step'], key)


@pytest.mark.parametrize(
    'args, message',
    [
        (('train', 'nowhere.py'), "config 'nowhere.py' does not exist"),
        (
            (
                'train',
                ROOT / 'configs/mask_rcnn_kw_r50_1x_coco.py',
                '--cfg-options',
                'data_root=/nowhere/',
            ),
            "'/nowhere/' (train_dataloader.dataset.data_root) does not exist",
        ),
        (
            ('test', ROOT / 'configs/mask_rcnn_kw_r50_1x_coco.py', 'nowhere.pth'),
            "checkpoint 'nowhere.pth' does not exist",
        ),
        (('make_gallery', '/nowhere', 'x.png'), 'no pictures in /nowhere'),
        (('make_gallery', '.', 'x.png', '--columns', '0'), '--columns 0'),
        (('make_gallery', '.', 'sheet'), 'end it in .png'),
        (('make_shapes', 'x', '--size', '3'), 'size=3'),
    ],
)
def test_what_is_missing_is_named_in_one_line(here, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    code, stderr = here(*args)
    assert code == 2
    assert message in stderr and 'Traceback' not in stderr and stderr.count('\n') == 1


def test_a_process_ends_with_one_line_and_exit_code_2(tool, tmp_path):
    done = tool('train', 'nowhere.py', cwd=tmp_path, ok=False)
    assert done.returncode == 2 and done.stderr.count('\n') == 1
    assert "config 'nowhere.py' does not exist" in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.parametrize(
    'args, message',
    [
        (('--resume',), '--resume found no checkpoint'),
        (('--resume', 'nowhere.pth'), "checkpoint 'nowhere.pth'"),
        (('--auto-scale-lr',), 'base_batch_size'),
    ],
)
def test_options_that_cannot_work_say_why(here, small_config, shapes, tmp_path, args, message):
    options = ['--work-dir', tmp_path, *args, '--cfg-options', f'data_root={shapes}']
    done = here('train', small_config, *options)
    assert done.code == 2 and message in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason='the CPU has no mixed precision in mmengine')
def test_amp_on_the_cpu_says_why_not(here, small_config, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = here('train', small_config, '--amp', '--cfg-options', f'data_root={shapes}')
    assert done.code == 2 and '--amp needs a GPU' in done.stderr


TTA = """
_base_ = {base!r}
model = dict(roi_head=dict(mask_head=None, mask_roi_extractor=None))
test_evaluator = dict(metric=['bbox'])
tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5),
                                                  max_per_img=20))
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale={{{{_base_.size}}}})],
        [dict(type='RandomFlip', prob=p) for p in {flips}],
        [dict(type='LoadAnnotations', with_bbox=True)],
        [dict(type='PackDetInputs', meta_keys=keys)]])]
"""


@pytest.mark.parametrize('flips', [[0.0], [0.0, 1.0]])
def test_views_of_an_image_are_merged(here, trained, small_config, shapes, tmp_path, flips):
    """Of one view, scores are those without views; of two, others."""
    config, weights = tmp_path / 'views.py', tmp_path / 'boxes.pth'
    config.write_text(TTA.format(base=str(small_config), flips=flips))
    entries = torch.load(trained / 'epoch_3.pth', weights_only=False)['state_dict']
    boxes = {key: value for key, value in entries.items() if '.mask_' not in key}
    torch.save(dict(state_dict=boxes), weights)
    scores = []
    for folder, options in (('plain', []), ('views', ['--tta'])):
        words = ['--work-dir', tmp_path / folder, '--out', tmp_path / f'{folder}.pkl', *options]
        done = here('test', config, weights, *words, '--cfg-options', f'data_root={shapes}')
        assert done.code == 0, done.stderr
        found = pickle.loads((tmp_path / f'{folder}.pkl').read_bytes())
        scores.append(torch.cat([one['pred_instances']['scores'] for one in found]))
    same = scores[0].shape == scores[1].shape and torch.allclose(*scores, atol=1e-6)
    assert len(scores[1]) > 0 and same == (len(flips) == 1)


def test_views_need_a_model_that_merges_them(here, small_config, tmp_path):
    (tmp_path / 'x.pth').touch()
    done = here('test', small_config, tmp_path / 'x.pth', '--tta', '--work-dir', tmp_path)
    assert done.code == 2 and '--tta needs tta_model and tta_pipeline' in done.error
    config = tmp_path / 'masks.py'
    config.write_text(
        f"_base_ = {str(small_config)!r}\ntta_model = dict(type='DetTTAModel')\n"
        "tta_pipeline = [dict(type='LoadImageFromFile')]\n"
    )
    done = here('test', config, tmp_path / 'x.pth', '--tta', '--work-dir', tmp_path)
    assert done.code == 2 and 'without masks' in done.error


def test_two_processes(small_config, shapes, tmp_path):
    """tools/dist_train.sh and tools/dist_test.sh; gloo where there is no GPU."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    env = {
        **os.environ,
        'PYTHON': sys.executable,
        'PORT': str(port),
        'OMP_NUM_THREADS': '1',
        'PYTHONWARNINGS': 'ignore',
    }
    options = ['--work-dir', tmp_path, '--cfg-options', f'data_root={shapes}']
    for script, args in (('dist_train', []), ('dist_test', [tmp_path / 'epoch_3.pth'])):
        done = subprocess.run(
            ['bash', ROOT / f'tools/{script}.sh', small_config, *args, '2', *options],
            env=env,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    losses = scalars(tmp_path)[0]
    assert len(losses) == 6 and all(
        line['loss'] == line['loss'] for line in losses
    )  # 12 images, 2 x 4 at a time


def test_weights_that_cannot_be_had_say_what_to_do(
    here, small_config, shapes, tmp_path, monkeypatch
):
    monkeypatch.setenv('KW_MM_MIRROR', 'http://127.0.0.1:9/{name}')  # nobody answers there
    monkeypatch.setenv('KW_MM_CACHE', str(tmp_path))
    options = [
        f'data_root={shapes}',
        'model.backbone.init_cfg.type=Pretrained',
        'model.backbone.init_cfg.checkpoint=kw://resnet18-kw1x-imagenet',
    ]
    done = here('train', small_config, '--work-dir', tmp_path / 'run', '--cfg-options', *options)
    assert done.code == 2 and 'Traceback' not in done.stderr
    assert 'could not be downloaded' in done.error and 'in a browser and save it as' in done.error


def test_a_checkpoint_of_another_model_is_not_scored(here, small_config, shapes, tmp_path):
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(1)}), tmp_path / 'x.pth')
    options = ['--work-dir', tmp_path, '--cfg-options', f'data_root={shapes}']
    done = here('test', small_config, tmp_path / 'x.pth', *options)
    assert done.code == 2 and 'x.pth' in done.stderr and 'Traceback' not in done.stderr


def test_curves(here, trained, tmp_path):
    assert here('plot_run', trained, '--out', tmp_path / 'run.png').code == 0
    assert (tmp_path / 'run.png').stat().st_size > 10_000
    done = here('plot_run', tmp_path)
    assert done.code == 2 and 'is it the work dir of a training run?' in done.stderr
