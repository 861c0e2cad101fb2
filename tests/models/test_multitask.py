"""MultiTask computes what the published network computes, from files of the published names."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from emd_core.errors import UserError
from emd_core.models.multitask import MultiTask, MultiTaskConfig
from emd_core.models.parts.esr import ESR, ESRConfig

CONFIG = MultiTaskConfig(kind="multitask", size=64, expression=False)
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def states() -> tuple[State, State]:
    """An encoder's and a decoder's weights, with batch statistics that are not those of the start."""
    torch.manual_seed(0)
    model = MultiTask(CONFIG, None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean, module.running_var = (
                torch.randn_like(module.weight),
                torch.rand_like(module.weight) + 0.5,
            )
        elif isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.normal_(module.weight, 0, 0.2)
    return model.encoder.state_dict(), model.decoder.state_dict()


def write(folder: Path, encoder: State, decoder: State) -> Path:
    torch.save(encoder, folder / "encoder_46.pt")
    torch.save(decoder, folder / "decoder_46.pt")
    return folder


def layer(x: Tensor, state: State, name: str, index: int, stride: int, *, up: bool = False) -> Tensor:
    """Convolution `index`, its batch norm and ReLU, written out."""
    weight, bias = state[f"{name}.{index}.weight"], state[f"{name}.{index}.bias"]
    x = (
        F.conv_transpose2d(x, weight, bias, stride, padding=1, output_padding=stride - 1)
        if up
        else F.conv2d(x, weight, bias, stride, padding=1)
    )
    mean, var, gain, shift = (
        state[f"{name}.{index + 1}.{key}"][None, :, None, None]
        for key in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / (var + 1e-5).sqrt() * gain + shift).clamp(min=0)


def published(encoder: State, decoder: State, image: Tensor) -> tuple[Tensor, Tensor]:
    """Probability that the face is altered, and that each pixel is, as the published test script computes them."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (image - mean[None, :, None, None]) / std[None, :, None, None]
    for k in range(9):
        x = layer(x, encoder, "encoder", 3 * k, 1 + k % 2)
    zero, one = x[:, :64].abs().mean(dim=(1, 2, 3)), x[:, 64:].abs().mean(dim=(1, 2, 3))
    for i in range(len(x)):  # the half that lost is zeroed
        x[i, slice(0, 64) if one[i] >= zero[i] else slice(64, 128)] = 0
    for k in range(4):
        x = layer(x, decoder, "shared", 3 * k, 1 + k % 2, up=True)
    for k in range(4):
        x = layer(x, decoder, "segmenter", 3 * k, 1 + k % 2, up=True)
    x = F.conv_transpose2d(x, decoder["segmenter.12.weight"], decoder["segmenter.12.bias"], padding=1).softmax(1)
    return torch.stack([zero, one], dim=1).softmax(1)[:, 0], x[:, 1:]


def test_it_has_the_published_size() -> None:
    model = MultiTask(CONFIG, None)
    assert sum(p.numel() for p in model.encoder.parameters()) == 148_200
    assert sum(p.numel() for p in model.decoder.parameters()) == 156_749


def test_published_weights_give_the_published_answers(states: tuple[State, State], tmp_path: Path) -> None:
    model = MultiTask(CONFIG, None).eval()
    model.load_published(str(write(tmp_path, *states)))
    image = torch.rand(6, 3, 64, 64)
    score, mask = published(*states, image)
    with torch.inference_mode():
        logits, mask_logits = model(image)
    torch.testing.assert_close(logits.softmax(1)[:, 1], score)
    torch.testing.assert_close(mask_logits.sigmoid(), mask, atol=1e-5, rtol=1e-4)


def test_training_loss_by_hand(states: tuple[State, State]) -> None:
    """Activation + doubly softmaxed segmentation + reconstruction, the half chosen by the label."""
    model = MultiTask(CONFIG, None).eval()
    model.encoder.load_state_dict(states[0])
    model.decoder.load_state_dict(states[1])
    image, label = torch.rand(2, 3, 64, 64), torch.tensor([1, 0])  # altered, original
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, 0, 10:30, 10:30] = 1
    with torch.inference_mode():
        rgb = model.normalise(image)
        latent = model.encoder(rgb, None)
        altered, original = latent[:, :64].abs().mean(dim=(1, 2, 3)), latent[:, 64:].abs().mean(dim=(1, 2, 3))
        activation = ((altered[0] - 1).abs() + original[0].abs() + altered[1].abs() + (original[1] - 1).abs()) / 2
        latent[0, 64:], latent[1, :64] = 0, 0
        seg, rebuilt = model.decoder(latent)
        truth = mask.long().squeeze(1)
        entropy = -seg.softmax(1).log_softmax(1).gather(1, truth[:, None]).mean()
        expected = activation + entropy + ((rebuilt - rgb) ** 2).mean()
        loss = model.loss(image, label, mask, torch.tensor([True, True]))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda e, d: e.pop("encoder.0.bias"), r"encoder_46\.pt.*encoder\.0\.bias"),
        (lambda e, d: d.update({"extra.weight": torch.zeros(1)}), r"decoder_46\.pt.*extra\.weight"),
        (lambda e, d: d.update({"shared.0.bias": torch.zeros(3)}), r"decoder_46\.pt.*shared\.0\.bias"),
    ],
    ids=["missing", "surplus", "misshaped"],
)
def test_wrong_files_are_refused(states: tuple[State, State], tmp_path: Path, change: object, sentence: str) -> None:
    encoder, decoder = (dict(state) for state in states)
    change(encoder, decoder)  # type: ignore[operator]
    with pytest.raises(UserError, match=sentence):
        MultiTask(CONFIG, None).load_published(str(write(tmp_path, encoder, decoder)))


def test_a_folder_without_the_files_is_refused(states: tuple[State, State], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds 0 files encoder_<n>\.pt"):
        MultiTask(CONFIG, None).load_published(str(tmp_path))
    fer = ESR(ESRConfig(size=64, branches=1))
    with_fer = MultiTask(CONFIG.model_copy(update={"expression": True}), fer)
    with pytest.raises(UserError, match="knows no expression features"):
        with_fer.load_published(str(write(tmp_path, *states)))
