#!/usr/bin/env bash
# Set up .venv/ in the project root with everything kw_mm needs on a CPU machine. A second run takes seconds.
#   PYTHON        interpreter to build it with (3.10 to 3.12; default python3)
#   KW_MM_CACHE   where the compiled mmcv wheel is kept (default ~/.cache/kw_mm)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
cache=${KW_MM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kw_mm}
say() { echo "[setup] $SECONDS s: $*"; }
die() { echo "[setup] error: $*" >&2; exit 1; }
pin() { grep -E "^$1[=<>]" "$root/requirements.txt" || die "requirements.txt does not pin $1"; }

stamp=$(cat "$root/requirements.txt" "$root/tools/setup.sh" "$root/pyproject.toml" | cksum)
if [ "$(cat "$venv/kw_mm_setup" 2>/dev/null)" = "$stamp $root" ]; then exit 0; fi

python=${PYTHON:-python3}
command -v "$python" >/dev/null || die "$python not found; install Python 3.10 to 3.12 or set PYTHON"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
  || die "$("$python" --version) will not do: Python 3.10 to 3.12 is needed (set PYTHON)"
command -v c++ >/dev/null || die "no C++ compiler: install g++ (Debian, Ubuntu: apt-get install g++ python3-dev)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
export PATH="$venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1

say "installing torch (several GB from PyPI; a wheel from your own index works too)"
pip install -q "$(pin torch)" "$(pin torchvision)" "$(pin numpy)" "$(pin setuptools)" wheel ninja

# One wheel for each torch and Python: mmcv's C++ ops are compiled against both.
tag=$(python -c 'import sys, torch; print(f"torch{torch.__version__}-cp{sys.version_info[0]}{sys.version_info[1]}")')
mmcv=$(pin mmcv); version=${mmcv#*==}; wheels=$cache/$tag
compile_mmcv() {
  local build; build=$(mktemp -d); trap 'rm -rf "$build"' RETURN
  pip download -q --no-deps --no-binary mmcv --no-build-isolation -d "$build" "$mmcv"
  mkdir "$build/src"; tar -C "$build/src" --strip-components=1 -xzf "$build/mmcv-$version.tar.gz"
  # torch's headers ask for C++20 from 2.13 on, mmcv for C++17
  local std; std=$(python -c 'import torch; v = tuple(map(int, torch.__version__.split(".")[:2])); print("c++20" if v >= (2, 13) else "c++17")')
  sed -i "s/-std=c++17/-std=$std/g" "$build/src/setup.py"
  # Without debug information and with a precompiled header: 2.5 minutes instead of 40 on two cores.
  local flags="-DNDEBUG -fwrapv -g0 -O2 -w" header=$build/header.h include
  printf '#include <torch/types.h>\n#include <vector>\n' > "$header"
  include=$(python -W ignore -c 'import sysconfig; from torch.utils.cpp_extension import include_paths; print(*("-I" + path for path in [*include_paths(), sysconfig.get_path("include")]))')
  c++ $flags -fPIC $include -std=$std -DTORCH_API_INCLUDE_EXTENSION_H -DTORCH_EXTENSION_NAME=_ext -x c++-header "$header" -o "$header.gch" \
    || say "no precompiled header; compiling takes longer"
  ( cd "$build/src"
    CFLAGS="$flags -include $header" MMCV_WITH_OPS=1 FORCE_CUDA=0 MAX_JOBS=$(nproc) \
      pip wheel -q --no-deps --no-build-isolation --no-cache-dir -w "$build/wheel" . )
  mkdir -p "$wheels"; mv "$build"/wheel/mmcv-*.whl "$wheels/"
}
if ! ls "$wheels/mmcv-$version"-*.whl >/dev/null 2>&1; then
  say "compiling mmcv $version (about 3 minutes on two cores)"
  compile_mmcv
fi

say "installing OpenMMLab"
pip install -q --find-links "$wheels" -r "$root/requirements.txt"
pip install -q --no-deps --no-build-isolation -e "$root"
python -W ignore -c 'import mmcv.ops, mmdet.apis, mmpretrain.models, kw_mm' || die "the installed packages do not import (see above)"
echo "$stamp $root" > "$venv/kw_mm_setup"
say "done: $venv"
