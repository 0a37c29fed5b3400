//! What is seen: plots, pictures of populations, the report.
//!
//! May use `dataset` and `store`; never `training` or `judging`: what is shown is handed over.

pub mod comparison;
pub mod denoise;
pub mod draw;
pub mod picture;
pub mod plot;
pub mod report;
