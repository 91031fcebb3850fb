"""faster-coco-eval against pycocotools: every number that they give, to the last digit."""

import numpy as np
import pytest
from mmdet.evaluation.metrics import coco_metric
from mmengine.registry import METRICS
from perturbed import perturbed_truth
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from shapes import write_shapes

from kw_mm.evaluation import fast_coco_eval
from kw_mm.evaluation.fast_coco_eval import FAST, FastCOCOeval, choose_backend

needs_fast = pytest.mark.skipif(
    fast_coco_eval.find_spec('faster_coco_eval') is None, reason='needs faster-coco-eval'
)


@pytest.fixture(scope='module', params=['shapes', 'coco_mini val'])
def annotations(request, tmp_path_factory):
    """An annotation file: synthetic, or of real images with crowd regions and images of nothing."""
    if request.param == 'shapes':
        folder = write_shapes(
            tmp_path_factory.mktemp('data') / 'shapes', num_train=1, num_val=20, size=96
        )
        return folder / 'annotations/instances_val2017.json'
    return request.getfixturevalue('coco_mini') / 'annotations/instances_val2017.json'


def evaluate(annotations, samples, backend, **kwargs):
    metric = METRICS.build(
        dict(
            type='KWCocoMetric',
            ann_file=str(annotations),
            metric=['bbox', 'segm', 'proposal'],
            backend=backend,
            _scope_='mmdet',
            **kwargs,
        )
    )
    metric.dataset_meta = dict(
        classes=[category['name'] for category in metric._coco_api.dataset['categories']]
    )
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(size=len(samples))


@needs_fast
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(classwise=True),
        dict(proposal_nums=(1, 10, 100), iou_thrs=np.array([0.5, 0.7, 0.75])),
    ],
    ids=['default', 'classwise', 'other thresholds'],
)
def test_both_backends_give_the_same_metrics(annotations, options):
    samples = list(perturbed_truth(COCO(str(annotations)), np.random.default_rng(0)))
    expected = evaluate(annotations, samples, 'pycocotools', **options)
    assert 0.05 < expected['coco/bbox_mAP_50'] < 0.95 and 0.05 < expected['coco/segm_mAP_50'] < 0.95
    np.testing.assert_equal(evaluate(annotations, samples, FAST, **options), expected)
    np.testing.assert_equal(evaluate(annotations, samples, 'auto', **options), expected)


def results(coco, kind, rng):
    """Detections in COCO's result form; with more than 100 of an image."""
    for sample in perturbed_truth(coco, rng, copies=12, clutter=30):
        found = sample['pred_instances']
        for box, score, label, mask in zip(
            found['bboxes'].tolist(),
            found['scores'].tolist(),
            found['labels'].tolist(),
            found['masks'],
        ):
            shape = (
                dict(bbox=[*box[:2], box[2] - box[0], box[3] - box[1]])
                if kind == 'bbox'
                else dict(segmentation=mask)
            )
            yield dict(
                image_id=sample['img_id'], category_id=coco.getCatIds()[label], score=score, **shape
            )


@needs_fast
@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_every_precision_and_recall_is_the_same(annotations, kind):
    truth = COCO(str(annotations))
    detections = truth.loadRes(list(results(truth, kind, np.random.default_rng(1))))
    evaluations = []
    for evaluator in (
        COCOeval(truth, detections, kind),
        FastCOCOeval(truth, detections, kind),
        FastCOCOeval(truth, detections, kind),
    ):
        evaluator.params.maxDets = [100, 300, 1000]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        evaluations.append((evaluator.eval['precision'], evaluator.eval['recall'], evaluator.stats))
    assert (evaluations[0][0] > 0).any() and (evaluations[0][0] < 1).any()
    np.testing.assert_equal(evaluations[1], evaluations[0])
    np.testing.assert_equal(evaluations[2], evaluations[0])  # the annotations are left as they were


def test_choice(monkeypatch):
    monkeypatch.setattr(fast_coco_eval, 'find_spec', lambda name: None)
    assert choose_backend('auto') == choose_backend('pycocotools') == 'pycocotools'
    with pytest.raises(ImportError, match=r'pip install faster-coco-eval.*auto'):
        choose_backend(FAST)
    monkeypatch.setattr(fast_coco_eval, 'find_spec', lambda name: object())
    assert choose_backend('auto') == choose_backend(FAST) == FAST
    assert (
        choose_backend('pycocotools') == choose_backend('auto', use_mp_eval=True) == 'pycocotools'
    )
    with pytest.raises(ValueError, match='use_mp_eval'):
        choose_backend(FAST, use_mp_eval=True)
    with pytest.raises(
        ValueError,
        match="backend must be one of 'auto', 'pycocotools', 'faster-coco-eval', "
        "got backend='fast'",
    ):
        choose_backend('fast')


@needs_fast
def test_mmdets_metric_computes_with_it_and_stays_as_it_is(annotations, monkeypatch):
    samples = list(perturbed_truth(COCO(str(annotations)), np.random.default_rng(0)))[:2]
    stock, calls = coco_metric.COCOeval, []
    whole = FastCOCOeval.evaluate

    def evaluate_and_note(self):
        calls.append((self.params.iouType, coco_metric.COCOeval is stock))
        whole(self)

    monkeypatch.setattr(FastCOCOeval, 'evaluate', evaluate_and_note)
    evaluate(annotations, samples, 'pycocotools')
    assert not calls
    evaluate(annotations, samples, FAST)
    assert calls == [('bbox', True), ('segm', True), ('bbox', True)]  # the last are proposals
