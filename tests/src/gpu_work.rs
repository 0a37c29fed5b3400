//! What a piece of work costs on the GPU path: kernel launches, submissions, reads by the host, bytes through device memory.
//!
//! | figure | from |
//! |---|---|
//! | dispatches | CubeCL's launch observer: every kernel as it is issued |
//! | submissions, reads | wgpu's own log: `Queue::submit`, `Buffer::map_async` |
//! | uploads, allocations | `Queue::write_buffer`, `Device::create_buffer` |
//! | bytes | burn-fusion's observer: the operands of every block of operations that becomes one kernel, each once |
//!
//! Bytes are a lower bound of the traffic: a block reads every tensor from outside of it at least once, and writes every tensor
//! that outlives it; what an operation keeps to itself (scratch, copies to another memory order) is not seen.
//! Counts are those of a steady state: the work has run before, so that kernels are compiled and the fusion has its plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use burn::tensor::{Device, Tensor};
use burn_fusion::observer::{BlockOperations, FusionObservation, FusionObserver};
use burn_ir::{BaseOperationIr, OperationIr, TensorIr, TensorStatus};
use cubecl::logging::{LaunchObservation, LaunchObserver};
use ember_model::random::{Purpose, Stream};
use ember_sampler::device::langevin_proposal;

/// What some work cost, in all of its `repeats`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Times the work was done.
    pub repeats: usize,
    /// Launches of each kernel, by the kernel's name.
    pub kernels: BTreeMap<String, usize>,
    /// Batches of launches handed to the driver.
    pub submissions: usize,
    /// Times the host waited for a buffer of the device.
    pub reads: usize,
    /// Times the host wrote to a buffer of the device, parameters of launches included.
    pub uploads: usize,
    /// Buffers allocated.
    pub allocations: usize,
    /// Bytes that kernels read or write at least.
    pub bytes: usize,
}

impl Work {
    /// Kernel launches for one repeat.
    pub fn dispatches(&self) -> f64 {
        self.kernels.values().sum::<usize>() as f64 / self.repeats as f64
    }

    /// Bytes for one repeat.
    pub fn bytes_each(&self) -> f64 {
        self.bytes as f64 / self.repeats as f64
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:.2} dispatches, {:.2} MB, of {} repeats; in all {} submissions, {} reads, {} uploads, {} allocations",
            self.dispatches(),
            self.bytes_each() / 1e6,
            self.repeats,
            self.submissions,
            self.reads,
            self.uploads,
            self.allocations
        )?;
        for (name, count) in &self.kernels {
            writeln!(f, "  {:6.2} {name}", *count as f64 / self.repeats as f64)?;
        }
        Ok(())
    }
}

static SUBMISSIONS: AtomicUsize = AtomicUsize::new(0);
static READS: AtomicUsize = AtomicUsize::new(0);
static UPLOADS: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// Counts wgpu's log lines; everything else passes unheard.
struct Tap;

impl log::Log for Tap {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("wgpu_core")
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match record.args().as_str() {
            Some("Queue::submit") => SUBMISSIONS.fetch_add(1, Ordering::Relaxed),
            Some("Queue::write_buffer") => UPLOADS.fetch_add(1, Ordering::Relaxed),
            Some(_) => 0,
            None => {
                let line = record.args().to_string();
                let counter = [("Buffer::map_async", &READS), ("Device::create_buffer", &ALLOCATIONS)];
                let found = counter.into_iter().find(|(start, _)| line.starts_with(start));
                found.map_or(0, |(_, counter)| counter.fetch_add(1, Ordering::Relaxed))
            }
        };
    }

    fn flush(&self) {}
}

/// Kernels by name.
#[derive(Default)]
struct Launches(Mutex<BTreeMap<String, usize>>);

impl LaunchObserver for Launches {
    fn launched(&self, kernel: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(short(kernel)).or_default() += 1;
    }
}

/// `a::b::Kernel<c::d::E>` as `Kernel`.
fn short(name: &str) -> String {
    let own = name.split('<').next().unwrap_or(name);
    own.rsplit("::").find(|part| !part.is_empty()).unwrap_or(own).to_owned()
}

/// Operands of blocks.
#[derive(Default)]
struct Traffic(AtomicUsize);

impl FusionObserver for Traffic {
    fn registered(&self, _operation: &OperationIr) {}

    fn block_starts(&self, block: BlockOperations<'_>) {
        self.0.fetch_add(traffic(block), Ordering::Relaxed);
    }

    fn block_ran(&self) {}
}

/// Bytes of what a block reads from outside of it, and of what it leaves.
fn traffic(block: BlockOperations<'_>) -> usize {
    let bytes = |tensor: &TensorIr| tensor.shape.num_elements() * tensor.dtype.size();
    let mut read = BTreeSet::new();
    let mut made = BTreeMap::new();
    let mut total = 0;
    for operation in block.iter() {
        if let OperationIr::Drop(tensor) = operation {
            made.remove(&tensor.id);
            continue;
        }
        if block.iter().len() == 1 && is_view(operation) {
            return 0;
        }
        for input in operation.inputs() {
            match made.contains_key(&input.id) {
                // Its last use: it need not outlive the block.
                true if input.status == TensorStatus::ReadWrite => drop(made.remove(&input.id)),
                true => {}
                false if read.insert(input.id) => total += bytes(input),
                false => {}
            }
        }
        made.extend(operation.outputs().map(|output| (output.id, bytes(output))));
    }
    total + made.values().sum::<usize>()
}

/// Whether an operation alone moves nothing: another look at the same memory.
fn is_view(operation: &OperationIr) -> bool {
    let (OperationIr::BaseFloat(base) | OperationIr::BaseInt(base) | OperationIr::BaseBool(base)) = operation
    else {
        return false;
    };
    matches!(
        base,
        BaseOperationIr::Reshape(_)
            | BaseOperationIr::SwapDims(_)
            | BaseOperationIr::Permute(_)
            | BaseOperationIr::Expand(_)
    )
}

/// Waits until no other test of this program works on the GPU path, and keeps it so until dropped: what is counted is the whole
/// process's.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// CubeCL keeps the parameters of a thread's last 512 launches on the device, and allocates for each until there are as many.
fn fill_parameter_cache(device: &Device) {
    let x = Tensor::<2>::zeros([1, 1], device);
    for call in 0..600 {
        let stream = Stream::new(call, Purpose::Noise);
        langevin_proposal(x.clone(), x.clone(), 0.1, 0.1, stream);
    }
}

/// Does `work` `repeats` times without a pause after as many that are not counted, and counts. `work` must neither read nor wait.
/// The observers see the whole process: call it under [`alone`].
///
/// # Panics
/// If the device fails.
pub fn count(device: &Device, repeats: usize, mut work: impl FnMut()) -> Work {
    static TAPPED: Once = Once::new();
    TAPPED.call_once(|| {
        log::set_logger(&Tap).expect("no other logger in a test");
        log::set_max_level(log::LevelFilter::Trace);
    });
    fill_parameter_cache(device);
    let mut all = || {
        (0..repeats).for_each(|_| work());
        device.sync().expect("the device works");
    };
    all();
    all();
    // What a round drops is free when the device is done with it: the pool may grow for one more round.
    let mut rounds = 0;
    loop {
        let work = round(repeats, &mut all);
        rounds += 1;
        if work.allocations == 0 || rounds == 4 {
            return work;
        }
    }
}

/// One round, counted.
fn round(repeats: usize, all: &mut impl FnMut()) -> Work {
    let counters = [&SUBMISSIONS, &READS, &UPLOADS, &ALLOCATIONS];
    let before = counters.map(|counter| counter.load(Ordering::Relaxed));
    let (launches, traffic) = (Arc::new(Launches::default()), Arc::new(Traffic::default()));
    let launch_guard = LaunchObservation::new(launches.clone());
    let traffic_guard = FusionObservation::new(traffic.clone());
    all();
    drop((launch_guard, traffic_guard));
    let after = counters.map(|counter| counter.load(Ordering::Relaxed));
    let kernels = launches.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Work {
        repeats,
        kernels,
        submissions: after[0] - before[0],
        reads: after[1] - before[1],
        uploads: after[2] - before[2],
        allocations: after[3] - before[3],
        bytes: traffic.0.load(Ordering::Relaxed),
    }
}
