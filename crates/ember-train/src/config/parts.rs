//! What a config says of composed energies: parts that are paths of trained models, and how they go together. `ember compose` reads the
//! `[energy]` of such a file alone.

use std::path::Path;

use burn::tensor::Device;
use ember_model::{Energy, EnergyConfig, EnergySpec, SampleShape, Support};
use toml::{Table, Value};

use super::document::Document;
use super::validate::{check_sizes, energy_error, fail};
use super::{Config, read_text};
use crate::error::Error;
use crate::store::opened;

const PARTS: &str = "parts";
const FROM: &str = "parts_from";
const TEMPERATURES: &str = "temperatures";
const LOG_Z: &str = "log_z";
const NORMALISE: &str = "normalise";
const KINDS: [&str; 3] = ["sum", "mixture", "negation"];

/// What all trained parts share, once there is one: its path, the shape of its samples, and where its density lives.
pub(super) struct Common {
    path: String,
    shape: SampleShape,
    support: Support,
}

/// A key of `[energy]` and what is wrong with it.
type Wrong = (&'static str, String);

impl Document {
    /// Puts the tables of trained parts in the place of their paths, as in `parts = ["runs/a", "b.safetensors"]`, and notes paths,
    /// temperatures and, where `normalise` asks for it, log Z. `shape` is the data set's.
    ///
    /// # Errors
    /// Nothing that can be opened at a path, or parts that do not go together.
    pub(super) fn resolve_parts(&mut self, shape: Option<SampleShape>) -> Result<Option<Common>, Error> {
        let Some(energy) = self.energy_table() else { return Ok(None) };
        let mut common = None;
        resolve(energy, shape, &mut common).map_err(|(key, message)| self.error("energy", key, message))?;
        Ok(common)
    }
}

/// [`Document::resolve_parts`] of one table.
fn resolve(energy: &mut Table, shape: Option<SampleShape>, common: &mut Option<Common>) -> Result<(), Wrong> {
    let is_composed = energy.get("kind").and_then(Value::as_str).is_some_and(|kind| KINDS.contains(&kind));
    let Some(Value::Array(parts)) = energy.get(PARTS).filter(|_| is_composed) else { return Ok(()) };
    let mut parts = parts.clone();
    let normalise = energy.get(NORMALISE).and_then(Value::as_bool) == Some(true);
    if normalise && energy.contains_key(LOG_Z) {
        let message = "both `normalise` and `log_z` are there: log Z is either filled in or given";
        return Err((NORMALISE, message.to_owned()));
    }
    let (mut from, mut temperatures, mut log_z) = (Vec::new(), Vec::new(), Vec::new());
    for (i, part) in parts.iter_mut().enumerate() {
        match part {
            Value::String(path) => {
                let path = path.clone();
                let trained = open(i, &path, shape, common)?;
                let spec = trained.spec();
                *part = Value::try_from(&spec.energy)
                    .map_err(|error| (PARTS, format!("\"{path}\": its table cannot be written: {error}")))?;
                temperatures.push(spec.temperature);
                if normalise {
                    log_z.push(known_log_z(i, &path, &trained)?);
                }
                from.push(path);
            }
            Value::Table(table) => {
                resolve(table, shape, common)?;
                if normalise {
                    let message = format!(
                        "part {i} is a table, and only of a trained part is log Z known: give `log_z`"
                    );
                    return Err((NORMALISE, message));
                }
                from.push(String::new());
                temperatures.push(1.0);
            }
            // The reader of the table says what it expected.
            _ => return Ok(()),
        }
    }
    let strings = |values: Vec<String>| Value::Array(values.into_iter().map(Value::String).collect());
    let numbers = |values: Vec<f64>| Value::Array(values.into_iter().map(Value::Float).collect());
    if from.iter().any(|path| !path.is_empty()) {
        energy.insert(FROM.to_owned(), strings(from));
        if temperatures.iter().any(|t| *t != 1.0) {
            energy.insert(TEMPERATURES.to_owned(), numbers(temperatures));
        }
    }
    if normalise {
        energy.remove(NORMALISE);
        energy.insert(LOG_Z.to_owned(), numbers(log_z));
    }
    energy.insert(PARTS.to_owned(), Value::Array(parts));
    Ok(())
}

/// Part `i`, which has to go with the data and with the parts before it.
fn open(
    i: usize,
    path: &str,
    shape: Option<SampleShape>,
    common: &mut Option<Common>,
) -> Result<ember_model::EnergyModel, Wrong> {
    let wrong = |message: String| (PARTS, format!("part {i}, \"{path}\": {message}"));
    let model = opened::open(Path::new(path), &Device::flex())
        .map_err(|error| wrong(format!("it was to hold a trained model: {error}")))?
        .model;
    let spec = model.spec();
    if let Some(shape) = shape.filter(|shape| *shape != spec.shape) {
        return Err(wrong(format!(
            "its samples have shape {}, and those of the data set have shape {shape}",
            spec.shape
        )));
    }
    match common {
        None => *common = Some(Common { path: path.to_owned(), shape: spec.shape, support: spec.support }),
        Some(first) if first.shape != spec.shape => {
            return Err(wrong(format!(
                "its samples have shape {}, and those of \"{}\" have shape {}",
                spec.shape, first.path, first.shape
            )));
        }
        Some(first) if first.support != spec.support => {
            return Err(wrong(format!(
                "it lives on {}, and \"{}\" on {}: energies are composed where all of them were trained",
                place(spec.support),
                first.path,
                place(first.support)
            )));
        }
        Some(_) => {}
    }
    Ok(model)
}

/// log Z of a trained part for `normalise`.
fn known_log_z(i: usize, path: &str, model: &ember_model::EnergyModel) -> Result<f64, Wrong> {
    model.log_z().ok_or_else(|| {
        let message = format!(
            "log Z of part {i}, \"{path}\", a {}, is not known in closed form: measure it (`ember eval {path}`) and give `log_z` in the \
             place of `normalise`",
            model.spec().energy.kind()
        );
        (NORMALISE, message)
    })
}

fn place(support: Support) -> &'static str {
    match support {
        Support::Unbounded => "all of space",
        Support::Cube => "the cube [−1, 1]^d",
    }
}

impl Config {
    /// Trained parts live where the kernel keeps the walkers, and parts that are not trained elsewhere need nothing but a seed.
    pub(super) fn check_parts(&self, common: Option<&Common>) -> Result<(), Error> {
        if let Some(first) = common.filter(|first| first.support != self.energy_spec().support) {
            let message = format!(
                "the parts were trained on {}, as \"{}\", and this kernel moves walkers on {}: a cube needs \
                 kernel.boundary = \"reflect\", and all of space needs no boundary",
                place(first.support),
                first.path,
                place(self.energy_spec().support)
            );
            return fail("kernel", "boundary", message);
        }
        check_own_parts(&self.energy, self.dataset.as_dyn().shape())
    }
}

/// Parts given by their tables start from a seed alone.
fn check_own_parts(energy: &EnergyConfig, shape: SampleShape) -> Result<(), Error> {
    let Some(parts) = energy.composition() else { return Ok(()) };
    for (i, table) in parts.tables.iter().enumerate().filter(|(i, _)| parts.from(*i).is_none()) {
        let part = table.build(shape).map_err(energy_error)?;
        if part.has_gaussian_base() || part.tilt_and_base().is_some() || part.has_data_init() {
            let message = format!(
                "part {i} is a {} that is fitted to data before a run: train it by itself, and give the path of its run",
                table.kind()
            );
            return fail("energy", PARTS, message);
        }
        check_own_parts(table, shape)?;
    }
    Ok(())
}

/// The energy that a file of `ember compose` describes: a table `[energy]` of a composed kind, and nothing else.
///
/// # Errors
/// A file that cannot be read, another table, another kind of energy, or parts that do not go together.
pub fn composed(path: &Path) -> Result<EnergySpec, Error> {
    let mut document = Document::parse(&read_text(path)?, &path.display().to_string())?;
    if let Some(key) = document.key_beside("energy") {
        let message = "`ember compose` reads the table [energy] alone; a whole config is for `ember train`";
        return Err(document.error("", &key, message));
    }
    let common = document.resolve_parts(None)?;
    let energy: EnergyConfig = document.section("energy")?;
    if energy.composition().is_none() {
        let message = format!("\"{}\" found, expected \"sum\", \"mixture\" or \"negation\"", energy.kind());
        return Err(document.error("energy", "kind", message));
    }
    let Some(Common { shape, support, .. }) = common else {
        let message = "at least one part must be the path of a trained model: a run folder, a checkpoint or a weight file";
        return Err(document.error("energy", PARTS, message));
    };
    let spec = EnergySpec { support, ..EnergySpec::new(shape, energy) };
    let checked = check_sizes(&spec).and_then(|()| check_own_parts(&spec.energy, shape));
    checked.map_err(|error| document.locate(error))?;
    Ok(spec)
}
