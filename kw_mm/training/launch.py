"""Training and testing from command-line arguments."""

import ctypes
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import DumpResults
from mmengine.registry import HOOKS, MODELS, TRANSFORMS

from ..command_line import check_checkpoint
from ..errors import UserError
from ..evaluation.coco_results import ResultsFile
from ..files import check_file, check_folder
from ..run_config import coco_annotations, datasets_of, kind_of, load_config, walk_transforms
from .data_checks import check_datasets
from .diagnosis import data_explained
from .resuming import checkpoints_of, interrupt_explained
from .runner import KWRunner

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


@contextmanager
def leaving_processes() -> Iterator[None]:
    """Leave the group of processes together: gloo aborts a process that just ends.

    A group that the caller has joined stays.
    """
    is_callers = _in_group()
    yield
    if _in_group() and not is_callers:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


@leaving_processes()
def train(args: Namespace) -> None:
    """Train as ``tools/train.py`` was told.

    What the command line says is written into the config before the runner is built: the config in
    the work dir is the one that runs.

    Args:
        args: Those of ``tools/train.py``.

    Raises:
        UserError: What the user can fix, in one sentence.
        KeyboardInterrupt: Ctrl-C; it says what is saved and how to go on.
    """
    cfg = _common_config(args)
    if args.amp:
        _use_amp(cfg)
    if args.auto_scale_lr:
        _scale_lr(cfg)
    if args.resume:
        _resume(cfg, args.resume)
    splits = ('train', *(['val'] if cfg.get('val_cfg') else []))
    check_datasets(cfg, *splits)
    if args.skip_bad_images:
        skip_bad_images(cfg)
    if not torch.cuda.is_available():
        keep_freed_memory()
    with data_explained(cfg, *splits):
        runner = KWRunner.from_cfg(cfg)
        if args.skip_bad_images:
            runner.logger.info('--skip-bad-images: the training pipeline has ignore_empty=True')
        with interrupt_explained(runner):
            runner.train()


@leaving_processes()
def test(args: Namespace) -> None:
    """Evaluate as ``tools/test.py`` was told.

    Args:
        args: Those of ``tools/test.py``.

    Raises:
        UserError: What the user can fix, in one sentence.
    """
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out must name a pickle file, got {args.out}; end it in .pkl')
    cfg = _common_config(args)
    if args.tta:
        use_tta(cfg)
    if args.out:
        check_file(args.out, '--out')
    if args.show_dir:
        check_folder(args.show_dir, '--show-dir')
    check_checkpoint(args.checkpoint)
    check_datasets(cfg, 'test')
    cfg.load_from, cfg.resume = args.checkpoint, False
    detections = _show(cfg, args.show_dir) if args.show_dir else None
    runner = KWRunner.from_cfg(cfg)
    runner.all_weights = True
    with data_explained(cfg, 'test'):
        if args.out:
            runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
        if detections:
            classes = runner.test_loop.dataloader.dataset.metainfo['classes']
            results = ResultsFile(detections, classes, coco_annotations(cfg))
            runner.test_evaluator.metrics.append(results)
        runner.test()


def use_tta(cfg: Config) -> None:
    """Let a config be tested by its ``tta_model``, on the views of its ``tta_pipeline``, in place.

    Raises:
        UserError: It lacks one of them, or mmdet's model for it would have to merge masks.
    """
    from mmdet.models import DetTTAModel

    missing = [key for key in ('tta_model', 'tta_pipeline') if not cfg.get(key)]
    if missing:
        raise UserError(
            f'--tta needs {" and ".join(missing)} in the config, got none; take over those of '
            'mmdet::retinanet/retinanet_tta.py, for example'
        )
    kind = kind_of(cfg.tta_model, MODELS, cfg.get('default_scope'))
    masks = cfg.model.get('mask_head') or (cfg.model.get('roi_head') or {}).get('mask_head')
    if masks and kind is not None and issubclass(kind, DetTTAModel):
        raise UserError(
            "--tta needs a detector without masks, which mmdet's DetTTAModel cannot merge, got one "
            'with a mask_head; test it without --tta'
        )
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for _, dataset in datasets_of(cfg, 'test'):
        if 'pipeline' in dataset:
            dataset.pipeline = cfg.tta_pipeline


def skip_bad_images(cfg: Config) -> None:
    """Let a config's training pipelines leave out images that cannot be read, in place.

    It sets ``ignore_empty=True`` in every ``LoadImageFromFile`` and ``KWLoadImageFromFile`` of the
    training dataset, of pipelines that hooks put in its place later, and in what derives from them.
    mmcv's own leaves out only files that are missing: ``KWLoadImageFromFile`` takes its place.

    Raises:
        UserError: There is no such transform.
    """
    from mmcv.transforms import LoadImageFromFile

    pipelines = [dataset.get('pipeline') for _, dataset in datasets_of(cfg, 'train')]
    hooks = [cfg.get('custom_hooks'), cfg.get('default_hooks')]
    scope = cfg.get('default_scope')
    kinds = [
        (step, kind_of(step, TRANSFORMS, scope)) for step in walk_transforms([*pipelines, *hooks])
    ]
    loaders = [(step, kind) for step, kind in kinds if kind and issubclass(kind, LoadImageFromFile)]
    if not loaders:
        raise UserError(
            '--skip-bad-images needs a transform that loads images in the pipeline of '
            "train_dataloader.dataset, and there is none; add type='KWLoadImageFromFile'"
        )
    for step, kind in loaders:
        if kind is LoadImageFromFile:
            step['type'] = 'KWLoadImageFromFile'
        step['ignore_empty'] = True


def keep_freed_memory() -> bool:
    """Let glibc keep the memory that large tensors free.

    By default it maps every allocation above 32 MiB anew, and the kernel zeroes each of its pages.
    In a training step on a CPU that costs as much as many of the convolutions, plain or dynamic.
    The process holds on to its peak.

    Returns:
        bool: Whether there is a glibc that was told so.
    """
    if not sys.platform.startswith('linux'):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def _common_config(args: Namespace) -> Config:
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    name = os.path.splitext(os.path.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', name)
    check_folder(cfg.work_dir, '--work-dir')
    if (
        args.launcher == 'pytorch'
        and not torch.cuda.is_available()
        and not torch.distributed.is_initialized()
    ):
        torch.distributed.init_process_group('gloo')  # mmengine would ask for a GPU
    return cfg


def _in_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


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
    from mmdet.engine.hooks import DetVisualizationHook

    hook = cfg.get('default_hooks', {}).get('visualization')
    if not hook:
        raise UserError(
            '--show-dir needs default_hooks.visualization in the config, which has none'
        )
    kind = kind_of(hook, HOOKS, cfg.get('default_scope'))
    if kind is not None and issubclass(kind, DetVisualizationHook):
        if kind is DetVisualizationHook:
            hook['type'] = 'KWDetVisualizationHook'
        hook.update(draw=True, test_out_dir=os.path.abspath(folder))
        return os.path.join(folder, 'predictions.json')
    hook.update(enable=True, out_dir=os.path.abspath(folder))
    return None
