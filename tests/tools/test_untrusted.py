"""No tool executes what a stranger's checkpoint holds, whichever way the file comes in."""

import http.server
import json
import os
import subprocess
import sys
import threading
from functools import partial

import pytest
import torch
from run_tools import ROOT

ROADS = {
    'test': ['test', '{config}', '{bomb}', '{options}'],
    'load_from': ['train', '{config}', '{options}', 'load_from={bomb}'],
    'load_from a URL': ['train', '{config}', '{options}', 'load_from={url}/bomb.pth'],
    'resume from elsewhere': ['train', '{config}', '--resume', '{bomb}', '{options}'],
    'init_cfg of a KW backbone': [
        'train',
        '{config}',
        '{options}',
        'model.backbone.init_cfg.type=Pretrained',
        'model.backbone.init_cfg.checkpoint={bomb}',
    ],
    'init_cfg of a stock module': [
        'train',
        '{config}',
        '{options}',
        'model.neck.init_cfg.type=Pretrained',
        'model.neck.init_cfg.checkpoint={bomb}',
    ],
    'convert_checkpoint': ['convert_checkpoint', '{bomb}', '{folder}/converted.pth'],
}


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope='module')
def roads(small_config, shapes, tmp_path_factory):
    """Every road walked: {road: (exit status, output)}, and the folder the bomb would make."""
    folder = tmp_path_factory.mktemp('untrusted')
    bomb, exploded = folder / 'bomb.pth', folder / 'exploded'
    torch.save(
        dict(state_dict={'backbone.conv1.weight': torch.zeros(1)}, meta=Bomb(exploded)), bomb
    )
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *args: None
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ['--work-dir', str(folder / 'run'), '--cfg-options', f'data_root={shapes}']
    words = dict(
        config=small_config, bomb=bomb, folder=folder, url=f'http://127.0.0.1:{server.server_port}'
    )
    lines = [
        sum((options if word == '{options}' else [word.format(**words)] for word in road), [])
        for road in ROADS.values()
    ]
    env = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'PYTHONWARNINGS': 'ignore',
        'TORCH_HOME': str(folder / 'hub'),
        'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD': '1',
    }  # what people set to make old checkpoints load
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tests/helpers/forked_tools.py')],
        input=json.dumps(lines),
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(ROADS, json.loads(done.stdout.splitlines()[-1]))), bomb, exploded


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
@pytest.mark.parametrize('road', ROADS)
def test_a_file_is_refused_and_not_executed(roads, road):
    results, _, exploded = roads
    status, output = results[road]
    errors = [line for line in output.splitlines() if line.startswith('error: ')]
    assert (
        status == 2
        and len(errors) == 1
        and 'does not execute' in errors[0]
        and 'mkdir' in errors[0]
    ), output[-2000:]
    assert 'Traceback' not in output and not exploded.exists()


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_the_file_is_dangerous(roads):
    """The last to run: read without care, it does what it would."""
    _, bomb, exploded = roads
    assert not exploded.exists()
    torch.load(bomb, weights_only=False)
    assert exploded.is_dir()
