"""Outputs that cannot be written end every tool at once: one line, and nothing is computed."""

import pytest
from in_process import run_here
from run_tools import ROOT

CONFIG = ROOT / 'configs/demo/mask_rcnn_kw_shapes.py'
CLASSIFIER = 'imagenet/kw_r18_100e_in1k'
# tool, its arguments with {} for an output below a file, the option named
TOOLS = [
    ('train', [CONFIG, '--work-dir', '{}'], '--work-dir'),
    ('test', [CONFIG, 'x.pth', '--work-dir', '{}'], '--work-dir'),
    ('test', [CONFIG, 'x.pth', '--work-dir', 'run', '--show-dir', '{}'], '--show-dir'),
    ('test', [CONFIG, 'x.pth', '--work-dir', 'run', '--out', '{}/x.pkl'], '--out'),
    ('predict', [CONFIG, 'x.pth', 'x.png', '--out-dir', '{}'], '--out-dir'),
    ('visualize_attention', [CONFIG, 'x.pth', '--out', '{}'], '--out'),
    ('export', [CONFIG, 'x.pth', '--to', 'torchscript', '--output', '{}/x.pt'], '--output'),
    ('convert_checkpoint', ['x.pth', '{}/y.pth'], 'target'),
    ('plot_run', ['run', '--out', '{}/x.png'], '--out'),
    ('make_gallery', ['pictures', '{}/x.png'], 'file'),
    ('make_shapes', ['{}'], 'folder'),
    ('new_config', ['nowhere', '--output', '{}/x.py'], '--output'),
    ('reproduce', ['--output', '{}/x.sh'], '--output'),
    ('benchmark', ['--model', 'kw1x-r18', '--json', '{}/x.json'], '--json'),
]


@pytest.mark.parametrize('tool, args, option', TOOLS, ids=lambda value: str(value)[:30])
def test_a_folder_that_is_a_file(tool, args, option, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    (tmp_path / 'x.png').write_text('')
    place = tmp_path / 'file/x'
    filled = [str(arg).format(place) for arg in args]
    done = run_here(tool, *filled, capsys=capsys, monkeypatch=monkeypatch)
    assert done.code == 2 and 'Traceback' not in done.stderr, done
    assert done.error.startswith(f'error: {option}') and str(place) in done.error, done.error
    if tool not in ('export', 'benchmark'):  # which make no folders
        assert 'cannot be made (Not a directory); name another' in done.error
    left = {path.name for path in tmp_path.iterdir()} - {'run'}
    assert left == {'file', 'x.png'}
