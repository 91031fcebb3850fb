import json
import re

import matplotlib
import pytest

from kw_mm.analysis.curves import draw_runs, name_runs, plot_runs, read_scalars, summarise
from kw_mm.analysis.figures import new_figure, save_figure
from kw_mm.errors import UserError


def write_log(work_dir, name, *records, cut=''):
    file = work_dir / name / 'vis_data/scalars.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('\n'.join(map(json.dumps, records)) + '\n' + cut)


def train(step, loss, **others):
    return dict(loss=loss, lr=0.1 / step, step=step, iter=step, epoch=1, **others)


def score(epoch, value):
    return {
        'coco/bbox_mAP': value,
        'coco/bbox_mAP_50': 2 * value,
        'coco/segm_mAP': value / 2,
        'step': epoch,
    }


def test_scores_stand_at_the_training_step_before_them(tmp_path):
    write_log(
        tmp_path,
        '1',
        train(10, 3.0),
        train(20, 2.0),
        score(1, 0.1),
        train(30, 1.0),
        train(40, 0.5),
        score(2, 0.2),
    )
    curves = read_scalars(tmp_path)
    assert curves['loss'] == ([10, 20, 30, 40], [3, 2, 1, 0.5])
    assert curves['coco/bbox_mAP'] == ([20, 40], [0.1, 0.2])
    assert not {'step', 'iter', 'epoch'} & set(curves)


def test_a_resumed_run_is_joined_at_the_step_it_resumed_from(tmp_path):
    """The first part ran on to step 35; it was resumed after step 20, with other logging steps."""
    write_log(
        tmp_path,
        '20260101_000000',
        train(10, 3.0),
        train(20, 2.0),
        score(1, 0.1),
        train(25, 9.0),
        train(35, 9.0),
        score(2, 0.9),
    )
    write_log(tmp_path, '20260102_000000', train(30, 1.0), train(40, 0.5), score(2, 0.2))
    curves = read_scalars(tmp_path)
    assert curves['loss'] == ([10, 20, 25, 30, 40], [3, 2, 9, 1, 0.5])
    assert curves['coco/bbox_mAP'] == ([20, 40], [0.1, 0.2])


def test_records_of_hooks_stand_at_their_own_step_and_evaluations_alone_are_no_run(tmp_path):
    write_log(
        tmp_path,
        '1',
        train(10, 3.0),
        {'attention_entropy/stage1': 0.5, 'iter': 15, 'step': 15},
        train(20, 2.0),
    )
    write_log(tmp_path, '2', score(0, 0.7))
    curves = read_scalars(tmp_path)
    assert curves['attention_entropy/stage1'] == ([15], [0.5])
    assert curves['loss'] == ([10, 20], [3, 2]) and 'coco/bbox_mAP' not in curves


def test_the_learning_rate_is_the_base_one_where_groups_differ(tmp_path):
    write_log(tmp_path, '1', train(1, 1.0, base_lr=0.5))
    assert read_scalars(tmp_path)['lr'] == ([1], [0.5])


def test_a_cut_last_line_is_left_out_and_a_damaged_one_named(tmp_path):
    write_log(tmp_path, '1', train(10, 3.0), cut='{"loss": 2.0, "st')
    assert read_scalars(tmp_path)['loss'] == ([10], [3])
    write_log(tmp_path, '1', train(10, 3.0), cut='{"loss": 2.0, "st\n' + json.dumps(train(30, 1.0)))
    with pytest.raises(UserError, match="line 2 of .*scalars.json' is damaged"):
        read_scalars(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="work dir '.*nowhere' does not exist"):
        read_scalars(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='is it the work dir of a training run'):
        read_scalars(tmp_path)
    write_log(tmp_path, '1', dict(step=1, iter=1, grad_norm=3.0))
    with pytest.raises(UserError, match='logged neither loss nor scores'):
        plot_runs([tmp_path], tmp_path / 'x.png')


def test_a_folder_without_a_log_does_not_end_the_others(tmp_path):
    write_log(tmp_path / 'a', '1', train(1, 2.0), train(2, 1.0))
    with pytest.raises(UserError, match=r"x.png is without .*work dir '.*nowhere' does not exist"):
        plot_runs([tmp_path / 'nowhere', tmp_path / 'a'], tmp_path / 'x.png')
    assert (tmp_path / 'x.png').is_file()
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='--out .* cannot be made .it is a file'):
        plot_runs([tmp_path / 'nowhere'], tmp_path / 'file/x.png')


def test_runs_are_told_apart_by_as_much_of_their_path_as_needed(tmp_path):
    a, b, c = (tmp_path / part for part in ('a/run', 'b/run', 'other'))
    assert list(name_runs([a, c])) == ['run', 'other']
    assert list(name_runs([a, b])) == ['a/run', 'b/run']
    assert list(name_runs([a, a])) == ['run']


def lines_of(axes):
    return [line for line in axes.get_lines() if len(line.get_xdata())]


def test_panels_hold_the_curves_of_all_runs(tmp_path):
    for name, factor in (('a', 1), ('b', 2)):
        temperature = dict(temperature=0.5) if name == 'a' else {}
        write_log(
            tmp_path / name, '1', train(10, 3.0 * factor, **temperature), score(1, 0.1 * factor)
        )
    figure = draw_runs({name: read_scalars(tmp_path / name) for name in 'ab'})
    panels = {
        axes.get_title(loc='left'): axes for axes in figure.axes if axes.get_title(loc='left')
    }
    assert list(panels) == ['loss', 'temperature', 'learning rate', 'box AP', 'mask AP']
    assert [len(lines_of(axes)) for axes in panels.values()] == [2, 1, 2, 4, 2]
    assert sorted(line.get_ydata()[0] for line in lines_of(panels['box AP'])) == [
        0.1,
        0.2,
        0.2,
        0.4,
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['a', 'b']


def test_a_single_panel_values_that_are_not_finite_and_other_formats(tmp_path):
    write_log(
        tmp_path,
        '1',
        *(
            {'accuracy/top1': value, 'step': t, 'iter': t}
            for t, value in ((1, 50.0), (2, float('nan')))
        ),
    )
    assert plot_runs([tmp_path], tmp_path / 'deep/run.pdf').read_bytes().startswith(b'%PDF')
    with pytest.raises(UserError, match="x.xyz' cannot be written"):
        plot_runs([tmp_path], tmp_path / 'x.xyz')


def test_a_users_own_backend_stays():
    """Pictures are drawn without pyplot, whose backend belongs to the user."""
    before = matplotlib.rcParams._get('backend')
    draw_runs({'run': {'loss': ([1, 2], [2.0, 1.0])}})
    assert matplotlib.rcParams._get('backend') == before


@pytest.mark.parametrize('name', ['', 'curves'])
def test_a_figure_without_an_image_files_name_is_refused(tmp_path, name):
    with pytest.raises(
        UserError, match=f"image file, got '{re.escape(str(tmp_path / name))}'; name one, e.g."
    ):
        save_figure(new_figure(1, 1), tmp_path / name)


def test_repetitions_are_summarised_where_all_have_logged():
    runs = [
        {'loss': ([10, 20, 30], [3.0, 2.0, 1.0]), 'lr': ([10], [0.1])},
        {'loss': ([10, 20], [5.0, 1.0])},
    ]
    curves, bands = summarise(runs)
    assert curves == {'loss': ([10, 20], [4.0, 1.5])}
    assert bands == {'loss': ([10, 20], [3.0, 1.0], [5.0, 2.0])}


def test_a_named_group_is_one_line_with_a_band(tmp_path, monkeypatch):
    for name, loss in (('a', 3.0), ('b', 1.0), ('c', 2.0)):
        write_log(tmp_path / name, '1', train(10, loss), train(20, loss / 2))
    drawn = []
    monkeypatch.setattr(
        'kw_mm.analysis.curves.draw_runs', lambda *args: drawn.append(args) or draw_runs(*args)
    )
    plot_runs([f'both={tmp_path}/a,{tmp_path}/b', tmp_path / 'c'], tmp_path / 'x.svg')
    (runs, bands), (axes, *_) = drawn[0], draw_runs(*drawn[0]).axes
    assert set(runs) == {'both', 'c'} and set(bands) == {'both'}
    assert runs['both']['loss'] == ([10, 20], [2.0, 1.0])
    assert (
        len(axes.collections) == 1
        and len([line for line in axes.lines if len(line.get_xdata())]) == 2
    )
    with pytest.raises(UserError, match="work dir .*nowhere' does not exist"):
        plot_runs([f'both={tmp_path}/a,{tmp_path}/nowhere'], tmp_path / 'x.svg')
