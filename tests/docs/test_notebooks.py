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
    """Kinds of what each cell shows, and all of their text."""
    shown = [cell.get('outputs', ()) for cell in notebook.cells]
    kinds = [
        {kind for out in cell for kind in out.get('data', [out.output_type])} for cell in shown
    ]
    return kinds, ' '.join(
        str(out.get('text') or out.get('data')) for cell in shown for out in cell
    )


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
    for number, (now, before) in enumerate(zip(outputs(new)[0], kinds)):
        assert now == before, new.cells[number].outputs
    assert any({'image/png', 'text/plain'} <= shown for shown in kinds)
    assert path.stat().st_size < MOST_BYTES
    assert not re.search(r'Traceback|/tmp|/home|/root', text)
    assert (tmp_path / 'work' / 'found.png').is_file() and os.listdir(tmp_path / 'work/run')
