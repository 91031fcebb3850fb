"""Which backend computes, and the ones for a GPU rehearsed on a CPU, Triton in its interpreter."""

import os
import re
import subprocess
import sys

import pytest
import torch
from fake_gpu import needs_fake_gpu
from run_tools import ROOT
from torch._subclasses.fake_tensor import FakeTensorMode

from kw_mm.errors import UserError
from kw_mm.ops import backend_for, backends, use_backend
from kw_mm.ops.backends import BACKEND_NAMES, BACKEND_VARIABLE, CPU, CUDA, TORCH
from kw_mm.ops.backends.cuda import CudaBackend
from kw_mm.ops.mix import CellGradients, SharedCells
from kw_mm.ops.partition import Partition


@pytest.fixture
def forget(monkeypatch):
    """Function: have the environment read again, and what is installed looked up again."""
    cached = (backends._name_in_environment, backends.why_no_triton, backends._probed)
    monkeypatch.setattr(backends, '_by_name', {'torch': TORCH, 'cuda': CUDA})

    def clear():
        for function in cached:
            function.cache_clear()

    yield clear
    clear()


@pytest.mark.parametrize('name, backend', [('torch', TORCH), ('cuda', CUDA), ('auto', CPU)])
def test_a_backend_by_name(name, backend, forget, monkeypatch):
    x = torch.zeros(1, 3, 4, 4)
    with use_backend(name):
        assert backend_for(x) is backend
    assert backend_for(x) is CPU
    monkeypatch.setenv(BACKEND_VARIABLE, name)
    forget()
    assert backend_for(x) is backend
    with use_backend('cuda'):
        assert backend_for(x) is CUDA
    monkeypatch.delenv(BACKEND_VARIABLE)
    assert backend_for(x) is backend  # it is read once


def test_an_unknown_name_is_refused_with_those_there_are(forget, monkeypatch):
    monkeypatch.setenv(BACKEND_VARIABLE, 'cudnn')
    forget()
    with pytest.raises(UserError, match="KW_MM_BACKEND must be one of .*, got 'cudnn'") as failed:
        backend_for(torch.zeros(1))
    assert all(repr(name) in str(failed.value) for name in BACKEND_NAMES)
    with pytest.raises(UserError, match="got 'fast'"), use_backend('fast'):
        pass


def test_without_triton_torch_only_serves_the_gpu(forget, monkeypatch):
    monkeypatch.delattr(torch.library, 'custom_op', raising=False)  # as before torch 2.4
    forget()
    assert backends.fastest_on_gpu() == 'cuda'
    with pytest.raises(UserError, match='KW_MM_BACKEND=triton needs torch 2.4 .*=cuda works'):
        backends.backend_called('triton')


# files, what is selected, and how many tests that is at least
REHEARSALS = {
    'torch only': (
        'test_operators.py test_networks.py',
        'cuda and not triton and not bfloat16 and not compiled',
        40,
    ),
    'triton': (
        'test_operators.py test_networks.py',
        'triton-pointwise-3-nhwc-torch.float32 or triton-3x3_groups-1-nchw-torch.float32'
        ' or conv-3x3_stride-3-nhwc-torch.float32 or conv-all_different-1-nhwc-torch.float32'
        ' or conv-3x3-1-nhwc-torch.float16 or (triton and -5- and attention)'
        ' or (triton and whole) or say or (triton-conv-kept-nhwc) or ends',
        15,
    ),
}


@pytest.mark.parametrize('name', REHEARSALS)
def test_rehearsed_on_a_cpu(name):
    """Triton is interpreted where its environment says so before it is imported: not here."""
    files, selected, least = REHEARSALS[name]
    triton = name.startswith('triton')
    if triton and (reason := backends.why_no_triton()):
        pytest.skip(f'a Triton kernel {reason}')
    env = {**os.environ, 'KW_MM_TEST_DEVICE': 'cpu', 'PYTHONWARNINGS': 'ignore'}
    if triton:
        env['TRITON_INTERPRET'] = '1'
        if reason := _interpreter_fault(env):
            pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-m', 'gpu']
        + ['--confcutdir=tests/gpu', '-k', selected]
        + [f'tests/gpu/{file}' for file in files.split()],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    said = done.stdout[-3000:] + done.stderr[-1000:]
    assert done.returncode == 0, said
    passed = re.search(r'(\d+) passed', said)
    assert passed and int(passed[1]) >= least, said


def _interpreter_fault(env):
    command = [sys.executable, str(ROOT / 'tests/helpers/triton_interpreter.py')]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@needs_fake_gpu
@pytest.mark.skipif(bool(backends.why_no_triton()), reason='no Triton')
@pytest.mark.parametrize('name', ['triton', 'triton-conv'])
@pytest.mark.parametrize('tf32', [False, True])
def test_exact_float32_is_mixed_by_a_library(tf32, name, monkeypatch):
    """On a GPU: without the matrix unit, which Triton's kernels are made for."""
    monkeypatch.setattr(torch.backends.cuda.matmul, 'allow_tf32', tf32)
    backend, by_library = backends.backend_called(name), []
    monkeypatch.setattr(CudaBackend, 'kernels', lambda *args, **options: by_library.append(args))
    monkeypatch.setattr('kw_mm.ops.backends.triton.mix_shared', lambda *args: args[0])
    monkeypatch.setattr('kw_mm.ops.backends.triton.mix', lambda *args: torch.empty(2, 8, 1, 1, 8))
    with FakeTensorMode():
        cells = SharedCells(torch.empty(3, 8, 8, device='cuda'), CellGradients())
        backend.kernels(torch.empty(2, 1, 3, device='cuda'), cells, Partition((8, 8, 1, 1), (8, 8)))
    assert bool(by_library) == (name == 'triton' and not tf32)
