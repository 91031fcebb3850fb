"""What a user can get wrong, through tools/train.py and tools/test.py.

Each ends with one line naming it, exit code 2 and no stack trace.
"""

import json
import shutil

import pytest
import torch
from in_process import run_here
from run_tools import ROOT
from shapes import write_shapes

from kw_mm.run_config import load_config
from kw_mm.training.runner import KWRunner

ANNOTATIONS = 'annotations/instances_{}2017.json'
CUT = 600  # bytes that are left of an image cut short


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """6 training and 2 validation images."""
    return write_shapes(tmp_path_factory.mktemp('data') / 'shapes', num_train=6, num_val=2, size=64)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """The quickstart's config, one epoch of 3 iterations.

    It is written without inheritance, whose reading takes longest.
    """
    path = tmp_path_factory.mktemp('config') / 'small.py'
    cfg = load_config(
        str(ROOT / 'configs/demo/mask_rcnn_kw_shapes.py'),
        {
            'train_dataloader.batch_size': 2,
            'train_cfg.max_epochs': 1,
            'default_hooks.checkpoint.save_best': None,
        },
    )
    cfg.dump(path)
    return path


@pytest.fixture
def broken(images, tmp_path):
    """Function: (edit of annotations, split) -> a copy of the images with edited annotations."""

    def copy(edit=None, split='train'):
        root = tmp_path / 'broken'
        shutil.copytree(images, root)
        path = root / ANNOTATIONS.format(split)
        content = json.loads(path.read_text())
        new = edit(content) if edit else None
        path.write_text(new if isinstance(new, str) else json.dumps(content))
        return root

    return copy


@pytest.fixture
def command(config, images, tmp_path, capsys, monkeypatch):
    """Function: run a tool on the images (or on ``root``) with options; how it ended."""

    def run(name, *args, root=images, options=(), flags=()):
        return run_here(
            name,
            config,
            *args,
            '--work-dir',
            tmp_path / 'run',
            *flags,
            '--cfg-options',
            f'data_root={root}',
            *options,
            capsys=capsys,
            monkeypatch=monkeypatch,
        )

    return run


@pytest.fixture(scope='module')
def checkpoint(config, images, tmp_path_factory):
    """A checkpoint of the config's model after one epoch."""
    folder = tmp_path_factory.mktemp('checkpoint')
    cfg = load_config(str(config), dict(data_root=str(images), work_dir=str(folder)))
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    KWRunner.from_cfg(cfg).train()
    return folder / 'epoch_1.pth'


def refused(done, *words):
    assert done.code == 2 and 'Traceback' not in done.stderr, done
    assert all(word in done.error for word in words), done.error


def rename_class(content):
    content['categories'][0]['name'] = 'zebra'


def forget_boxes(content):
    content['annotations'].clear()


def forget_masks(content):
    for entry in content['annotations']:
        del entry['segmentation']


@pytest.mark.parametrize(
    'edit, split, words',
    [
        (lambda content: 'hello', 'train', ('train2017.json', 'is not JSON')),
        (lambda content: json.dumps(content)[:500], 'val', ('val2017.json', 'is not JSON')),
        (lambda content: '[1]', 'train', ('holds a list', 'categories')),
        (lambda content: content.pop('images') and None, 'train', ("lacks the list 'images'",)),
        (
            lambda content: content['images'][2].pop('height') and None,
            'train',
            ("lacks 'height' in images[2]",),
        ),
        (
            lambda content: content['annotations'][1].pop('bbox') and None,
            'train',
            ("lacks 'bbox' in annotations[1]",),
        ),
        (forget_masks, 'train', ("lacks 'segmentation' in annotations[0]",)),
        (lambda content: content['images'].clear(), 'train', ('lists no images',)),
        (lambda content: content.pop('annotations') and None, 'train', ('no instance', '6 images')),
        (forget_boxes, 'train', ('no instance', 'train2017.json')),
        (rename_class, 'train', ('4 of the 5 classes', 'train2017.json', 'ellipse', 'metainfo')),
        (rename_class, 'val', ('4 of the 5 classes', 'val2017.json')),
    ],
)
def test_annotations(command, broken, edit, split, words):
    refused(command('train', root=broken(edit, split)), *words)


def test_annotations_that_filters_leave_nothing_of(command, broken):
    options = ['train_dataloader.dataset.filter_cfg.filter_empty_gt=True']
    refused(
        command('train', root=broken(forget_boxes), options=options),
        'train2017.json',
        'no image is left',
    )


@pytest.mark.parametrize(
    'options, words',
    [
        (
            ['train_dataloader.dataset.ann_file=x.json'],
            ('x.json', 'train_dataloader.dataset.ann_file'),
        ),
        (['val_dataloader.dataset.data_prefix.img=pictures/'], ('pictures/', 'val_dataloader')),
        (['train_dataloader.dataset.metainfo.classes=cat'], ("('cat', )",)),
        (
            ['model.roi_head.bbox_head.num_classes=4'],
            ('bbox_head predicts 4', 'has 5', 'num_classes=5'),
        ),
        (['model.roi_head.mask_head.num_classes=80'], ('mask_head predicts 80',)),
        (['train_dataloader.batch_size=0'], ('batch_size=0',)),
        (
            ['train_dataloader.batch_size=1'],
            ('batch_size=1 is one image per GPU', "attention_norm='LN'"),
        ),
        (['train_dataloader.batch_size=5'], ('one of 6 images', 'train_dataloader.drop_last=True')),
        (['optim_wrapper.optimizer.type=Addam'], ('optim_wrapper', 'Addam')),
        (['param_scheduler.0.type=Linear'], ('param_scheduler', "'Linear'")),
        (['custom_hooks.1.durration=3'], ("'durration'",)),
        (['custom_hooks.7.duration=3'], ('custom_hooks.7.duration',)),
        (['train_cfg.max_epochs=x'], ('train_cfg', "'x'")),
        (['val_evaluator.metric=map'], ('evaluator', 'map')),
        (
            ['model.roi_head.bbox_head.fc_out_channels=1000000000'],
            ('out of memory', 'batch_size', 'assemble_checkpoint', 'with_cp', '--amp'),
        ),
    ],
)
def test_options(command, options, words):
    refused(command('train', options=options), *words)


@pytest.mark.parametrize(
    'option, words',
    [
        ('budget=0', ('budget must be a positive number, got budget=0;', '0.25')),
        ('budget=-1', ('budget must be a positive number, got budget=-1;',)),
        ('budget=1x', ("budget must be a positive number, got budget='1x'",)),
        ('budget=0.3', ('67.2 cells', '67/224')),
        ('attention_function=tanh', ("'tanh'", 'softmax')),
        ('start=random', ("'random'", 'one_to_one')),
        ('depth=42', ('depth must be one of', '50', 'got depth=42')),
        ('cell_ratio=3', ('cell_ratio must be a pair of numbers, got cell_ratio=3;', '(0.5, 0.5)')),
        ('reduction=0', ('reduction must be a positive number, got reduction=0;', '1/16')),
        ('zero_cell=no', ("zero_cell must be True or False, got zero_cell='no'",)),
        ('frozen_stages=9', ('frozen_stages must be from -1', 'to 3, got 9')),
        ('out_indices=(7,)', ('out_indices must be stages, 0 to 2, got out_indices=(7,)',)),
        ('buget=1', ("'buget'",)),
        ('type=KWResnet', ("'KWResnet'", 'KWResNet')),
        ('sharing.stage9=[layer9.conv]', ("'layer9.conv'", 'layer3')),
    ],
)
def test_arguments_of_the_backbone(command, option, words):
    refused(command('train', options=[f'model.backbone.{option}']), 'model cannot be built', *words)


def test_a_backbone_with_other_outputs_than_the_neck_takes(command):
    done = command('train', options=['model.backbone.out_indices=(2,)'])
    refused(done, 'out_indices=(2,) gives 1', 'neck.in_channels=[', 'takes 3', '(0, 1, 2, 3)')


def damage(folder, kind):
    path = sorted((folder / 'train2017').glob('*.jpg'))[0]
    if kind == 'missing':
        path.unlink()
    else:
        path.write_bytes({'cut': path.read_bytes()[:CUT], 'empty': b'', 'text': b'hello'}[kind])
    return path


@pytest.mark.parametrize('kind, workers', [('missing', 1), ('cut', 0), ('empty', 0), ('text', 0)])
def test_an_image_is_named(command, broken, kind, workers):
    root = broken()
    path = damage(root, kind)
    done = command('train', root=root, options=[f'train_dataloader.num_workers={workers}'])
    refused(done, f"image '{path}' cannot be read", '--skip-bad-images')
    assert done.error.count('\n') == 0 and 'worker' not in done.error


STOCK = 'train_dataloader.dataset.pipeline.0.type=LoadImageFromFile'


@pytest.mark.parametrize('kind, workers', [('missing', 1), ('text', 0)])
def test_an_image_that_the_stock_loader_cannot_read_is_named(command, broken, kind, workers):
    root = broken()
    path = damage(root, kind)
    options = [STOCK, f'train_dataloader.num_workers={workers}']
    done = command('train', root=root, options=options)
    refused(done, f"image '{path}' cannot be read", '--skip-bad-images')
    assert done.error.count('\n') == 0 and 'worker' not in done.error


def test_training_can_leave_images_out(command, broken, tmp_path):
    root = broken()
    paths = [damage(root, 'missing')]
    paths.append(damage(root, 'cut'))
    done = command(
        'train', root=root, flags=['--skip-bad-images'], options=['train_dataloader.num_workers=2']
    )
    assert done.code == 0, done.stderr
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert all(f"image '{path}' is left out" in log for path in paths)
    assert 'left out so far: 2' in log and (tmp_path / 'run/epoch_1.pth').is_file()
    assert '--skip-bad-images' in log  # the config that ran says so too
    assert 'ignore_empty=True' in (tmp_path / 'run/small.py').read_text()


def test_without_a_single_image_training_ends(command, broken):
    root = broken()
    for path in (root / 'train2017').glob('*'):
        path.unlink()
    refused(command('train', root=root, flags=['--skip-bad-images']), 'no image could be read')


OTHER_HEAD = 'model.roi_head.bbox_head.fc_out_channels=128'


@pytest.mark.parametrize(
    'options, words',
    [
        (['model.backbone.depth=34'], ('2-2-2 blocks', '3-4-6 blocks')),
        (['model.backbone.budget=2'], ('budget 1', 'budget 2')),
        ([OTHER_HEAD], ('bbox_head', '128')),
    ],
)
@pytest.mark.parametrize('how', ['resume', 'test'])
def test_a_checkpoint_of_another_model(command, checkpoint, options, words, how):
    args = dict(resume=('train',), test=('test', checkpoint))[how]
    flags = ['--resume', checkpoint] if how == 'resume' else []
    refused(command(*args, flags=flags, options=options), checkpoint.name, *words)


def test_a_checkpoint_of_another_optimizer(command, checkpoint):
    sgd = ['optim_wrapper.optimizer.type=SGD', 'optim_wrapper.optimizer.momentum=0.9']
    done = command('train', options=sgd, flags=['--resume', checkpoint])
    refused(done, checkpoint.name, 'not SGD', 'no dampening, momentum')


@pytest.mark.parametrize(
    'content, words',
    [
        (None, ('weights.pth', 'load_from')),
        (b'hello', ('weights.pth',)),
        ([1], ('weights.pth', 'list')),
    ],
)
@pytest.mark.parametrize('how', ['resume', 'test'])
def test_a_file_that_is_no_whole_checkpoint(command, checkpoint, tmp_path, how, content, words):
    path = tmp_path / 'weights.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(
            content or dict(state_dict=torch.load(checkpoint, weights_only=False)['state_dict']),
            path,
        )
    if how == 'resume':
        refused(command('train', flags=['--resume', path]), *words)
    elif content is None:
        assert command('test', path).code == 0
    else:
        refused(command('test', path), *words)


@pytest.mark.parametrize(
    'edit, words',
    [
        (lambda content: 'x', ('val2017.json', 'is not JSON')),
        (lambda content: content['annotations'][0].pop('area') and None, ("lacks 'area'",)),
        (rename_class, ('4 of the 5 classes',)),
    ],
)
def test_annotations_of_a_test(command, broken, checkpoint, edit, words):
    refused(command('test', checkpoint, root=broken(edit, 'val')), *words)


@pytest.mark.parametrize(
    'name, more',
    [('train', []), ('visualize_attention', ['x.pth']), ('predict', ['x.pth', 'x.jpg'])],
)
def test_an_option_without_a_value(config, capsys, monkeypatch, name, more):
    done = run_here(
        name, config, *more, '--cfg-options', 'foo', capsys=capsys, monkeypatch=monkeypatch
    )
    assert done.code == 2 and 'KEY=VALUE' in done.stderr and 'Traceback' not in done.stderr


def test_the_stack_trace_can_be_had(command, monkeypatch):
    monkeypatch.setenv('KW_MM_TRACEBACK', '1')
    done = command('train', options=['model.backbone.budget=0'])
    assert done.code == 2 and 'as_budget' in done.stderr and 'got budget=0;' in done.error


def test_predictions_are_saved_as_pickle(command):
    done = command('test', 'any.pth', flags=['--out', 'predictions.json'])
    assert done.code == 2 and 'got predictions.json; end it in .pkl' in done.error
