"""Work dirs as training runs leave them, written without training: logs in mmengine's words."""

import json

ENVIRONMENT = """2026/01/02 03:04:05 - mmengine - INFO -
------------------------------------------------------------
System environment:
    sys.platform: linux
    CUDA available: {cuda}
    GPU 0,1,2,3,4,5,6,7: NVIDIA A100-SXM4-80GB
    numpy_random_seed: {seed}

Runtime environment:
    cudnn_benchmark: False
    seed: {seed}
    Distributed launcher: pytorch
    Distributed training: True
    GPU number: {gpus}
------------------------------------------------------------
"""
LINE = '2026/01/02 03:04:05 - mmengine - INFO - '
SIDES = ('', '_s', '_m', '_l')


def write_run(
    folder,
    cfg,
    *,
    name=None,
    epochs=2,
    batches=7330,
    val_batches=625,
    scores=((0.30, 0.27), (0.41, 0.37)),
    gpus=8,
    seed=0,
    seconds=0.25,
    loss=1.0,
    start='20260102_030405',
):
    """Write the work dir of a run.

    Args:
        folder: Where; its name is the config's unless ``name`` is given.
        cfg: The config that ran, mmengine's.
        epochs: How many it came through.
        batches, val_batches: Of an epoch and of an evaluation.
        scores: (box AP, mask AP) or (top-1, top-5) after each of the last epochs.
        loss: Of the last logged iteration.
    """
    place = folder / start / 'vis_data'
    place.mkdir(parents=True)
    for path in (folder / f'{name or folder.name}.py', place / 'config.py'):
        path.write_text(''.join(f'{key} = {value!r}\n' for key, value in cfg.to_dict().items()))
    text, records = ENVIRONMENT.format(cuda=gpus > 0, seed=seed, gpus=gpus), []
    if not gpus:
        text = text.replace('    GPU 0,1,2,3,4,5,6,7: NVIDIA A100-SXM4-80GB\n', '')
    first = epochs - len(scores)
    for epoch in range(1, epochs + 1):
        done = batches // 50 * 50 or batches  # the rest of an epoch is not logged
        step = (epoch - 1) * batches + done
        text += f'{LINE}Epoch(train)  [{epoch}][{done:>4}/{batches}]  lr: 1.0e-04  loss: 1.0\n'
        records.append(
            dict(lr=1e-4, loss=loss if epoch == epochs else 1.0, time=seconds, iter=step, step=step)
        )
        if gpus:
            records[-1]['memory'] = 6100 + epoch
        text += f'{LINE}Saving checkpoint at {epoch} epochs\n'
        if epoch > first:
            text += f'{LINE}Epoch(val) [{epoch}][{val_batches}/{val_batches}]    score: 0\n'
            records.append(_scores(scores[epoch - first - 1], epoch))
    (place.parent / f'{start}.log').write_text(text)
    (place / 'scalars.json').write_text(''.join(f'{json.dumps(one)}\n' for one in records))
    return folder


def _scores(pair, epoch):
    one, other = pair
    if one > 1:
        found = {'accuracy/top1': one, 'accuracy/top5': other}
    else:
        found = {f'coco/bbox_mAP{side}': one for side in SIDES}
        found |= {f'coco/segm_mAP{side}': other for side in SIDES}
    return {**found, 'time': 99.0, 'step': epoch}
