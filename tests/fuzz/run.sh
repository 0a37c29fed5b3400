#!/usr/bin/env bash
# Runs every fuzz target under libFuzzer with address sanitizer, and prints one line a target. Needs a nightly compiler and cargo-fuzz
# (`cargo +nightly install cargo-fuzz --locked`).
#
#   tests/fuzz/run.sh [EXECUTIONS] [TARGET ...]      of each target; 100000 of all targets unless given
#
# SECONDS_EACH=N ends a target after N seconds; CORPUS=DIR keeps what was found; CARGO_TARGET_DIR says where to build (a first build takes
# a quarter of an hour on two cores).
# An input that panics, takes longer than TIMEOUT seconds, allocates more than MALLOC MiB at once or brings the process over RSS MiB is
# left in tests/fuzz/artifacts/TARGET. Exit code 1 if there is one.
set -euo pipefail
cd "$(dirname "$0")/../.."

executions="${1:-100000}"
[ $# -eq 0 ] || shift
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' tests/fuzz/Cargo.toml | grep -v ember)

timeout="${TIMEOUT:-1}" malloc="${MALLOC:-256}" rss="${RSS:-1024}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/ember-fuzz}"
# The files of inputs, in memory where the system has such a place. They go with the script.
memory=/dev/shm
[ -d "$memory" ] || memory=/tmp
TMPDIR="$(mktemp -d "$memory/ember-fuzz.XXXXXX")"
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
corpus="${CORPUS:-$TMPDIR/corpus}"
export RAYON_NUM_THREADS="${RAYON_NUM_THREADS:-1}"
# What is freed and not given out again, by which use after free is found.
export ASAN_OPTIONS="${ASAN_OPTIONS:-quarantine_size_mb=32}"
# Builds arithmetic libraries without instrumentation.
RUSTC_WRAPPER="$PWD/tests/fuzz/rustc.sh"
export RUSTC_WRAPPER

# The versions that the program is built with.
[ tests/fuzz/Cargo.lock -nt Cargo.lock ] || cp Cargo.lock tests/fuzz/Cargo.lock
cargo +nightly fuzz build --fuzz-dir tests/fuzz >&2

host="$(rustc +nightly -vV | sed -n 's/^host: //p')"
failed=0
for target in "${targets[@]}"; do
  mkdir -p "$corpus/$target" "tests/fuzz/artifacts/$target"
  program="$CARGO_TARGET_DIR/$host/release/$target"
  EMBER_FUZZ_SEEDS="$corpus" "$program" -runs=0 >/dev/null 2>&1
  log="$TMPDIR/$target.log"
  # libFuzzer does not take an empty dictionary.
  dictionary=()
  [ ! -s "$corpus/$target.dict" ] || dictionary=("-dict=$corpus/$target.dict")
  ended=0
  before="$(find "tests/fuzz/artifacts/$target" -type f | wc -l)"
  "$program" "$corpus/$target" "${dictionary[@]}" "$(cat "$corpus/$target.options")" \
    -runs="$executions" -timeout="$timeout" -malloc_limit_mb="$malloc" -rss_limit_mb="$rss" \
    -artifact_prefix="tests/fuzz/artifacts/$target/" -print_final_stats=1 ${SECONDS_EACH:+-max_total_time="$SECONDS_EACH"} \
    >"$log" 2>&1 || ended=$? failed=1
  after="$(find "tests/fuzz/artifacts/$target" -type f | wc -l)"
  awk -v target="$target" -v bad="$((after - before))" '
    /stat::number_of_executed_units:/ { runs = $2 } /stat::average_exec_per_sec:/ { speed = $2 } /stat::peak_rss_mb:/ { rss = $2 }
    END { printf "%-12s %10d executions %8d a second, peak %5d MiB, %d inputs that fail\n", target, runs, speed, rss, bad }' "$log"
  [ "$after" = "$before" ] && [ "$ended" = 0 ] || tail -n 40 "$log" >&2
done
exit "$failed"
