"""tools/gpu_check.sh: one part's failure or delay does not keep the next one waiting."""

import os
import subprocess

import pytest
from run_tools import ROOT

# A python whose tests fail, whose shape table may take too long, and whose benchmarks write pages.
PYTHON = """#!/usr/bin/env bash
case "$*" in
  *"-m pytest"*) echo "FAILED tests/gpu/test_x.py - wrong"; echo "1 failed, 2 passed"; exit 1 ;;
  *--shapes*)
    while [ $# -gt 0 ]; do [ "$1" = --report ] && page=$2; shift; done
    printf '## Short\\n\\n| a layer | 1 | nhwc |\\n\\n## All\\n\\n| everything |\\n' > "$page"
    [ -z "$SLOW" ] || sleep 60 ;;
  *--goals*|*--ways*reference*)
    while [ $# -gt 0 ]; do [ "$1" = --report ] && page=$2; shift; done
    printf '## Best of each\\n\\n| a model | 1.25 |\\n\\n## All\\n\\n| everything |\\n' > "$page" ;;
  *) cat >/dev/null; echo "a card" ;;
esac
"""


@pytest.fixture
def check(tmp_path):
    python = tmp_path / 'python'
    python.write_text(PYTHON)
    python.chmod(0o755)

    def run(**env):
        done = subprocess.run(
            ['bash', str(ROOT / 'tools/gpu_check.sh'), str(tmp_path / 'results')],
            env={**os.environ, 'PYTHON': str(python), 'SLOW': '', **env},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done, done.stdout + done.stderr

    run.results = tmp_path / 'results'
    return run


@pytest.mark.parametrize('device', ['cuda', 'cpu'])
def test_a_failing_part_is_told_and_the_next_one_runs(check, device):
    done, said = check(KW_MM_GPU_CHECK_DEVICE=device)
    assert done.returncode == 0, said
    short = said.partition('== short tables')[2]
    assert 'FAILED tests/gpu/test_x.py' in short and '1 failed, 2 passed' in short
    assert '| a layer | 1 | nhwc' in short and '| a model | 1.25 |' in short
    assert 'everything' not in short  # that is in the folder
    assert 'tests: failed with exit code 1' in short and 'goals: done' in short
    names = {path.name for path in check.results.iterdir()}
    assert {'tests.log', 'shapes.log', 'goals.log', 'goals.md', 'summary.txt'} <= names


def test_all_parts_end_with_the_time_there_is(check):
    done, said = check(KW_MM_GPU_CHECK_SECONDS='14', PARTS='shapes compiled', SLOW='yes')
    assert done.returncode == 0, said
    assert 'shapes: stopped after 14 s' in said or 'shapes: stopped after 13 s' in said
    assert 'compiled: not begun, no time left' in said
    assert '| a layer | 1 | nhwc' in said  # what it had written


def test_an_unknown_device_is_refused(check):
    done, said = check(KW_MM_GPU_CHECK_DEVICE='tpu')
    assert done.returncode == 2 and 'must be cuda or cpu, got tpu' in said
