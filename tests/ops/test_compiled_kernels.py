"""Triton's kernels compiled for GPUs that are not there: nothing is spilled, loads are wide."""

import json
import os
import subprocess
import sys

import pytest
from run_tools import ROOT

from kw_mm.ops.backends import why_no_triton

PRODUCTS = ('_mix', '_by_rows', '_by_cells', '_conv', '_kernel_gradient')


LEAST_SHARED_MEMORY = 99 * 1024  # bytes of a block, on cards of capability 8.6, 8.9 and 12.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_triton()), reason=f'a Triton kernel {why_no_triton()}'),
]


def compiled(*arguments):
    """What the assembler says of each kernel."""
    env = {key: value for key, value in os.environ.items() if key != 'TRITON_INTERPRET'}
    helper = str(ROOT / 'tests/helpers/compiled_kernels.py')
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', helper, *arguments],
        cwd=ROOT,
        env={**env, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    if 'triton.backends' in done.stderr and 'ImportError' in done.stderr:
        pytest.skip('this Triton has its driver elsewhere')
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_for_an_h100():
    kernels = compiled()
    assert len(kernels) == 10 and len({one['kernel'] for one in kernels}) == 9
    for one in kernels:
        assert one['spilled'] == 0 and not one['loads of two bytes'], one
        if one['kernel'].startswith(PRODUCTS):
            assert one['matrix'] and one['wide loads'], one


# compute capability, network, batch sizes, bytes that may be spilled
NETWORKS = {
    'H100, R50': ('90', 'kw1x-r50', ('2', '128'), 0),
    'H100, MobileNetV2': ('90', 'kw4x-mbv2', ('2',), 0),
    'A100, R50': ('80', 'kw4x-r50', ('2',), 32),
    'RTX 50, R50': ('120', 'kw1x-r50', ('2',), 32),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_all_kernels_of_a_network(name):
    capability, network, batches, spilled = NETWORKS[name]
    kernels = compiled(capability, network, *batches)
    assert len(kernels) > 25
    for one in kernels:
        assert one['spilled'] <= spilled and one['shared'] <= LEAST_SHARED_MEMORY, one
