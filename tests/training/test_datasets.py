"""Datasets whose annotations are checked, and whose images have the annotated size."""

import copy
import pickle

import numpy as np
import pytest
from drawn_coco import CLASSES, annotations_of, draw, write
from mmengine.registry import DATASETS
from PIL import Image
from pycocotools import mask as masks_of

from kw_mm.errors import AnnotationError, ImageError, UserError
from kw_mm.training.data_checks import account_of, check_instances, parts_of
from kw_mm.training.datasets import build_dataset

LOAD = dict(type='LoadImageFromFile')
PIPELINE = [
    LOAD,
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='mmdet.PackDetInputs'),
]


@pytest.fixture
def lines(monkeypatch):
    """What is logged."""
    logged = []
    for module in ('kw_mm.training.datasets', 'kw_mm.annotations.coco_reader'):
        monkeypatch.setattr(f'{module}.print_log', lambda text, **options: logged.append(text))
    return logged


@pytest.fixture
def coco(tmp_path):
    """Function: edit of the annotations -> config of a dataset of drawn images."""

    def make(edit=None, name='a', pipeline=PIPELINE, **options):
        content = annotations_of()
        folder = tmp_path / name
        draw(folder, content)
        content = edit(content) if edit else content
        write(tmp_path / f'{name}.json', content)
        return dict(
            type='mmdet.CocoDataset',
            ann_file=str(tmp_path / f'{name}.json'),
            data_prefix=dict(img=str(folder)),
            metainfo=dict(classes=CLASSES),
            pipeline=copy.deepcopy(pipeline),
            **options,
        )

    return make


def reverse(content):
    content['categories'].reverse()
    return content


def each(**fields):
    def edit(content):
        for one in content['annotations']:
            one.update(fields)
        return content

    return edit


def labels(dataset):
    return [
        (one['bbox'][0] < 40, one['bbox_label'])
        for i in range(len(dataset))
        for one in dataset.get_data_info(i)['instances']
    ]


def repeat(cfg):
    return dict(type='RepeatDataset', times=2, dataset=cfg)


def concat(*cfgs):
    return dict(type='ConcatDataset', datasets=list(cfgs))


def mixed(cfg):
    return dict(type='mmdet.MultiImageMixDataset', dataset=cfg, pipeline=[])


WRAPPERS = dict(
    none=lambda cfg: cfg, repeat=repeat, concat=concat, mixed=mixed,
    nested=lambda cfg: repeat(concat(cfg, cfg)),
)  # fmt: skip


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_labels_go_by_name_in_any_wrapper(coco, lines, wrapper):
    wrap = WRAPPERS[wrapper]
    given = wrap(coco(reverse))
    before = copy.deepcopy(given)
    dataset = build_dataset(given)
    assert given == before
    found = labels(dataset)
    assert len(found) == len(dataset) * 2 and all((label == 0) == left for left, label in found)
    assert 'lists its categories as disc, box; the order of the classes is box, disc' in lines[0]
    assert '8 of 8 annotations and 4 of 4 images reach training' in lines[1]
    assert all(account_of(part).used == 8 for part in parts_of(dataset))


def test_a_sound_file_gives_what_mmdet_makes_of_it(coco, lines):
    cfg = coco(filter_cfg=dict(filter_empty_gt=True, min_size=8))
    ours, theirs = build_dataset(cfg), DATASETS.build(cfg)
    assert [ours.get_data_info(i) for i in range(4)] == [theirs.get_data_info(i) for i in range(4)]
    assert ours.metainfo == theirs.metainfo and ours.cat_ids == theirs.cat_ids
    assert len(lines) == 1
    for index in range(4):
        one, other = ours[index]['data_samples'], theirs[index]['data_samples']
        assert np.array_equal(one.gt_instances.masks.masks, other.gt_instances.masks.masks)
    sent = pickle.loads(pickle.dumps(ours))
    assert sent[1]['data_samples'].img_id == ours[1]['data_samples'].img_id


@pytest.mark.parametrize(
    'options, message',
    [
        (
            dict(metainfo=dict(classes=('person', 'car', 'tree'))),
            r'has none of the 3 classes that the config expects \(person, car, tree\), it has box, '
            r'disc; set .* metainfo=dict\(classes=\(...\)\) .*, and num_classes of the heads',
        ),
        (dict(metainfo=dict(classes='box')), r"classes='box' of .*a.json' is one string; write \("),
        (dict(metainfo=dict(classes='cat')), r"classes='cat' of .* is one string; write \('cat', "),
        (
            dict(metainfo=dict(CLASSES=CLASSES)),
            r'^metainfo.CLASSES of .*a.json. is not read; since',
        ),
        (dict(classes=CLASSES), r'^classes of annotation file .* named in metainfo=dict\(classes='),
    ],
)
def test_classes_that_are_not_the_files(coco, options, message):
    with pytest.raises(UserError, match=message):
        build_dataset({**coco(filter_cfg=dict(filter_empty_gt=True)), **options})


def test_what_is_left_out_is_one_line(coco, lines):
    def edit(content):
        content['annotations'][0]['area'] = 0
        content['images'][3]['width'] = None
        return content

    dataset = build_dataset(coco(edit))
    assert len(dataset) == 3
    (line,) = lines
    assert (
        '5 of 8 annotations and 3 of 4 images reach training; 3 annotations are left out: ' in line
    )
    assert '1 with area 0 or below (first: id 1)' in line and '1 image is left out' in line


@pytest.mark.parametrize(
    'fields, reason',
    [
        (dict(area=0), '8 with area 0 or below'),
        (dict(iscrowd=1), '8 crowds (iscrowd=1)'),
        (dict(image_id=99), '8 of images that are not in the file'),
        (dict(category_id='1'), '8 whose category_id is of another type'),
    ],
)
@pytest.mark.parametrize('filtered', [False, True])
def test_where_nothing_is_left_the_reason_is_named(coco, lines, fields, reason, filtered):
    cfg = coco(each(**fields), filter_cfg=dict(filter_empty_gt=filtered))
    with pytest.raises(UserError, match='no instance of its classes') as caught:
        check_instances(build_dataset(cfg))
    assert reason in str(caught.value) and 'a.json' in str(caught.value)


def test_what_is_evaluated_on_loses_nothing_without_a_word(coco, lines):
    build_dataset(coco(test_mode=True))
    build_dataset(coco(each(area=0), test_mode=True))
    assert not lines

    def edit(content):
        content['annotations'][0]['category_id'] = '1'
        return content

    build_dataset(coco(edit, test_mode=True))
    (line,) = lines
    assert '7 of 8 annotations count in evaluation; 1 annotation is left out' in line
    with pytest.raises(AnnotationError, match='to evaluate on; of its 8 annotations, all are left'):
        build_dataset(coco(each(category_id='1'), test_mode=True))


def test_masks_are_asked_for_by_the_pipeline(coco, lines):
    cfg = coco(each(segmentation=[]))
    with pytest.raises(AnnotationError, match=r'segmentation=\[\] in annotations\[0\] \(id 1\)'):
        build_dataset(repeat(cfg))
    cfg['pipeline'][1]['with_mask'] = False
    assert len(build_dataset(cfg)) == 4


def test_a_file_that_is_not_json_is_named(coco, tmp_path):
    cfg = coco()
    (tmp_path / 'a.json').write_text('{')
    with pytest.raises(AnnotationError, match=r"a.json' is not JSON"):
        build_dataset(cfg)


def run_lengths(content):
    for one in content['annotations']:
        (lengths,) = masks_of.frPyObjects(one['segmentation'], 64, 96)
        one['segmentation'] = dict(size=lengths['size'], counts=lengths['counts'].decode())
    return content


def shrink(path):
    Image.open(path).resize((48, 32)).save(path)


def turn(path):
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.open(path).save(path, exif=tag.tobytes())


def truncate(path):
    Image.open(path).crop((0, 0, 96, 63)).save(path)


@pytest.mark.parametrize(
    'change, words',
    [
        (shrink, 'loaded with size 48 x 32, but its annotations are made for 96 x 64'),
        (turn, 'loaded with size 64 x 96, but its annotations are made for 96 x 64'),
        (turn, 'EXIF orientation'),
        (truncate, 'size 96 x 63'),
    ],
)
@pytest.mark.parametrize('kind', ['LoadImageFromFile', 'KWLoadImageFromFile'])
@pytest.mark.parametrize('edit', [None, run_lengths], ids=['polygons', 'run_lengths'])
@pytest.mark.parametrize('wrap', [repeat, mixed])
def test_an_image_of_another_size_is_named(coco, lines, tmp_path, change, words, kind, edit, wrap):
    pipeline = [dict(type=kind), *PIPELINE[1:]]
    dataset = build_dataset(wrap(coco(edit, pipeline=pipeline)))
    change(tmp_path / 'a/002.png')
    assert dataset[0]['data_samples'].img_id == 1
    with pytest.raises(ImageError, match='002.png') as caught:
        dataset[1]
    assert words in str(caught.value)


def test_it_is_left_out_where_bad_images_are(coco, lines, tmp_path, monkeypatch):
    loader = dict(type='KWLoadImageFromFile', ignore_empty=True)
    dataset = build_dataset(coco(pipeline=[loader, *PIPELINE[1:]]))
    shrink(tmp_path / 'a/002.png')
    monkeypatch.setattr(dataset, '_rand_another', lambda: 2)
    assert dataset[1]['data_samples'].img_id == 3
    assert dataset.pipeline.transforms[0].left_out == 1


def test_orientation_that_the_loader_ignores(coco, lines, tmp_path):
    loader = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
    dataset = build_dataset(coco(pipeline=[loader, *PIPELINE[1:]]))
    turn(tmp_path / 'a/002.png')
    assert dataset[1]['data_samples'].ori_shape == (64, 96)


def test_a_pipeline_that_is_put_in_later_is_checked_too(coco, lines, tmp_path):
    dataset = build_dataset(coco())
    shrink(tmp_path / 'a/002.png')
    dataset.pipeline = type(dataset.pipeline)(dataset.pipeline.transforms)
    with pytest.raises(ImageError, match='002.png'):
        dataset[1]


def test_other_errors_of_a_pipeline_stay_what_they_are(coco, lines):
    broken = dict(type='mmdet.Resize', scale=None, scale_factor=None)
    with pytest.raises(Exception, match='scale') as caught:
        build_dataset(coco(pipeline=[LOAD, broken]))[0]
    assert not isinstance(caught.value, ImageError)


def test_datasets_of_other_kinds_are_built_as_they_are(tmp_path):
    (tmp_path / 'a.txt').write_text('x.jpg 0\n')
    cfg = dict(
        type='mmpretrain.CustomDataset', ann_file=str(tmp_path / 'a.txt'), data_prefix=str(tmp_path)
    )
    dataset = build_dataset(cfg)
    assert len(dataset) == 1 and 'prepare_data' not in vars(dataset)
