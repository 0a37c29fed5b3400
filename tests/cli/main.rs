//! The program from outside: commands, files, exit codes, signals, kill −9.

mod bad_input;
mod bits;
mod classes;
mod commands;
mod compare;
mod compose;
mod data;
mod ending;
mod estimators;
mod features;
mod gpu_script;
mod judging;
#[path = "../campaign/kills.rs"]
mod kills;
mod ladder;
mod levels;
mod lost_work;
mod memory;
#[path = "../campaign/program.rs"]
mod program;
mod report;
mod resume;
#[path = "../src/small.rs"]
mod small;
mod support;
mod watchdog;
mod wrong_input;
