#!/usr/bin/env bash
# Evaluate on N GPUs of this machine (or N CPU processes): tools/dist_test.sh CONFIG CHECKPOINT N [arguments of test.py]
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: $0 CONFIG CHECKPOINT N [arguments of tools/test.py]" >&2; exit 2; }
config=$1; checkpoint=$2; processes=$3; shift 3
exec "${PYTHON:-python}" -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" --nproc_per_node="$processes" \
  "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
