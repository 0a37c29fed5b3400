//! The page of a comparison: densities side by side on one scale, masses, error against cost, a table, every command. One HTML file,
//! complete in itself, without scripts, in the report's style.

mod axis;
mod chart;
mod density;
mod page;
mod swept;

use ember_sampler::statistics::Estimate;

use crate::view::plot::Grid2d;
pub use page::page;

/// What the page says.
pub struct Page {
    /// What is compared.
    pub title: String,
    /// The command that made it.
    pub command: String,
    /// The seeds of every method.
    pub seeds: Vec<u64>,
    /// The training set's mass of each mode.
    pub data_masses: Vec<f64>,
    /// The law's own, where it is known.
    pub law_masses: Vec<f64>,
    /// In the order of the file.
    pub methods: Vec<Method>,
    /// The key of a sweep of one number.
    pub swept: Option<String>,
    /// The truth and a model of each method.
    pub panels: Vec<Panel>,
}

/// One method: means over the seeds, with standard errors.
pub struct Method {
    /// Its name.
    pub name: String,
    /// Its number, in a sweep of one.
    pub swept: Option<f64>,
    /// The model's mass of each mode.
    pub masses: Vec<Estimate>,
    /// The largest distance from the training set's.
    pub mass_error: Estimate,
    /// KL from the data's law, nats.
    pub kl: Estimate,
    /// log Z as reported less that of a grid.
    pub log_z_error: Estimate,
    /// ess fraction of the training walkers.
    pub ess: Estimate,
    /// Energies with gradients of single samples.
    pub evaluations: u64,
    /// Seconds of training.
    pub seconds: Estimate,
    /// What trains its first run.
    pub command: String,
    /// Seeds that failed, and why.
    pub failures: Vec<(u64, String)>,
}

/// A density with its name.
pub struct Panel {
    /// The method, or the truth.
    pub name: String,
    /// What is drawn.
    pub shown: Shown,
}

/// A density.
pub enum Shown {
    /// Of one coordinate.
    Curve {
        /// Where, ascending, `[n]`.
        x: Vec<f64>,
        /// The density there, `[n]`.
        y: Vec<f64>,
    },
    /// Of a plane: energies on a grid.
    Map(Grid2d),
}
