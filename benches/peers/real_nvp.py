"""Training steps of a RealNVP by maximum likelihood with Adam, in PyTorch or JAX on an accelerator: the work of `ember bench flow`. One JSON line.

  real_nvp.py --how eager|compile|jax [--device cuda|cpu] [--dim D] [--layers L] [--hidden H] [--batch B]

Affine couplings by alternating halves, scales bounded by tanh, each with a ReLU network of two hidden layers; f32 products. Times are between device synchronisations,
after warm-up; the median of --reps repetitions.
"""
import argparse, json, math, statistics, time
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--how', choices=['eager', 'compile', 'jax'], default='eager')
parser.add_argument('--device', default='cuda')
parser.add_argument('--dim', type=int, default=32)
parser.add_argument('--layers', type=int, default=8)
parser.add_argument('--hidden', type=int, default=128)
parser.add_argument('--batch', type=int, default=4096)
parser.add_argument('--iters', type=int, default=50)
parser.add_argument('--reps', type=int, default=3)
a = parser.parse_args()
import numpy as np  # noqa: E402

rng, half = np.random.default_rng(0), a.dim // 2
data = rng.standard_normal((a.batch, a.dim)).astype(np.float32)
sizes = [half, a.hidden, a.hidden, 2 * (a.dim - half)]
weights = [(rng.standard_normal((i, o)).astype(np.float32) * math.sqrt(2 / i) * (0.1 if o == sizes[-1] else 1), np.zeros(o, np.float32)) for _ in range(a.layers) for i, o in zip(sizes, sizes[1:])]


def loss(library, P, x):
    """Mean −log ρ of the rows: every coupling moves one half by an affine map of the other."""
    log_det = 0
    for layer in range(a.layers):
        still, moved = (x[:, :half], x[:, half:]) if layer % 2 == 0 else (x[:, half:], x[:, :half])
        h = still
        for i in range(3):
            w, b = P[3 * layer + i]
            h = h @ w + b
            if i < 2:
                h = library.maximum(h, library.zeros_like(h))
        scale, shift = library.tanh(h[:, :half]), h[:, half:]
        moved = moved * library.exp(scale) + shift
        log_det = log_det + scale.sum(1)
        x = library.concatenate([still, moved] if layer % 2 == 0 else [moved, still], 1)
    return (0.5 * (x * x).sum(1) + 0.5 * a.dim * math.log(2 * math.pi) - log_det).mean()


if a.how == 'jax':
    import jax, jax.numpy as jnp, optax
    jax.config.update('jax_default_matmul_precision', 'float32')
    version, P, x, optimizer = f'jax {jax.__version__}', jax.tree.map(jnp.asarray, weights), jnp.asarray(data), optax.adam(1e-4)
    state = [P, optimizer.init(P), 0.0]

    @jax.jit
    def step(P, moments):
        value, grads = jax.value_and_grad(lambda P: loss(jnp, P, x))(P)
        updates, moments = optimizer.update(grads, moments)
        return optax.apply_updates(P, updates), moments, value

    def run(count):
        for _ in range(count):
            state[:] = step(state[0], state[1])
        jax.block_until_ready(state[2])
else:
    import torch
    torch.backends.cuda.matmul.allow_tf32 = False
    version, x = f'torch {torch.__version__}', torch.tensor(data, device=a.device)
    P = [tuple(torch.nn.Parameter(torch.tensor(value, device=a.device)) for value in pair) for pair in weights]
    optimizer = torch.optim.Adam([value for pair in P for value in pair], 1e-4)
    value_of = lambda: loss(torch, P, x)
    value_of, state = torch.compile(value_of) if a.how == 'compile' else value_of, [None, None, 0.0]

    def run(count):
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            value = value_of()
            value.backward()
            optimizer.step()
        state[2] = value.detach()
        if a.device == 'cuda':
            torch.cuda.synchronize()

run(3)
rates = []
for _ in range(a.reps):
    began = time.perf_counter()
    run(a.iters)
    rates.append(a.iters / (time.perf_counter() - began))
print(json.dumps(dict(bench='flow', how=a.how, version=version, device=a.device, dim=a.dim, layers=a.layers, hidden=a.hidden, batch=a.batch, train_batches_per_s=round(statistics.median(rates), 2),
                      finite=bool(np.isfinite(float(state[2]))))))
