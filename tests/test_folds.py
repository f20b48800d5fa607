import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecnn.errors import UserError
from samplecnn.folds import grouped_folds, holdout, splits


@given(
    groups=st.lists(st.integers(0, 11), min_size=12, max_size=60),
    folds=st.integers(2, 4),
    seed=st.integers(0, 100),
)
def test_no_group_is_ever_parted_and_no_fold_is_empty(groups, folds, seed):
    grade_R = np.array([group % 3 for group in groups])
    try:
        fold_R = grouped_folds(grade_R, [str(group) for group in groups], folds, seed)
    except UserError:
        return
    assert set(fold_R) == set(range(folds))
    for group in set(groups):
        assert len({int(fold) for fold, own in zip(fold_R, groups, strict=True) if own == group}) == 1


def test_each_fold_of_the_demo_corpus_holds_every_grade():
    grade_R = np.repeat([0, 1, 2], 5)
    fold_R = grouped_folds(grade_R, [str(i) for i in range(15)], 5, seed=0)
    assert all(set(grade_R[fold_R == fold]) == {0, 1, 2} for fold in range(5))


def test_the_split_is_a_function_of_the_seed():
    grade_R, groups = np.tile([0, 1, 2], 10), [str(i // 2) for i in range(30)]
    first, again, other = (grouped_folds(grade_R, groups, 5, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_more_folds_than_groups_are_refused():
    with pytest.raises(UserError, match="only 2 groups"):
        grouped_folds(np.array([0, 1, 0, 1]), ["a", "a", "b", "b"], 3, seed=0)


def test_more_folds_than_recordings_of_any_grade_are_refused():
    with pytest.raises(UserError, match="choose 2 or fewer"):
        grouped_folds(np.array([0, 1, 2, 0]), list("abcd"), 3, seed=0)


def test_holdout_keeps_groups_whole_and_about_the_asked_share():
    groups = [str(i // 2) for i in range(40)]
    held = holdout(np.tile([0, 1], 20), groups, 0.2, seed=3)
    assert 4 <= held.sum() <= 12
    assert all(held[i] == held[i + 1] for i in range(0, 40, 2))


@given(groups=st.lists(st.integers(0, 7), min_size=6, max_size=30), seed=st.integers(0, 50))
def test_holdout_leaves_every_grade_to_learn_from(groups, seed):
    grade_R = np.array([group % 3 for group in groups])
    held = holdout(grade_R, [str(group) for group in groups], 0.2, seed)
    assert set(grade_R[~held]) == set(grade_R)


def test_nothing_is_held_back_from_a_single_group():
    assert not holdout(np.array([0, 1, 2]), ["ann"] * 3, 0.2, seed=0).any()


@given(
    groups=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), min_size=12, max_size=50),
    folds=st.integers(2, 3),
    seed=st.integers(0, 50),
)
def test_nothing_that_is_predicted_shares_a_group_with_what_was_learnt_from(groups, folds, seed):
    columns = [[str(group) for group in column] for column in zip(*groups, strict=True)]
    grade_R = np.arange(len(groups)) % 3
    for group_CR in (columns, columns[:1]):
        try:
            parted = splits(grade_R, group_CR, folds, seed)
        except UserError:
            continue
        assert (sum(split.held_R.astype(int) for split in parted) == 1).all()
        for split in parted:
            assert len(set(grade_R[split.learn_R])) >= 2
            for group_R in map(np.array, group_CR):
                assert not set(group_R[split.held_R]) & set(group_R[split.learn_R])


def test_by_one_column_every_other_recording_is_learnt_from():
    parted = splits(np.tile([0, 1, 2], 5), [[str(i) for i in range(15)]], 5, seed=0)
    assert len(parted) == 5
    assert all((split.learn_R == ~split.held_R).all() for split in parted)


def test_crossed_folds_that_leave_nothing_to_learn_from_are_refused():
    pieces = ["waltz", "waltz", "etude", "etude"]
    with pytest.raises(UserError, match="choose more folds"):
        splits(np.array([0, 1, 0, 1]), [list("abab"), pieces], 2, seed=0)
