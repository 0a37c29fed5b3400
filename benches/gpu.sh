#!/usr/bin/env bash
# Ours against the peers on a GPU: one script for a bare machine with the program, this folder, the peers' programs and Python. Prints one table.
#
#   benches/gpu.sh PROGRAM YARDSTICKS OUT               all rows
#   benches/gpu.sh PROGRAM YARDSTICKS OUT ula_4096 start   some rows
#   benches/gpu.sh PROGRAM YARDSTICKS OUT table         the table of what OUT holds, nothing is run
#
# PROGRAM      the `ember` binary, built with `wgpu` or `vulkan`
# YARDSTICKS   the folder of the peers' programs: bench_gpu.py, bench_update.py, make_model.py, spec.py
# OUT          a folder to make or go on with: devices.txt, ROW.jsonl (every result, with its command), table.md. A row whose file is there is not run again
# DEVICE       wgpu (default), or what else `--device` takes
# TORCH_PYTHON, JAX_PYTHON   interpreters with PyTorch and JAX that reach the GPU; default python3. What a Python lacks is named as not run; where
#              neither has numpy and safetensors, ours runs on random weights of its own
# DATA         the folder of CIFAR-10's binary files, for the row `cifar`; without it that row is not run
# ROUNDS       3: rounds of ours and every peer in turn; the median is taken. TIMEOUT 1800: seconds after which a program is ended
# TINY=1       a handful of walkers and steps, peers on the processor: to know that the script works, with software Vulkan or DEVICE=flex
#
# Rows: ula_4096 ula_65536 ula_1m conv_f32 conv_tf32 update_f32 update_tf32 cifar resample start matmul
# conv_*: weighted ULA of the CIFAR-10 network, 256 walkers; update_*: 60 such steps and one of Adam; cifar: configs/cifar10_jarzynski.toml, 256 walkers × 60 steps.
# Benches whose --help knows `--precision` are given it; else tf32 is not run.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,20p' "$0" | cut -c3-; exit 2; }
here=$(dirname "$(realpath "$0")")
exec "${PYTHON:-python3}" "$here/peers/gpu.py" "$@"
