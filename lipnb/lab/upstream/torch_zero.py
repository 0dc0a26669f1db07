"""PyTorch: after one call with a zero weight, parametrizations.spectral_norm never recovers."""

import torch

layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 3, bias=False))
original = layer.parametrizations.weight.original
torch.nn.init.zeros_(original)
layer(torch.ones(1, 4))
torch.nn.init.normal_(original)
for _ in range(50):
    y = layer(torch.ones(1, 4))
print("output after 50 further calls:", y.detach().numpy(), "u:", layer.parametrizations.weight[0]._u.numpy())
assert torch.all(torch.isfinite(y))
