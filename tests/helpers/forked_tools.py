"""Command lines of tools/ as forks of one process that has imported everything.

As a program it reads a JSON list of command lines, ``[["train", "config.py", ...], ...]``, runs
them one after the other and prints a JSON list of ``[exit status, output]``.
"""

import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def import_everything() -> None:
    """What the tools import, before forking."""
    from mmdet.utils import register_all_modules

    from kw_mm.training import launch  # noqa: F401

    register_all_modules(init_default_scope=False)


def start(tool: str, args: Sequence, log: Path, arm: Callable[[], None] | None = None) -> int:
    """Fork a leader of its own group that calls ``arm`` and runs tools/TOOL.py; its id."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1), os.dup2(file, 2)
    status = 1
    try:
        if arm:
            arm()
        sys.argv = [f'{tool}.py', *map(str, args)]
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='__main__')
        status = 0
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)


def wait(pid: int, seconds: float = 600) -> int:
    """Wait for a process, at most so long, then kill its group.

    Returns:
        int: Its exit status; negative for a signal.
    """
    end, status = time.monotonic() + seconds, None
    while status is None and time.monotonic() < end:
        done, code = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else None
        time.sleep(0.002)
    try:
        os.killpg(pid, signal.SIGKILL)  # its workers too
    except ProcessLookupError:
        pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if status is None else status


def main() -> None:
    results = []
    lines = json.load(sys.stdin)
    import_everything()
    with tempfile.TemporaryDirectory() as folder:
        for i, (tool, *args) in enumerate(lines):
            log = Path(folder) / f'{i}.log'
            status = wait(start(tool, args, log))
            results.append([status, log.read_text(errors='replace')])
    print(json.dumps(results))


if __name__ == '__main__':
    main()
