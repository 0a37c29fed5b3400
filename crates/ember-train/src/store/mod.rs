//! What lies on a disk: checkpoints, weight files, metric lines, samples, and the lock of a run folder.
//!
//! May use `config` and `dataset`; never `training` or `judging`, which are built on it.

pub mod checkpoint;
pub mod checksum;
pub mod folder;
pub mod lock;
pub mod metrics;
pub mod opened;
pub mod record;
pub mod samples;
pub mod tensor_file;
