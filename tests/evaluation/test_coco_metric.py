"""AP of a model that finds nothing, and of one that finds everything."""

import numpy as np
import pytest
import torch
from mmengine.fileio import dump
from mmengine.registry import METRICS

ANNOTATIONS = dict(
    images=[dict(id=1, file_name='a.jpg', width=64, height=64)],
    categories=[dict(id=7, name='thing')],
    annotations=[
        dict(
            id=1,
            image_id=1,
            category_id=7,
            bbox=[8, 8, 40, 40],
            area=1600,
            iscrowd=0,
            segmentation=[[8, 8, 48, 8, 48, 48, 8, 48]],
        )
    ],
)


def evaluate(tmp_path, found):
    path = str(tmp_path / 'annotations.json')
    dump(ANNOTATIONS, path)
    metric = METRICS.build(
        dict(type='KWCocoMetric', ann_file=path, metric=['bbox', 'segm'], _scope_='mmdet')
    )
    metric.dataset_meta = dict(classes=('thing',))
    masks = torch.zeros(found, 64, 64, dtype=torch.bool)
    masks[:, 8:48, 8:48] = True
    prediction = dict(
        bboxes=torch.tensor([[8.0, 8.0, 48.0, 48.0]] * found).reshape(-1, 4),
        scores=torch.ones(found),
        labels=torch.zeros(found, dtype=torch.long),
        masks=masks,
    )
    metric.process({}, [dict(img_id=1, ori_shape=(64, 64), pred_instances=prediction)])
    return metric.evaluate(size=1)


@pytest.mark.parametrize('found, ap', [(0, 0.0), (1, 1.0)])
def test_ap(tmp_path, found, ap):
    metrics = evaluate(tmp_path, found)
    assert {
        f'coco/{kind}_{item}'
        for kind in ('bbox', 'segm')
        for item in ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
    } <= set(metrics)
    assert np.isclose(metrics['coco/bbox_mAP'], ap, atol=1e-3) and np.isclose(
        metrics['coco/segm_mAP_50'], ap, atol=1e-3
    )
