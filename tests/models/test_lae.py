"""LAE's attention is what each place adds to the class, and it moves onto the masks that are known."""

import pytest
import torch

from emd_core.models.baselines.lae import LAE, LAEConfig, attention, attention_error
from emd_core.models.detector import resize
from emd_core.models.latent_halves import half_activations

CONFIG = LAEConfig(kind="lae", size=64)


def test_its_size_by_hand() -> None:
    """That of ForensicTransfer with 3 channels for 6: 27 weights less for each of 8 filters, and 3 filters less."""
    assert sum(p.numel() for p in LAE(CONFIG).parameters()) == 197_798 - 8 * 27 - 3 * (8 * 9 + 1)


def test_shapes() -> None:
    logits, mask = LAE(CONFIG)(torch.rand(2, 3, 80, 80))
    assert logits.shape == (2, 2)
    assert mask is not None
    assert mask.shape == (2, 1, 80, 80)


def test_attention_by_hand() -> None:
    latent = torch.tensor([[9.0, 9.0], [9.0, 9.0], [2.0, -4.0], [0.0, 2.0]]).view(1, 4, 1, 2)
    assert attention(latent).flatten().tolist() == [1.0, 3.0]
    assert half_activations(latent)[0, 1] == 2.0  # its mean


def test_attention_error_by_hand() -> None:
    """Too little within the mask or any outside of it is an error; more than 1 within is none."""
    seen, mask = torch.tensor([0.25, 3.0, 0.5, 0.1]).view(1, 1, 2, 2), torch.tensor([1.0, 1, 0, 0]).view(1, 1, 2, 2)
    assert attention_error(seen, mask).tolist() == pytest.approx([(0.75 + 0 + 0.5 + 0.1) / 4])


def test_the_mask_is_the_attention() -> None:
    torch.manual_seed(0)
    model, image = LAE(CONFIG).eval(), torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        seen = attention(model.net.encoder(image * 2 - 1))
        mask = model.detect(image, None)[1]
    torch.testing.assert_close(mask.sigmoid(), seen.clamp(0.01, 0.99))


def test_training_loss_by_hand() -> None:
    torch.manual_seed(0)
    model = LAE(CONFIG).eval()
    for module in model.modules():  # as wide as it takes for the latent map to be seen in what is rebuilt
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, 0, 0.2)
    image, label = torch.rand(2, 3, 64, 64), torch.tensor([1, 0])
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, 0, 16:48, 16:48] = 1
    with torch.inference_mode():
        rgb = image * 2 - 1
        latent = model.net.encoder(rgb)
        seen = latent[:, 64:].abs().mean(1)
        zero, one = latent[:, :64].abs().mean(dim=(1, 2, 3)), seen.mean(dim=(1, 2))
        activation = ((one[0] - 1).abs() + zero[0].abs() + one[1].abs() + (zero[1] - 1).abs()) / 2
        latent[0, :64], latent[1, 64:] = 0, 0  # the half of the other class
        reconstruction = ((model.net.decoder(latent) - rgb) ** 2).mean()
        inside = resize(mask, 4)[0, 0]
        wrong = ((1 - seen[0]).clamp(min=0) * inside + seen[0] * (1 - inside)).mean()
        losses = [
            model.loss(image, label, resized, torch.tensor(known))
            for resized, known in [
                (mask, [True, False]),
                (torch.cat([mask[:1], torch.rand(1, 1, 64, 64)]), [True, False]),
                (mask, [False, False]),
            ]
        ]
    expected = activation + reconstruction + torch.stack([wrong, wrong, torch.tensor(0.0)])
    torch.testing.assert_close(torch.stack(losses), expected)


def trained(known: bool) -> float:
    """Among manipulated faces, noise with a smooth corner, the share of the attention that lies on the corner."""
    torch.manual_seed(0)
    model, image, label = LAE(CONFIG), torch.rand(8, 3, 64, 64), torch.arange(8) % 2
    mask = torch.zeros(8, 1, 64, 64)
    mask[1::2, :, :32, :32] = 1
    image[1::2, :, :32, :32] = 0.5
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(40):
        loss = model.loss(image, label, mask, torch.full((8,), known))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        seen = attention(model.net.encoder(image[1::2] * 2 - 1))
    return float(seen[:, :, :2, :2].sum() / seen.sum())


def test_the_attention_moves_onto_known_masks() -> None:
    assert trained(known=True) > 0.8
    assert trained(known=False) < 0.7
