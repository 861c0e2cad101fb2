"""Detectors that look at the centre of the crop see its own pixels."""

import pytest
import torch
from pydantic import ValidationError

from emd_core.models.baselines.rahmouni import Rahmouni, RahmouniConfig


def test_the_middle_is_cut_out_as_it_is() -> None:
    model = Rahmouni(RahmouniConfig(kind="rahmouni", crop=96, size=64, hidden=8))
    image = torch.rand(2, 3, 96, 96)
    assert model.side == 96
    assert torch.equal(model.view(image), image[:, :, 16:80, 16:80])


def test_other_crops_are_resized_before() -> None:
    model = Rahmouni(RahmouniConfig(kind="rahmouni", crop=96, size=64, hidden=8))
    image = torch.zeros(1, 3, 192, 192)
    image[:, :, 32:160, 32:160] = 1  # is 16:80 of 96
    view = model.view(image)
    assert view.shape == (1, 3, 64, 64) and view[:, :, 1:-1, 1:-1].min() == 1


def test_a_centre_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError, match="size 128 does not fit into crop 96"):
        RahmouniConfig(kind="rahmouni", crop=96, size=128, hidden=8)
