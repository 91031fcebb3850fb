"""Running the command lines as a user does."""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / 'shared'


def run_tool(name, *args, cwd=None, ok=True):
    """Run tools/NAME.py in a process of its own; it has exit code and output, which is text.

    Where there is fork, that is one of a process that has imported everything, which takes longer
    than many runs.
    """
    line = [name, *map(str, args)]
    done = _in_fork(line, cwd) if hasattr(os, 'fork') else _in_new_process(line, cwd)
    if ok:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@cache
def _server():
    return subprocess.Popen(
        [sys.executable, str(ROOT / 'tests/helpers/forked_tools.py'), '--serve'],
        env={**os.environ, 'PYTHONWARNINGS': 'ignore'},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _in_fork(line, cwd):
    server = _server()
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, 'out'), Path(folder, 'err')
        request = dict(line=line, cwd=str(cwd or os.getcwd()), out=str(out), err=str(err))
        print(json.dumps(request), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        texts = [path.read_text(errors='replace') for path in (out, err)]
    return subprocess.CompletedProcess(line, status, *texts)


def _in_new_process(line, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / 'tools' / f'{line[0]}.py'), *line[1:]],
        cwd=cwd,
        env={**os.environ, 'PYTHONWARNINGS': 'ignore'},
        capture_output=True,
        text=True,
        timeout=900,
    )


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
