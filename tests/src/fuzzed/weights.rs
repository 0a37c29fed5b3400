//! Weight files: the energy's table in the metadata, and the tensors it asks for.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_train::store::opened;
use ember_train::store::tensor_file::{NamedTensor, TensorFile, Values};

use super::{Target, configs, scratch};

/// Numbers that an energy may have as parameters, and multiplied with those of a sample, for it to be evaluated.
const MOST: [usize; 2] = [1 << 14, 1 << 20];

/// The text of `ember.config`.
pub(super) const WEIGHTS: Target =
    Target { name: "weights", run: weights, seeds, words: configs::WORDS, most_bytes: 512 };

fn weights(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let tensors = match EnergySpec::from_metadata(text) {
        Err(_) => Vec::new(),
        Ok(spec) => {
            let again = EnergySpec::from_metadata(&spec.to_metadata()).expect("what was written");
            assert_eq!(again.to_metadata(), spec.to_metadata());
            tensors(&spec)
        }
    };
    scratch::within("weights", |folder| {
        let path = folder.join("model.safetensors");
        let metadata = [("ember.config".to_owned(), text.to_owned())].into();
        let has_tensors = !tensors.is_empty();
        TensorFile { tensors, metadata }.write(&path).expect("written");
        match opened::open(&path, &Device::flex()) {
            Err(error) => assert_eq!(error.exit_code(), 2, "{error}"),
            Ok(opened) if has_tensors => used(&opened.model, &path),
            Ok(_) => {}
        }
    });
}

/// Small values for every parameter; none where they are too many, or the energy cannot be built.
fn tensors(spec: &EnergySpec) -> Vec<NamedTensor> {
    let Ok(architecture) = spec.build() else { return Vec::new() };
    let dim = architecture.dim();
    let params = architecture.params();
    let sizes =
        params.iter().map(|param| param.shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side)));
    let Some(total) = sizes.reduce(|a, b| a?.checked_add(b?)).flatten() else { return Vec::new() };
    let work = total.checked_mul(dim);
    if total > MOST[0] || dim > MOST[0] || work.is_none_or(|work| work > MOST[1]) {
        return Vec::new();
    }
    let value = |i: usize| 0.01 * (i % 7) as f32;
    let tensor = |param: ember_model::ParamSpec| {
        let values = Values::F32((0..param.len()).map(value).collect());
        NamedTensor { name: param.name, shape: param.shape, values }
    };
    params.into_iter().map(tensor).collect()
}

/// What `info`, `eval` and `export` ask of a model.
fn used(model: &EnergyModel, path: &Path) {
    let architecture = model.spec().build().expect("it was built");
    let known = architecture.log_z(&architecture.init(0)).is_some();
    assert_eq!(architecture.has_exact_start(), known, "a start that is exact");
    let (dim, device) = (model.dim(), Device::flex());
    let x = Tensor::<2>::zeros([2, dim], &device);
    let u = download(model.energy(x.clone()));
    assert_eq!(u.len(), 2);
    let (again, grad) = model.energy_and_grad(x);
    assert_eq!((download(again).len(), grad.dims()), (2, [2, dim]));
    let _ = model.confinement();
    if let Some(draws) = model.draw(2, Stream::new(0, Purpose::Sample)) {
        assert_eq!(draws.len(), 2 * dim);
    }
    let exported = model.export().into_iter().map(NamedTensor::from).collect();
    let metadata = [("ember.config".to_owned(), model.spec().to_metadata())].into();
    TensorFile { tensors: exported, metadata }.write(path).expect("written");
    // Values that are not finite are not written by the program; here they come from what the bytes ask for.
    if let Err(error) = opened::open(path, &device) {
        assert!(error.to_string().contains("expected a finite number"), "{error}");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "dim = 2\nkind = \"mlp\"\nhidden = [4, 3]\nactivation = \"tanh\"\nconfinement = 1.0\n",
        "dim = 2\nkind = \"mlp\"\nhidden = [3]\nlevels = { from = 0.1, to = 1.0, count = 3 }\n",
        "dim = 3\nkind = \"gaussian_mixture\"\nmeans = [[-0.5], [0.5]]\n",
        "shape = [1, 8, 8]\ntemperature = 2.0\nsupport = \"cube\"\nkind = \"conv\"\nbase = \"gaussian\"\n\
         layers = [{ out = 2, kernel = 3, stride = 2, padding = 1 }, { out = 1, kernel = 4 }]\n",
        "shape = [3, 4, 4]\nkind = \"resnet\"\nchannels = [4, 4]\nblocks_per_stage = 1\nnorm = \"group\"\ngroups = 2\nspectral_norm = true\n",
        "dim = 4\nkind = \"real_nvp\"\nlayers = 2\nhidden = [3]\nmask = \"checkerboard\"\nact_norm = true\n",
        "dim = 2\nkind = \"spline_flow\"\nlayers = 1\nhidden = [3]\nbins = 4\nbound = 3.0\n",
        "shape = [1, 4, 4]\nkind = \"multiscale_real_nvp\"\nlevels = 2\ncouplings = 1\nchannels = 2\nlogit_alpha = 0.05\n",
        "dim = 2\nkind = \"tilted\"\nbase = { kind = \"real_nvp\", layers = 1, hidden = [2] }\ntilt = { kind = \"mlp\", hidden = [2] }\n",
        "dim = 2\nkind = \"sum\"\nweights = [1.0, 0.5]\nparts = [{ kind = \"mlp\", hidden = [2], confinement = 1.0 }, { kind = \"mlp\", hidden = [2] }]\n",
        "dim = 2\nkind = \"mixture\"\nlog_z = [0.5, 1.0]\ntemperatures = [1.0, 2.0]\nparts = [{ kind = \"gaussian_mixture\", means = [[0.5]] }, \
         { kind = \"mlp\", hidden = [2], confinement = 1.0 }]\n",
        "dim = 2\nkind = \"negation\"\nweights = [1.3, 0.3]\nparts = [{ kind = \"gaussian_mixture\", means = [[0.5]] }, \
         { kind = \"sum\", parts = [{ kind = \"mlp\", hidden = [2], confinement = 1.0 }, { kind = \"mlp\", hidden = [2] }] }]\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
