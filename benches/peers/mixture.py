"""The update of a mixture config, such as configs/mixture50_jarzynski.toml, in JAX: one weighted ULA step of all walkers, resampling where the ess is low, gradients
over walkers and full-batch data, SGD. Numbers are read from the config. One JSON line.

  mixture.py CONFIG.toml --form autodiff|closed --updates K             updates per second, by the wall clock and per CPU-second of the process, compiled before
  mixture.py CONFIG.toml --form autodiff|closed --mass --seeds 0 1 …    CPU-seconds until the mass of the last mode stays within .02 of the training set's
                                                                       fraction to the end of the config's run, looked at every log_every updates
  mixture.py CONFIG.toml --form ember --program PATH --seeds 0 1 …      the same of `ember train`: its metric lines' masses, and the process's CPU-seconds in
                                                                       proportion to the updates (start-up and metric lines included; needs no JAX)

`autodiff` takes gradients in x and θ from jax.grad; `closed` writes them out with one matrix product.
"""
import argparse, json, math, os, resource, statistics, subprocess, sys, tempfile, time, tomllib
from pathlib import Path

TOLERANCE = 0.02
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('config')
parser.add_argument('--form', choices=['autodiff', 'closed', 'ember'], required=True)
parser.add_argument('--updates', type=int, default=400)
parser.add_argument('--mass', action='store_true')
parser.add_argument('--seeds', type=int, nargs='+', default=list(range(10)))
parser.add_argument('--steps', type=int, help='updates of a run, instead of the config\'s')
parser.add_argument('--program', default='ember')
a = parser.parse_args()
config = tomllib.loads(Path(a.config).read_text())
data, energy, optimizer = config['dataset'], config['energy'], config['optimizer']
N, d, h = config['walkers']['count'], data['dim'], config['kernel']['step_size']
steps, every = a.steps or config['steps'], config['output']['log_every']
if steps < every:
    parser.error(f'--steps {steps}: at least log_every = {every}')


def settled(masses, fraction):
    """The update from which on every mass is within the tolerance, of (update, mass) pairs; None where the last is not."""
    outside = [update for update, mass in masses if abs(mass - fraction) > TOLERANCE]
    after = [update for update, _ in masses if not outside or update > outside[-1]]
    return after[0] if after else None


def mass_result(runs, **more):
    """`runs`: (seed, update from which on the mass stays, its CPU-seconds, last mass, training fraction)."""
    reached = [cpu if cpu is not None else math.inf for _, _, cpu, _, _ in runs]
    median = statistics.median(reached)
    each = [dict(seed=seed, update=update, cpu_s=cpu and round(cpu, 3), mass=round(mass, 4), train_fraction=round(fraction, 4)) for seed, update, cpu, mass, fraction in runs]
    print(json.dumps(dict(bench='mixture_mass', form=a.form, steps=steps, median_cpu_s=None if math.isinf(median) else round(median, 3), seeds=each, **more)))


def ember_runs():
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in a.seeds:
            folder = Path(scratch) / str(seed)
            spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            before = spent()
            subprocess.run([a.program, 'train', a.config, '--out', folder, '--seed', str(seed), '--steps', str(steps), '--device', 'flex', '--set', f'output.checkpoint_every={steps}'],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            cpu = spent() - before
            lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
            masses = [(line['step'], line['mode_weights'][-1]) for line in lines]
            evaluated = subprocess.run([a.program, 'eval', folder, '--json', '--device', 'flex'], check=True, capture_output=True, text=True)
            fraction = json.loads(evaluated.stdout)['mode_weights_data'][-1]
            update = settled(masses, fraction)
            runs.append((seed, update, update and cpu * update / steps, masses[-1][1], fraction))
    mass_result(runs)


if a.form == 'ember':
    ember_runs()
    sys.exit()

import jax, jax.numpy as jnp, numpy as np  # noqa: E402

rate, logit_rate = optimizer['learning_rate'], optimizer['learning_rate'] * energy['logit_learning_rate_scale']
threshold = config['resampling']['ess_threshold']


def padded(means):
    return np.array([mean + [0.0] * (d - len(mean)) for mean in means], np.float32)


def draws(rng, means, weights, count):
    mode = rng.choice(len(means), count, p=weights)
    return (means[mode] + rng.standard_normal((count, d))).astype(np.float32), mode


def log_terms(P, x):
    """l_k − ½|x − m_k|² without the −½|x|² that all modes share, `[n, K]`."""
    means, logits = P
    return logits - 0.5 * jnp.sum(means * means, 1) + x @ means.T


def U(P, x):
    return 0.5 * jnp.sum(x * x, 1) - jax.nn.logsumexp(log_terms(P, x), axis=1)


def energy_and_grad_autodiff(P, x):
    (_, u), g = jax.value_and_grad(lambda y: (lambda u: (u.sum(), u))(U(P, y)), has_aux=True)(x)
    return u, g


def energy_and_grad_closed(P, x):
    terms = log_terms(P, x)
    return 0.5 * jnp.sum(x * x, 1) - jax.nn.logsumexp(terms, axis=1), x - jax.nn.softmax(terms, axis=1) @ P[0]


def gradient_autodiff(P, x, w, D):
    return jax.grad(lambda P: U(P, D).mean() - jnp.sum(w * U(P, x)))(P)


def gradient_closed(P, x, w, D):
    def pull(y, v):
        r = jax.nn.softmax(log_terms(P, y), axis=1) * v[:, None]
        mass = r.sum(0)
        return mass[:, None] * P[0] - r.T @ y, -mass
    (md, ld), (mw, lw) = pull(D, jnp.full(len(D), 1 / len(D))), pull(x, w)
    return md - mw, ld - lw


closed = a.form == 'closed'
energy_and_grad, gradient = (energy_and_grad_closed, gradient_closed) if closed else (energy_and_grad_autodiff, gradient_autodiff)
free = jnp.array([0.0] + [1.0] * (len(energy['means']) - 1))  # the first logit is frozen


def resampled(s, key):
    x, u, g, A = s
    w = jax.nn.softmax(A)
    at = (jnp.arange(N) + jax.random.uniform(key)) / N
    i = jnp.clip(jnp.searchsorted(jnp.cumsum(w), at), 0, N - 1)
    return x[i], u[i], g[i], jnp.zeros(N)


def update(state, key):
    P, (x, u, g, A), D = state
    k1, k2 = jax.random.split(key)
    y = x - h * g + math.sqrt(2 * h) * jax.random.normal(k1, x.shape)
    uy, gy = energy_and_grad(P, y)
    step = y - x
    # A += α_k(x, y) − α_{k+1}(y, x): the pair (u, g) belongs to the θ before the last step of the optimiser.
    A = A + (u + 0.5 * jnp.sum(step * g, 1) + 0.25 * h * jnp.sum(g * g, 1)) - (uy - 0.5 * jnp.sum(step * gy, 1) + 0.25 * h * jnp.sum(gy * gy, 1))
    s = (y, uy, gy, A)
    w = jax.nn.softmax(A)
    s = jax.lax.cond(1 / jnp.sum(w * w) < threshold * N, resampled, lambda s, _: s, s, k2)
    means, logits = gradient(P, s[0], jax.nn.softmax(s[3]), D)
    P = P[0] - rate * means, P[1] - logit_rate * free * logits
    return (P, s, D), None


chunk = jax.jit(lambda state, key, n: jax.lax.scan(update, state, jax.random.split(key, n))[0], static_argnums=2)


def start(seed):
    rng = np.random.default_rng(seed)
    D, mode = draws(rng, padded(data['means']), data['weights'], data['train_size'])
    means = padded(energy['means']) + energy['means_noise'] * rng.standard_normal((len(energy['means']), d)).astype(np.float32)
    x, _ = draws(rng, means, [1 / len(means)] * len(means), N)
    P = jnp.asarray(means), jnp.zeros(len(means))
    x = jnp.asarray(x)
    return (P, (x, *energy_and_grad(P, x), jnp.zeros(N)), jnp.asarray(D)), float(np.mean(mode == len(data['means']) - 1))


def throughput():
    state, _ = start(0)
    key = jax.random.key(0)
    state = jax.block_until_ready(chunk(state, key, a.updates))
    wall, cpu = time.perf_counter(), time.process_time()
    state = jax.block_until_ready(chunk(state, jax.random.key(1), a.updates))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps(dict(bench='mixture', form=a.form, version=f'jax {jax.__version__}', updates=a.updates, updates_per_s=round(a.updates / wall, 2),
                          updates_per_cpu_s=round(a.updates / cpu, 2), finite=bool(np.isfinite(np.asarray(state[1][3])).all()))))


def mass():
    runs = []
    jax.block_until_ready(chunk(start(0)[0], jax.random.key(0), every))
    for seed in a.seeds:
        (state, fraction), key, masses, spent = start(seed), jax.random.key(seed), [], []
        before = time.process_time()
        for k in range(1, steps // every + 1):
            key, now = jax.random.split(key)
            state = chunk(state, now, every)
            masses.append((k * every, float(jax.nn.softmax(state[0][1])[-1])))
            spent.append(time.process_time() - before)
        update = settled(masses, fraction)
        runs.append((seed, update, update and spent[update // every - 1], masses[-1][1], fraction))
    mass_result(runs, version=f'jax {jax.__version__}')


mass() if a.mass else throughput()
