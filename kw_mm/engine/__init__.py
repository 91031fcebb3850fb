"""What the command lines in ``tools/`` do."""
from ..errors import UserError
from .checks import check_checkpoint, check_datasets
from .config import load_config, redirect_data_root
from .errors import command
from .runner import KWRunner

__all__ = [
    'KWRunner', 'UserError', 'check_checkpoint', 'check_datasets', 'command', 'load_config', 'redirect_data_root'
]
