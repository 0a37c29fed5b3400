#!/usr/bin/env bash
# Runs the commands behind the figures of benches/RESULTS.md again, and prints the figures that no longer hold.
#
#   benches/verify.sh            every row that this machine can run, but for speeds
#   benches/verify.sh --list     the rows, with their minutes and what they need
#   benches/verify.sh seeds toy  some rows
#
# EMBER      the program (default: the one it builds)
# FIGURES    the folder of what the commands print (default: figures/); remove a file there to run its row again
# EMBER_DATA the folder of MNIST and the other image sets, for the rows that read them
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --workspace --bins
target="${CARGO_TARGET_DIR:-target}"
export EMBER="${EMBER:-$target/release/ember}" CAMPAIGN="$target/release/campaign"
exec "$target/release/verify" "$@"
