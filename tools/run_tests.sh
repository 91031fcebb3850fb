#!/usr/bin/env bash
# Set up and run the test suite: bash tools/run_tests.sh [pytest arguments, e.g. -m slow, -k golden]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/tools/setup.sh"
cd "$root"
exec .venv/bin/python -m pytest "$@"
