"""tools/setup.sh on machines that are not here, with stand-ins for python, pip and nvcc."""

import os
import shutil
import subprocess

import pytest
from run_tools import ROOT

PYTHON = """#!/usr/bin/env bash
case "$*" in
  *"-m venv"*) mkdir -p "${@: -1}/bin"; echo "venv $*" >> "$LOG"
               cp "$0" "${@: -1}/bin/python"; cp "$(dirname "$0")/pip" "${@: -1}/bin/pip" ;;
  *torch.__version__*) cat "$STATE/torch" 2>/dev/null || exit 1 ;;
  *get_device_capability*) echo "$CARD" ;;
  *torch.version.cuda*) echo "$CUDA" ;;
  *"import torch") [ -f "$STATE/torch" ] ;;
  *check_cuda_ops*) echo checked >> "$LOG"; [ -z "$BROKEN" ] ;;
esac
"""
PIP = """#!/usr/bin/env bash
echo "pip $*" >> "$LOG"
case "$*" in *torch==*torchvision*setuptools*) echo 2.14.1 > "$STATE/torch" ;; esac
"""
NVCC = """#!/usr/bin/env bash
echo "Cuda compilation tools, release $NVCC_RELEASE, V0"
"""
MMCV = 'mmcv_wheel() { echo "mmcv $1 for ${KW_MM_ARCH:-a CPU}" >> "$LOG"; wheels=$2; }\n'


@pytest.fixture
def machine(tmp_path):
    """Function: run a copy of setup.sh on a machine that has what is named; process and log."""
    root, programs, state = tmp_path / 'root', tmp_path / 'bin', tmp_path / 'state'
    for folder in (root / 'tools', programs, state):
        folder.mkdir(parents=True)
    for name in ('requirements.txt', 'pyproject.toml', 'tools/setup.sh'):
        shutil.copy(ROOT / name, root / name)
    (root / 'tools/mmcv_wheel.sh').write_text(MMCV)
    for name, text in (('python', PYTHON), ('pip', PIP), ('c++', '#!/bin/sh\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def run(torch='', card='', cuda='13.0', nvcc='', broken='', **env):
        if torch:
            (state / 'torch').write_text(torch + '\n')
        home = tmp_path / 'cuda'
        shutil.rmtree(home, ignore_errors=True)
        if nvcc:
            (home / 'bin').mkdir(parents=True)
            (home / 'bin/nvcc').write_text(NVCC)
            (home / 'bin/nvcc').chmod(0o755)
        log = tmp_path / 'log'
        log.write_text('')
        clean = {key: value for key, value in os.environ.items() if not key.startswith('KW_MM')}
        done = subprocess.run(
            ['bash', str(root / 'tools/setup.sh')],
            env={**clean, 'PATH': f'{programs}:{os.environ["PATH"]}', 'PYTHON': 'python'}
            | dict(LOG=str(log), STATE=str(state), CARD=card, CUDA=cuda, BROKEN=broken)
            | dict(NVCC_RELEASE=nvcc, CUDA_HOME=str(home), TORCH_CUDA_ARCH_LIST='')
            | dict(KW_MM_CACHE=str(tmp_path / 'cache'))
            | env,
            capture_output=True,
            text=True,
        )
        return done, log.read_text()

    run.venv = root / '.venv'
    return run


def test_a_cpu_gets_the_pinned_torch_and_mmcv_without_cuda(machine):
    done, log = machine()
    assert done.returncode == 0, done.stderr
    assert 'pip install -q torch==2.14.1 torchvision' in log and 'for a CPU' in log
    assert 'checked' not in log and 'site-packages' not in log
    assert machine()[1] == ''  # nothing has changed


def test_a_gpu_gets_mmcv_for_its_card_and_a_check_on_it(machine):
    done, log = machine(torch='2.11.0+cu130', card='9.0', nvcc='13.0', KW_MM_TORCH='keep')
    assert done.returncode == 0, done.stderr
    assert 'for 9.0' in log and log.rstrip().endswith('checked')
    assert '--system-site-packages' in log and 'pip install -q torch==' not in log
    assert 'keeping torch 2.11.0+cu130' in done.stdout
    constraints = (machine.venv / 'kw_mm_constraints.txt').read_text()
    assert constraints == 'torch==2.11.0+cu130\n'
    assert 'torch==' not in (machine.venv / 'kw_mm_requirements.txt').read_text()


def test_more_architectures_can_be_asked_for(machine):
    asked = dict(TORCH_CUDA_ARCH_LIST='8.0;9.0')
    _, log = machine(torch='2.11.0', card='9.0', nvcc='13.1', KW_MM_TORCH='keep', **asked)
    assert 'for 8.0;9.0' in log


@pytest.mark.parametrize(
    'nvcc, message',
    [
        ('', "no CUDA compiler (nvcc) to compile mmcv with; install CUDA 13.0's, or use prebuilt"),
        ('12.4', 'is of 12.4, torch of CUDA 13.0; set CUDA_HOME to CUDA 13, or use prebuilt'),
    ],
)
def test_without_a_compiler_that_fits_the_other_ways_are_named(machine, nvcc, message):
    done, log = machine(torch='2.11.0', card='9.0', nvcc=nvcc, KW_MM_TORCH='keep')
    assert done.returncode == 1 and message in done.stderr and 'onedl-mmcv' in done.stderr
    assert 'mmcv mmcv' not in log
    done, log = machine(torch='2.11.0', card='9.0', nvcc=nvcc, KW_MM_TORCH='keep', KW_MM_CUDA='no')
    assert done.returncode == 0 and 'for a CPU' in log


def test_operators_that_fail_on_the_card_fail_the_set_up(machine):
    done, _ = machine(torch='2.11', card='9.0', nvcc='13.0', broken='yes', KW_MM_TORCH='keep')
    assert done.returncode == 1 and "mmcv's operators do not run on the GPU" in done.stderr


def test_a_torch_that_somebody_else_installed_is_kept_the_own_one_is_not(machine):
    machine()
    (machine.venv / 'kw_mm_setup').write_text('an older one')
    assert 'pip install -q torch==' in machine()[1]
    (machine.venv / 'kw_mm_setup').write_text('an older one')
    for _ in range(2):
        done, log = machine(torch='2.12.0+cu130')
        assert 'keeping torch 2.12.0+cu130' in done.stdout and 'pip install -q torch==' not in log
        (machine.venv / 'kw_mm_setup').write_text('an older one')


def test_keeping_a_torch_that_is_not_there_is_refused(machine):
    done, _ = machine(KW_MM_TORCH='keep')
    assert done.returncode == 1 and 'needs an interpreter that has torch' in done.stderr
    assert 'must be keep or unset' in machine(KW_MM_TORCH='mine')[0].stderr


WHEEL_PIP = """#!/usr/bin/env bash
while [ $# -gt 0 ]; do
  case $1 in download|wheel) what=$1 ;; -d|-w) folder=$2 ;; esac
  shift
done
if [ "$what" = download ]; then
  echo downloaded >> "$LOG"
  mkdir source; echo "-std=c++17" > source/setup.py; tar -czf "$folder/mmcv-2.1.0.tar.gz" source
else
  echo "FORCE_CUDA=$FORCE_CUDA arch=$TORCH_CUDA_ARCH_LIST jobs=$MAX_JOBS" >> "$LOG"
  mkdir -p "$folder"; : > "$folder/mmcv-2.1.0-py3.whl"
fi
"""
VERSION = """#!/bin/sh
case "$*" in *"c++20"*) echo c++17 ;; *cp*) echo torch2.11.0-cp312 ;; esac
"""


@pytest.mark.parametrize('arch, expected', [('', 'FORCE_CUDA=0'), ('9.0', 'FORCE_CUDA=1 arch=9.0')])
def test_mmcv_is_compiled_once_for_each_kind_of_machine(arch, expected, tmp_path):
    programs, log = tmp_path / 'bin', tmp_path / 'log'
    programs.mkdir()
    for name, text in (('pip', WHEEL_PIP), ('python', VERSION), ('c++', '#!/bin/sh\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    log.write_text('')
    script = f'set -e; say() {{ echo "$*"; }}; source {ROOT}/tools/mmcv_wheel.sh'
    script += f'; mmcv_wheel mmcv==2.1.0 {tmp_path}/cache; echo "in $wheels"'
    for _ in range(2):
        done = subprocess.run(
            ['bash', '-c', script],
            cwd=tmp_path,
            env={**os.environ, 'PATH': f'{programs}:{os.environ["PATH"]}', 'LOG': str(log)}
            | dict(KW_MM_ARCH=arch, MAX_JOBS='16', TORCH_CUDA_ARCH_LIST=''),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    assert len(lines) == 2 and expected in lines[1] and 'jobs=16' in lines[1]
    assert ('cuda9.0' in done.stdout) == bool(arch)
