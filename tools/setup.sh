#!/usr/bin/env bash
# Set up .venv/ in the project root with everything that kw_mm, its tests and the linters need on a
# CPU machine. It returns at once if nothing has changed.
#   PYTHON        the interpreter to use, 3.10 to 3.12 (default python3)
#   KW_MM_CACHE   where the compiled mmcv wheel is kept (default ~/.cache/kw_mm)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
cache=${KW_MM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kw_mm}
say() { echo "[setup] $SECONDS s: $*"; }
die() { echo "[setup] error: $*" >&2; exit 1; }
pin() { grep -E "^$1[=<>]" "$root/requirements.txt" || die "requirements.txt does not pin $1"; }

inputs=("$root/requirements.txt" "$root/tools/setup.sh" "$root/tools/mmcv_wheel.sh" "$root/pyproject.toml")
stamp=$(cat "${inputs[@]}" | cksum)
if [ "$(cat "$venv/kw_mm_setup" 2>/dev/null)" = "$stamp $root" ]; then exit 0; fi

python=${PYTHON:-python3}
command -v "$python" >/dev/null || die "found no $python; install Python 3.10 to 3.12 or set PYTHON"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
  || die "Python must be 3.10 to 3.12, got $("$python" --version); set PYTHON to another interpreter"
command -v c++ >/dev/null || die "found no C++ compiler; on Debian or Ubuntu: apt-get install g++ python3-dev"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
export PATH="$venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1

say "installing torch (several GB from PyPI)"
pip install -q "$(pin torch)" "$(pin torchvision)" "$(pin numpy)" "$(pin setuptools)" wheel ninja

# shellcheck source=tools/mmcv_wheel.sh
source "$root/tools/mmcv_wheel.sh"
mmcv_wheel "$(pin mmcv)" "$cache"

say "installing OpenMMLab"
pip install -q --find-links "$wheels" -r "$root/requirements.txt"
pip install -q --no-deps --no-build-isolation -e "$root"
python -W ignore -c 'import mmcv.ops, mmdet.apis, mmpretrain.models, kw_mm' \
  || die "the installed packages cannot be imported (see above)"
echo "$stamp $root" > "$venv/kw_mm_setup"
say "done: $venv"
