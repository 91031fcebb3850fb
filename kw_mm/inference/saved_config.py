"""The config that a run has saved in its checkpoints, read without executing it.

mmengine saves it as the text of a Python file. That text is data: names are set to numbers, strings
and containers of these, and ``dict(...)`` is all that is called.
"""

import ast
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from ..checkpoints import read_checkpoint
from ..errors import UserError

ADVICE = "name the config that it was trained with, e.g. the file that lies in its run's folder"


def config_in(path: str) -> Config:
    """The config in a checkpoint file.

    Args:
        path: File or URL.

    Raises:
        UserError: The file cannot be read, has no config, or one that is not only data.
    """
    text = _saved_text(read_checkpoint(path))
    if text is None:
        raise UserError(f'checkpoint {path!r} has no config in it; {ADVICE}')
    try:
        return Config(config_of(text))
    except (SyntaxError, ValueError, TypeError) as error:
        raise UserError(
            f'the config in checkpoint {path!r} must be data only, got {error}; {ADVICE}'
        ) from error


def _saved_text(content: Any) -> str | None:
    """Where mmengine has it: in `meta` and, newer, among the run's own information."""
    for keys in (('meta', 'cfg'), ('message_hub', 'runtime_info', 'cfg')):
        value = content
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            return value
    return None


def config_of(text: str) -> dict[str, Any]:
    """The settings in the text of a config as mmengine writes it.

    Raises:
        SyntaxError, ValueError: It is not Python, or does more than to set names to values.
    """
    settings = {}
    for line in ast.parse(text).body:
        if not isinstance(line, ast.Assign) or not isinstance(line.targets[0], ast.Name):
            raise ValueError(f'{ast.unparse(line)[:80]!r}')
        settings[line.targets[0].id] = _value(line.value)
    return settings


def _value(node: ast.expr) -> Any:
    is_dict = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if is_dict and node.func.id == 'dict' and not node.args and all(k.arg for k in node.keywords):
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict) and all(node.keys):
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = dict(List=list, Tuple=tuple, Set=set)[type(node).__name__]
        return kind(map(_value, node.elts))
    try:
        return ast.literal_eval(node)  # numbers, strings, True, False, None
    except ValueError:
        raise ValueError(f'{ast.unparse(node)[:80]!r}') from None
