//! `COMPARE.toml`: one problem, some methods, some seeds.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use burn::tensor::Device;
use ember_model::{Energy, EnergyModel};
use ember_sampler::evidence::smc::AnnealedPath;
use serde::Deserialize;

use crate::config::{Config, Overrides};
use crate::error::Error;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What is compared.
    title: String,
    /// The config of the methods that name none, beside this file.
    config: Option<PathBuf>,
    /// Keys that every method changes, as `--set` has them.
    #[serde(default)]
    set: Vec<String>,
    seeds: Seeds,
    #[serde(default)]
    method: Vec<MethodTable>,
}

/// A count from 0, or a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[serde(expecting = "expected a count such as 5, or a list of whole numbers such as [0, 1, 2]")]
enum Seeds {
    Count(u64),
    List(Vec<u64>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MethodTable {
    name: String,
    config: Option<PathBuf>,
    #[serde(default)]
    set: Vec<String>,
}

/// What is to be run.
#[derive(Debug)]
pub struct Plan {
    /// What is compared.
    pub title: String,
    /// In the order of the file.
    pub methods: Vec<Method>,
    /// The seeds of each method.
    pub seeds: Vec<u64>,
    /// The key of a sweep of one key.
    pub swept: Option<String>,
}

/// One way to train on the problem.
#[derive(Debug)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// The name of its run folders, without the seed.
    pub slug: String,
    /// The config file.
    pub config: PathBuf,
    /// What it changes in it.
    pub set: Vec<String>,
    /// The number of a sweep of one key.
    pub swept: Option<f64>,
    /// Both together, checked, at the first seed.
    pub resolved: Config,
}

impl Method {
    /// The config at a seed.
    ///
    /// # Errors
    /// As [`Config::load`]: files may have changed since.
    pub fn at(&self, seed: u64) -> Result<Config, Error> {
        let overrides = Overrides { seed: Some(seed), steps: None, set: self.set.clone() };
        Ok(Config::load(&self.config, &overrides)?.config)
    }

    /// Why a config cannot stand beside this one, if it is on other data.
    pub(super) fn other_problem(&self, config: &Config) -> Option<String> {
        (problem(&self.resolved) != problem(config)).then(|| {
            format!(
                "its [dataset] is another than that of `{}`: there is one problem for all (batch_size may differ)",
                self.name
            )
        })
    }
}

impl Plan {
    /// Reads and checks everything: no run begins where one cannot.
    ///
    /// # Errors
    /// A file that is missing or wrong, a name twice, a method whose config is wrong or that trains on other data than the first.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::read(path, source))?;
        let wrong = |message: String| Error::usage(format!("{}: {message}", path.display()));
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
        if table.contains_key("energy") || table.contains_key("dataset") {
            return Err(wrong(
                "this is the config of one training, for `ember train` or `ember sweep`; a comparison has `title`, `config`, `seeds` and a \
                 [[method]] with a `name` for each method, such as compare/8gaussians.toml"
                    .into(),
            ));
        }
        let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let seeds: Vec<u64> = match file.seeds {
            Seeds::Count(count) => (0..count).collect(),
            Seeds::List(seeds) => seeds,
        };
        if seeds.is_empty() {
            return Err(wrong(
                "seeds: none found, expected a count such as 5, or a list such as [0, 1, 2]".into(),
            ));
        }
        if let Some(seed) = twice(&seeds) {
            return Err(wrong(format!("seeds: {seed} is there twice")));
        }
        if file.method.is_empty() {
            return Err(wrong(
                "no [[method]] found, expected at least one, each with a `name` and what it sets".into(),
            ));
        }
        if let Some(name) = twice(&file.method.iter().map(|method| slug(&method.name)).collect::<Vec<_>>()) {
            return Err(wrong(format!(
                "two methods are called `{name}`: names must differ in letters or digits"
            )));
        }
        let beside = path.parent().unwrap_or(Path::new(""));
        let mut methods: Vec<Method> = Vec::with_capacity(file.method.len());
        for table in file.method {
            let named = |message: String| wrong(format!("method `{}`: {message}", table.name));
            if slug(&table.name).is_empty() {
                return Err(named("expected a name with a letter or a digit".into()));
            }
            let config = table.config.as_ref().or(file.config.as_ref()).ok_or_else(|| {
                named("no config: give one here, or one for all methods at the top of the file".into())
            })?;
            let set = [file.set.as_slice(), &table.set].concat();
            if sets_seed(&set) {
                return Err(named(format!("set: {SEEDS_ARE_ALIKE}: `seeds` at the top of the file")));
            }
            let overrides = Overrides { seed: Some(seeds[0]), steps: None, set: set.clone() };
            let config = plain(&beside.join(config));
            let loaded = Config::load(&config, &overrides).map_err(|error| named(error.to_string()))?;
            if let Some(why) = methods.first().and_then(|first| first.other_problem(&loaded.config)) {
                return Err(named(why));
            }
            if !has_log_z(&loaded.config) {
                return Err(named(Error::from(ember_sampler::Error::NoStart).to_string()));
            }
            let slug = slug(&table.name);
            methods.push(Method {
                name: table.name,
                slug,
                config,
                set,
                swept: None,
                resolved: loaded.config,
            });
        }
        Ok(Self { title: file.title, methods, seeds, swept: None })
    }

    /// Methods with names of their own.
    ///
    /// # Errors
    /// A name twice.
    pub(super) fn checked(title: String, methods: Vec<Method>, seeds: Vec<u64>) -> Result<Self, Error> {
        match twice(&methods.iter().map(|method| method.slug.clone()).collect::<Vec<_>>()) {
            Some(name) => {
                Err(Error::usage(format!("two combinations are called `{name}`: is a value there twice?")))
            }
            None => Ok(Self { title, methods, seeds, swept: None }),
        }
    }
}

/// Why `seed` is no key to set.
pub(super) const SEEDS_ARE_ALIKE: &str = "`seed` is the same for every method and given once";

/// Whether one of the changes is of the seed.
pub(super) fn sets_seed(set: &[String]) -> bool {
    set.iter().filter_map(|set| set.split_once('=')).any(|(key, _)| key.trim() == "seed")
}

/// The data of a config, whatever the size of its batches.
pub(super) fn problem(config: &Config) -> Option<toml::Table> {
    let mut table = toml::Table::try_from(&config.dataset).ok()?;
    table.remove("batch_size");
    Some(table)
}

/// Whether an evaluation will find log Z, as far as one sees before the training.
fn has_log_z(config: &Config) -> bool {
    if config.audit.is_some() || config.kernel.kernel.as_dyn().needs_proposals() {
        return true;
    }
    // What has parts in files is seen when it runs.
    let Ok(model) = EnergyModel::init(config.energy_spec(), config.seed, &Device::flex()) else {
        return true;
    };
    model.is_discrete() || model.log_z().is_some() || AnnealedPath::of(&model).is_some()
}

/// Without `folder/..`, as one would type it.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        let last = plain.components().next_back();
        match (part, last) {
            (Component::ParentDir, Some(Component::Normal(_))) => drop(plain.pop()),
            _ => plain.push(part),
        }
    }
    plain
}

/// The first value that is there twice.
fn twice<T: Clone + Eq + std::hash::Hash>(values: &[T]) -> Option<T> {
    let mut seen = HashSet::new();
    values.iter().find(|value| !seen.insert(*value)).cloned()
}

/// Letters and digits of a name in lower case, joined by dashes.
pub(super) fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}
