#!/usr/bin/env bash
# Run the test suite with other versions of torch and OpenMMLab, each in an environment of its own.
#   bash tools/test_matrix.sh stock|onedl|torch2.1|all [pytest arguments, e.g. tests/warehouse]
#   bash tools/test_matrix.sh torch2.6-alone [pytest arguments]
# stock      the pins of requirements.txt
# onedl      the maintained forks of OpenMMLab, which have the same import names
# torch2.1   the oldest supported torch, the last with prebuilt mmcv wheels for GPUs, and numpy 1
# torchX.Y-alone   that torch, 2.4 or newer, without OpenMMLab: what is made for GPUs, rehearsed on a CPU
#   PYTHON         the interpreter to use (3.10 or 3.11 for torch2.1; default python3)
#   KW_MM_MATRIX   where the environments are kept (default ~/.cache/kw_mm/matrix); several GB each
#   KW_MM_CACHE    where the compiled mmcv wheels are kept (default ~/.cache/kw_mm)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${KW_MM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kw_mm}
[ $# -ge 1 ] || { echo "usage: $0 stock|onedl|torch2.1|torchX.Y-alone|all [pytest arguments]" >&2; exit 2; }
say() { echo "[matrix] $SECONDS s: $*"; }
die() { echo "[matrix] error: $*" >&2; exit 1; }
pin() { grep -E "^$1[=<>]" "$root/requirements.txt" || die "requirements.txt does not pin $1"; }
pins() { local name; for name; do pin "$name"; done; }
# shellcheck source=tools/mmcv_wheel.sh
source "$root/tools/mmcv_wheel.sh"

rehearsal='tests/gpu/test_operators.py tests/gpu/test_networks.py tests/ops/test_compiled_kernels.py::test_for_an_h100'
stock_openmmlab=$(pins mmcv mmengine mmdet mmpretrain)
tests="$(pins pytest pytest-xdist hypothesis faster-coco-eval tensorboard ipykernel nbclient nbformat)"

row() {       # the packages of a row: what mmcv is compiled against, then OpenMMLab, starting with mmcv
  case $1 in
    stock)    base=$(pins torch torchvision numpy); openmmlab=$stock_openmmlab; further=$(pins onnx onnxruntime onnxscript) ;;
    onedl)    base=$(pins torch torchvision numpy); further=
              openmmlab='onedl-mmcv==2.3.6 onedl-mmengine==0.10.12 onedl-mmdetection==3.5.1 onedl-mmpretrain==1.3.6' ;;
    torch2.1) base='torch==2.1.2 torchvision==0.16.2 numpy<2'; openmmlab=$stock_openmmlab; further= ;;
    torch2.[123]-alone) die "$1: Triton's kernels need torch 2.4" ;;
    torch2.*-alone) further= openmmlab= version=${1#torch}; version=${version%-alone}
              base="torch==$version.* torchvision numpy<2.4"   # what their Triton's interpreters go with
              case $version in 2.[45]) base="torch==$version.* torchvision numpy<2" ;; esac ;;
    *)        die "the row must be stock, onedl, torch2.1, torchX.Y-alone or all, got $1" ;;
  esac
}

# The words of the lists are meant to be separate arguments.
# shellcheck disable=SC2086
install() {
  pip install -q $base "$(pin setuptools)" wheel ninja
  [ -n "$openmmlab" ] || { pip install -q "$(pin pytest)"; return; }
  mmcv_wheel "${openmmlab%%[[:space:]]*}" "$cache"
  pip install -q --find-links "$wheels" $base "$(pin setuptools)" $openmmlab $tests $further
  pip install -q --no-deps --no-build-isolation -e "$root"
}

run_row() {
  local name=$1; shift
  row "$name"
  local venv=${KW_MM_MATRIX:-$cache/matrix}/$name
  [ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
  ( export PATH="$venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
    say "$name: installing"; install
    cd "$root"
    # the tests that need torch only
    [ -n "$openmmlab" ] || { versions=$(python -c 'import torch, triton; print("torch", torch.__version__, "triton", triton.__version__)')
      say "$name: $versions"
      export KW_MM_TEST_DEVICE=cpu TRITON_INTERPRET=1 PYTHONPATH="$root"
      python -m pytest -m "gpu or slow" --confcutdir=tests/gpu $rehearsal "$@" && say "$name: passed"; return; }
    say "$name: $(python -W ignore -c 'import mmcv, mmdet, mmengine, mmpretrain, numpy, torch; print(*(f"{m.__name__} {m.__version__}" for m in (torch, numpy, mmengine, mmcv, mmdet, mmpretrain)))')"
    python -m pytest "$@" && say "$name: passed" )
}

if [ "$1" = all ]; then
  shift; failed=
  for name in stock onedl torch2.1; do bash "$0" "$name" "$@" || failed="$failed $name"; done
  [ -z "$failed" ] || die "failed:$failed"
else
  run_row "$@"
fi
