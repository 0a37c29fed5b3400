//! Everything that can go wrong, each failure with its owner and its exit code.
//!
//! Code 2: the user can repair it before anything is written (usage, config, data, checkpoint, output folder, device).
//! Code 1: the run itself failed. Code 128 + n: the run was ended by signal n, and its state is in a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use ember_model::ModelError;

use crate::shell;

/// A failure of the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Arguments that clap accepts but that make no sense together.
    #[error("{message}")]
    Usage {
        /// What was found and what was expected.
        message: String,
    },
    /// A key of a config, or a whole section where `key` is empty.
    #[error("{origin}{}: {}: {message}", at_line(*line), key_path(section, key))]
    Config {
        /// The config file, or where else the value came from.
        origin: String,
        /// The line of the key, where it stands in a file.
        line: Option<usize>,
        /// The table of the key; empty at the top level.
        section: String,
        /// The key.
        key: String,
        /// What was found, what was expected, and a hint.
        message: String,
    },
    /// A config that is not TOML.
    #[error("{origin}:{line}:{column}: not valid TOML: {message}")]
    Syntax {
        /// The config file.
        origin: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A text file that is not UTF-8.
    #[error("{}: not UTF-8: bad byte 0x{byte:02x} at offset {offset} (line {line}); a config is UTF-8 text", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first bad byte.
        offset: usize,
        /// The line it stands in, from 1.
        line: usize,
        /// The byte.
        byte: u8,
    },
    /// An input file that is missing or cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A data set that is not as it should be.
    #[error("{}: {message}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },
    /// A checkpoint, run folder or weight file that is not as it should be.
    #[error("{}{}: {message}", path.display(), at_offset(*offset))]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// Where in the file, where that is known.
        offset: Option<u64>,
        /// What was found and what was expected.
        message: String,
    },
    /// A checkpoint that is not as it was written: a file that is missing, cut short, or of another checksum.
    #[error("{}: {message}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },
    /// An energy that cannot be built, or weights that do not fit it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The output is already there.
    #[error("{}: exists already; nothing was written. {hint}", path.display())]
    OutputExists {
        /// The folder or file.
        path: PathBuf,
        /// What to do, such as the `resume` command to copy.
        hint: String,
    },
    /// The output cannot be created: found out before the work starts.
    #[error("{}: cannot be written: {source}", path.display())]
    OutputUnwritable {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process is training in the run folder.
    #[error(
        "{}: in use by {owner}, which is training there; nothing was changed. Wait for it, or end it with SIGTERM \
         (it writes a checkpoint first). Then go on with: {}",
        path.display(), shell::resume(path)
    )]
    RunInUse {
        /// The run folder.
        path: PathBuf,
        /// What the lock says, such as `pid 4711 on node3`.
        owner: String,
    },
    /// A device that is not there, or not in this build.
    #[error("--device {spec}: {message}\nDevices of this build and machine:\n{}", bullets(available))]
    Device {
        /// What was asked for.
        spec: String,
        /// Why it is not available.
        message: String,
        /// What there is, one line each.
        available: Vec<String>,
    },
    /// An I/O error while running, a full disk for example.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Energies or parameters that are no longer finite.
    #[error("step {step}: {}", diverged(what, walkers, *count))]
    NonFinite {
        /// The update.
        step: u64,
        /// What is not finite: `energy of walkers`, `gradient of means`, …
        what: String,
        /// The first few walkers concerned; empty where it is not about walkers.
        walkers: Vec<usize>,
        /// How many walkers are concerned.
        count: usize,
    },
    /// A state that is finite, but beyond what the watchdog allows.
    #[error("step {step}: {message}")]
    Diverged {
        /// The update.
        step: u64,
        /// What was found and what is allowed.
        message: String,
    },
    /// The run failed for another reason: the rollbacks are used up, the device was lost.
    #[error("{message}")]
    Failed {
        /// What happened, and what can be done.
        message: String,
    },
    /// The run was asked to stop; its state is in a checkpoint.
    #[error("stopped by {}", signal_name(*signal))]
    Interrupted {
        /// The signal's number.
        signal: i32,
    },
}

impl Error {
    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. }
            | Self::Config { .. }
            | Self::Syntax { .. }
            | Self::NotUtf8 { .. }
            | Self::Read { .. }
            | Self::Data { .. }
            | Self::Checkpoint { .. }
            | Self::Damaged { .. }
            | Self::Model(_)
            | Self::OutputExists { .. }
            | Self::OutputUnwritable { .. }
            | Self::RunInUse { .. }
            | Self::Device { .. } => 2,
            Self::Io { .. } | Self::NonFinite { .. } | Self::Diverged { .. } | Self::Failed { .. } => 1,
            Self::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(1),
        }
    }

    /// Arguments that make no sense together.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into() }
    }

    /// A bad value of a config, without a line; `origin` is the file.
    pub fn config(
        origin: impl ToString,
        section: impl Into<String>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::Config {
            origin: origin.to_string(),
            line: None,
            section: section.into(),
            key: key.into(),
            message: message.into(),
        }
    }

    /// An input file that cannot be read; exit code 2.
    pub fn read(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Read { path: path.into(), source }
    }

    /// A data set that is not as it should be.
    pub fn data(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Data { path: path.into(), message: message.into() }
    }

    /// A checkpoint, run folder or weight file that is not as it should be.
    pub fn checkpoint(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), offset: None, message: message.into() }
    }

    /// A checkpoint that is not as it was written: an earlier one may serve.
    pub fn damaged(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), message: message.into() }
    }

    /// As [`Error::checkpoint`], naming the byte where the file goes wrong.
    pub fn checkpoint_at(path: impl Into<PathBuf>, offset: u64, message: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), offset: Some(offset), message: message.into() }
    }

    /// An I/O error while running; exit code 1.
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// An output that cannot be created; exit code 2.
    pub fn unwritable(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::OutputUnwritable { path: path.into(), source }
    }

    /// The same failure where no run has begun: the output `path` cannot be written; exit code 2.
    pub(crate) fn before_the_run(self, path: &Path) -> Self {
        match self {
            Self::Io { source, .. } => Self::unwritable(path, source),
            other => other,
        }
    }

    /// The run failed; exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into() }
    }
}

impl From<ember_model::random::StreamOverflow> for Error {
    fn from(overflow: ember_model::random::StreamOverflow) -> Self {
        Self::usage(overflow.to_string())
    }
}

/// Sizes that make no sense, a start or samples that are missing: the user can repair that. What is not finite is a failure.
impl From<ember_sampler::Error> for Error {
    fn from(error: ember_sampler::Error) -> Self {
        use ember_sampler::Error as Sampler;
        let hint = match &error {
            Sampler::NotFinite(message) => return Self::failed(message),
            Sampler::Options(_) | Sampler::Overflow(_) => "",
            Sampler::NoStart => {
                ": a network needs energy.confinement > 0, or a flow as its base (energy.kind = \"tilted\", at temperature 1); a composed \
                 energy needs parts that have one"
            }
            Sampler::TooFar { .. } => {
                ". An [audit] in the run's config follows log Z along the training instead; a larger energy.confinement or \
                 kernel.temperature brings the energy nearer to its start"
            }
            Sampler::NoSamples => ": an [audit] or a tempered SMC",
            Sampler::NoProposals => ": neither a proposal flow nor a tilted energy's base",
        };
        Self::usage(format!("{error}{hint}"))
    }
}

fn at_line(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

fn at_offset(offset: Option<u64>) -> String {
    offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default()
}

fn key_path(section: &str, key: &str) -> String {
    match (section, key) {
        ("", key) => key.to_owned(),
        (section, "") => format!("[{section}]"),
        (section, key) => format!("{section}.{key}"),
    }
}

fn bullets(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// `energy of walkers 3, 17, … (5 in all) is not finite`.
fn diverged(what: &str, walkers: &[usize], count: usize) -> String {
    if walkers.is_empty() {
        return format!("{what} is not finite; a smaller learning rate or step size may help");
    }
    let shown = walkers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let rest = if count > walkers.len() { format!(", … ({count} in all)") } else { String::new() };
    format!("{what} {shown}{rest} is not finite; a smaller learning rate or step size may help")
}

/// `SIGINT` and so on.
pub(crate) fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".to_owned(),
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}
