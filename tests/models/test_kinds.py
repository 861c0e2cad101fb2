"""What holds for every kind of detector, as its sample profile makes it; a new kind is tested by its profiles alone."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from emd_core.models.build import DETECTORS, Network, build_detector
from emd_core.models.checkpoint import load_detector, save_detector
from emd_core.models.detector import Fitted
from emd_core.models.parts.esr import ESR, ESRConfig
from emd_core.models.parts.precision import autocast
from tests.fakes.kinds import PROFILES, training_of

SIDE = 72  # px, of the crops: of no network's own size


def build(network: Network) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_detector(network, ESR(ESRConfig(size=64, branches=1)) if network.with_expression else None)


def test_every_kind_has_a_profile_and_so_is_tested() -> None:
    made = [training_of(name).network for name in PROFILES]
    for detector in DETECTORS:
        kinds = set(get_args(detector.config_type.model_fields["kind"].annotation))
        assert kinds == {network.kind for network in made if isinstance(network, detector.config_type)}


@pytest.mark.parametrize("name", PROFILES)
def test_shapes_gradients_and_a_checkpoint(name: str, tmp_path: Path) -> None:
    model = build(training_of(name).network)
    image, label = torch.rand(4, 3, SIDE, SIDE), torch.tensor([0, 1, 1, 0])
    mask, known = torch.randint(0, 2, (4, 1, SIDE, SIDE)).float(), torch.tensor([True, True, False, True])
    model.train()
    if isinstance(model, Fitted):
        assert model.fit([(image, label)]).isfinite()
    else:
        theta = [p for name, p in model.named_parameters() if not name.startswith("fer.") and p.requires_grad]
        for size in (2, 4):  # a rank's share may be as small as that
            model.zero_grad()
            model.loss(image[:size], label[:size], mask[:size], known[:size]).backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in theta)
        assert all(p.grad.any() for p in theta)
        assert not (model.fer and any(p.requires_grad for p in model.fer.parameters()))
        with torch.no_grad():
            model.after_step()
    model.eval()
    save_detector(tmp_path / "model.safetensors", model)
    loaded = load_detector(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    with torch.inference_mode():
        (logits, found), (again, found_again) = model(image), loaded(image)
        with autocast(torch.device("cpu"), "bf16"):
            rounded, _ = model(image)
    assert logits.shape == (4, 2) and torch.equal(logits, again)
    assert rounded.isfinite().all()
    assert (found is None) == (found_again is None) == (not model.localises)
    if found is not None:
        assert found.shape == (4, 1, SIDE, SIDE) and torch.equal(found, found_again)


@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
def test_where_it_comes_from_is_said(kind: type) -> None:
    assert kind.publication.reference and bool(kind.publication.weights) == bool(kind.publication.licence)
    assert all(
        kind.config_type.model_fields[field].description for field in kind.config_type.model_fields if field != "kind"
    )
