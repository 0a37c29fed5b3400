"""The matrix rate of an accelerator: C = A·B of N × N, in TFLOP/s, by PyTorch or else JAX. One JSON line.

  matmul.py [--device cuda|cpu] [--precision fp32|tf32|bf16] [--size 8192]
"""
import argparse, importlib.util, json, statistics, time
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--device', default='cuda')
parser.add_argument('--precision', choices=['fp32', 'tf32', 'bf16'], default='fp32')
parser.add_argument('--size', type=int, default=8192)
a = parser.parse_args()
if importlib.util.find_spec('torch'):
    import torch
    torch.backends.cuda.matmul.allow_tf32 = a.precision == 'tf32'
    version, kind = f'torch {torch.__version__}', torch.bfloat16 if a.precision == 'bf16' else torch.float32
    A, B = (torch.randn(a.size, a.size, device=a.device, dtype=kind) for _ in range(2))
    wait = torch.cuda.synchronize if a.device == 'cuda' else (lambda: None)
    product = lambda: A @ B
    done = lambda last: wait()
else:
    import jax, jax.numpy as jnp
    jax.config.update('jax_default_matmul_precision', {'fp32': 'float32', 'tf32': 'tensorfloat32', 'bf16': 'bfloat16'}[a.precision])
    version, kind = f'jax {jax.__version__}', jnp.bfloat16 if a.precision == 'bf16' else jnp.float32
    A, B = (jax.random.normal(jax.random.key(i), (a.size, a.size), kind) for i in range(2))
    multiply = jax.jit(jnp.matmul)
    product, done = (lambda: multiply(A, B)), (lambda last: last.block_until_ready())
done(product())
rates = []
for _ in range(5):
    began, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - began < 0.2:
        last = product()
        count += 1
        if count % 8 == 0:
            done(last)
    done(last)
    rates.append(2 * a.size ** 3 * count / (time.perf_counter() - began) / 1e12)
print(json.dumps(dict(bench='matmul', version=version, device=a.device, precision=a.precision, size=a.size, tflop_per_s=round(statistics.median(rates), 6))))
