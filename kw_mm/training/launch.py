"""Training and testing from command-line arguments."""

import os
from argparse import Namespace

import torch
from mmengine.config import Config
from mmengine.evaluator import DumpResults

from ..errors import UserError
from ..evaluation.coco_results import ResultsFile
from ..run_config import coco_annotations, load_config
from .diagnosis import data_explained
from .images import read_images_with_care
from .memory import keep_freed_memory
from .path_checks import check_checkpoint, check_datasets
from .resuming import checkpoints_of
from .runner import KWRunner


def train(args: Namespace) -> None:
    """Train as ``tools/train.py`` was told."""
    cfg = _common_config(args)
    if args.amp:
        _use_amp(cfg)
    if args.auto_scale_lr:
        _scale_lr(cfg)
    if args.resume:
        _resume(cfg, args.resume)
    splits = ('train', *(['val'] if cfg.get('val_cfg') else []))
    check_datasets(cfg, *splits)
    read_images_with_care(cfg, args.skip_bad_images)
    if not torch.cuda.is_available():
        keep_freed_memory()
    with data_explained(cfg, *splits):
        KWRunner.from_cfg(cfg).train()


def test(args: Namespace) -> None:
    """Evaluate as ``tools/test.py`` was told."""
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out} is no name of a pickle file; end it in .pkl')
    cfg = _common_config(args)
    check_checkpoint(args.checkpoint)
    check_datasets(cfg, 'test')
    read_images_with_care(cfg)
    cfg.load_from, cfg.resume = args.checkpoint, False
    detections = _show(cfg, args.show_dir) if args.show_dir else None
    runner = KWRunner.from_cfg(cfg)
    runner.all_weights = True
    if args.out:
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    if detections:
        classes = runner.test_loop.dataloader.dataset.metainfo['classes']
        runner.test_evaluator.metrics.append(
            ResultsFile(detections, classes, coco_annotations(cfg))
        )
    with data_explained(cfg, 'test'):
        runner.test()


def _common_config(args: Namespace) -> Config:
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    name = os.path.splitext(os.path.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', name)
    if (
        args.launcher == 'pytorch'
        and not torch.cuda.is_available()
        and not torch.distributed.is_initialized()
    ):
        torch.distributed.init_process_group('gloo')  # mmengine would ask for a GPU
    return cfg


def _use_amp(cfg: Config) -> None:
    if not torch.cuda.is_available():
        raise UserError('--amp needs a GPU: mmengine offers no mixed precision on the CPU')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.loss_scale = 'dynamic'


def _scale_lr(cfg: Config) -> None:
    if not cfg.get('auto_scale_lr', {}).get('base_batch_size'):
        raise UserError(
            '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: '
            'the total batch its learning rate was chosen for'
        )
    cfg.auto_scale_lr.enable = True


def _resume(cfg: Config, source: str) -> None:
    cfg.resume = True
    if source != 'auto':
        check_checkpoint(source)
        cfg.load_from = source
    elif checkpoints_of(cfg.work_dir):
        cfg.load_from = None
    else:
        raise UserError(
            f'--resume found no checkpoint in {cfg.work_dir!r}; '
            'name the folder with --work-dir, a file with --resume FILE, or start without --resume'
        )


def _show(cfg: Config, folder: str) -> str | None:
    """Have pictures drawn; of a detector, where to write the detections."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if not hook:
        raise UserError(
            '--show-dir needs default_hooks.visualization in the config, which has none'
        )
    if hook.type.endswith('DetVisualizationHook'):
        hook.update(draw=True, test_out_dir=os.path.abspath(folder))
        return os.path.join(folder, 'predictions.json')
    hook.update(enable=True, out_dir=os.path.abspath(folder))
    return None
