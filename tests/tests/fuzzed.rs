//! What the fuzzers run, in the ordinary suite: seeds, every input that once failed, and mutations with fixed seeds. No panic, no input
//! that takes more than a second or 256 MiB.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ember_tests::fuzzed::{MOST_MEMORY, MOST_TIME, Mutator, TARGETS, Target, warm_up};

/// Mutations of each target. `EMBER_FUZZED` asks for more.
const MUTATIONS: usize = 1_000;

/// Failures of a target that are looked for, and shown.
const SHOWN: usize = 5;

/// Bytes that are allocated, and the most there were.
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
struct Counted;

// What is counted, and nothing else, is added to the system's allocator.
#[allow(unsafe_code)]
mod counted {
    use std::alloc::{GlobalAlloc, Layout, System};

    use super::{Counted, MOST, NOW, Relaxed};

    unsafe impl GlobalAlloc for Counted {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            MOST.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
            unsafe { System.alloc(layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            MOST.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            NOW.fetch_sub(layout.size(), Relaxed);
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Counted = Counted;
}

/// One test at a time: the memory is the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    warm_up();
    alone
}

/// Runs an input within its bounds.
fn within_bounds(target: &Target, bytes: &[u8]) -> Result<(), String> {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let mut time = target.check(bytes)?;
    if time > MOST_TIME {
        // Another process may have had the processor.
        time = target.check(bytes)?.min(time);
    }
    let memory = MOST.load(Relaxed).saturating_sub(before);
    match (time > MOST_TIME, memory > MOST_MEMORY) {
        (true, _) => Err(format!("{time:?}, at most {MOST_TIME:?} allowed")),
        (_, true) => Err(format!("{memory} bytes allocated at one time, at most {MOST_MEMORY} allowed")),
        _ => Ok(()),
    }
}

#[test]
fn seeds_are_read() {
    let _alone = alone();
    for target in TARGETS {
        for (i, seed) in (target.seeds)().iter().enumerate() {
            // What is made once a process is made here.
            let _ = target.check(seed);
            assert_eq!(within_bounds(target, seed), Ok(()), "seed {i} of {}", target.name);
        }
    }
}

#[test]
fn inputs_that_once_failed() {
    let _alone = alone();
    let mut wrong = Vec::new();
    for target in TARGETS {
        for (path, bytes) in target.crashes() {
            let error = within_bounds(target, &bytes).err();
            wrong.extend(error.map(|error| format!("{}: {error}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mutations_with_a_fixed_seed() {
    let _alone = alone();
    let count = std::env::var("EMBER_FUZZED").ok().and_then(|count| count.parse().ok()).unwrap_or(MUTATIONS);
    let mut wrong = Vec::new();
    for target in TARGETS {
        let (seeds, mut mutator) = ((target.seeds)(), Mutator::new(1));
        let inputs = (0..count).map(|_| mutator.next(target, &seeds));
        let failed = inputs.filter_map(|bytes| Some((within_bounds(target, &bytes).err()?, bytes)));
        wrong.extend(
            failed
                .take(SHOWN)
                .map(|(error, bytes)| format!("{}: {error}\n    b\"{}\"", target.name, bytes.escape_ascii())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each bound can be missed: by a panic, by time, by memory.
#[test]
fn what_is_wrong_is_found() {
    let _alone = alone();
    let target = Target {
        name: "wrong",
        run: |bytes| match bytes {
            b"panic" => panic!("on purpose"),
            b"time" => std::thread::sleep(MOST_TIME + Duration::from_millis(100)),
            b"memory" => drop(std::hint::black_box(Vec::<u8>::with_capacity(MOST_MEMORY + 1))),
            _ => {}
        },
        seeds: || vec![b"pani".to_vec(), b"fine".to_vec()],
        words: &["panic"],
        most_bytes: 8,
    };
    assert_eq!(within_bounds(&target, b"fine"), Ok(()));
    for (bytes, words) in
        [(&b"panic"[..], "on purpose"), (b"time", "at most 1s"), (b"memory", "bytes allocated")]
    {
        let error = within_bounds(&target, bytes).expect_err("out of bounds");
        assert!(error.contains(words), "{error}");
    }
    // And a mutation comes upon it.
    let (seeds, mut mutator) = ((target.seeds)(), Mutator::new(1));
    assert!((0..100_000).any(|_| target.check(&mutator.next(&target, &seeds)).is_err()));
}
