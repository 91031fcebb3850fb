"""tools/slurm_train.sh and tools/slurm_test.sh, with an srun that runs its command once."""

import argparse
import os
import subprocess
import sys

import pytest
from run_tools import ROOT

from kw_mm.command_line import parse_run_args

SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$SRUN_LOG"
while [ $# -gt 0 ] && [ "$1" != "$PYTHON" ]; do shift; done
exec "$@"
"""
# what Slurm tells a process, and a python that shows how it was called
PROCESS = """#!/usr/bin/env bash
printf 'called:%s\\n' "$*"
"""


@pytest.fixture
def submit(tmp_path):
    for name, text in (('srun', SRUN), ('python', PROCESS)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(script, *args, **env):
        env = {
            **os.environ,
            'PATH': f'{tmp_path}:{os.environ["PATH"]}',
            'PYTHON': str(tmp_path / 'python'),
            'SRUN_LOG': str(tmp_path / 'srun.log'),
            **env,
        }
        done = subprocess.run(
            ['bash', str(ROOT / f'tools/{script}.sh'), *args],
            env=env,
            capture_output=True,
            text=True,
        )
        log = tmp_path / 'srun.log'
        return done, log.read_text().splitlines() if log.exists() else []

    return run


@pytest.mark.parametrize(
    'script, fourth, called',
    [
        ('slurm_train', 'work', 'train.py c.py --work-dir work --launcher slurm --resume'),
        ('slurm_test', 'x.pth', 'test.py c.py x.pth --launcher slurm --resume'),
    ],
)
def test_a_process_for_each_gpu(submit, script, fourth, called):
    done, srun = submit(
        script,
        'part',
        'job',
        'c.py',
        fourth,
        '--resume',
        GPUS='16',
        SRUN_ARGS='--time=1:00 --quiet',
    )
    assert done.returncode == 0, done.stderr
    assert {
        '--partition=part',
        '--job-name=job',
        '--gres=gpu:8',
        '--ntasks=16',
        '--ntasks-per-node=8',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--time=1:00',
        '--quiet',
    } <= set(srun)
    assert done.stdout.strip().endswith(called) and (ROOT / 'tools' / called.split()[0]).is_file()


@pytest.mark.parametrize('script', ['slurm_train', 'slurm_test'])
def test_fewer_gpus_than_a_node_has(submit, script):
    _, srun = submit(script, 'part', 'job', 'c.py', 'x', GPUS='2')
    assert {'--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2'} <= set(srun)


@pytest.mark.parametrize('script', ['slurm_train', 'slurm_test'])
def test_too_few_arguments_show_the_usage(submit, script):
    done, srun = submit(script, 'part', 'job')
    assert done.returncode == 2 and done.stderr.startswith('usage: ') and not srun


def test_the_command_lines_take_the_launcher(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(sys, 'argv', ['train.py', '--launcher', 'slurm', '--work-dir', 'x'])
    assert parse_run_args(argparse.ArgumentParser()).launcher == 'slurm'
