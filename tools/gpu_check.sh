#!/usr/bin/env bash
# Everything that must be looked at on a GPU, on a bare machine without network, in under ten minutes:
#   bash tools/gpu_check.sh RESULTS [PACKAGES]
# RESULTS gets logs, tables and all numbers; short tables are printed last. Needs torch (with triton),
# torchvision and pytest. PACKAGES is a folder of wheels and of mmcv's source archive, for what needs
# OpenMMLab. The most valuable part comes first, each has a time limit, and one that fails does not
# stop the next.
#   PARTS                     of: tests goals shapes compiled install detector training
#                             (default: with PACKAGES the last three, otherwise the first four: all
#                             of them do not fit into one call)
#   KW_MM_GPU_CHECK_SECONDS   for all parts together (default 570)
#   KW_MM_GPU_CHECK_DEVICE    cuda, or cpu for a rehearsal at tiny sizes
#   PYTHON                    the interpreter to use (default python3)
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -ge 1 ] || { echo "usage: $0 RESULTS [PACKAGES]" >&2; exit 2; }
mkdir -p "$1"; results=$(cd "$1" && pwd)
packages=${2:+$(cd "$2" && pwd)}
device=${KW_MM_GPU_CHECK_DEVICE:-cuda}
total=${KW_MM_GPU_CHECK_SECONDS:-570}
python=${PYTHON:-python3}
case $device in cuda|cpu) ;; *) echo "error: KW_MM_GPU_CHECK_DEVICE must be cuda or cpu, got $device" >&2; exit 2 ;; esac
if [ -n "$packages" ]; then wanted="install detector training"; else wanted="tests goals shapes compiled"; fi
wanted=${PARTS:-$wanted}
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
site=$scratch/site
cd "$root"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore
summary=$results/summary.txt; : > "$summary"

if [ "$device" = cuda ]; then
  processes=15 repetitions=9 detection="--batch 2 --size 800 1344 --channels-last" classification="--batch 128 --size 224 --channels-last"
  limits="tests=150 goals=230 shapes=110 compiled=80 install=240 detector=100 training=230"
  selected="" small="--model kw1x-r18 --batch 2 --size 800 1344 --channels-last"
else
  processes=0 repetitions=1 detection="--model kw1x-r18 --batch 2 --size 32 64" classification="--model kw1x-r18 --batch 3 --size 32"
  limits="tests=300 shapes=300 goals=300 compiled=100 install=300 detector=300 training=300"
  selected="cuda and not triton and float32 and (nhwc or at_size)" small=
  export KW_MM_TEST_DEVICE=cpu
fi
limit_of() { local pair; for pair in $limits; do [ "${pair%%=*}" = "$1" ] && echo "${pair#*=}"; done; }

# Run one part: NAME FUNCTION. A child shell runs it, so that its limit reaches all that it starts.
part() {
  case " $wanted " in *" $1 "*) ;; *) return ;; esac
  local left=$((total - SECONDS)) limit began=$SECONDS code
  limit=$(limit_of "$1"); [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 10 ]; then echo "$1: not begun, no time left" >> "$summary"; return; fi
  echo "== $1 (at most $limit s)"
  # interrupted like by Ctrl-C, upon which pytest still says what has failed
  LIMIT=$limit timeout -s INT -k 10 "$limit" bash -c "$2" > "$results/$1.log" 2>&1; code=$?
  case $code in
    0)       echo "$1: done in $((SECONDS - began)) s" ;;
    124|137) echo "$1: stopped after $limit s; what it had written is there" ;;
    *)       echo "$1: failed with exit code $code after $((SECONDS - began)) s (see $1.log)" ;;
  esac | tee -a "$summary"
}

tests() {
  local parallel=(); [ "$processes" = 0 ] || ! "$python" -c 'import xdist' 2>/dev/null || parallel=(-n "$processes")
  ! "$python" -c 'import pytest_timeout' 2>/dev/null || parallel+=(--timeout=60)
  "$python" -m pytest -q -m gpu --confcutdir=tests/gpu -p no:cacheprovider "${parallel[@]}" \
    ${selected:+-k "$selected"} tests/gpu/test_at_size.py tests/gpu/test_operators.py tests/gpu/test_networks.py
}
benchmark() { "$python" tools/benchmark.py --device "$device" --dtype bfloat16 --repetitions "$repetitions" "$@"; }
shapes() {
  # shellcheck disable=SC2086
  benchmark --shapes $detection --minutes 0.7 --report "$results/shapes_detection.md"
  # shellcheck disable=SC2086
  benchmark --shapes $classification --minutes 0.7 --report "$results/shapes_classification.md"
}
goals() {
  if [ "$device" = cpu ]; then
    # shellcheck disable=SC2086
    benchmark $detection --ways reference cuda --report "$results/goals.md" --json "$results/goals.json"
  else
    # a kernel that fails may take the GPU from its process: then the others by themselves
    benchmark --goals --channels-last --minutes 3.5 --ways reference cuda triton triton-conv --report "$results/goals.md" --json "$results/goals.json" \
      || benchmark --goals --channels-last --minutes "$(((LIMIT - SECONDS - 10) / 60)).5" --ways cuda --report "$results/goals_cuda.md"
  fi
}
compiled() {
  # shellcheck disable=SC2086
  benchmark ${small:-$detection} --mode forward --runs compiled --ways triton --report "$results/compiled.md"
}
install() {
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$packages"/*.whl || return
  ls "$packages"/mmcv-*.tar.gz >/dev/null 2>&1 || return 0
  say() { echo "[mmcv] $SECONDS s: $*"; }
  mkdir -p "$scratch/bin"  # no links: one to the python of a virtual environment leaves it
  printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v "$python")" > "$scratch/bin/python"
  printf '#!/bin/sh\nexec %s -m pip "$@"\n' "$(command -v "$python")" > "$scratch/bin/pip"; chmod +x "$scratch/bin"/*
  KW_MM_ARCH=$("$python" -c 'import torch; print(*torch.cuda.get_device_capability(), sep=".") if torch.cuda.is_available() else print()')
  export KW_MM_ARCH
  export PATH="$scratch/bin:$PATH" PYTHONPATH="$site:$PYTHONPATH" KW_MM_SOURCES="$packages"
  # shellcheck source=tools/mmcv_wheel.sh
  source tools/mmcv_wheel.sh
  local archive; archive=$(basename "$(ls "$packages"/mmcv-*.tar.gz | head -1)" .tar.gz)
  mmcv_wheel "mmcv==${archive#mmcv-}" "$scratch/cache"
  pip install -q --no-index --no-deps --target "$site" "$wheels"/mmcv-*.whl
}
detector() {
  export PYTHONPATH="$site:$PYTHONPATH"
  "$python" tools/check_cuda_ops.py
  if [ "$device" = cuda ]; then
    benchmark --detector --size 800 1344 --report "$results/detector.md"
  else
    "$python" tools/benchmark.py --device cpu --detector --size 64 96 --repetitions 1 --report "$results/detector.md"
  fi
  "$python" -m pytest -q -m gpu -p no:cacheprovider tests/gpu/test_openmmlab.py
}
# Static, KW and ODConv from scratch for equal minutes on synthetic shapes drawn here; held-out AP of each.
training() {
  export PYTHONPATH="$site:$PYTHONPATH"
  local images=20000 batch=32 workers=12 every=100 began=$SECONDS seconds name backbone hook
  if [ "$device" = cpu ]; then images=8 batch=2 workers=0 every=1; fi
  "$python" tools/make_shapes.py "$scratch/shapes" --train "$images" --val "$((images > 500 ? 500 : 4))" || return
  seconds=$(((LIMIT - (SECONDS - began) - 20) / 3 - 20))
  for name in static kw odconv; do
    case $name in
      static) backbone="type='StaticResNet'" hook= ;;
      kw)     backbone="type='KWResNet', budget=1, init='plain'" hook="dict(type='AttentionTemperatureHook', duration=300, by_epoch=False)" ;;
      odconv) backbone="type='DynamicResNet', conv=dict(type='ODConv2d', num_kernels=4)"
              hook="dict(type='AttentionTemperatureHook', duration=300, begin=30, end=1, by_epoch=False)" ;;
    esac
    cat > "$scratch/shapes_$name.py" <<CONFIG
_base_ = '$root/configs/demo/mask_rcnn_kw_shapes.py'
model = dict(backbone=dict(
    _delete_=True, $backbone, depth=18, stem_channels=32, base_channels=32, num_stages=3,
    strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(0, 1, 2)))
custom_hooks = [dict(type='EpochSeedHook'), $hook]
train_dataloader = dict(batch_size=$batch, num_workers=$workers, persistent_workers=$workers > 0)
train_cfg = dict(max_epochs=200, val_interval=1000)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=$every, save_best=None))
CONFIG
    echo "== $name, $seconds s"
    timeout -k 5 "$seconds" "$python" tools/train.py "$scratch/shapes_$name.py" --work-dir "$scratch/$name" \
      --cfg-options "data_root=$scratch/shapes/" 2>&1 | grep -E 'Epoch|rror' | tail -3
    "$python" tools/test.py "$scratch/shapes_$name.py" "$(cat "$scratch/$name/last_checkpoint")" --work-dir "$scratch/$name" \
      --cfg-options "data_root=$scratch/shapes/" 2>&1 | grep -oE 'coco/(bbox|segm)_mAP: [0-9.]+' | sed "s/^/$name /"
  done
}
export -f tests benchmark shapes goals compiled install detector training
export small root results packages device python processes repetitions detection classification selected site scratch limits

"$python" - <<'PYTHON' | tee "$results/machine.txt"
import platform, torch
card = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'
print(f'{card}, Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}')
PYTHON
for name in tests goals shapes compiled install detector training; do part "$name" "$name"; done

echo; echo "== short tables"
grep -hE '^(FAILED|ERROR)|passed|failed' "$results/tests.log" 2>/dev/null | tail -30
for page in shapes_detection shapes_classification; do
  [ -f "$results/$page.md" ] && { echo "-- $page: ms, forward and both gradients"; sed -n '/^## Short/,/^## [^S]/p' "$results/$page.md" | grep '^|'; }
done
for page in goals goals_cuda compiled; do
  [ -f "$results/$page.md" ] && { echo "-- $page"; sed -n '/^## Best/,/^## All/p' "$results/$page.md"; }
done
[ -f "$results/detector.log" ] && grep -E '^\||^RoIAlign|passed|failed' "$results/detector.log"
[ -f "$results/training.log" ] && grep -E 'mAP|^==' "$results/training.log"
echo "-- parts"; cat "$summary"
