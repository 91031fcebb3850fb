"""Where the configs are that come with kw_mm."""

from pathlib import Path

from .errors import UserError
from .validation import closest

PACKAGE = Path(__file__).resolve().parent


def installed_files() -> Path:
    """Where ``configs/`` and ``tools/`` are: inside an installed package, or the checkout."""
    return PACKAGE / '.mim' if (PACKAGE / '.mim').is_dir() else PACKAGE.parent


def config_names() -> list[str]:
    """Names of all configs, e.g. 'mask_rcnn_kw_r50_1x_coco' and 'imagenet/kw_r50_300e_in1k'."""
    return list(_configs())


def config(name: str) -> str:
    """The path of a config that comes with kw_mm.

    Args:
        name: Its path below ``configs/``; folder and ``.py`` can be left out.

    Raises:
        UserError: No such config; it names those that are called alike.

    Example:
        >>> import kw_mm
        >>> from mmengine.config import Config
        >>> cfg = Config.fromfile(kw_mm.config('mask_rcnn_kw_r50_1x_coco'))

        In a config of your own: ``_base_ = __import__('kw_mm').config('mask_rcnn_kw_r50_1x_coco')``
    """
    configs = _configs()
    wanted = name[:-3] if name.endswith('.py') else name
    tails = {key.rpartition('/')[2]: key for key in configs}
    found = wanted if wanted in configs else tails.get(wanted)
    if found is None:
        close = closest(wanted.rpartition('/')[2], tails) or list(tails)[:3]
        examples = ', '.join(tails[tail] for tail in close)
        raise UserError(f'kw_mm has no config {name!r}; there are for example {examples}')
    return str(configs[found])


def _configs() -> dict[str, Path]:
    folder = installed_files() / 'configs'
    paths = sorted(path for path in folder.rglob('*.py') if '_base_' not in path.parts)
    return {path.relative_to(folder).with_suffix('').as_posix(): path for path in paths}
