//! What `ember eval` says of models of images: class frequencies, and energies of held-out rows.
//!
//! Frequencies come from an audit ensemble; without one from the training walkers, unless these started at the data, whose
//! frequencies they would show for ever (ALGORITHMS 2); else from the tempered SMC that gave log Z.

use std::path::Path;

use ember_model::params::download;
use ember_model::{EnergyModel, SampleShape};
use ember_sampler::Walkers;

use crate::config::{Config, WalkerInit};
use crate::dataset::Data;
use crate::error::Error;
use crate::judging::classifier::frequencies::Population;
use crate::judging::classifier::{ClassFrequencies, Classifier, Groups, cache, class_frequencies};
use crate::training::noisy::Noisy;
use ember_model::energy::blockwise::energies;
use ember_sampler::evidence::Ensembles;

/// Images whose energies are had at a time; a convolution keeps many numbers of each.
const IMAGES: usize = 256;
/// Vectors whose energies are had at a time.
const VECTORS: usize = 16_384;
/// Fewer families than this leave the standard error uncertain.
const FEW_FAMILIES: usize = 30;

/// `U` of every held-out row as the model learns them: dequantised by fixed numbers, with the data noise. `[test_size]`.
pub fn held_out_energies(model: &EnergyModel, data: &Data, noise: f64) -> Vec<f64> {
    let dim = data.shape.dim();
    let (rows, noisy) = (data.test.len() / dim, Noisy::held_out(noise));
    let block = match data.shape {
        SampleShape::Image(_) => IMAGES,
        SampleShape::Flat(_) => VECTORS,
    };
    let starts = (0..rows).step_by(block);
    let u = starts
        .flat_map(|start| energies(model, &noisy.rows(&data.test, dim, start..rows.min(start + block))));
    u.map(f64::from).collect()
}

/// Class frequencies, or why there are none.
#[derive(Clone, Debug, PartialEq)]
pub enum Classes {
    /// The samples are no images with classes.
    DoNotApply,
    /// There are no walkers that could tell; says why.
    Withheld(&'static str),
    /// What was found.
    Found {
        /// The frequencies of the walkers that come first.
        found: Box<ClassFrequencies>,
        /// Where these are the training walkers: the model's own, of the independent ensembles.
        model: Option<Box<ClassFrequencies>>,
    },
}

/// Class frequencies of `independent` ensembles (`audit` or `smc`) or of the training walkers, of a model of the data with no more than their
/// own noise: `level_noise` is what is added to that. `walkers` are at the model's θ,
/// without weights where the objective carries none; `folder` keeps the classifier.
///
/// # Errors
/// A classifier that cannot be trained.
pub fn judge_classes(
    config: &Config,
    data: &Data,
    level_noise: f64,
    independent: Option<&(Ensembles, &'static str)>,
    walkers: Option<&Walkers>,
    folder: Option<&Path>,
) -> Result<Classes, Error> {
    if !Classifier::fits(data) {
        return Ok(Classes::DoNotApply);
    }
    if level_noise > 0.0 {
        return Ok(Classes::Withheld("the classifier does not know the noise of the level"));
    }
    let source = match Source::choose(config, independent, walkers) {
        Ok(source) => source,
        Err(why) => return Ok(Classes::Withheld(why)),
    };
    let model = match source.method {
        "walkers" => Source::choose(config, independent, None).ok(),
        _ => None,
    };
    let classifier = cache::cached(data, config.dataset.as_dyn().augmentation(), folder)?;
    let frequencies = |source: Source<'_>| Box::new(source.frequencies(&classifier, config, data));
    Ok(Classes::Found { found: frequencies(source), model: model.map(frequencies) })
}

/// Whose class frequencies are taken.
struct Source<'a> {
    walkers: &'a Walkers,
    repeats: Option<usize>,
    method: &'static str,
}

impl<'a> Source<'a> {
    fn choose(
        config: &Config,
        independent: Option<&'a (Ensembles, &'static str)>,
        walkers: Option<&'a Walkers>,
    ) -> Result<Self, &'static str> {
        let ensembles = independent.map(|(ensembles, method)| Self {
            walkers: &ensembles.walkers,
            repeats: Some(ensembles.log_z.len()),
            method,
        });
        let (ensembles, smc) = match ensembles {
            Some(source) if source.method == "audit" => (Some(source), None),
            other => (None, other),
        };
        let draws = !config.objective.as_dyn().has_negative_phase();
        let restarts = config.objective.as_dyn().restarts_at_data();
        let at_data = restarts || config.walkers.init == WalkerInit::Data;
        let training = walkers.filter(|_| !at_data).map(|walkers| Self {
            walkers,
            repeats: None,
            method: if draws { "draws" } else { "walkers" },
        });
        ensembles.or(training).or(smc).ok_or(if at_data {
            "the walkers started at the data and show the data's frequencies for ever: an [audit] tells the model's"
        } else {
            "there are no walkers"
        })
    }

    fn frequencies(&self, classifier: &Classifier, config: &Config, data: &Data) -> ClassFrequencies {
        let walkers = self.walkers;
        let families: Vec<i64> = walkers.ancestor.clone().into_data().iter::<i64>().collect();
        let groups = self.repeats.map_or(Groups::Families(families), Groups::Repeats);
        let population = Population::new(walkers.log_weights.value(), groups);
        let position = download(walkers.position.clone());
        let ancestors = walkers.distinct_ancestors();
        let fractions = data.train_fractions();
        let found = class_frequencies(classifier, fractions, &position, &population, ancestors, self.method);
        ClassFrequencies { caveat: self.caveat(config, ancestors), ..found }
    }

    fn caveat(&self, config: &Config, ancestors: usize) -> String {
        if self.repeats.is_some() {
            return "modes that no repeat visits are not counted".to_owned();
        }
        if self.method == "draws" {
            return "independent exact draws of the model".to_owned();
        }
        let objective = config.objective.as_dyn();
        let drive = if objective.data_loss().is_some() { "" } else { " and drive θ" };
        let mut text = format!(
            "the training walkers are one run{drive}: the standard errors are over families of ancestors, not over independent repeats"
        );
        if ancestors < FEW_FAMILIES {
            text += &format!("; of which {ancestors} are left: too few for a good standard error");
        }
        if !objective.carries_weights() {
            text += "; the objective gives the walkers no weights";
        } else if config.walkers.unweighted_start {
            text += "; the start was not exact, so the weights are biased";
        }
        text
    }
}
