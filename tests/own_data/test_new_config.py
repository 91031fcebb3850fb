"""``kw_mm new-config`` on exports of labelling tools, and training with what it writes."""

import json
import shutil

import pytest
from drawn_coco import annotations_of, draw, write
from in_process import run_here
from labelling_tools import EXPORTS, cvat, fiftyone, label_studio, pylabel, roboflow
from mmengine.config import Config

from kw_mm.analysis.comparability import changed_settings
from kw_mm.analysis.training_runs import find_runs
from kw_mm.building import build_model
from kw_mm.errors import UserError
from kw_mm.own_data import new_config
from kw_mm.own_data.config_text import plain_start
from kw_mm.run_config import load_config
from kw_mm.training.datasets import build_dataset

MASKS, BOXES = 'mask_rcnn_kw_r50_1x_coco', 'faster_rcnn_kw_r50_1x_coco'
TINY = 'demo/mask_rcnn_kw_shapes'


def made(export, root, base=MASKS, **options):
    """(lines that were said, the config) for an export; the config is beside the data."""
    output = root.parent / 'mine.py'
    arguments = list(map(str, EXPORTS[export](root)))
    before = {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}
    said = new_config(arguments, base, str(output), **options)
    assert before == {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}
    assert len(output.read_text().splitlines()) < 40
    assert all(len(line) <= 100 for line in output.read_text().splitlines() if '/tmp' not in line)
    return '\n'.join(said), load_config(str(output))


def built(cfg, split):
    cfg = cfg[f'{split}_dataloader'].dataset
    cfg['_scope_'] = 'mmdet'
    return build_dataset(cfg)


@pytest.mark.parametrize(
    'export, base, numbers, said',
    [
        (
            'roboflow',
            MASKS,
            (6, 2, 1),
            [
                "category 'Shapes' has no annotations and others below it: a group, not a class",
                "1 images of 'test' have the name of a training image (train-000_png)",
                'found: 2 classes (box, disc); 6 training images with 12 annotations',
                'images are small (median of the shorter side: 64 pixels)',
            ],
        ),
        (
            'cvat',
            MASKS,
            (4, 2, 2),
            [
                'crowds (iscrowd=1)',
                "2 images of 'val' have the name of a training image (frame_000001.png, frame_0",
            ],
        ),
        (
            'label_studio',
            BOXES,
            (4, 1, 1),
            [
                '1 of 5 images are drawn for validation (--val-share 0.2 --seed 0); frames of one',
                '5 file names are written with slashes instead of backslashes',
                'mine_annotations/train.json',
            ],
        ),
        (
            'fiftyone',
            BOXES,
            (4, 2, 2),
            [
                'val: the categories that it has no instance of are added: disc',
                "8 annotations of 'train' have a score: are they predictions?",
                "no validation instance of 'disc'",
            ],
        ),
        (
            'pylabel',
            MASKS,
            (4, 2, 2),
            [
                '8 annotations have category_id of another type than the ids of categories',
                '8 annotations have no area',
            ],
        ),
    ],
)
def test_exports_of_labelling_tools(export, base, numbers, said, tmp_path):
    found, cfg = made(export, tmp_path / 'data', base)
    assert not [words for words in said if words not in found], found
    for split, number in zip(('train', 'val', 'test'), numbers):
        dataset = built(cfg, split)
        assert len(dataset) == number and dataset.metainfo['classes'] == ('box', 'disc')
        assert dataset[0]['inputs'].shape[0] == 3  # its image is there
        labels = {entry['bbox_label'] for info in dataset for entry in info_of(dataset, info)}
        assert labels <= {0, 1}
    assert cfg.val_evaluator.ann_file == dataset_file(cfg, 'val')
    assert cfg.test_evaluator.ann_file == dataset_file(cfg, 'test')
    heads = [cfg.model.roi_head.bbox_head, cfg.model.roi_head.get('mask_head')]
    assert [head.num_classes for head in heads if head] == [2] * (2 if base == MASKS else 1)
    assert cfg.model.backbone.init_cfg.checkpoint == 'torchvision://resnet50'
    assert cfg.model.rpn_head.anchor_generator == load_config(base).model.rpn_head.anchor_generator


def info_of(dataset, _):
    return [entry for i in range(len(dataset)) for entry in dataset.get_data_info(i)['instances']]


def dataset_file(cfg, split):
    dataset = built(cfg, split)
    return dataset.ann_file


def test_a_masked_base_without_masks_names_the_base_for_boxes(tmp_path):
    for export in (label_studio, fiftyone):
        arguments = list(map(str, export(tmp_path / export.__name__)))
        with pytest.raises(
            UserError, match=f'needs a mask .segmentation. .*got none in .*--base {BOXES} trains on'
        ):
            new_config(arguments, MASKS, str(tmp_path / 'x.py'))
    assert not list(tmp_path.glob('x*'))


def test_the_written_config_trains_evaluates_and_predicts(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    roboflow(tmp_path / 'birds', train=4)
    run = dict(capsys=capsys, monkeypatch=monkeypatch)
    done = run_here('new_config', 'birds', '--base', TINY, **run)
    assert done.code == 0, done
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    options += ['train_dataloader.batch_size=2', 'default_hooks.checkpoint.interval=1']
    assert run_here('train', 'birds.py', *options, **run).code == 0
    checkpoint = 'work_dirs/birds/epoch_1.pth'
    assert run_here('test', 'birds.py', checkpoint, **run).code == 0
    assert run_here('predict', 'birds.py', checkpoint, 'birds/test', **run).code == 0
    assert {entry['category_name'] for entry in predictions(tmp_path)} <= {'box', 'disc'}
    (found,) = find_runs(['work_dirs'])  # what a real run leaves is read as it is meant
    assert (found.name, found.state, found.done, found.planned) == ('birds', 'finished', 1, 1)
    assert (found.batches, found.val_batches, found.seed, found.card) == (2, 1, 0, 'CPU')
    assert found.seconds > 0 and found.memory is None and found.temperature == 0.75
    assert set(found.scores) >= {'box AP', 'mask AP'}
    found.name = 'mask_rcnn_kw_shapes'
    (changes,) = changed_settings(found)
    assert 'num_classes=2 instead of 5' in changes and 'backbone' not in changes


def predictions(folder):
    return json.loads((folder / 'predictions/predictions.json').read_text())


def test_what_exists_is_not_replaced_unless_asked(tmp_path):
    arguments = list(map(str, cvat(tmp_path / 'data')))
    output = tmp_path / 'mine.py'
    output.write_text('mine')
    with pytest.raises(UserError, match=r"mine.py' exists; .* replace it with --overwrite"):
        new_config(arguments, BOXES, str(output))
    assert output.read_text() == 'mine'
    new_config(arguments, BOXES, str(output), overwrite=True)
    assert 'faster_rcnn' in output.read_text()


def test_the_same_images_are_drawn_for_validation_each_time(tmp_path):
    label_studio(tmp_path / 'data')
    drawn = []
    for name, seed in (('a', 0), ('b', 0), ('c', 3)):
        new_config([str(tmp_path / 'data')], BOXES, str(tmp_path / f'{name}.py'), seed=seed)
        content = json.loads((tmp_path / f'{name}_annotations/val.json').read_text())
        drawn.append([image['file_name'] for image in content['images']])
        rest = json.loads((tmp_path / f'{name}_annotations/train.json').read_text())
        assert len(rest['images']) == 4 and len(rest['annotations']) == 8
        assert drawn[-1][0] not in {image['file_name'] for image in rest['images']}
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    'edit, message',
    [
        (lambda content: content['annotations'].clear(), 'must have annotations, got none'),
        (
            lambda content: content['annotations'][1].pop('bbox'),
            r"lacks 'bbox' in annotations\[1\]",
        ),
        (lambda content: content['images'].clear(), 'lists no images'),
        (
            lambda content: (
                content['categories'].append(dict(id=9, name='box'))
                or content['annotations'][0].update(category_id=9)
            ),
            "the same name 'box'",
        ),
        (
            lambda content: [one.update(category_id=77) for one in content['annotations']],
            'gives no instance to training: all annotations are left out: 12 of categories that',
        ),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(edit, message, tmp_path):
    roboflow(tmp_path / 'data')
    path = tmp_path / 'data/train/_annotations.coco.json'
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        new_config([str(tmp_path / 'data')], MASKS, str(tmp_path / 'x.py'))
    assert not (tmp_path / 'x.py').exists()


def test_a_group_called_like_its_only_class(tmp_path):
    content = annotations_of(4)
    content['categories'] = [
        dict(id=0, name='box', supercategory='none'),
        dict(id=1, name='box', supercategory='box'),
    ]
    content['annotations'] = [one for one in content['annotations'] if one['category_id'] == 1]
    write(tmp_path / 'data/_annotations.coco.json', content)
    draw(tmp_path / 'data', content)
    said = new_config([str(tmp_path / 'data')], MASKS, str(tmp_path / 'x.py'))
    assert 'found: 1 classes (box)' in '\n'.join(said)
    assert "classes=('box',)" in (tmp_path / 'x.py').read_text()


def test_missing_images_are_left_out_and_said(tmp_path):
    roboflow(tmp_path / 'data')
    next((tmp_path / 'data/train').glob('*.jpg')).unlink()
    said = '\n'.join(new_config([str(tmp_path / 'data')], MASKS, str(tmp_path / 'x.py')))
    assert '1 images are not in ' in said and '5 training images' in said
    shutil.rmtree(tmp_path / 'data/train')
    (tmp_path / 'data/train').mkdir()
    with pytest.raises(UserError, match='one annotation file must be for training, got'):
        new_config([str(tmp_path / 'data')], MASKS, str(tmp_path / 'y.py'))


def test_images_that_are_nowhere(tmp_path):
    arguments = list(map(str, pylabel(tmp_path / 'data')))
    for path in (tmp_path / 'data').glob('*.png'):
        path.unlink()
    with pytest.raises(UserError, match='export the data set with its images, or copy them'):
        new_config(arguments, MASKS, str(tmp_path / 'x.py'))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['nowhere'], 'must be an annotation file, got none'),
        (['empty'], 'must have an annotation file in COCO format, got none in it'),
        (['data/coco_train.json', 'best=data/coco_val.json'], 'must be one of train=FILE'),
        (['data/a.json', 'data/coco_val.json'], r"'a.json' must say in its path .*train=a.json"),
        (['data/coco_train.json', 'data/b_train.json'], 'must not both be for train'),
    ],
)
def test_arguments_that_name_no_data(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pylabel(tmp_path / 'data')
    (tmp_path / 'empty').mkdir()
    for name in ('a', 'b_train'):
        shutil.copy('data/coco_train.json', f'data/{name}.json')
    with pytest.raises(UserError, match=message):
        new_config(arguments, MASKS, 'x.py')


def test_files_can_say_what_they_are_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pylabel(tmp_path / 'data')
    shutil.move('data/coco_train.json', 'data/a.json')
    said = new_config(['train=data/a.json', 'val=data/coco_val.json'], MASKS, 'x.py')
    assert said[:2] == ['train: a.json', 'val: coco_val.json']


@pytest.mark.parametrize('val', ['val2017', 'valid/images', 'data/validation'])
def test_images_of_one_name_in_two_splits_are_each_splits_own(val, tmp_path):
    """As in COCO's layout, where every split may begin with 000000000001.jpg."""
    for split, folder in (('train', 'train2017'), ('val', val)):
        content = annotations_of(3)
        write(tmp_path / f'data/annotations/instances_{split}.json', content)
        draw(tmp_path / 'data' / folder, content)
    new_config([str(tmp_path / 'data')], MASKS, str(tmp_path / 'x.py'))
    cfg = load_config(str(tmp_path / 'x.py'))
    assert cfg.train_dataloader.dataset.data_prefix.img == 'train2017/'
    assert cfg.val_dataloader.dataset.data_prefix.img == f'{val}/'


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(base='imagenet/kw_r18_100e_in1k'), '--base must train a detector on one data set'),
        (dict(output='x.txt'), '--output must be a Python file'),
        (dict(val_share=1.5), '--val-share must be between 0 and 1, got 1.5'),
    ],
)
def test_options_that_do_not_work(options, message, tmp_path):
    roboflow(tmp_path / 'data')
    with pytest.raises(UserError, match=message):
        new_config([str(tmp_path / 'data')], **dict(dict(output='x.py'), **options))


def test_heads_of_a_cascade_and_of_one_stage(tmp_path):
    """Every head gets the number of classes, those in lists too."""
    roboflow(tmp_path / 'data')
    cascade = tmp_path / 'cascade.py'
    cascade.write_text("_base_ = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'\n")
    for base, heads in (
        (str(cascade), lambda model: [*model.roi_head.bbox_head, model.roi_head.mask_head]),
        ('retinanet_kw_r50_1x_coco', lambda model: [model.bbox_head]),
    ):
        output = tmp_path / 'x.py'
        new_config([str(tmp_path / 'data')], base, str(output), overwrite=True)
        model = load_config(str(output)).model
        found = [head.num_classes for head in heads(model) if not isinstance(head, list)]
        assert found and set(found) == {2}


def test_the_model_of_a_plain_start_builds(tmp_path):
    """Attention with LN, as under norm_eval a batch norm would keep its first statistics."""
    _, cfg = made('roboflow', tmp_path / 'data', 'mask_rcnn_kw_mbv2_1x_coco')
    assert cfg.model.backbone.init_cfg.checkpoint == 'torchvision://mobilenet_v2'
    cfg.model.backbone.init_cfg = None
    model = build_model(cfg)
    assert model.roi_head.mask_head.num_classes == 2 and cfg.model.backbone.attention_norm == 'LN'


@pytest.mark.parametrize(
    'base',
    [
        'mask_rcnn_kw_r50_1x_coco',
        'mask_rcnn_odconv4x_r50_1x_coco',
        'mask_rcnn_dyconv4x_mbv2_1x_coco',
    ],
)
def test_plain_starts_are_those_of_our_configs(base):
    """Where a config from plain weights comes along, the written one sets what it sets."""
    start, why = plain_start(load_config(base))
    cfg, twin = load_config(base), load_config(base.replace('_1x', '_from-plain_1x'))
    cfg.merge_from_dict(dict(model=dict(backbone=start)))
    assert cfg.model.backbone == twin.model.backbone and 'begins as torchvision' in why


@pytest.mark.parametrize(
    'base, checkpoint, why',
    [
        ('mask_rcnn_fdconv_r50_1x_coco', None, ''),
        ('mask_rcnn_r50_1x_coco', 'torchvision://resnet50', "torchvision's ImageNet weights"),
        ('mask_rcnn_kw_convnext-t_1x_coco', 'torchvision://convnext_tiny', 'begins as torchvision'),
        ('mask_rcnn_kw1d2x_r50_1x_coco', 'torchvision://resnet50', 'begins nearly torchvision'),
    ],
)
def test_other_plain_starts(base, checkpoint, why):
    start, said = plain_start(load_config(base))
    assert start.get('init_cfg', {}).get('checkpoint') == checkpoint and said.startswith(why)


def test_it_loads_with_plain_mmengine(tmp_path):
    """As in a notebook: no path is left of the base's data root."""
    made('roboflow', tmp_path / 'data')
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert 'data/coco' not in str(
        [cfg.train_dataloader.dataset.data_root, cfg.val_evaluator, cfg.test_dataloader.dataset]
    )
