"""ForensicTransfer sees the third derivative, and learns from the half that the label names."""

import itertools

import torch

from emd_core.models.baselines.forensictransfer import ForensicTransfer, ForensicTransferConfig, residual

CONFIG = ForensicTransferConfig(kind="forensictransfer", size=32)


def test_its_size_by_hand() -> None:
    """3x3 convolutions with biases, and batch norms after all but the first and the last."""
    widths = (6, 8, 16, 32, 64, 128, 64, 32, 16, 8, 6)
    convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    norms = sum(2 * width for width in widths[2:-1])
    assert sum(p.numel() for p in ForensicTransfer(CONFIG).parameters()) == convolutions + norms == 197_798


def test_shapes() -> None:
    model = ForensicTransfer(CONFIG)
    image = torch.rand(2, 6, 32, 32)
    latent = model.net.encoder(image)
    assert latent.shape == (2, 128, 2, 2)
    assert model.net.decoder(latent).shape == image.shape
    logits, mask = model(torch.rand(2, 3, 40, 40))
    assert logits.shape == (2, 2)
    assert mask is None


def test_the_third_derivative_of_a_cubic_is_six() -> None:
    cubic = torch.arange(8.0) ** 3
    image = torch.stack([cubic.expand(8, 8), cubic[:, None].expand(8, 8), torch.zeros(8, 8)])[None]  # R, G, B
    found = residual(image)[0]
    six = torch.tensor([0.0, 6, 6, 6, 6, 6, 0, 0])
    assert torch.equal(found[0], six.expand(8, 8))  # red, along rows
    assert torch.equal(found[4], six[:, None].expand(8, 8))  # green, along columns
    assert not found[[1, 2, 3, 5]].any()


def test_training_loss_by_hand() -> None:
    torch.manual_seed(0)
    model = ForensicTransfer(CONFIG).eval()
    for module in model.modules():  # as wide as it takes for the latent map to be seen in what is rebuilt
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, 0, 0.2)
    image, label = torch.rand(2, 3, 32, 32), torch.tensor([1, 0])
    with torch.inference_mode():
        seen = residual(image)
        latent = model.net.encoder(seen)
        zero, one = latent[:, :64].abs().mean(dim=(1, 2, 3)), latent[:, 64:].abs().mean(dim=(1, 2, 3))
        activation = ((one[0] - 1).abs() + zero[0].abs() + one[1].abs() + (zero[1] - 1).abs()) / 2
        latent[0, :64], latent[1, 64:] = 0, 0  # the half of the other class
        expected = activation + 0.1 * (model.net.decoder(latent) - seen).abs().mean()
        loss = model.loss(image, label, torch.zeros(2, 1, 32, 32), torch.tensor([True, True]))
        torch.testing.assert_close(model(image)[0], torch.stack([zero, one], dim=1))
    torch.testing.assert_close(loss, expected)
