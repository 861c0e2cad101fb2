"""Face X-ray: its size, its answers and its loss by hand, and the weights it starts from."""

import math
from pathlib import Path

import pytest
import timm
import torch

from emd_core.errors import UserError
from emd_core.models.baselines.facexray import HEADS, FaceXray, FaceXrayConfig, xray

CONFIG = FaceXrayConfig(kind="facexray", size=64, backbone="hrnet_w18_small")


def test_it_has_the_size_of_hrnet_without_its_classifier() -> None:
    """HRNet-W48 has 77.5 M parameters in its publication; the four maps have 48 + 96 + 192 + 384 channels."""
    with torch.device("meta"):
        model = FaceXray(CONFIG.model_copy(update={"backbone": "hrnet_w48"}))
        whole = timm.create_model("hrnet_w48")
    assert sum(p.numel() for p in whole.parameters()) == 77_469_864
    heads = sum(p.numel() for name, p in whole.named_parameters() if name.startswith(HEADS))
    assert sum(p.numel() for p in model.backbone.parameters()) == 77_469_864 - heads == 65_325_120
    assert model.xray.weight.shape == (1, 720, 1, 1)
    assert sum(p.numel() for p in model.parameters()) == 65_325_120 + 721 + 4


def test_an_xray_by_hand() -> None:
    assert xray(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])).tolist() == [0, 0.75, 1, 0.75, 0]


def test_the_class_is_read_off_the_mean_of_the_xray() -> None:
    model = FaceXray(CONFIG).eval()
    with torch.inference_mode():
        logits, mask = model(torch.rand(2, 3, 64, 64))
        mean = mask.sigmoid().mean(dim=(1, 2, 3))
        expected = mean[:, None] * model.classifier.weight[:, 0] + model.classifier.bias
    assert mask.shape == (2, 1, 64, 64)
    torch.testing.assert_close(logits, expected)


def test_the_loss_by_hand() -> None:
    """An X-ray of even odds everywhere costs ln 2 per pixel, whatever the truth; its mean of 0.5 means a blend, by
    logits of 20 * (0.5 - 0.05) = 9 against -9. The mask of the second is not known."""
    model = FaceXray(CONFIG).eval()
    torch.nn.init.zeros_(model.xray.weight)
    torch.nn.init.zeros_(model.xray.bias)
    image, mask = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    known = torch.tensor([True, False])
    for label, wrong in ((1, 0.0), (0, 18.0)):
        loss = model.loss(image, torch.tensor([label] * 2), mask, known)
        assert loss.item() == pytest.approx(100 * math.log(2) + wrong, abs=1e-4)


def test_the_truth_is_the_edge_of_the_mask_at_the_networks_size() -> None:
    """A soft mask is an X-ray of 1, a hard one of 0, inside and out; what the resize mixes lies in between."""
    model = FaceXray(CONFIG).eval()
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 64:] = 1
    mask[..., :64, :] *= 0.5  # X-ray 1 in one quarter, but 3/4 in the column that the resize mixes
    model.detect = lambda image, _: (torch.tensor([[-99.0, 99.0]]), 60 * (answer - 0.5))  # type: ignore[method-assign]
    answer = torch.zeros(1, 1, 64, 64)
    answer[..., :32, 32:] = 1
    label, known = torch.tensor([1]), torch.tensor([True])
    right = model.loss(torch.rand(1, 3, 128, 128), label, mask, known)
    answer = torch.zeros(1, 1, 64, 64)
    answer[..., 32:, 32:] = 1  # the inside
    inside = model.loss(torch.rand(1, 3, 128, 128), label, mask, known)
    assert right < 100 and inside > 1400


def test_an_imagenet_file_is_loaded_exactly_or_refused(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = timm.create_model("hrnet_w18_small").state_dict()
    bare = {name: x for name, x in whole.items() if not name.startswith(HEADS)}
    for state in (whole, bare):
        torch.save(state, tmp_path / "hrnet.pth")
        model = FaceXray(CONFIG)
        model.load_published(str(tmp_path / "hrnet.pth"))
        assert all(torch.equal(x, bare[name]) for name, x in model.backbone.state_dict().items())
    for name, x in (("conv1.weight", None), ("conv9.weight", torch.zeros(1)), ("bn1.bias", torch.zeros(3))):
        wrong = {key: y for key, y in (bare | {name: x}).items() if y is not None}
        torch.save(wrong, tmp_path / "wrong.pth")
        with pytest.raises(UserError, match=rf"wrong\.pth.*{name}"):
            FaceXray(CONFIG).load_published(str(tmp_path / "wrong.pth"))


def test_a_download_that_fails_says_so_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FaceXray(CONFIG)
    sound = timm.create_model

    def create(name: str, pretrained: bool, **others: object) -> object:
        if pretrained:
            raise OSError("no network")
        return sound(name, **others)

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(UserError, match=r"weights of hrnet_w18_small could not be downloaded \(OSError\)"):
        model.load_published("imagenet")
