"""docs/results.md against the models it is about. That its links exist is in test_docs.py."""

import pytest
from reading_configs import read_config
from results_table import ROWS, published_name
from run_tools import ROOT

from kw_mm.analysis.report import analyze, build_model
from kw_mm.checkpoints import published_models


@pytest.mark.parametrize('config', sorted({row.config for row in ROWS}))
@pytest.mark.usefixtures('unfilled')
def test_parameters_are_those_of_the_model(config):
    model = build_model(read_config(config.removeprefix('configs/')))
    found = f'{sum(p.numel() for p in model.parameters()) / 1e6:.2f}'
    assert {row.parameters for row in ROWS if row.config == config} == {found}


@pytest.mark.parametrize(
    'name', ['r18', 'kw_r18', 'kw1d4x_r18', 'kw2x_r18', 'odconv4x_r18', 'dcd_r18', 'condconv8x_r18']
)
def test_multiply_adds_are_those_of_the_model(name):
    config = f'configs/imagenet/{name}_100e_in1k.py'
    cost = analyze(str(ROOT / config)).cost
    kernels = cost.attention + cost.assembly
    found = f'{cost.multiply_adds / 1e9:.3f}', f'{kernels / 1e9:.3f}' if kernels else ''
    assert {(row.multiply_adds, row.kernels) for row in ROWS if row.config == config} == {found}


def test_the_papers_figures_are_those_of_the_published_models():
    compared = set()
    for row in ROWS:
        name = published_name(row.config)
        if name in published_models():
            assert tuple(map(float, row.scores)) == published_models()[name].scores, row.config
            compared.add(name)
    assert compared == {name for name in published_models() if '-odconv' not in name}


@pytest.mark.parametrize('kernels', [1, 4])
def test_odconvs_figures_are_those_of_its_published_models(kernels):
    scores = [
        row.scores
        for row in ROWS
        if row.config == f'configs/imagenet/odconv{kernels}x_r50_100e_in1k.py'
    ]
    published = published_models()[f'resnet50-odconv{kernels}x-imagenet'].scores
    assert [tuple(map(float, pair)) for pair in scores] == [published]
