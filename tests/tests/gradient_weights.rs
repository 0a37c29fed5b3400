//! The gradient is that of the walkers as they moved, under their weights: resampling, which only adds noise, comes after it.

use ember_model::params::download;
use ember_tests::{cpu, gpu};
use ember_train::config::Config;
use ember_train::training::trainer::Trainer;

fn trainer(rest: &str, threshold: f64, device: &burn::tensor::Device) -> Trainer {
    let (kernel, objective, walkers) = match rest {
        "ula" => ("kind = \"ula\"\nsteps_per_update = 1", "", ""),
        "ula, 3 steps" => ("kind = \"ula\"\nsteps_per_update = 3", "", ""),
        "mala" => ("kind = \"mala\"\nsteps_per_update = 1", "", ""),
        "energy_l2" => ("kind = \"ula\"\nsteps_per_update = 1", "energy_l2 = 0.01", ""),
        "mini-batch" => ("kind = \"ula\"\nsteps_per_update = 1", "", "moved_per_update = 64"),
        "temperature" => ("kind = \"ula\"\nsteps_per_update = 1\ntemperature = 0.5", "", ""),
        other => unreachable!("{other}"),
    };
    let text = format!(
        "seed = 4\nsteps = 10\n[dataset]\nkind = \"gaussian_mixture\"\ndim = 2\nmeans = [[-1.5], [1.5]]\nweights = [0.3, 0.7]\n\
         std = 0.5\ntrain_size = 256\ntest_size = 100\n[energy]\nkind = \"mlp\"\nhidden = [16, 16]\nconfinement = 1.0\n[walkers]\n\
         count = 128\n{walkers}\n[kernel]\n{kernel}\nstep_size = 0.3\n[resampling]\ness_threshold = {threshold}\n[objective]\n\
         kind = \"jarzynski\"\n{objective}\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.3\n"
    );
    Trainer::new(Config::from_toml(&text, "test").unwrap_or_else(|error| panic!("{error}")), device)
        .expect("starts")
}

fn theta(trainer: &Trainer) -> Vec<f32> {
    trainer.model.theta().iter().cloned().flat_map(download).collect()
}

/// Two runs alike up to the first resampling: one never resamples. The θ of that update is the same, to the bit on the CPU, and the next one's
/// is not.
#[test]
fn the_update_that_resamples_has_the_gradient_of_one_that_does_not() {
    for device in std::iter::once(cpu()).chain(gpu()) {
        for case in ["ula", "ula, 3 steps", "mala", "energy_l2", "mini-batch", "temperature"] {
            let (mut kept, mut resampled) = (trainer(case, 0.0, &device), trainer(case, 1.0, &device));
            let mut updates = 0;
            while resampled.walkers.resamplings.read() == 0 {
                for trainer in [&mut kept, &mut resampled] {
                    trainer.update(false).expect("finite");
                }
                updates += 1;
                assert!(updates < 10, "{case}: no resampling");
            }
            let [a, b] = [&kept, &resampled].map(theta);
            assert_eq!(a, b, "{device:?}, {case}: after update {updates}, whose walkers were resampled");
            assert!(a.iter().any(|&x| x != 0.0));
            for _ in 0..4 {
                for trainer in [&mut kept, &mut resampled] {
                    trainer.update(false).expect("finite");
                }
            }
            assert_ne!(theta(&kept), theta(&resampled), "{case}: the runs are the same for ever");
        }
    }
}

/// The mean energy of the walkers is the one their statistics give: of before the resampling.
#[test]
fn the_logged_energy_is_that_of_the_statistics() {
    let mut trainer = trainer("ula", 1.0, &cpu());
    for _ in 0..5 {
        let info = trainer.update(true).expect("finite");
        let summary = info.reading.expect("read").summary;
        let logged = f64::from(download(info.energy_walkers.expect("logged"))[0]);
        assert!((logged - summary.energy).abs() < 1e-5 * (1.0 + logged.abs()), "{logged} {summary:?}");
    }
    assert!(trainer.walkers.resamplings.read() > 2);
}
