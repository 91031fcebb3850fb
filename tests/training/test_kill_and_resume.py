"""Training runs that are killed and resumed, with tests/helpers/killing.py."""

import json
import os
import subprocess
import sys

import pytest
from run_tools import ROOT


def kill(*args):
    """Run tests/helpers/killing.py; its report.

    It fails by itself where a file is not whole or a step differs.
    """
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tests/helpers/killing.py'), *map(str, args)],
        env=env,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_three_kills():
    report = kill('--kills', 3, '--per-run', 3, '--moments', 'damage', 'write', 'sync')
    assert (
        report['kills'] == 3
        and report['in_writing'] >= 1
        and report['damaged'] == 1
        and report['steps_compared'] >= 12
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_twenty_kills():
    report = kill('--kills', 20)
    assert report['kills'] == 20 and report['in_writing'] >= 4 and report['damaged'] >= 1
    assert (
        report['runs'] >= 4 and report['steps_compared'] > 12 * report['runs']
    )  # steps repeated after a kill
