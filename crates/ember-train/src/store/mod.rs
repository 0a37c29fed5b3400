//! What lies on a disk: checkpoints, weight files, metric lines, samples, and the lock of a run folder.
//!
//! May use `config`, `dataset` and, for samples as a picture, `view::plot`; never `training` or `judging`, which are built on it.

pub mod checkpoint;
pub mod checksum;
pub mod folder;
pub mod lock;
pub mod metrics;
pub mod opened;
pub mod parts;
pub mod record;
pub mod samples;
pub mod tensor_file;
