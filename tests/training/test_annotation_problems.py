import json
import re

import pytest
from mmengine.config import Config

from kw_mm.training.annotation_problems import annotation_problem, coco_files


def content():
    return dict(
        images=[
            dict(id=1, file_name='a.jpg', height=4, width=4),
            dict(id=2, file_name='b.jpg', height=4, width=4),
        ],
        annotations=[
            dict(id=7, image_id=1, category_id=1, bbox=[0, 0, 2, 2], area=4),
            dict(id=8, image_id=2, category_id=1, bbox=[0, 0, 2, 2], area=4),
        ],
        categories=[dict(id=1, name='cat')],
    )


def edited(path, edit):
    value = content()
    edit(value)
    path.write_text(json.dumps(value))
    return str(path)


@pytest.mark.parametrize(
    'edit, problem',
    [
        (lambda c: c.pop('categories'), "lacks the list 'categories'"),
        (lambda c: c.update(images={}), "has no list in 'images'"),
        (lambda c: c['categories'][0].pop('name'), r"lacks 'name' in categories\[0\]: \{'id': 1\}"),
        (lambda c: c['annotations'].append(5), r"lacks 'id' in annotations\[2\]: 5"),
        (
            lambda c: c['annotations'][1].update(id=7),
            r'gives annotations\[0\] and annotations\[1\] the same id 7',
        ),
        (
            lambda c: c['annotations'][1].update(bbox=[1, 2, 3]),
            r'has bbox=\[1, 2, 3\] in annotations\[1\] \(id 8\)',
        ),
        (lambda c: c['annotations'][1].update(bbox=[1, 2, 3, 'x']), r"bbox=\[1, 2, 3, 'x'\]"),
        (lambda c: c['images'].clear(), 'lists no images'),
    ],
)
def test_what_is_wrong_is_named(tmp_path, edit, problem):
    said = annotation_problem(edited(tmp_path / 'a.json', edit))
    assert re.search(f"^annotation file '.*a.json' .*{problem}", said)


def test_a_good_file_has_no_problem_unless_masks_are_wanted(tmp_path):
    path = edited(tmp_path / 'a.json', lambda c: None)
    assert annotation_problem(path) is None
    assert "lacks 'segmentation' in annotations[0]" in annotation_problem(path, masks=True)


@pytest.mark.parametrize('data', [b'', b'{', b'\xff\xfe\x00', b'[1, 2'])
def test_what_is_not_json(tmp_path, data):
    path = tmp_path / 'a.json'
    path.write_bytes(data)
    assert 'is not JSON' in annotation_problem(str(path))


def test_files_of_wrapped_datasets_are_found(tmp_path):
    for name in ('a.json', 'b.json'):
        (tmp_path / name).write_text('{}')
    names = ('a.json', 'b.json', 'nowhere.json')
    coco = [dict(type='CocoDataset', data_root=str(tmp_path), ann_file=name) for name in names]
    dataset = Config(
        dict(
            d=dict(
                type='RepeatDataset',
                times=2,
                dataset=dict(
                    type='ConcatDataset',
                    datasets=[*coco, dict(type='XMLDataset', ann_file=str(tmp_path / 'a.json'))],
                ),
            )
        )
    ).d
    assert list(coco_files(dataset)) == [str(tmp_path / 'a.json'), str(tmp_path / 'b.json')]
