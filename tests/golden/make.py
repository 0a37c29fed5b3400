#!/usr/bin/env python3
"""Writes mlp_pytorch.safetensors and conv_pytorch.safetensors beside itself: energies as PyTorch computes them.

Needs only torch and safetensors (which writes through numpy). One file holds, float32, row-major:
  layers.{i}.weight, layers.{i}.bias    theta, in PyTorch's layout
  position [N, d]                       points x_b
  energy [N], energy_grad [N, d]        U(x_b) and its gradient in x
  weights [N]                           w_b, positive, sum 1
  grad.layers.{i}.weight, .bias         sum_b w_b dU(x_b)/dtheta
and, as metadata, `ember.config`: the energy's table with the shape of a sample.

References are computed in float64 from the float32 inputs, rounded once, and checked against PyTorch's own float32.
"""
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
CONV = [(3, 1, 1), (4, 2, 1), (4, 2, 1), (4, 2, 1), (4, 1, 0)]  # kernel, stride, padding


def layers(shapes, generator):
    """Weights N(0, 2 / fan_in), biases N(0, 0.01)."""
    theta = {}
    for i, shape in enumerate(shapes):
        fan_in = torch.Size(shape[1:]).numel()
        theta[f"layers.{i}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        theta[f"layers.{i}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    return theta


def mlp(theta, x):
    count = len(theta) // 2
    for i in range(count):
        x = F.linear(x, theta[f"layers.{i}.weight"], theta[f"layers.{i}.bias"])
        x = F.silu(x) if i + 1 < count else x
    return x.squeeze(1)


def conv(theta, x):
    for i, (_, stride, padding) in enumerate(CONV):
        x = F.conv2d(x, theta[f"layers.{i}.weight"], theta[f"layers.{i}.bias"], stride=stride, padding=padding)
        x = F.silu(x) if i + 1 < len(CONV) else x
    return x.flatten()


def reference(net, confinement, theta, x, w):
    """U = net + confinement |x|^2 / 2, its gradient in x, and the weighted gradients in theta."""
    theta = {name: value.clone().requires_grad_(True) for name, value in theta.items()}
    x = x.clone().requires_grad_(True)
    energy = net(theta, x) + 0.5 * confinement * x.flatten(1).square().sum(1)
    (energy_grad,) = torch.autograd.grad(energy.sum(), x, retain_graph=True)
    grads = torch.autograd.grad((w * energy).sum(), list(theta.values()))
    out = {"energy": energy.detach(), "energy_grad": energy_grad.flatten(1)}
    return out | {f"grad.{name}": grad for name, grad in zip(theta, grads)}


def write(name, config, net, confinement, shapes, size, seed):
    generator = torch.Generator().manual_seed(seed)
    theta = layers(shapes, generator)
    x = torch.randn(size, generator=generator)
    w = torch.rand(size[0], generator=generator) + 0.1
    w = w / w.sum()
    double = lambda tensors: {key: value.double() for key, value in tensors.items()}
    exact = reference(net, confinement, double(theta), x.double(), w.double())
    single = reference(net, confinement, theta, x, w)
    for key, value in exact.items():
        off = float((single[key].double() - value).abs().max() / value.abs().max())
        assert off < 1e-5, f"{name} {key}: float32 is off by {off}"
    tensors = theta | {"position": x.flatten(1), "weights": w}
    tensors |= {key: value.float() for key, value in exact.items()}
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    save_file(tensors, HERE / f"{name}_pytorch.safetensors", metadata={"ember.config": config})
    print(f"{name}: mean energy {float(exact['energy'].mean()):.6f}")


torch.set_num_threads(1)

dim, hidden, depth, c = 2, 16, 3, 0.5
widths = [dim] + [hidden] * depth + [1]
config = f'kind = "mlp"\ndim = {dim}\nhidden = {[hidden] * depth}\nactivation = "silu"\nconfinement = {c}\n'
write("mlp", config, mlp, c, [(o, i) for i, o in zip(widths, widths[1:])], (16, dim), 0)

# One column more than rows: rows and columns cannot be swapped unseen, and no stride divides the width.
# The confinement is small, so that the network is not drowned by 0.5 c |x|^2.
shape, channels, c = (3, 32, 33), 4, 0.001
outs = [channels, 2 * channels, 4 * channels, 8 * channels, 1]
table = ", ".join(f"{{ out = {o}, kernel = {k}, stride = {s}, padding = {p} }}" for o, (k, s, p) in zip(outs, CONV))
config = f'kind = "conv"\nshape = {list(shape)}\nlayers = [{table}]\nactivation = "silu"\nconfinement = {c}\n'
sizes = [(o, i, k, k) for o, i, (k, _, _) in zip(outs, [shape[0]] + outs, CONV)]
write("conv", config, conv, c, sizes, (4, *shape), 1)
