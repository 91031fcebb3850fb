"""Nothing grows over a long run, with tests/helpers/long_run.py."""

import ctypes
import json
import os
import subprocess
import sys

import pytest
from run_tools import ROOT


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallinfo2'), reason='needs glibc 2.33 or newer')
def test_two_thousand_iterations_hold_no_more_than_one_thousand():
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tests/helpers/long_run.py')],
        env=env,
        capture_output=True,
        text=True,
        timeout=7200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report['iterations'] == 2000
    # MiB in 1000 iterations; resident memory, which workers inherit, still settles
    assert (
        report['heap_slope'] < 2
        and report['memory_slope'] < 25
        and report['worker_memory_slope'] < 25
    )
    assert report['handles_second_half'] <= report['handles_first_half']
    assert report['workers'] == [2] and 'Z' not in report['worker_states']
    assert (
        report['worker_generations'] == report['epochs']
    )  # started anew each epoch, none lost in between
