#!/usr/bin/env bash
# Set up, then run everything on a small scale: draw a synthetic instance segmentation set, train a
# KernelWarehouse Mask R-CNN on it with the attention temperature annealed from 1 to 0, evaluate boxes
# and masks on held-out images, and draw the predictions. About 10 minutes on two cores after set-up.
# It runs on a GPU where torch sees one.
# Arguments are passed to tools/train.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/tools/setup.sh"
cd "$root"
python() { .venv/bin/python -W ignore "$@"; }
python -c 'import torch; print("== on", torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU: torch sees no GPU")'
config=configs/demo/mask_rcnn_kw_shapes.py
run=work_dirs/quickstart

echo "== 1/4 drawing the images"
python tools/make_shapes.py data/shapes
echo "== 2/4 training, with an evaluation every second epoch"
python tools/train.py "$config" --work-dir "$run" "$@"
checkpoint=$(cat "$run/last_checkpoint")
echo "== 3/4 evaluating $checkpoint on the held-out images and drawing its predictions"
python tools/test.py "$config" "$checkpoint" --work-dir "$run" --show-dir "$run/predictions"
echo "== 4/4 done"
python tools/make_gallery.py "$run/predictions" "$run/predictions.png"
echo "Ground truth (left) and predictions (right) of every held-out image are in $run/predictions/,"
echo "nine of them are on one sheet in $run/predictions.png; logs and checkpoints are in $run/."
