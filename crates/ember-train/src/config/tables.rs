//! The tables of a config that have no registry of their own.

use ember_sampler::kernel::Mala;
use ember_sampler::{KernelConfig, Scheme};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where the walkers start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalkerInit {
    /// Exact draws of the starting model.
    #[default]
    Model,
    /// Samples of the training set.
    Data,
    /// Standard normal coordinates.
    Normal,
    /// Coordinates uniform in `[−1, 1)`.
    Uniform,
}

/// `[walkers]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalkersConfig {
    /// How many there are.
    pub count: usize,
    /// How many of them an update moves; all unless given. The others' weights are corrected exactly at their next move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_per_update: Option<usize>,
    /// Updates between passes that bring all walkers to θ and resample them globally where ess asks for it, where an update moves
    /// only some of them; 50 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush_every: Option<u64>,
    /// Where they start.
    #[serde(default)]
    pub init: WalkerInit,
    /// Allows a start that is not exact under weights; log Z is then withheld.
    #[serde(default)]
    pub unweighted_start: bool,
}

impl WalkersConfig {
    /// 1,000 exact draws: the table of an objective without a negative phase, unless given.
    pub(super) fn of_draws() -> Self {
        Self {
            count: 1_000,
            moved_per_update: None,
            flush_every: None,
            init: WalkerInit::Model,
            unweighted_start: false,
        }
    }

    /// Updates between global passes.
    pub(crate) fn flush_every(&self) -> u64 {
        self.flush_every.unwrap_or(50)
    }
}

/// `[kernel]`: a transition and how often it is made.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTable {
    /// The transition.
    pub kernel: KernelConfig,
    /// Transitions per parameter update.
    pub steps_per_update: u64,
    /// T: the model is `e^{−U/T}`, in drift, weights, parameter gradient and log Z alike. 1 unless given.
    pub temperature: f64,
    /// The step size follows the fraction of local moves that are accepted towards this; it stays unless given. Weights are exact
    /// for a fixed kernel only: where walkers carry them it is set before the first update, and frozen.
    pub target_accept_rate: Option<f64>,
}

impl KernelTable {
    const STEPS: &'static str = "steps_per_update";
    const TEMPERATURE: &'static str = "temperature";
    const TARGET: &'static str = "target_accept_rate";
    /// A Langevin step as papers write it, in the place of `step_size` and `temperature`; see [`PaperStep`].
    const PAPER: &'static str = "paper";
    const STEP_SIZE: &'static str = "step_size";
    /// The keys that belong to the table and not to the kernel.
    pub(super) const OWN_KEYS: [&'static str; 4] =
        [Self::STEPS, Self::TEMPERATURE, Self::TARGET, Self::PAPER];

    /// Step numbers of the noise that one update uses; `None` beyond 64 bits.
    pub fn noise_steps_per_update(&self) -> Option<u64> {
        self.steps_per_update.checked_mul(self.kernel.as_dyn().noise_steps())
    }

    /// What there is to say of a Langevin kernel at a temperature: in a paper's notation too.
    pub fn temperature_in_words(&self) -> Option<String> {
        let temperature = self.temperature;
        if temperature == 1.0 {
            return None;
        }
        let langevin = matches!(self.kernel, KernelConfig::Ula(_) | KernelConfig::Mala(_));
        let step_size = self.kernel.as_dyn().step_size().filter(|_| langevin);
        // h = σ²/2, T = σ²/(2 h_p)
        let steps = step_size.map(|h| {
            let (step, noise) = (h / temperature, (2.0 * h).sqrt());
            format!("; its Langevin steps are x − {} ∇U + {} ξ", short(step), short(noise))
        });
        Some(format!(
            "kernel.temperature is {}: the model is e^(−U/T){}",
            short(temperature),
            steps.unwrap_or_default()
        ))
    }

    /// MALA, for `ember sample --steps` alone: the table of an objective without a negative phase, unless given.
    pub(super) fn of_draws(dim: usize) -> Self {
        let kernel = KernelConfig::Mala(Mala::new(0.5 / (dim as f64).cbrt()));
        Self { kernel, steps_per_update: 1, temperature: 1.0, target_accept_rate: None }
    }
}

/// A number in four digits.
pub(crate) fn short(x: f64) -> String {
    let rounded: f64 = format!("{x:.3e}").parse().unwrap_or(x);
    if (1e-3..1e4).contains(&rounded) { rounded.to_string() } else { format!("{rounded:e}") }
}

/// A Langevin step as papers of image energies write it, `x − h_p ∇U + σ ξ`, whose noise is not `√(2 h_p)`: it samples `e^{−U/T}` at
/// `T = σ²/(2 h_p)` by steps of `h = σ²/2`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PaperStep {
    /// h_p.
    step: f64,
    /// σ.
    noise: f64,
}

impl PaperStep {
    /// h and T of the kernel.
    fn resolved(self) -> Result<[f64; 2], String> {
        for (key, value) in [("step", self.step), ("noise", self.noise)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("found {key} = {value}, expected a finite number > 0"));
            }
        }
        let square = self.noise * self.noise;
        Ok([square / 2.0, square / (2.0 * self.step)])
    }
}

/// Puts `step_size` and `temperature` in the place of a paper's pair.
fn resolve_paper(table: &mut toml::Table) -> Result<(), String> {
    let Some(pair) = table.remove(KernelTable::PAPER) else { return Ok(()) };
    let kind = table.get("kind").and_then(toml::Value::as_str).unwrap_or_default();
    if KernelConfig::KINDS.contains(&kind) && !matches!(kind, "ula" | "mala") {
        return Err(format!(
            "it is a Langevin step, for \"ula\" and \"mala\": a {kind} has none, leave it out"
        ));
    }
    for key in [KernelTable::STEP_SIZE, KernelTable::TEMPERATURE] {
        if table.contains_key(key) {
            return Err(format!("`paper` says what {key} is: leave one of the two out"));
        }
    }
    let pair = PaperStep::deserialize(pair).map_err(|error| error.message().to_owned())?;
    let [step_size, temperature] = pair.resolved()?;
    table.insert(KernelTable::STEP_SIZE.to_owned(), toml::Value::Float(step_size));
    table.insert(KernelTable::TEMPERATURE.to_owned(), toml::Value::Float(temperature));
    Ok(())
}

// By hand, because `flatten` and `deny_unknown_fields` do not go together.
impl<'de> Deserialize<'de> for KernelTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let mut table = toml::Table::deserialize(deserializer)?;
        resolve_paper(&mut table).map_err(D::Error::custom)?;
        let steps_per_update = match table.remove(Self::STEPS) {
            Some(value) => u64::deserialize(value).map_err(|e| D::Error::custom(e.message()))?,
            None => 1,
        };
        let temperature = match table.remove(Self::TEMPERATURE) {
            Some(value) => f64::deserialize(value).map_err(|e| D::Error::custom(e.message()))?,
            None => 1.0,
        };
        let target_accept_rate = match table.remove(Self::TARGET) {
            Some(value) => Some(f64::deserialize(value).map_err(|e| D::Error::custom(e.message()))?),
            None => None,
        };
        let kernel = KernelConfig::deserialize(table).map_err(|e| D::Error::custom(e.message()))?;
        Ok(Self { kernel, steps_per_update, temperature, target_accept_rate })
    }
}

impl Serialize for KernelTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let mut table = toml::Table::try_from(&self.kernel).map_err(S::Error::custom)?;
        let steps = i64::try_from(self.steps_per_update).map_err(S::Error::custom)?;
        table.insert(Self::STEPS.to_owned(), toml::Value::Integer(steps));
        table.insert(Self::TEMPERATURE.to_owned(), toml::Value::Float(self.temperature));
        if let Some(target) = self.target_accept_rate {
            table.insert(Self::TARGET.to_owned(), toml::Value::Float(target));
        }
        table.serialize(serializer)
    }
}

/// `[pretrain]`: how a flow that the run needs is fitted by maximum likelihood before the first update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainConfig {
    /// Parameter updates of the flow.
    pub steps: u64,
    /// Adam's learning rate at the start; it falls to 0 along half a cosine.
    pub learning_rate: f64,
    /// Samples of one batch; the whole training set where that is smaller.
    pub batch_size: usize,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self { steps: 2_000, learning_rate: 1e-3, batch_size: 256 }
    }
}

/// `[resampling]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResamplingConfig {
    /// How ancestors are drawn; `None` is `"none"`: never.
    #[serde(with = "scheme_or_none", default = "systematic")]
    pub scheme: Option<Scheme>,
    /// Resample when ess < this fraction of the walkers.
    #[serde(default = "half")]
    pub ess_threshold: f64,
}

impl Default for ResamplingConfig {
    fn default() -> Self {
        Self { scheme: systematic(), ess_threshold: half() }
    }
}

fn systematic() -> Option<Scheme> {
    Some(Scheme::Systematic)
}

fn half() -> f64 {
    0.5
}

/// A resampling scheme or the word `none`.
mod scheme_or_none {
    use ember_sampler::Scheme;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    const NONE: &str = "none";

    pub fn serialize<S: Serializer>(scheme: &Option<Scheme>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(scheme.map_or(NONE, Scheme::name))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Scheme>, D::Error> {
        let found = String::deserialize(deserializer)?;
        if found == NONE {
            return Ok(None);
        }
        let scheme = Scheme::ALL.iter().find(|scheme| scheme.name() == found);
        scheme.copied().map(Some).ok_or_else(|| {
            let names = Scheme::ALL.iter().map(|scheme| scheme.name()).chain([NONE]);
            let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            let names = names.join(", ");
            D::Error::custom(format!("unknown variant `{found}`, expected one of {names}"))
        })
    }
}

/// `[audit]`: an independent ensemble that never touches θ and gives log Z with a standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// Walkers of each repeat.
    pub walkers: usize,
    /// Independent repeats, for the standard error.
    pub repeats: usize,
    /// Updates between reports.
    pub every: u64,
}

/// `[watchdog]`: what to do when a run diverges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchdogConfig {
    /// Rolls back to the last good checkpoint this many times before giving up; 0 ends the run at once.
    pub max_rollbacks: u32,
    /// The learning rate is multiplied by this at every rollback.
    pub learning_rate_factor: f64,
    /// The largest `|E_data[U] − E_walkers[U]|` that is not a divergence, in nats; 10 times the dimension unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_energy_gap: Option<f64>,
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        Self { max_rollbacks: 0, learning_rate_factor: 0.5, max_energy_gap: None }
    }
}

/// `[output]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputConfig {
    /// Updates between metric lines.
    pub log_every: u64,
    /// Updates between checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept, the newest ones.
    pub keep_checkpoints: usize,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self { log_every: 50, checkpoint_every: 1000, keep_checkpoints: 3 }
    }
}
