# Compile mmcv from source. Sourced by setup.sh, test_matrix.sh and gpu_check.sh, with the
# environment's python and pip first in PATH and a function `say`.
#   mmcv_wheel REQUIREMENT CACHE   compiles e.g. mmcv==2.1.0, once for each version of torch and
#                                  Python and for each kind of GPU, and sets $wheels to the folder of
#                                  the wheel
#   KW_MM_ARCH      in the environment: GPU architectures to compile CUDA operators for, as in
#                   TORCH_CUDA_ARCH_LIST (e.g. 9.0); empty for CPU operators only
#   KW_MM_SOURCES   a folder that has mmcv's source archive; without, it is downloaded
mmcv_wheel() {
  local name=${1%%==*} version=${1#*==} arch=${KW_MM_ARCH:-} tag
  tag=$(python -c 'import sys, torch; print(f"torch{torch.__version__}-cp{sys.version_info[0]}{sys.version_info[1]}")')
  tag+=${arch:+-cuda${arch//[^0-9.]/_}}
  wheels=$2/$tag
  if ! ls "$wheels/${name//-/_}-$version"-*.whl >/dev/null 2>&1; then
    if [ -n "$arch" ]; then
      say "compiling $name $version with CUDA operators for $arch, ${MAX_JOBS:-$(nproc)} jobs"
    else
      say "compiling $name $version (about 3 minutes on two cores)"
    fi
    _compile_mmcv "$1"
  fi
}

_compile_mmcv() {
  local build; build=$(mktemp -d); trap 'rm -rf "$build"; trap - RETURN' RETURN
  if [ -n "${KW_MM_SOURCES:-}" ]; then
    cp "$KW_MM_SOURCES"/*mmcv-"$version".tar.gz "$build"
  else
    pip download -q --no-deps --no-binary "$name" --no-build-isolation -d "$build" "$1"
  fi
  mkdir "$build/src"; tar -C "$build/src" --strip-components=1 -xzf "$build"/*mmcv-"$version".tar.gz
  # torch's headers need C++20 from 2.13 on; mmcv asks for C++17
  local std; std=$(python -c 'import torch; v = tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])); print("c++20" if v >= (2, 13) else "c++17")')
  sed -i "s/-std=c++17/-std=$std/g" "$build/src/setup.py"
  # No debug information and a precompiled header: 2.5 minutes instead of 40 on two cores.
  local flags="-DNDEBUG -fwrapv -g0 -O2 -w" header=$build/header.h include
  printf '#include <torch/types.h>\n#include <vector>\n' > "$header"
  include=$(python -W ignore -c 'import sysconfig; from torch.utils.cpp_extension import include_paths; print(*("-I" + path for path in [*include_paths(), sysconfig.get_path("include")]))')
  c++ $flags -fPIC $include -std=$std -DTORCH_API_INCLUDE_EXTENSION_H -DTORCH_EXTENSION_NAME=_ext -x c++-header "$header" -o "$header.gch" \
    || say "the precompiled header failed; compiling takes longer"
  ( cd "$build/src"
    if [ -n "$arch" ]; then export FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST=$arch MMCV_CUDA_ARGS=-w; else export FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=; fi
    CFLAGS="$flags -include $header" MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} \
      pip wheel -q --no-deps --no-build-isolation --no-cache-dir -w "$build/wheel" . )
  mkdir -p "$wheels"; mv "$build"/wheel/*mmcv-*.whl "$wheels/"
}
