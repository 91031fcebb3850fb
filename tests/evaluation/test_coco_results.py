"""Detections in COCO's result form."""

import json

import pytest
import torch
from mmdet.datasets import CocoDataset

from kw_mm.evaluation.coco_results import ResultsFile, category_ids, coco_results

COCO_CLASSES = CocoDataset.METAINFO['classes']


def test_cocos_ids_are_those_of_its_annotations(coco_mini):
    categories = json.loads((coco_mini / 'annotations/instances_val2017.json').read_text())[
        'categories'
    ]
    assert dict(zip(COCO_CLASSES, category_ids(COCO_CLASSES))) == {
        c['name']: c['id'] for c in categories
    }


@pytest.mark.parametrize(
    'classes, written, ids',
    [
        (('dog', 'cat'), [('cat', 9), ('horse', 3), ('dog', 4)], [4, 9]),  # by name
        (('dog', 'cow'), [('cat', 9), ('dog', 4)], [1, 2]),  # another dataset's file
        (('dog', 'cat'), None, [1, 2]),
    ],
)
def test_ids_of_other_datasets(classes, written, ids, tmp_path):
    if written:
        (tmp_path / 'a.json').write_text(
            json.dumps(dict(categories=[dict(name=name, id=i) for name, i in written]))
        )
    assert category_ids(classes, str(tmp_path / 'a.json') if written else None) == ids


def detections():
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 1:4, 2:7] = True
    return dict(
        bboxes=torch.tensor([[2.0, 1.0, 7.0, 4.0], [0.0, 0.0, 1.0, 1.0]]),
        scores=torch.tensor([0.75, 0.25]),
        labels=torch.tensor([1, 0]),
        masks=masks,
    )


def test_form():
    found = coco_results(detections(), 5, 'a.jpg', ('dog', 'cat'), (4, 9))
    assert found[0] == dict(
        image_id=5,
        file_name='a.jpg',
        category_id=9,
        category_name='cat',
        bbox=[2, 1, 5, 3],
        score=0.75,
        segmentation=dict(size=[6, 8], counts=found[0]['segmentation']['counts']),
    )
    assert json.loads(json.dumps(found)) == found
    boxes = {key: value for key, value in detections().items() if key != 'masks'}
    assert 'segmentation' not in coco_results(boxes, 5, 'a.jpg', ('dog', 'cat'), (4, 9))[0]
    assert (
        coco_results(
            {key: value[:0] for key, value in detections().items()},
            5,
            'a.jpg',
            ('dog', 'cat'),
            (4, 9),
        )
        == []
    )


def test_file_of_a_test(tmp_path):
    writer = ResultsFile(str(tmp_path / 'new/predictions.json'), ('dog', 'cat'))
    writer.process(
        {}, [dict(img_id=i, img_path=f'/x/{i}.jpg', pred_instances=detections()) for i in (3, 8)]
    )
    assert writer.evaluate(size=2) == {}
    found = json.loads((tmp_path / 'new/predictions.json').read_text())
    assert [(result['image_id'], result['file_name']) for result in found] == [(3, '3.jpg')] * 2 + [
        (8, '8.jpg')
    ] * 2
