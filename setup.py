"""Puts configs and command lines into the package; the rest is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FILES = (
    'configs/**/*.py',
    'configs/**/metafile.yml',
    'model-index.yml',
    'tools/*.py',
    'examples/**/*.py',
    'tools/dist_*.sh',
    'tools/slurm_*.sh',
)


class BuildWithConfigs(build_py):
    """Adds ``kw_mm/.mim``, where mim and OpenMMLab look for configs and tools.

    An editable install uses those of the checkout.
    """

    def run(self) -> None:
        super().run()
        if getattr(self, 'editable_mode', False):
            return
        target = Path(self.build_lib) / 'kw_mm/.mim'
        shutil.rmtree(target, ignore_errors=True)
        for pattern in FILES:
            for file in sorted(ROOT.glob(pattern)):
                copy = target / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


setup(cmdclass=dict(build_py=BuildWithConfigs))
