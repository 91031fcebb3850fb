#!/usr/bin/env bash
# Set up .venv/ in the project root with everything that kw_mm, its tests and the linters need. With a
# GPU that torch sees, mmcv is compiled with its CUDA operators. It returns at once if nothing has
# changed.
#   PYTHON               the interpreter to use, 3.10 to 3.12 (default python3)
#   KW_MM_TORCH          keep: use the torch that PYTHON has. A torch that is in .venv/ already and was
#                        not installed by this script is kept in any case
#   KW_MM_CUDA           no: compile mmcv for CPUs only, also where there is a GPU
#   TORCH_CUDA_ARCH_LIST the GPU architectures to compile for (default: that of the card that is there)
#   KW_MM_CACHE          where the compiled mmcv wheel is kept (default ~/.cache/kw_mm)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
cache=${KW_MM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kw_mm}
say() { echo "[setup] $SECONDS s: $*"; }
die() { echo "[setup] error: $*" >&2; exit 1; }
pin() { grep -E "^$1[=<>]" "$root/requirements.txt" || die "requirements.txt does not pin $1"; }

case ${KW_MM_TORCH:-} in ''|keep) ;; *) die "KW_MM_TORCH must be keep or unset, got $KW_MM_TORCH" ;; esac
case ${KW_MM_CUDA:-} in ''|no) ;; *) die "KW_MM_CUDA must be no or unset, got $KW_MM_CUDA" ;; esac
inputs=("$root/requirements.txt" "$root/tools/setup.sh" "$root/tools/mmcv_wheel.sh" "$root/pyproject.toml")
stamp=$(cat "${inputs[@]}" | cksum)
if [ "$(cat "$venv/kw_mm_setup" 2>/dev/null)" = "$stamp $root" ]; then exit 0; fi

python=${PYTHON:-python3}
command -v "$python" >/dev/null || die "found no $python; install Python 3.10 to 3.12 or set PYTHON"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
  || die "Python must be 3.10 to 3.12, got $("$python" --version); set PYTHON to another interpreter"
command -v c++ >/dev/null || die "found no C++ compiler; on Debian or Ubuntu: apt-get install g++ python3-dev"
if [ "${KW_MM_TORCH:-}" = keep ] && ! "$python" -c 'import torch' 2>/dev/null; then
  die "KW_MM_TORCH=keep needs an interpreter that has torch, got $(command -v "$python"); set PYTHON to one, or leave KW_MM_TORCH unset"
fi
if [ ! -x "$venv/bin/python" ]; then
  "$python" -m venv ${KW_MM_TORCH:+--system-site-packages} "$venv"
fi
export PATH="$venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1

torch_here() { python -c 'import torch; print(torch.__version__)' 2>/dev/null || true; }
note=$(cat "$venv/kw_mm_torch" 2>/dev/null || true)   # the version that this script installed, or "kept"
# set up before there was this note: with the torch of requirements.txt
[ -n "$note" ] || [ ! -f "$venv/kw_mm_setup" ] || [ "${KW_MM_TORCH:-}" = keep ] || note=$(torch_here)
kept=$(torch_here); [ "$kept" != "$note" ] || kept=
if [ "${KW_MM_TORCH:-}" = keep ] && [ -z "$(torch_here)" ]; then
  die "$venv does not see the torch of $(command -v "$python"), which is itself a virtual environment's; copy that environment to $venv, or set PYTHON to the interpreter that has torch"
fi
requirements=$venv/kw_mm_requirements.txt
if [ -n "$kept" ]; then
  say "keeping torch $kept"
  echo kept > "$venv/kw_mm_torch"
  printf 'torch==%s\n' "$kept" > "$venv/kw_mm_constraints.txt"
  # What is built against another torch, or needs one that is newer, is not asked for in a version.
  sed -E 's/^(torchvision|numpy)[=<>].*/\1/; /^torch[=<>]/d' "$root/requirements.txt" > "$requirements"
  pip install -q -c "$venv/kw_mm_constraints.txt" torchvision numpy "$(pin setuptools)" wheel ninja
else
  say "installing torch (several GB from PyPI)"
  : > "$venv/kw_mm_constraints.txt"; cp "$root/requirements.txt" "$requirements"
  pip install -q "$(pin torch)" "$(pin torchvision)" "$(pin numpy)" "$(pin setuptools)" wheel ninja
  torch_here > "$venv/kw_mm_torch"
fi

# The architecture of the GPU that torch sees, e.g. 9.0; nothing where it sees none.
card=
[ "${KW_MM_CUDA:-}" = no ] \
  || card=$(python -c 'import torch; print(*torch.cuda.get_device_capability(), sep=".") if torch.version.cuda and torch.cuda.is_available() else print()')
if [ -n "$card" ]; then
  cuda=$(python -c 'import torch; print(torch.version.cuda)')
  nvcc=$(command -v "${CUDA_HOME:+$CUDA_HOME/bin/}nvcc" || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2>/dev/null || true)
  others="prebuilt wheels instead: onedl-mmcv for torch 2.9 to 2.12, or mmcv 2.1 for torch 2.1 (docs/getting_started.md); KW_MM_CUDA=no compiles for CPUs only"
  [ -n "$nvcc" ] || die "torch sees a GPU, but there is no CUDA compiler (nvcc) to compile mmcv with; install CUDA $cuda's, or use $others"
  version=$("$nvcc" --version | grep -oE 'release [0-9]+\.[0-9]+' | grep -oE '[0-9.]+')
  [ "${version%%.*}" = "${cuda%%.*}" ] \
    || die "the CUDA compiler $nvcc is of $version, torch of CUDA $cuda; set CUDA_HOME to CUDA ${cuda%%.*}, or use $others"
  CUDA_HOME=$(cd "$(dirname "$nvcc")/.." && pwd); export CUDA_HOME
  export KW_MM_ARCH=${TORCH_CUDA_ARCH_LIST:-$card}
  say "found a GPU of architecture $card and CUDA $version; compiling for $KW_MM_ARCH"
fi

# shellcheck source=tools/mmcv_wheel.sh
source "$root/tools/mmcv_wheel.sh"
mmcv_wheel "$(pin mmcv)" "$cache"

say "installing OpenMMLab"
pip install -q --find-links "$wheels" -c "$venv/kw_mm_constraints.txt" -r "$requirements"
pip install -q --no-deps --no-build-isolation -e "$root"
python -W ignore -c 'import mmcv.ops, mmdet.apis, mmpretrain.models, kw_mm' \
  || die "the installed packages cannot be imported (see above)"
if [ -n "$card" ]; then
  python -W ignore "$root/tools/check_cuda_ops.py" || die "mmcv's operators do not run on the GPU (see above)"
fi
echo "$stamp $root" > "$venv/kw_mm_setup"
say "done: $venv"
