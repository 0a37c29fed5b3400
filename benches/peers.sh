#!/usr/bin/env bash
# Ours against the peers on a processor: the same work, alternating in one sitting, medians, one table of ratios.
#
#   benches/peers.sh YARDSTICKS OUT               all rows
#   benches/peers.sh YARDSTICKS OUT ula_mlp mala_mlp   some rows
#   benches/peers.sh YARDSTICKS OUT table         the table of what OUT holds, nothing is run
#
# YARDSTICKS   the folder of the peers' programs: bench_langevin.py, bench_update.py, bench_resample.py, bench_realnvp.py, make_model.py, spec.py
# OUT          a folder to make or go on with: ROW-tTHREADS.jsonl (every result, with its command), table.md. Restartable: a row whose file is
#              there is not run again; remove the file to repeat it
# EMBER        the program (default: target/release/ember)
# TORCH_PYTHON the interpreter with PyTorch (and torchebm, particles, normflows, nflows, zuko, FrEIA where they are to be run); default python3
# JAX_PYTHON   the interpreter with JAX (and optax, blackjax, flowMC); default python3. A peer whose modules are missing is named as not run
# THREADS      "1 2" (default): numbers of threads, each pinned to as many cores, the first ones unless CPUS names them ("4,5")
# ROUNDS       3: rounds of ours and every peer in turn; the median over rounds is taken
# METRIC       wall (default) or cpu: rates per second, or per CPU-second of the process, which a busy machine disturbs less (1 thread only; a
#              peer's is then the best of its repetitions)
# BUDGET       20: seconds a peer may wait for repetitions that nothing else on the machine disturbs, TIMEOUT 1800: seconds after which a program is ended
# STEPS        steps, updates or calls instead of each row's own, SEEDS "0 1 … 9" of mixture_mass: to try the script itself
#
# Rows: ula_mlp ula_mlp64d ula_mlp65536 mala_mlp mala_mlp64d mala_mlp65536 ula_conv update_mlp update_conv score_denoising score_sliced
# mixture mixture_mass resample flow_log_prob flow_train start
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,22p' "$0" | cut -c3-; exit 2; }
here=$(dirname "$(realpath "$0")")
exec "${PYTHON:-python3}" "$here/peers/cpu.py" "$@"
