"""Which weights a recipe keeps."""

from typing import Any

import torch

from emd_core.detection.inputs import Inputs
from emd_core.detection.learner import Learner, averaged
from emd_core.detection.recipe import PAPER
from emd_core.models.baselines.meso import MesoConfig, MesoNet
from emd_core.models.baselines.steganalysis import Steganalysis, SteganalysisConfig

LR = 0.5


def after(steps: int, **recipe: Any) -> Learner:
    """A learner after steps of plain gradient descent."""
    torch.manual_seed(0)
    model = MesoNet(MesoConfig(kind="meso4", size=32))
    learner = Learner(model, torch.optim.SGD(model.parameters(), lr=LR), PAPER.model_copy(update=recipe), "fp32")
    x = Inputs(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1]), torch.zeros(4, 1, 32, 32), torch.ones(4))
    for _ in learner.learn([x] * steps, []):
        pass
    return learner


def test_the_average_is_kept_and_the_training_goes_on_from_both() -> None:
    plain = after(3)
    assert plain.kept is plain.model is plain.weights
    learner = after(3, average=0.9)
    kept, own = learner.kept.state_dict(), learner.model.state_dict()
    assert any(not torch.equal(kept[name], own[name]) for name in own)
    assert all(torch.equal(own[name], other) for name, other in plain.model.state_dict().items())
    assert len(learner.weights.state_dict()) > 2 * len(own)  # and the number of its steps


def test_nothing_is_averaged_where_no_step_teaches() -> None:
    model = Steganalysis(SteganalysisConfig(kind="steganalysis", crop=48, size=32))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    assert Learner(model, optimizer, PAPER.model_copy(update={"average": 0.9}), "fp32").kept is model


def test_averaged_weights_are_those_of_all_steps_and_their_batch_statistics_too() -> None:
    model = MesoNet(MesoConfig(kind="meso4", size=32))
    average = averaged(model, 0.75)
    names = [next(iter(dict(model.named_parameters()))), next(n for n, _ in model.named_buffers() if "mean" in n)]
    for value in (1.0, 2.0, 4.0):
        for name in names:
            model.state_dict()[name].fill_(value)
        average.update_parameters(model)
    for name in names:
        # The first is taken as it is; then a quarter of each.
        assert torch.allclose(average.module.state_dict()[name], torch.tensor(0.75 * 1.25 + 0.25 * 4.0))
