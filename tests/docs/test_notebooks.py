"""The notebooks of the documentation run, and show what they show with their outputs kept."""

import os
import re

import nbclient
import nbformat
import pytest
from run_tools import ROOT

NOTEBOOKS = sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))
MOST_BYTES = 150_000


def outputs(notebook):
    """Kinds of all outputs, and their text."""
    found = [out for cell in notebook.cells for out in cell.get('outputs', ())]
    kinds = [sorted(out.get('data', [out.get('name', out.output_type)])) for out in found]
    return kinds, ' '.join(str(out.get('text') or out.get('data')) for out in found)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(path, tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('JUPYTER_PLATFORM_DIRS', '1')
    for name in ('IPYTHONDIR', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR'):
        monkeypatch.setenv(name, str(tmp_path / name))
    kept = nbformat.read(path, as_version=4)
    nbformat.validate(kept)
    (tmp_path / 'work').mkdir()
    new = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        new,
        timeout=600,
        kernel_name='python3',
        resources=dict(metadata=dict(path=str(tmp_path / 'work'))),
    ).execute()
    kinds, text = outputs(kept)
    assert kinds == outputs(new)[0] and ['image/png', 'text/plain'] in kinds
    assert path.stat().st_size < MOST_BYTES
    assert not re.search(r'Traceback|/tmp|/home|/root', text)
    assert (tmp_path / 'work' / 'found.png').is_file() and os.listdir(tmp_path / 'work/run')
