"""DCNN joins the first fully connected layers of torchvision's VGG-19 and AlexNet."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from emd_core.errors import UserError
from emd_core.models.baselines import dcnn, imagenet
from emd_core.models.baselines.dcnn import DCNN, DCNNConfig

SMALL = DCNNConfig(kind="dcnn", size=64, width=4)


class VGG19(nn.Module):
    """A sixteenth of torchvision's, with its names."""

    def __init__(self) -> None:
        super().__init__()
        self.features = imagenet.features_of("vgg19", width=4)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(nn.Linear(32 * 49, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 10))


class AlexNet(nn.Module):
    """Likewise."""

    def __init__(self) -> None:
        super().__init__()
        self.features = imagenet.features_of("alexnet", width=4)
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(16 * 36, 256), nn.ReLU(), nn.Linear(256, 10))


def first_dense(network: VGG19 | AlexNet, x: Tensor, layers: int) -> Tensor:
    """As torchvision's own networks compute it."""
    return network.classifier[:layers](torch.flatten(network.avgpool(network.features(x)), 1))


def test_it_has_the_size_of_the_two_networks() -> None:
    """VGG-19's convolutions and first dense layer, AlexNet's, and the classifier of 2 x 4096 features."""
    with torch.device("meta"):  # 650 MB otherwise
        model = DCNN(DCNNConfig(kind="dcnn", size=224, width=64))
    vgg19, alexnet = 20_024_384 + (25_088 + 1) * 4096, 2_469_696 + (9216 + 1) * 4096
    assert sum(p.numel() for p in model.parameters()) == vgg19 + alexnet + (2 * 4096 + 1) * 2


def test_it_starts_from_both_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vgg19, alexnet, others = VGG19().eval(), AlexNet().eval(), {"vgg19": VGG19(), "alexnet": AlexNet()}
    torch.save(vgg19.state_dict(), tmp_path / "vgg19-dcbb9e9d.pth")
    torch.save(alexnet.state_dict(), tmp_path / "alexnet-owt-7be5be79.pth")
    model = DCNN(SMALL).eval()
    monkeypatch.setattr(imagenet, "get_model", others.__getitem__)  # torchvision's have 600 MB
    monkeypatch.setattr(dcnn, "require_width", lambda width: None)
    model.load_published(str(tmp_path))
    image = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (image - mean[:, None, None]) / std[:, None, None]
    with torch.inference_mode():
        features = torch.cat([first_dense(vgg19, x, 2), first_dense(alexnet, x, 3)], dim=1)
        torch.testing.assert_close(model(image)[0], model.classifier[1](features))


def test_a_folder_must_hold_both_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dcnn, "require_width", lambda width: None)
    with pytest.raises(UserError, match=r"holds 0 files vgg19-\*\.pth"):
        DCNN(SMALL).load_published(str(tmp_path))


def test_a_narrow_network_takes_no_weights() -> None:
    with pytest.raises(UserError, match=r"train_emd\.network\.width 64, but it is 4; set it"):
        DCNN(SMALL).load_published("imagenet")
