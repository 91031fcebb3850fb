"""``kw_mm results`` and ``kw_mm reproduce`` on written work dirs."""

import copy
import re
import shutil

import pytest
from in_process import run_here
from mmengine.config import Config
from run_tools import ROOT
from written_runs import write_run

from kw_mm.analysis.comparability import reference, why_not_comparable
from kw_mm.analysis.reproduce import reproduce
from kw_mm.analysis.results import our_figures, paper_figures, results, why_left_out
from kw_mm.analysis.results_page import read_rows, update_page
from kw_mm.analysis.training_runs import find_runs
from kw_mm.errors import UserError

DETECTOR, CLASSIFIER, DY_CONV = (
    'mask_rcnn_kw_r50_1x_coco',
    'kw_r18_100e_in1k',
    'mask_rcnn_dyconv4x_r50_1x_coco',
)
IMAGENET = dict(
    epochs=100, batches=5005, val_batches=196, scores=((70.1, 89.0), (74.0, 91.5), (73.5, 91.0))
)


def config(name, **options):
    """The config of a name, with changes."""
    cfg = copy.deepcopy(reference(name))
    cfg.merge_from_dict(options)
    return cfg


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A finished run of a detector, and one of a classifier."""
    root = tmp_path_factory.mktemp('work_dirs')
    write_run(root / DETECTOR, config(DETECTOR), epochs=12)
    write_run(root / CLASSIFIER, config(CLASSIFIER), **IMAGENET)
    return root


def only(folder):
    (run,) = find_runs([str(folder)])
    return run


def test_what_a_work_dir_tells(finished):
    run = only(finished / DETECTOR)
    assert (run.name, run.state, run.done, run.planned) == (DETECTOR, 'finished', 12, 12)
    assert (run.seed, run.card, run.processes) == (0, 'NVIDIA A100-SXM4-80GB', 8)
    assert (run.batches, run.val_batches, run.seconds, run.memory) == (7330, 625, 0.25, 6112)
    assert run.scores['box AP'] == (41.0, 41.0) and run.scores['mask AP large'] == (37.0, 37.0)
    assert run.temperature is None and why_left_out(run) == []
    run = only(finished / CLASSIFIER)
    assert run.scores == {'top-1': (74.0, 73.5), 'top-5': (91.5, 91.0)}
    assert why_left_out(run) == []


def test_the_papers_figures_are_those_of_the_page():
    compared = 0
    for row in read_rows((ROOT / 'docs/results.md').read_text()):
        if 'odconv' in row.name and row.name.endswith('in1k'):
            continue  # the metafile has those of the published weights, the page what others quote
        figures = paper_figures()[row.name]
        titles = [title for title in row.cells if 'paper' in title and row.cells[title]]
        for title in titles:
            assert float(row.cells[title]) == figures[title.partition(',')[0]]
        compared += len(titles)
    assert compared > 90


def test_the_table_of_a_terminal_and_of_markdown(finished, tmp_path, capsys):
    write_run(tmp_path / 'mine', config(DETECTOR), name='mine', epochs=3, seed=7)
    results([str(finished), str(tmp_path)], markdown=True)
    said = capsys.readouterr().out
    assert (
        f'| {DETECTOR} | finished | 12/12 epochs | 0 | 41.0 | 41.0/41.0/41.0 | 41.8 (-0.8) '
        '| 37.0 | 37.0/37.0/37.0 | 38.4 (-1.4) |'
    ) in said
    assert f'| {DETECTOR} |  | 0.250 | 6.0 | 8 x NVIDIA A100-SXM4-80GB |' in said
    assert f'| {CLASSIFIER} | finished | 100/100 epochs | 0 | 73.50 (best 74.00) |' in said
    assert '| mine | unfinished | 3/12 epochs | 7 | 41.0 |' in said
    assert f'{tmp_path}/mine: not beside the paper: no row of the tables has its config' in said
    results([str(finished / DETECTOR)])
    assert DETECTOR in capsys.readouterr().out


@pytest.mark.parametrize(
    'options, changes, reason',
    [
        (dict(epochs=5), {}, 'unfinished: 5 of 12 epochs, last written 20'),
        (dict(loss=float('nan')), {}, 'failed: the loss is nan from iteration 87930 on'),
        (dict(scores=()), {}, 'unfinished: without the last evaluation, last written'),
        (dict(batches=7), {}, 'an epoch has about 112 images, the whole data set 117,266'),
        (dict(val_batches=7), {}, 'an evaluation has about 56 images, the whole data set 5,000'),
        (
            {},
            {'model.backbone.budget': 2, 'optim_wrapper.optimizer.lr': 1.0},
            'model.backbone.budget=2 instead of 1, optim_wrapper.optimizer.lr=1.0 instead of',
        ),
        ({}, {'train_dataloader.dataset.pipeline.2.prob': 0.1}, 'another pipeline for train'),
        (
            {},
            {'model.backbone.init_cfg.checkpoint': 'torchvision://resnet50'},
            "init_cfg.checkpoint='torchvision://resnet50' instead of 'kw://resnet50-kw1x-imagenet'",
        ),
        (
            dict(gpus=1, batches=58633, val_batches=5000),
            {},
            '2 images in a step with the learning rate of 16, without --auto-scale-lr',
        ),
    ],
)
def test_runs_that_do_not_repeat_the_papers(options, changes, reason, tmp_path):
    write_run(tmp_path / DETECTOR, config(DETECTOR, **changes), **dict(dict(epochs=12), **options))
    (found,) = why_not_comparable(only(tmp_path))
    assert reason in found


def test_what_may_differ(tmp_path):
    """Mixed precision, places, seed, GPUs with the rate scaled, and how often it evaluates."""
    cfg = config(
        DETECTOR,
        **{
            'optim_wrapper.type': 'AmpOptimWrapper',
            'optim_wrapper.loss_scale': 'dynamic',
            'auto_scale_lr.enable': True,
            'train_cfg.val_interval': 6,
            'model.backbone.init_cfg.checkpoint': '/cache/downloads/resnet50-kw1x-imagenet.pth',
            'train_dataloader.dataset.data_root': '/datasets/coco/',
            'default_hooks.checkpoint.max_keep_ckpts': 1,
        },
    )
    write_run(tmp_path / DETECTOR, cfg, epochs=12, gpus=4, seed=3, batches=14659, val_batches=1250)
    assert why_not_comparable(only(tmp_path)) == []


def test_a_resumed_run_counts_from_where_it_went_on(tmp_path):
    cfg = config(DETECTOR)
    write_run(tmp_path / DETECTOR, cfg, epochs=5)
    shutil.move(tmp_path / DETECTOR, tmp_path / 'first')
    write_run(tmp_path / DETECTOR, cfg, epochs=12, seed=1, start='20260103_000000')
    shutil.move(tmp_path / 'first/20260102_030405', tmp_path / DETECTOR)
    run = only(tmp_path / DETECTOR)
    assert (run.done, run.state, run.seed) == (12, 'finished', 1)


def test_starts_that_logged_nothing_and_evaluations(finished, tmp_path):
    folder = tmp_path / DETECTOR
    shutil.copytree(finished / DETECTOR, folder)
    test_start = folder / '20260201_000000'
    (test_start / 'vis_data').mkdir(parents=True)
    config(DETECTOR, **{'train_cfg.max_epochs': 99}).dump(test_start / 'vis_data/config.py')
    (test_start / '20260201_000000.log').write_text('Epoch(test) [1/1]    coco/bbox_mAP: 0.5')
    assert only(folder).planned == 12 and only(folder).finished
    shutil.rmtree(folder / '20260102_030405')
    with pytest.raises(UserError, match='there must be a training run in .* or below, got none'):
        results([str(folder)])
    (test_start / '20260201_000000.log').write_text('seed: 0\n')
    assert only(folder).state == 'failed: no iteration was logged'
    with pytest.raises(UserError, match="work dir 'nowhere' does not exist"):
        find_runs(['nowhere'])


def test_a_config_that_cannot_be_read(finished, tmp_path):
    shutil.copytree(finished / DETECTOR, tmp_path / DETECTOR)
    (tmp_path / DETECTOR / '20260102_030405/vis_data/config.py').write_text('1 +')
    run = only(tmp_path)
    assert run.state.startswith('unknown: its config cannot be read (') and not run.finished


@pytest.fixture
def page(tmp_path):
    path = tmp_path / 'results.md'
    shutil.copy(ROOT / 'docs/results.md', path)
    return path


def test_the_page_gets_ours(finished, page, tmp_path, capsys):
    write_run(tmp_path / 'more' / DETECTOR, config(DETECTOR), epochs=4)
    before = page.read_text()
    results([str(finished), str(tmp_path / 'more')], update=str(page))
    said = capsys.readouterr().out
    assert f'{page}: {DETECTOR}: 41.0 / 37.0\n' in said and 'unfinished: 4 of 12' in said
    rows = {row.name: row.cells['ours'] for row in read_rows(page.read_text())}
    assert {name: cell for name, cell in rows.items() if cell} == {
        DETECTOR: '41.0 / 37.0',
        CLASSIFIER: '73.50 / 91.00',
    }
    cleaned = re.sub(r' (41\.0 / 37\.0|73\.50 / 91\.00) \|$', ' |', page.read_text(), flags=re.M)
    assert cleaned == before  # nothing else has changed
    results([str(finished)], update=str(page))
    assert f'{DETECTOR}: 41.0 / 37.0, as it was' in capsys.readouterr().out


def test_repetitions_are_a_mean_and_older_figures_are_named(finished, page, tmp_path):
    write_run(tmp_path / 'a' / DETECTOR, config(DETECTOR), epochs=12, scores=((0.42, 0.38),))
    runs = find_runs([str(finished / DETECTOR), str(tmp_path / 'a')])
    figures = our_figures(runs)
    assert figures == {DETECTOR: '41.5 / 37.5 (mean of 2)'}
    update_page(str(page), {DETECTOR: '40.0 / 36.0'})
    assert update_page(str(page), figures) == [
        f'{DETECTOR}: 41.5 / 37.5 (mean of 2) instead of 40.0 / 36.0'
    ]
    assert update_page(str(page), {'no_such_config': '1'}) == []


def test_pages_that_are_none(tmp_path):
    (tmp_path / 'x.md').write_text('# nothing\n')
    with pytest.raises(UserError, match='tables that link configs and have a column "ours"'):
        update_page(str(tmp_path / 'x.md'), {})
    with pytest.raises(UserError, match='such as docs/results.md, got .*No such file'):
        update_page(str(tmp_path / 'y.md'), {})


def commands(script):
    return [line for line in script.splitlines() if line and not line.startswith(('#', 'set '))]


def test_what_is_left_to_train(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / DETECTOR, tmp_path / 'work_dirs' / DETECTOR)
    write_run(
        tmp_path / 'work_dirs/mask_rcnn_r50_1x_coco', config('mask_rcnn_r50_1x_coco'), epochs=3
    )
    rows = [DETECTOR, 'mask_rcnn_r50_1x_coco', DY_CONV]
    monkeypatch.setattr('kw_mm.analysis.reproduce._names', lambda tables: rows)
    script = reproduce(['coco'], output='jobs.sh')
    assert (tmp_path / 'jobs.sh').read_text() == script and script.startswith('#!/usr/bin/env bash')
    lines = commands(script)
    assert not any(f'{DETECTOR}.py' in line for line in lines)  # done
    (resumed,) = [line for line in lines if '--resume' in line]
    assert 'mask_rcnn_r50_1x_coco.py 8 --work-dir work_dirs/mask_rcnn_r50_1x_coco' in resumed
    names = [re.search(r'(\w[\w-]*)\.py', line)[1] for line in lines]
    assert names.index('dyconv4x_r50_100e_in1k') < names.index(DY_CONV)  # which starts from it
    assert len(names) == len(set(names))
    # 3 of 12 epochs tell what an iteration takes: 12 x 117266 / 2 x 0.25 s
    assert '# mask_rcnn_r50_1x_coco: about 49 GPU hours' in script
    assert f'# {DY_CONV}: not measured, after dyconv4x_r50_100e_in1k' in script
    assert 'published files are downloaded to start from: kw://' in script


def test_other_ways_to_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as few:
        few.setattr('kw_mm.analysis.reproduce._names', lambda tables: [DY_CONV])
        first, line = commands(reproduce(gpus=4, slurm='gpu', work_dirs='elsewhere'))
    assert 'dyconv4x_r50_100e_in1k.py' in first
    assert line.startswith('GPUS=4 bash ') and f'slurm_train.sh gpu {DY_CONV} ' in line
    assert line.endswith('checkpoint=elsewhere/dyconv4x_r50_100e_in1k/epoch_100.pth')
    script = reproduce(['ablation'], gpus=1)
    assert all(line.startswith('python ') and 'train.py' in line for line in commands(script))
    assert 'Estimated: not measured.' in script
    with pytest.raises(UserError, match='--gpus must be a positive integer, got --gpus=0'):
        reproduce(gpus=0)


def test_imagenets_configs_start_from_nothing():
    """Which is why only detectors' configs are read for what they start from."""
    for path in (ROOT / 'configs').glob('[ia]*/*.py'):
        assert 'checkpoint=' not in path.read_text().replace('assemble_checkpoint', '')


def test_the_command_lines(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = dict(capsys=capsys, monkeypatch=monkeypatch)
    assert run_here('results', finished, **run).code == 0
    assert 'got none' in run_here('results', tmp_path, **run).error
    assert run_here('reproduce', '--table', 'ablation', '--output', 'x/jobs.sh', **run).code == 0
    assert (tmp_path / 'x/jobs.sh').is_file()


def test_a_dumped_config_is_that_of_its_name(tmp_path):
    """What mmengine writes to a work dir reads back as the config that ran."""
    reference(CLASSIFIER).dump(tmp_path / 'x.py')
    dumped = Config.fromfile(tmp_path / 'x.py', import_custom_modules=False)
    assert dumped.model == reference(CLASSIFIER).model
