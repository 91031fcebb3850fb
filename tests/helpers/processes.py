"""Running a function in two processes that find each other."""

import multiprocessing
import socket

import torch
import torch.multiprocessing as mp

HEAVY = ['mmpretrain.models', 'torch.distributed.fsdp', 'mmengine.runner']


def run_two(worker, *args):
    """Call ``worker(rank, port, *args)`` in two processes; slow imports are done once for all."""
    multiprocessing.set_forkserver_preload(HEAVY)
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    mp.start_processes(worker, (port, *args), nprocs=2, start_method='forkserver')


def results(path):
    """What both processes have saved under ``path``."""
    return [torch.load(path / f'{rank}.pth') for rank in (0, 1)]
