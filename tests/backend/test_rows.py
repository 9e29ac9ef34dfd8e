"""Rows by their numbers are what indexing gives, without uploading the numbers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from latentman.backend.video.rows import list_runs, put_rows, take_rows  # noqa: E402


@pytest.mark.parametrize("rows", [[], [0], [3], [0, 1, 2], [0, 4, 5, 6], [5, 0, 1], [2, 2, 3], [6, 5, 4]])
def test_rows_are_those_that_indexing_gives(rows):
    values = torch.arange(21.0).reshape(7, 3)
    assert torch.equal(take_rows(values, rows), values[rows] if rows else values[:0])
    if len(set(rows)) == len(rows):
        wanted, found, new = values.clone(), values.clone(), -torch.arange(3.0 * len(rows)).reshape(-1, 3)
        if rows:
            wanted[rows] = new
        put_rows(found, rows, new)
        assert torch.equal(found, wanted)


def test_rows_that_follow_each_other_are_one_slice_and_gradients_flow():
    assert list(list_runs([0, 3, 4, 5])) == [slice(0, 1), slice(3, 6)]
    values = torch.zeros(6, 2, requires_grad=True)
    take_rows(values, [0, 3, 4]).sum().backward()
    assert values.grad[:, 0].tolist() == [1, 0, 0, 1, 1, 0]
    assert take_rows(values, [2, 3]).data_ptr() == values[2:].data_ptr()
