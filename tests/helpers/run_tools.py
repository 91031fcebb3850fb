"""Running the command lines as a user does."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / 'shared'


def run_tool(name, *args, cwd=None, ok=True):
    """Run tools/NAME.py and return its finished process; output is text."""
    env = {**os.environ, 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / f'{name}.py'), *map(str, args)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if ok:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def scalars(work_dir):
    """Logged scalars of all runs in a work dir, in the order of the runs."""
    lines = [
        json.loads(line)
        for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    return [line for line in lines if 'loss' in line], [
        line for line in lines if 'coco/bbox_mAP' in line
    ]
