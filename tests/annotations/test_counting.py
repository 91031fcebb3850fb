"""Annotation files checked by value: each bad value is named, or costs what mmdet makes of it."""

import copy
import json

import pytest
from drawn_coco import ANNOTATION_FIELDS, CLASSES, INF, NAN, VALUES, annotations_of, write
from hypothesis import given
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset

from kw_mm.annotations import count, problem_in
from kw_mm.errors import AnnotationError


def counted(content, **options):
    options = dict(dict(masks=True), **options)
    return count(copy.deepcopy(content), 'a.json', CLASSES, **options)


def edited(**changes):
    """The file with fields of its fourth annotation changed, or of the second image."""
    content = annotations_of()
    target = content['images'][1] if {'width', 'height', 'file_name'} & set(changes) else None
    (target or content['annotations'][3]).update(changes)
    return content


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(bbox=None), 'bbox=None in annotations[3] (id 4)'),
        (dict(bbox=[1, 2, 3]), 'bbox=[1, 2, 3] in annotations[3] (id 4)'),
        (dict(bbox=[1, 2, '3', 4]), "bbox=[1, 2, '3', 4]"),
        (dict(bbox=[1, NAN, 3, 4]), 'bbox=[1, nan, 3, 4]'),
        (dict(bbox=[1, 2, INF, 4]), 'where [x, y, width, height] in pixels is meant'),
        (dict(area=None), 'area=None in annotations[3] (id 4)'),
        (dict(area=NAN), 'area=nan'),
        (dict(area='9'), "area='9'"),
        (dict(iscrowd='0'), "iscrowd='0' in annotations[3] (id 4), where 0 or 1 is meant"),
        (dict(iscrowd=2), 'iscrowd=2'),
        (dict(ignore='no'), "ignore='no'"),
        (dict(id=1), 'gives annotations[0] and annotations[3] the same id 1'),
        (dict(id=None), 'id=None in annotations[3]'),
        (dict(id=[4]), 'id=[4] in annotations[3]'),
        (dict(image_id=[1]), 'image_id=[1] in annotations[3]'),
        (dict(category_id=dict()), 'category_id={} in annotations[3]'),
        (dict(segmentation=[]), 'segmentation=[] in annotations[3] (id 4)'),
        (dict(segmentation=None), 'segmentation=None in annotations[3] (id 4)'),
        (dict(segmentation=[1, 2, 3, 4, 5, 6]), 'segmentation=[1, 2, 3, 4, 5, 6]'),
        (dict(segmentation=[[[1, 2], [3, 4], [5, 6]]]), 'each polygon is a list of numbers'),
        (dict(segmentation=[[1, 2, 3, 4, 5, NAN]]), 'each polygon is a list of numbers'),
        (dict(segmentation=[['1', 2, 3, 4, 5, 6]]), 'each polygon is a list of numbers'),
        (dict(segmentation=dict(size=[64, 96])), 'run lengths are dict(size'),
        (dict(segmentation=dict(size=[96, 64], counts=[6144])), 'width 96 and height 64'),
        (dict(segmentation=dict(size=[64, 96], counts=[6000])), 'counts are of 6000 pixels'),
        (dict(segmentation=dict(size=[64, 96], counts=[7000, -856])), 'counts are of'),
        (dict(segmentation=dict(size=[64, 96], counts='abc')), "counts': 'abc'"),
        (dict(file_name=None), 'file_name=None in images[1] (id 2), where a name is meant'),
        (dict(file_name=''), "file_name=''"),
    ],
)
@pytest.mark.parametrize('evaluated', [False, True])
def test_a_value_that_cannot_be_read_is_named(changes, words, evaluated):
    with pytest.raises(AnnotationError) as caught:
        counted(edited(**changes), evaluated=evaluated)
    assert str(caught.value).startswith("annotation file 'a.json' ") and words in str(caught.value)


@pytest.mark.parametrize(
    'edit, words',
    [
        (lambda c: c['annotations'][3].pop('area'), "lacks 'area' in annotations[3]"),
        (lambda c: c['annotations'].append(5), "lacks 'id' in annotations[8]: 5"),
        (lambda c: c['images'][2].pop('height'), "lacks 'height' in images[2]"),
        (lambda c: c['images'][2].update(id=1), 'gives images[0] and images[2] the same id 1'),
        (lambda c: c['images'][2].update(id='3'), "ids of two types: 4 in images[3] and '3'"),
        (lambda c: c['images'].append(None), "lacks 'id' in images[4]: None"),
        (lambda c: c['categories'][0].update(name=7), 'name=7 in categories[0] (id 1)'),
        (
            lambda c: c['categories'].append(dict(id=9, name='box')),
            "gives categories[0] (id 1) and categories[2] (id 9) the same name 'box'",
        ),
        (lambda c: c.pop('annotations'), "lacks the list 'annotations'"),
        (lambda c: c.update(images=dict()), "has no list in 'images'"),
    ],
)
def test_what_a_file_lacks_is_named(edit, words):
    content = annotations_of()
    edit(content)
    if 'annotations' in content:
        with pytest.raises(AnnotationError) as caught:
            counted(content)
        assert words in str(caught.value)
    assert words in problem_in(content, True, CLASSES)


def each(fields, items=slice(None, None, 2)):
    def edit(content):
        for one in content['annotations'][items]:
            one.update(fields)

    return edit


def swap(content):
    for image in content['images']:
        image.update(width=image['height'], height=image['width'])
    for one in content['annotations'][1::2]:
        one['bbox'][0] = 68


@pytest.mark.parametrize(
    'edit, used, words',
    [
        (lambda c: None, 8, '8 of 8 annotations and 4 of 4 images reach training'),
        (each(dict(area=0)), 4, '4 annotations are left out: 4 with area 0 or below (first: id 1)'),
        (each(dict(area=-2.5), slice(1)), 7, '1 annotation is left out: 1 with area 0 or below'),
        (each(dict(iscrowd=1)), 4, '4 crowds (iscrowd=1)'),
        (each(dict(ignore=1)), 4, '4 marked with ignore'),
        (each(dict(bbox=[5, 5, 0.5, 9])), 4, '4 with a box narrower or lower than 1 pixel'),
        (each(dict(bbox=[5, 5, -8, 9])), 4, '4 with a box narrower or lower than 1 pixel'),
        (each(dict(bbox=[96, 5, 8, 9])), 4, '4 with a box outside of their image (first: id 1)'),
        (each(dict(bbox=[-9, 5, 8, 9])), 4, '4 with a box outside of their image'),
        (swap, 4, '4 with a box outside of their image, and inside if its width and height were'),
        (each(dict(category_id='1')), 4, '4 whose category_id is of another type than the categ'),
        (each(dict(category_id=77)), 4, '4 of categories that are not in the file'),
        (each(dict(image_id='1')), 4, "4 whose image_id is of another type than the images' ids"),
        (each(dict(image_id=999)), 4, '4 of images that are not in the file'),
        (each(dict(segmentation=[[1, 2, 3, 4]])), 4, '4 without a polygon of three points'),
        (
            each(dict(segmentation=[[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]])),
            8,
            'masks of 4 annotations lie',
        ),
        (lambda c: c['categories'].append(dict(id=3, name='else')), 8, '8 of 8 annotations'),
        (lambda c: c['categories'][1].update(name='else'), 4, '4 of other classes (first: id 2)'),
    ],
)
def test_what_is_left_out_is_counted_as_mmdet_leaves_it_out(edit, used, words, tmp_path):
    content = annotations_of()
    edit(content)
    account = counted(content)
    assert account.used == used and words in account.summary(4)
    assert reach_training(content, tmp_path) == used


def reach_training(content, tmp_path, masks=True):
    """How many annotations mmdet's dataset and mask loader leave to train on."""
    path = write(tmp_path / 'a.json', content)
    dataset = CocoDataset(
        ann_file=path,
        metainfo=dict(classes=CLASSES),
        data_prefix=dict(img=''),
        pipeline=[dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=masks)],
    )
    samples = [
        dataset.pipeline(dict(dataset.get_data_info(i), ori_shape=(64, 96)))
        for i in range(len(dataset))
    ]
    return sum(int((~sample['gt_ignore_flags']).sum()) for sample in samples)


@pytest.mark.parametrize('size', [None, 0, -1, NAN, '96', INF, [96], 96.5, True])
def test_images_without_a_size_are_left_out_and_counted(size):
    content = edited(width=size)
    copied = copy.deepcopy(content)
    account = count(copied, 'a.json', CLASSES, masks=True)
    assert account.used == 6 and len(copied['images']) == 3 and account.surprising
    summary = account.summary(3)
    assert '2 of images whose width or height is null, below 1' in summary
    assert '1 image is left out: 1 whose width or height is null, below 1' in summary
    with pytest.raises(
        AnnotationError, match=r'has width=.* of|has width=.* in images\[1\] \(id 2'
    ):
        counted(content, evaluated=True)


def test_sizes_in_floats_become_integers():
    content = edited(width=96.0, height=64.0)
    count(content, 'a.json', CLASSES)
    image = content['images'][1]
    assert (image['width'], image['height']) == (96, 64) and type(image['width']) is int


def test_images_that_the_filter_leaves_out():
    account = counted(edited(width=40), min_size=48)
    assert account.used == 6 and not account.surprising
    assert '1 image is left out: 1 smaller than filter_cfg.min_size (first: id 2)' in (
        account.summary(3)
    )
    assert "1 without an annotation of the classes, or by the dataset's" in account.summary(2)


def test_only_what_surprises_is_a_warning():
    few = annotations_of(20)
    few['annotations'][0]['iscrowd'] = 1
    assert not counted(few).surprising
    each(dict(iscrowd=1))(few)
    assert counted(few).surprising
    other = annotations_of()
    other['categories'][1]['name'] = 'else'
    assert not counted(other).surprising
    assert not counted(annotations_of()).surprising


def test_without_masks_a_segmentation_may_be_anything():
    assert counted(edited(segmentation=None), masks=False).used == 8
    content = annotations_of()
    for one in content['annotations']:
        del one['segmentation']
    assert counted(content, masks=False).used == 8


def test_a_file_without_annotations_can_be_tested_on():
    content = annotations_of()
    del content['annotations']
    assert counted(content, evaluated=True).annotations == 0


FIELDS = st.one_of(
    st.sampled_from(ANNOTATION_FIELDS).map(lambda field: ('annotations', field)),
    st.sampled_from(['id', 'width', 'height', 'file_name']).map(lambda field: ('images', field)),
    st.sampled_from(['id', 'name']).map(lambda field: ('categories', field)),
)


@given(FIELDS, VALUES, st.integers(0, 1))
def test_any_value_is_named_or_trained_on_as_counted(tmp_path_factory, field, value, place):
    folder = tmp_path_factory.getbasetemp() / 'any'
    content = annotations_of(2)
    content[field[0]][place][field[1]] = value
    content = json.loads(json.dumps(content))
    try:
        account = count(content, 'a.json', CLASSES, masks=True)
    except AnnotationError as error:
        assert field[1] in str(error) and '\n' not in str(error)
        return
    assert reach_training(content, folder) == account.used
    lost = 4 - account.used
    assert (lost == 0) == (not account.lost) and account.annotations == 4
