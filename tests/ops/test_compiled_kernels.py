"""Triton's kernels compiled for a GPU that is not there: nothing is spilled, loads are wide."""

import json
import os
import subprocess
import sys

import pytest
from run_tools import ROOT

from kw_mm.ops.backends import why_no_triton

PRODUCTS = ('_mix', '_by_rows', '_by_cells', '_conv', '_kernel_gradient')


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_triton()), reason=f'a Triton kernel {why_no_triton()}')
def test_for_an_h100():
    env = {key: value for key, value in os.environ.items() if key != 'TRITON_INTERPRET'}
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', str(ROOT / 'tests/helpers/compiled_kernels.py')],
        cwd=ROOT,
        env={**env, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if 'ModuleNotFoundError' in done.stderr or 'ImportError' in done.stderr:
        pytest.skip('this Triton has its driver elsewhere')
    assert done.returncode == 0, done.stderr[-3000:]
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kernels) == 10 and len({one['kernel'] for one in kernels}) == 9
    for one in kernels:
        assert one['spilled'] == 0 and not one['loads of two bytes'], one
        if one['kernel'].startswith(PRODUCTS):
            assert one['matrix'] and one['wide loads'], one
