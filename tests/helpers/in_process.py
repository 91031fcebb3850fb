"""Running the command lines without a new process, which would take ten seconds to start."""

import runpy
import sys
from typing import NamedTuple

from mmdet.visualization import DetLocalVisualizer
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from run_tools import ROOT


class Done(NamedTuple):
    """How a command ended: exit code and what it wrote to stderr."""

    code: int
    stderr: str

    @property
    def error(self) -> str:
        """The one line that begins with ``error: ``."""
        (line,) = [line for line in self.stderr.splitlines() if line.startswith('error: ')]
        return line


def unformatted(code, *args, **kwargs):
    """yapf's ``FormatCode`` without formatting, which takes longer than what is tested."""
    return code, False


def run_here(name, *args, capsys, monkeypatch):
    """Run tools/NAME.py in this process; an exception that leaves it fails the test."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
    monkeypatch.setattr(
        'yapf.yapflib.yapf_api.FormatCode', unformatted
    )  # mmengine imports it early, a fork late
    monkeypatch.setattr('mmengine.config.config.FormatCode', unformatted, raising=False)
    capsys.readouterr()
    code = 0
    try:
        runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
    except SystemExit as end:
        code = end.code or 0
    finally:
        for kind in (DefaultScope, MMLogger, MessageHub, Visualizer, DetLocalVisualizer):
            kind._instance_dict.clear()
    return Done(code, capsys.readouterr().err)
