"""Which weights a recipe keeps."""

from typing import Any

import torch
from torch import Tensor, nn

from emd_core.detection.inputs import Inputs
from emd_core.detection.learner import Learner, averaged
from emd_core.detection.recipe import PAPER
from emd_core.detection.training import set_trainable
from emd_core.models.baselines.meso import MesoConfig, MesoNet
from emd_core.models.baselines.steganalysis import Steganalysis, SteganalysisConfig
from emd_core.models.emd import EMD, EMDConfig
from emd_core.models.parts.esr import ESR, ESRConfig

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


def recompute(learner: Learner, images: list[Any]) -> None:
    for _ in learner.recompute_statistics(images):
        pass


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


def test_averaged_weights_are_those_of_all_steps() -> None:
    model = MesoNet(MesoConfig(kind="meso4", size=32))
    average = averaged(model, 0.75)
    name = next(iter(dict(model.named_parameters())))
    for value in (1.0, 2.0, 4.0):
        model.state_dict()[name].fill_(value)
        average.update_parameters(model)
    # The first is taken as it is; then a quarter of each.
    assert torch.allclose(average.module.state_dict()[name], torch.tensor(0.75 * 1.25 + 0.25 * 4.0))


def test_averaged_weights_get_batch_statistics_of_their_own() -> None:
    learner = after(3, average=0.9)
    images = [torch.rand(4, 3, 32, 32) for _ in range(2)]
    recompute(learner, images)
    seen: list[Tensor] = []
    kept = learner.kept
    norm = next(module for module in kept.modules() if isinstance(module, nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    state = {name: tensor.clone() for name, tensor in kept.state_dict().items()}
    with torch.no_grad():
        for image in images:
            kept(image)
    assert norm.running_mean is not None and norm.running_var is not None
    assert torch.allclose(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0), atol=1e-6)
    assert torch.allclose(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0), atol=1e-6)
    assert norm.momentum == nn.BatchNorm2d(1).momentum and not kept.training
    recompute(learner, images)  # once more, such as after a stop
    assert all(torch.equal(tensor, state[name]) for name, tensor in kept.state_dict().items())


def test_what_is_fixed_keeps_its_batch_statistics() -> None:
    fer = ESR(ESRConfig(size=54, branches=1))
    model = EMD(EMDConfig(kind="emd", size=48, expression=True, atrous_rates=(1, 1, 1), pixel_loss="mean"), fer)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    learner = Learner(model, optimizer, PAPER.model_copy(update={"average": 0.9}), "fp32")
    set_trainable(model, warmup=True)
    before = {name: tensor.clone() for name, tensor in learner.kept.named_buffers()}
    images, random = [torch.rand(2, 3, 48, 48)], torch.get_rng_state()
    recompute(learner, images)
    changed = {name for name, tensor in learner.kept.named_buffers() if not torch.equal(tensor, before[name])}
    fixed = ("fer.", *(f"encoder.net.{name}." for name, _ in model.encoder.net.named_children() if name != "bn4"))
    assert changed and not any(name.startswith(fixed) for name in changed)
    assert torch.equal(torch.get_rng_state(), random)  # no dropout
    assert learner.kept.training is False and model.training


def test_weights_that_are_not_averaged_keep_their_statistics() -> None:
    learner = after(1)
    before = {name: tensor.clone() for name, tensor in learner.kept.state_dict().items()}
    recompute(learner, [None])
    assert all(torch.equal(tensor, before[name]) for name, tensor in learner.kept.state_dict().items())
