"""What a run shows on the screen; its log file holds everything."""

import io
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TypeGuard

# Beginnings of mmengine's messages that are looked up afterwards, if at all.
FOR_THE_FILE = (
    f'\n{"-" * 60}\nSystem environment:',
    'Config:\n',
    'Hooks will be executed in the following order:',
    'paramwise_options -- ',
    'Distributed training is not used, all SyncBatchNorm (SyncBN) layers in the model will be',
    'Exp name: ',
)
# Warnings of libraries about their own code: a user of kw_mm can do nothing about them.
NOTHING_TO_DO = (
    '"FileClient" will be deprecated in future. Please use io functions in',
    '"HardDiskBackend" is the alias of "LocalBackend" and the former will be deprecated',
    'The prefix is not set in metric class DumpResults.',
)
# What pycocotools prints whenever it reads a file.
PYCOCOTOOLS = re.compile(r'loading annotations into memory|Done \(t=|creating index|index created!')


class ScreenFilter(logging.Filter):
    """Keeps off the screen what is for the log file, and counts library warnings among it.

    Attributes:
        hidden (Counter): How many warnings of each text were kept off.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.levelno < logging.WARNING:
            return not message.startswith(FOR_THE_FILE)
        known = next((text for text in NOTHING_TO_DO if message.startswith(text)), None)
        if known:
            self.hidden[known] += 1
        return known is None


def quiet_screen(logger: logging.Logger) -> ScreenFilter:
    """Have a :class:`ScreenFilter` in the handlers of a logger that write to the screen.

    Args:
        logger: mmengine's, with its handlers.

    Returns:
        ScreenFilter: The one of all its screens; a logger gets one only once.
    """
    screens = [handler for handler in logger.handlers if is_screen(handler)]
    present = [one for handler in screens for one in handler.filters]
    chosen = next((one for one in present if isinstance(one, ScreenFilter)), ScreenFilter())
    for handler in screens:
        handler.addFilter(chosen)  # adds nothing that is there
    return chosen


def is_screen(handler: logging.Handler) -> TypeGuard[logging.StreamHandler]:
    """Whether a handler writes to the process's output, and not to a file."""
    return isinstance(handler, logging.StreamHandler) and not isinstance(
        handler, logging.FileHandler
    )


@contextmanager
def without_pycocotools() -> Iterator[None]:
    """Keep pycocotools' lines about reading off the screen; others are printed at the end."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines(keepends=True):
            if not PYCOCOTOOLS.match(line):
                sys.stdout.write(line)
