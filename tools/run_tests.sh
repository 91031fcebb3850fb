#!/usr/bin/env bash
# Set up, then run the test suite: bash tools/run_tests.sh [pytest arguments, e.g. -m slow, -k golden]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/tools/setup.sh"
cd "$root"
# Processes with one thread each take two thirds of the time of one process with all threads.
cores=$(nproc 2>/dev/null || echo 2)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# In the order of tests/conftest.py, a file at a time.
exec .venv/bin/python -m pytest -n $((cores < 4 ? cores : 4)) --dist loadfile --no-loadscope-reorder "$@"
