"""Command lines of tools/ as forks of one process that has imported everything.

As a program it reads a JSON list of command lines, ``[["train", "config.py", ...], ...]``, runs
them one after the other and prints a JSON list of ``[exit status, output]``. With ``--serve`` it
reads a JSON object a line, ``{"line": ["train", ...], "cwd": ..., "out": FILE, "err": FILE}``, and
answers each with a line that holds the exit status.
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


def start(
    tool: str,
    args: Sequence,
    log: Path,
    arm: Callable[[], None] | None = None,
    errors: Path | None = None,
) -> int:
    """Fork a leader of its own group that calls ``arm`` and runs tools/TOOL.py; its id.

    What it writes to stderr is in ``log``, too, unless a file is named for ``errors``.
    """
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    for number, file in ((1, log), (2, errors or log)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    status = 1
    try:
        if arm:
            arm()
        sys.argv = [f'{tool}.py', *map(str, args)]
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='__main__')
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
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


def serve() -> None:
    """Run command lines as they come in."""
    import mmdet.apis  # noqa: F401
    import mmpretrain.apis  # noqa: F401

    from kw_mm.training import launch  # noqa: F401

    for text in sys.stdin:
        request = json.loads(text)
        tool, *args = request['line']
        pid = start(
            tool,
            args,
            request['out'],
            arm=lambda cwd=request['cwd']: os.chdir(cwd),
            errors=request['err'],
        )
        print(wait(pid, seconds=900), flush=True)


def main() -> None:
    if sys.argv[1:] == ['--serve']:
        serve()
        return
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
