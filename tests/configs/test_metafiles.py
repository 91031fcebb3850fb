"""metafile.yml and model-index.yml, as OpenMMLab's tools read them.

They are held against docs/results.md and the model zoo.
"""

import io
from contextlib import redirect_stdout

import pytest
import yaml
from modelindex.load_model_index import load
from results_table import ROWS, published_name
from run_tools import ROOT

from kw_mm.checkpoints import published_models

FILES = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
MODELS = [model for file in FILES for model in yaml.safe_load((ROOT / file).read_text())['Models']]
NO_CONFIG = {
    'resnet18-odconv1x-imagenet',
    'resnet101-odconv1x-imagenet',
    'resnet101-odconv2x-imagenet',
    'mobilenetv2-odconv1x-imagenet',
    'mobilenetv2-050-odconv1x-imagenet',
    'mobilenetv2-050-odconv4x-imagenet',
}


def test_openmmlabs_reader_accepts_them(monkeypatch):
    monkeypatch.chdir(ROOT)
    index = load('model-index.yml')
    with redirect_stdout(io.StringIO()) as said:
        index.check(silent=False)
    assert said.getvalue().strip() == 'All good!'
    index.build_models_with_collections()
    data = {model.name: model.full_model.metadata.data['Training Data'] for model in index.models}
    assert len(data) == len(MODELS)
    assert data['mask_rcnn_kw_r50_1x_coco'] == 'COCO' and data['kw_r50_300e_in1k'] == 'ImageNet-1k'


def test_every_metafile_is_imported():
    assert sorted(FILES) == sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('metafile.yml')
    )


def test_names_and_configs():
    names = [model['Name'] for model in MODELS]
    assert len(set(names)) == len(names)
    for file in FILES:
        content = yaml.safe_load((ROOT / file).read_text())
        collections = {collection['Name'] for collection in content['Collections']}
        assert {model['In Collection'] for model in content['Models']} == collections
        assert all(
            (ROOT / collection['Code']['Path']).is_file() for collection in content['Collections']
        )
        for model in content['Models']:
            path = ROOT / model['Config']
            assert (
                path.is_file()
                and path.stem == model['Name']
                and path.parent == (ROOT / file).parent
            )


def test_all_models_of_the_tables_are_there():
    assert {model['Config'] for model in MODELS} == {row.config for row in ROWS}


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_figures_are_those_of_the_tables(model):
    rows = [row for row in ROWS if row.config == model['Config']]
    size, macs = model['Metadata']['Parameters'], model['Metadata']['FLOPs']
    for row in rows:
        decimals = len(row.multiply_adds.split('.')[1])
        assert (f'{size / 1e6:.2f}', f'{macs / 1e9:.{decimals}f}') == (
            row.parameters,
            row.multiply_adds,
        )
    reported = [
        value for result in model.get('Results', []) for value in result['Metrics'].values()
    ]
    weights = model.get('Weights')
    if weights:
        assert tuple(reported) == published_models()[weights[len('kw://') :]].scores
    else:
        tabled = {
            tuple(float(score) for score in row.scores if score) for row in rows if any(row.scores)
        }
        assert tabled == ({tuple(reported)} if reported else set())


def test_weights_are_those_of_the_model_zoo():
    weights = {
        model['Name']: model['Weights'][len('kw://') :] for model in MODELS if 'Weights' in model
    }
    assert sorted([*weights.values(), *NO_CONFIG]) == sorted(published_models())
    for model in MODELS:
        name = weights.get(model['Name'])
        if name:
            project = 'ODConv' if 'odconv' in name else 'KernelWarehouse'
            source = dict(
                Weights=published_models()[name].link, Code=f'https://github.com/OSVAI/{project}'
            )
            assert model['Converted From'] == source
        if 'odconv' not in model['Name']:
            expected = published_name(model['Config'])
            assert name == (expected if expected in published_models() else None)
    assert {weights[name] for name in weights if 'odconv' in name} == {
        f'{network}-imagenet'
        for network in (
            'resnet18-odconv4x',
            'resnet50-odconv1x',
            'resnet50-odconv4x',
            'mobilenetv2-odconv4x',
        )
    }
