"""Loss, temperature, learning rate and scores of runs, from the scalars that mmengine logs."""
import json
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402

Curve = Tuple[List[float], List[float]]
PANELS = ('loss', 'temperature', 'lr')


def read_scalars(work_dir: str) -> Dict[str, Curve]:
    """Curves of a work dir: {name: (steps, values)}. Of a resumed run the later record of a step counts.

    Scores are logged by epoch; they are placed at the training step that came before.

    Raises:
        FileNotFoundError: No log of scalars in the folder.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'no vis_data/scalars.json in {work_dir}; is it the work dir of a training run?')
    curves: Dict[str, Dict[float, float]] = {}
    for file in files:
        step = 0
        for line in filter(None, file.read_text().splitlines()):
            record = json.loads(line)
            step = record['step'] if 'loss' in record else step
            for name, value in record.items():
                if isinstance(value, (int, float)) and name not in ('step', 'iter', 'epoch'):
                    curves.setdefault(name, {})[step] = value
    if 'base_lr' in curves:                              # the first parameter group may have a multiple of it
        curves['lr'] = curves.pop('base_lr')
    return {name: (list(points), list(points.values())) for name, points in curves.items()}


def plot_runs(work_dirs: Sequence[str], file: str) -> Path:
    """Draw the curves of one or several runs on one figure.

    Args:
        work_dirs: Folders that ``tools/train.py`` wrote to.
        file: Image file to write.

    Returns:
        Path: The file written.

    Raises:
        FileNotFoundError: A folder without a log of scalars.
    """
    runs = {Path(folder).name: read_scalars(folder) for folder in work_dirs}
    scores = [name for name in ('coco/bbox_mAP_50', 'coco/segm_mAP_50', 'coco/bbox_mAP', 'accuracy/top1')
              if any(name in curves for curves in runs.values())]
    panels = [panel for panel in PANELS if any(panel in curves for curves in runs.values())] + ['scores']
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.4), constrained_layout=True)
    for axis, panel in zip(axes, panels):
        for color, (run, curves) in zip(pyplot.rcParams['axes.prop_cycle'].by_key()['color'] * 4, runs.items()):
            for style, name in zip(('-', '--', ':', '-.'), scores if panel == 'scores' else [panel]):
                if name in curves:
                    label = f'{run} {name.split("/")[-1]}' if panel == 'scores' else run
                    axis.plot(*curves[name], style, color=color, label=label, marker='.' if panel == 'scores' else None)
        axis.set(title=panel, xlabel='iteration', ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return Path(file)
