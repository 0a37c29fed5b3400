//! The same bits: of rows in another order, of rows in slices, and with 1, 2, 3 and 7 threads (ARCHITECTURE, invariant 8).
//!
//! What holds, on one machine with one build, on the CPU:
//!
//! | | rows in another order | rows in slices | threads |
//! |---|---|---|---|
//! | energies and their gradients in x | same bits | same bits, but for `spline_flow`: rounding | same bits |
//! | gradients in θ, training updates, resampling, sums | order matters | | same bits |
//! | Gaussian fits, Fréchet and kernel distances | order matters | scores of rows: rounding | same bits |
//!
//! `spline_flow` has no CPU form of its own, and upstream's product of `[n, k]` and `[k, m]` picks its kernel by n.

use std::process::Command;

use burn::tensor::{Int, Tensor, TensorData};
use ember_model::energy::gaussian::Gaussian;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::reduce::{Reduction, all};
use ember_model::{Energy, EnergyModel};
use ember_sampler::resampling::{Scheme, resample};
use ember_sampler::statistics::{ess_fraction, log_mean_z};
use ember_sampler::weights::grouped_stats;
use ember_tests::explicit::{difference, drawn, kept_grads, normals, terms};
use ember_tests::{cpu, flows};
use ember_train::dataset::gaussian_fit::GaussianFit;
use ember_train::judging::features::{Moments, frechet, kernel_distance};
use ember_train::training::trainer::Trainer;

const THREADS: [usize; 3] = [2, 3, 7];
const IMAGE: &str = "shape = [2, 9, 7]";
/// Rows of which the last block of a CPU form (128 of a flow, 192 of an MLP, 256 of a mixture) has one.
const ODD: [usize; 6] = [2, 129, 193, 257, 401, 1_000];
/// Of the largest value: what the order of a sum may change, and a spline's slope then makes larger.
const ROUNDING: f32 = 2e-4;

/// Every kind of energy, and what wraps one.
fn models() -> Vec<(String, EnergyModel)> {
    let conv = |more: &str| {
        format!(
            "{IMAGE}\nkind = \"conv\"\n{more}\nlayers = [{{ out = 5, kernel = 3, padding = 1 }}, {{ out = 8, kernel = 3, stride = 2 }}, \
             {{ out = 1, kernel = 3, stride = 4 }}]"
        )
    };
    let tilted = |base: &str| {
        format!("dim = 6\nkind = \"tilted\"\nbase = {{ {base} }}\ntilt = {{ kind = \"mlp\", hidden = [16] }}")
    };
    let texts = [
        "dim = 3\nkind = \"gaussian_mixture\"\nmeans = [[-1.0], [0.5, 1.0], [2.0]]".into(),
        "dim = 50\nkind = \"gaussian_mixture\"\nmeans = [[-10.0], [6.0]]".into(),
        "dim = 9\nkind = \"rbm\"\nhidden = 7\nweights_std = 0.3".into(),
        "dim = 2\nkind = \"mlp\"\nhidden = [8]\nconfinement = 1.0".into(),
        "dim = 7\nkind = \"mlp\"\nhidden = [33, 128]\nactivation = \"tanh\"".into(),
        "dim = 10\nkind = \"mlp\"\nhidden = [32]\nconfinement = 1.0\nspectral_norm = true".into(),
        "dim = 4\nkind = \"mlp\"\nhidden = [24]\nconfinement = 1.0\nlevels = [0.1, 1.0]".into(),
        "dim = 5\ntemperature = 0.5\nkind = \"mlp\"\nhidden = [16]\nconfinement = 1.0".into(),
        "dim = 5\nsupport = \"cube\"\nkind = \"mlp\"\nhidden = [16]".into(),
        conv("confinement = 0.1"),
        conv("base = \"gaussian\""),
        format!("{IMAGE}\nkind = \"resnet\"\nchannels = [8, 12]\nconfinement = 0.01"),
        format!(
            "{IMAGE}\nkind = \"resnet\"\nchannels = [8, 8]\nnorm = \"group\"\ngroups = 4\nconfinement = 0.01"
        ),
        "dim = 3\nkind = \"sum\"\nparts = [{ kind = \"mlp\", hidden = [8], confinement = 1.0 }, { kind = \"mlp\", hidden = [9] }]".into(),
        "dim = 3\nkind = \"mixture\"\nparts = [{ kind = \"mlp\", hidden = [8], confinement = 1.0 }, \
         { kind = \"gaussian_mixture\", means = [[-1.0], [0.5, 1.0]] }]"
            .into(),
        "dim = 3\nkind = \"negation\"\nweights = [1.3, 0.3]\n\
         parts = [{ kind = \"mlp\", hidden = [8], confinement = 1.0 }, { kind = \"mlp\", hidden = [9], confinement = 0.5 }]"
            .into(),
        tilted("kind = \"real_nvp\", layers = 3, hidden = [8], act_norm = true"),
        tilted("kind = \"spline_flow\", layers = 2, hidden = [8], bins = 4, bound = 3.0"),
    ];
    let networks = texts.into_iter().map(|text| (drawn(&text, 3, &cpu()), text));
    let flows = flows::small().into_iter().map(|text| (flows::trained(&text, &cpu()), text));
    networks.chain(flows).map(|(model, text)| (text.replace('\n', "; "), model)).collect()
}

#[test]
fn every_kind_of_energy_is_tried() {
    let models = models();
    for kind in ember_model::EnergyConfig::KINDS {
        assert!(models.iter().any(|(_, model)| model.spec().energy.kind() == *kind), "{kind}");
    }
}

/// The energy alone, `[n]`, the energy with its gradient, `[n]`, and the gradient, `[n, dim]`: as rows.
fn of_rows(model: &EnergyModel, x: &Tensor<2>) -> [Tensor<2>; 3] {
    let (n, (energy, grad)) = (x.dims()[0], model.energy_and_grad(x.clone()));
    [model.energy(x.clone()).reshape([n, 1]), energy.reshape([n, 1]), grad]
}

const WHAT: [&str; 3] = ["energy alone", "energy", "gradient"];

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u64> {
    download(tensor).into_iter().map(|v| u64::from(v.to_bits())).collect()
}

#[test]
fn rows_in_another_order() {
    for (text, model) in models() {
        for n in ODD {
            let x = normals(&model, n, 7);
            let order = Stream::new(n as u64, Purpose::Data).permutation(n);
            let order: Vec<i64> = order.into_iter().map(i64::from).collect();
            let order = Tensor::<1, Int>::from_data(TensorData::new(order, [n]), &cpu());
            let (plain, shuffled) = (of_rows(&model, &x), of_rows(&model, &x.select(0, order.clone())));
            for (what, (plain, shuffled)) in WHAT.iter().zip(plain.into_iter().zip(shuffled)) {
                assert_eq!(
                    bits(plain.select(0, order.clone())),
                    bits(shuffled),
                    "{what} of {n} rows: {text}"
                );
            }
        }
    }
}

#[test]
fn rows_in_slices() {
    for (text, model) in models() {
        for (n, size) in [(37, 1), (401, 3), (401, 7), (1000, 101), (1000, 333)] {
            let x = normals(&model, n, 7);
            let slices = (0..n).step_by(size).map(|first| x.clone().narrow(0, first, size.min(n - first)));
            let slices: Vec<_> = slices.map(|slice| of_rows(&model, &slice)).collect();
            for (i, whole) in of_rows(&model, &x).into_iter().enumerate() {
                let parts = Tensor::cat(slices.iter().map(|parts| parts[i].clone()).collect(), 0);
                let off = difference(&parts, &whole);
                let rounds = text.contains("spline_flow") || text.contains("rbm");
                let allowed = if rounds { ROUNDING } else { 0.0 };
                let what = WHAT[i];
                assert!(off <= allowed, "{what} of slices of {size} of {n} rows is off by {off:.1e}: {text}");
            }
        }
    }
}

/// Something computed in pools of 1, 2, 3 and 7 threads.
fn pools(what: &str, f: impl Fn() -> Vec<u64> + Sync) {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(&f)
    };
    let one = with(1);
    for threads in THREADS {
        assert!(with(threads) == one, "{what}: {threads} threads differ from one");
    }
}

fn of_energy(model: &EnergyModel, n: usize) -> Vec<u64> {
    let grads = model.weighted_param_grads(&terms(model, n));
    let mut found: Vec<u64> = of_rows(model, &normals(model, n, 7)).into_iter().flat_map(bits).collect();
    found.extend(grads.grads.into_iter().chain(grads.energies).flat_map(bits));
    found.extend(kept_grads(model, &terms(model, n)).into_iter().flatten().flat_map(bits));
    found
}

#[test]
fn threads_do_not_change_energies_and_gradients() {
    for (text, model) in models() {
        pools(&text, || of_energy(&model, 1_025));
    }
}

/// A pass that is kept gives the same gradients in θ as one made anew, also of a block of one row.
#[test]
fn kept_passes_of_a_single_row() {
    for (text, model) in models() {
        for n in [1, 193] {
            let terms = &terms(&model, n)[..1];
            let Some(kept) = kept_grads(&model, terms) else { continue };
            for (kept, plain) in kept.iter().zip(model.weighted_param_grads(terms).grads) {
                let close = download(kept.clone()).into_iter().zip(download(plain));
                let size = close.clone().map(|(a, b)| a.abs().max(b.abs())).fold(f32::MIN_POSITIVE, f32::max);
                let off = close.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size;
                assert!(off <= 1e-4, "off by {off:.1e} of {size:.1e} at {n} rows: {text}");
            }
        }
    }
}

fn rows(n: usize, dim: usize, seed: u64) -> Vec<f32> {
    Stream::new(seed, Purpose::Data).normals(n, dim)
}

/// A fitted Gaussian: scores, precision, log Z, draws.
fn of_fit(n: usize, dim: usize) -> Vec<u64> {
    let values = rows(n, dim, 3);
    let fit = GaussianFit::new(&values, dim, 1e-3).expect("it can be fitted");
    let gaussian = Gaussian::new(fit.mean(), fit.precision()).expect("positive definite");
    let mut found: Vec<u64> = fit.energies(&values).into_iter().map(f64::to_bits).collect();
    found.push(gaussian.log_z().to_bits());
    let draws = gaussian.draw(50, Stream::new(1, Purpose::Start));
    found.extend([fit.precision(), draws].concat().into_iter().map(|v| u64::from(v.to_bits())));
    found
}

/// FID and KID.
fn of_distances(n: usize, d: usize) -> Vec<u64> {
    let (a, b) = (rows(n, d, 1), rows(n, d, 2));
    let moments = |rows: &[f32]| Moments::of(rows, d).expect("moments");
    let fid = frechet(&moments(&a), &moments(&b)).expect("a distance");
    let kid = kernel_distance(&a, &b, d, 40, [1, 2].map(|seed| Stream::new(seed, Purpose::Sample)));
    vec![fid.to_bits(), kid.value.value.to_bits(), kid.value.standard_error.to_bits()]
}

/// Sizes at which faer's own solves and decompositions depend on the number of threads: the test of the test is below.
#[test]
fn threads_do_not_change_fits_and_distances() {
    for (n, dim) in [(300, 5), (1_001, 129), (1_001, 513), (1_100, 1_023)] {
        pools(&format!("a Gaussian fitted to {n} rows of {dim}"), || of_fit(n, dim));
    }
    for (n, d) in [(100, 150), (600, 300), (700, 500)] {
        pools(&format!("distances of {n} rows of {d}"), || of_distances(n, d));
    }
}

/// faer's process-wide setting changes its own decompositions, and none of ours.
#[test]
fn faers_setting_does_not_matter() {
    let with = |par: faer::Par| {
        faer::set_global_parallelism(par);
        let ours = [of_fit(1_001, 513), of_distances(600, 300)].concat();
        let square =
            faer::Mat::from_fn(500, 500, |i, j| f64::from(((i * 7919 + j * 104_729) % 1_013) as u32));
        let theirs: Vec<u64> =
            square.singular_values().expect("they exist").into_iter().map(f64::to_bits).collect();
        (ours, theirs)
    };
    let (one, their_one) = with(faer::Par::Seq);
    let (many, their_many) = with(faer::Par::rayon(3));
    assert!(one == many, "a Gaussian fit or a distance follows faer's process-wide setting");
    assert!(their_one != their_many, "a matrix that shows nothing");
}

/// Sums and maxima.
fn of_sums(n: usize) -> Vec<u64> {
    let x = upload(Stream::new(5, Purpose::Noise).normals(1, n), &cpu());
    let (sum, mean) = (Reduction::Sum(x.clone()), Reduction::Mean(x.clone()));
    bits(all(&[sum, mean, Reduction::Max(x.clone()), Reduction::Dot(x.clone(), x)]))
}

/// Sums, weights, ancestors, estimates.
fn of_weights(n: usize) -> Vec<u64> {
    let values = Stream::new(5, Purpose::Noise).normals(1, n);
    let log_weights = upload(values.clone(), &cpu());
    let mut found = of_sums(n);
    found.extend(bits(ember_sampler::weights::normalised(log_weights.clone())));
    found.extend(bits(grouped_stats(log_weights.clone().narrow(0, 0, n / 8 * 8), 8)));
    for scheme in Scheme::ALL {
        let ancestors = resample(*scheme, log_weights.clone(), Stream::new(2, Purpose::Resampling));
        found.extend(ancestors.into_data().iter::<i64>().map(|a| a as u64));
    }
    let values: Vec<f64> = values.into_iter().map(f64::from).collect();
    let mean = log_mean_z(&values);
    found.extend([mean.value, mean.standard_error, ess_fraction(&values)].map(f64::to_bits));
    found
}

#[test]
fn threads_do_not_change_weights() {
    for n in [17, 1_001, 70_001] {
        pools(&format!("{n} weights"), || of_weights(n));
    }
    // Beyond where the backend's own sum goes by threads.
    pools("sums of 4,194,309 numbers", || of_sums((1 << 22) + 5));
}

/// θ, walkers and log Z after a few weighted updates, with resampling.
fn of_updates(energy: &str, kernel: &str) -> Vec<u64> {
    let dataset = if energy.contains("conv") {
        "kind = \"shapes32\"\ntrain_size = 90\ntest_size = 10\nbatch_size = 37\nnoise = 0.3\n[walkers]\ncount = 75\nmoved_per_update = 25\n"
    } else {
        "kind = \"gaussian_mixture\"\ndim = 6\nmeans = [[-1.5], [1.5]]\nweights = [0.3, 0.7]\ntrain_size = 1100\ntest_size = 10\n\
         [walkers]\ncount = 1300\n"
    };
    run(&format!(
        "seed = 3\nsteps = 10\n[dataset]\n{dataset}[optimizer]\nkind = \"adam\"\nlearning_rate = 1e-2\n[resampling]\n\
         ess_threshold = 0.95\n[audit]\nwalkers = 101\nrepeats = 3\nevery = 2\n[energy]\n{energy}\n[kernel]\n{kernel}\n\
         [objective]\nkind = \"jarzynski\"\n"
    ))
}

fn run(text: &str) -> Vec<u64> {
    let mut trainer = Trainer::new(ember_tests::configs::config(text), &cpu()).expect("starts");
    for _ in 0..6 {
        trainer.update(false).expect("finite");
    }
    let audit = trainer.audit.as_ref().expect("an audit");
    let mut found: Vec<u64> = trainer.model.theta().iter().cloned().flat_map(bits).collect();
    found.push(trainer.walkers.log_z.value().to_bits());
    found.push(audit.log_z().value.to_bits());
    for walkers in [&trainer.walkers, &audit.walkers] {
        let log_weights = [walkers.log_weights.value(), walkers.log_weights.compensation()];
        found.extend(log_weights.into_iter().flat_map(bits));
        found.extend(bits(walkers.position.clone()));
    }
    found
}

const UPDATES: [(&str, &str); 7] = [
    (
        "kind = \"gaussian_mixture\"\nmeans = [[-0.5], [0.5]]\nmeans_noise = 0.1",
        "kind = \"ula\"\nstep_size = 0.05",
    ),
    ("kind = \"mlp\"\nhidden = [32, 32]\nconfinement = 1.0", "kind = \"ula\"\nstep_size = 0.05"),
    ("kind = \"mlp\"\nhidden = [32, 32]\nconfinement = 1.0", "kind = \"mala\"\nstep_size = 0.05"),
    (
        "kind = \"real_nvp\"\nlayers = 4\nhidden = [16]\nact_norm = true",
        "kind = \"hmc\"\nstep_size = 0.2\nleapfrog_steps = 3",
    ),
    ("kind = \"spline_flow\"\nlayers = 2\nhidden = [128, 128]", "kind = \"mala\"\nstep_size = 0.05"),
    (
        "kind = \"tilted\"\nbase = { kind = \"real_nvp\", layers = 2, hidden = [16], act_norm = true }\ntilt = { kind = \"mlp\", hidden = [16] }",
        "kind = \"flow_mh\"\nlocal_steps = 2\nstep_size = 0.05",
    ),
    (
        "kind = \"conv\"\nconfinement = 1.0\nlayers = [{ out = 8, kernel = 4, stride = 4 }, { out = 1, kernel = 8 }]",
        "kind = \"mala\"\nstep_size = 0.01",
    ),
];

#[test]
fn threads_do_not_change_training() {
    for (energy, kernel) in UPDATES {
        pools(&format!("{energy} by {kernel}"), || of_updates(energy, kernel));
    }
}

/// θ after a few updates of an objective of the data alone, whose gradient goes through the tape.
fn of_losses(objective: &str) -> Vec<u64> {
    let changes = "energy.hidden = [128, 128]\ndataset.train_size = 1100\nwalkers.count = 10";
    let levels = if objective.contains("diff_clf") { "energy.levels = [0.3, 1.0, 3.0]\n" } else { "" };
    let text = ember_tests::configs::small(&format!("{changes}\n{levels}objective = {objective}"));
    let mut trainer = Trainer::new(ember_tests::configs::config(&text), &cpu()).expect("starts");
    for _ in 0..4 {
        trainer.update(false).expect("finite");
    }
    trainer.model.theta().iter().cloned().flat_map(bits).collect()
}

#[test]
fn threads_do_not_change_losses() {
    for objective in [
        "{ kind = \"score_matching\", form = \"implicit\" }",
        "{ kind = \"score_matching\", form = \"sliced\", slices = 2 }",
        "{ kind = \"score_matching\", form = \"denoising\", sigma = [0.3, 1.0] }",
        "{ kind = \"energy_discrepancy\", t = 0.5 }",
        "{ kind = \"noise_contrastive\", ratio = 1.5 }",
        "{ kind = \"conditional_nce\", sigma = 1.0 }",
        "{ kind = \"diff_clf\" }",
    ] {
        pools(objective, || of_losses(objective));
    }
}

/// FNV-1a.
fn digest(found: &[u64]) -> u64 {
    found.iter().flat_map(|v| v.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

const CHILD: &str = "EMBER_TEST_PRINTS_BITS";

/// The process's own pool, which no test can set for itself: this test in processes of their own, with `RAYON_NUM_THREADS`.
#[test]
fn the_process_s_threads_do_not_matter() {
    if std::env::var_os(CHILD).is_some() {
        println!("threads {}", rayon::current_num_threads());
        for (i, (_, model)) in models().into_iter().enumerate() {
            println!("bits of energy {i}: {:x}", digest(&of_energy(&model, 401)));
        }
        println!("bits of a fit: {:x}", digest(&of_fit(1_001, 513)));
        println!("bits of distances: {:x}", digest(&of_distances(600, 300)));
        println!("bits of weights: {:x}", digest(&of_weights(70_001)));
        for (energy, kernel) in UPDATES {
            println!("bits of updates of {energy:?}: {:x}", digest(&of_updates(energy, kernel)));
        }
        return;
    }
    let lines = |threads: usize| {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args(["--exact", "the_process_s_threads_do_not_matter", "--nocapture"]);
        let output =
            command.env(CHILD, "1").env("RAYON_NUM_THREADS", threads.to_string()).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.contains(&format!("threads {threads}\n")), "{text}");
        text.lines().filter(|line| line.starts_with("bits of")).map(str::to_owned).collect::<Vec<_>>()
    };
    let one = lines(1);
    assert_eq!(one.len(), models().len() + 3 + UPDATES.len());
    for threads in THREADS {
        assert_eq!(lines(threads), one, "{threads} threads");
    }
}
