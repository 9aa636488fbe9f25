"""Fingerprints are those of the values, however they lie in memory."""

import torch

from nncheck.lab import fingerprint


def test_one_element_out_of_a_column() -> None:
    column = torch.arange(6.0).view(3, 2)[:, 1]
    alone = column[:1]
    assert alone.stride() == (2,)
    assert fingerprint.of(alone) == fingerprint.of(torch.tensor([1.0]))
    assert torch.equal(fingerprint.rows(alone), fingerprint.rows(torch.tensor([1.0])))


def test_rows_do_not_depend_on_their_strides() -> None:
    table = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fingerprint.rows(table[:, ::2]), fingerprint.rows(table[:, ::2].clone()))
