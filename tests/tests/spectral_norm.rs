//! Spectral norm in the MLP and the convolutional network: the scale of a hidden layer is irrelevant, that of the last is not, the
//! start stays exact, and tables without it read and write as before. How exact σ is: `energy/spectral.rs`; the residual
//! network: `resnet.rs`.

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::weighted_param_grads_by_autodiff;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_tests::cpu;

const MLP: &str = "dim = 48\nkind = \"mlp\"\nhidden = [16, 24]\nconfinement = 1.0\n";
const CONV: &str = "shape = [3, 4, 4]\nkind = \"conv\"\nlayers = [{ out = 8, kernel = 3, padding = 1 }, \
                    { out = 6, kernel = 3, stride = 2, padding = 1 }, { out = 1, kernel = 2 }]\nconfinement = 1.0\n";

fn start(table: &str, spectral_norm: bool) -> EnergyModel {
    let spec =
        EnergySpec::from_metadata(&format!("{table}spectral_norm = {spectral_norm}\n")).expect("a table");
    EnergyModel::init(spec, 1, &cpu()).expect("a network")
}

/// With a last layer that is not zero.
fn trained(table: &str, spectral_norm: bool) -> EnergyModel {
    let model = start(table, spectral_norm);
    let mut theta = model.theta().to_vec();
    let last = theta.len() - 2;
    let values = Stream::new(2, Purpose::Init).normals(theta[last].dims()[0], 1);
    theta[last] = upload(values, &cpu());
    model.with_theta(theta)
}

fn points() -> Tensor<2> {
    Tensor::from_data(TensorData::new(Stream::new(3, Purpose::Data).normals(5, 48), [5, 48]), &cpu())
}

/// Sums may be taken in another order.
#[track_caller]
fn assert_equal_to_rounding(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{found} for {expected}");
    }
}

#[test]
fn the_scale_of_a_hidden_layer_is_irrelevant() {
    for table in [MLP, CONV] {
        for spectral_norm in [true, false] {
            let model = trained(table, spectral_norm);
            let before = download(model.energy(points()));
            let grads = model.weighted_param_grads(&[(points(), Tensor::ones([5], &cpu()))]).grads;
            for layer in 0..3 {
                let mut theta = model.theta().to_vec();
                theta[2 * layer] = theta[2 * layer].clone().mul_scalar(3.0);
                let after = download(model.with_theta(theta).energy(points()));
                let change = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // Σ W ∂U/∂W: the derivative of U in the layer's scale
                let slope =
                    download((model.theta()[2 * layer].clone() * grads[2 * layer].clone()).sum())[0].abs();
                let irrelevant = spectral_norm && layer < 2;
                println!("spectral {spectral_norm}, layer {layer}: change {change:.1e}, slope {slope:.1e}");
                assert_eq!(change < 1e-4 && slope < 1e-3, irrelevant, "{table}, layer {layer}");
            }
        }
    }
}

/// The gradients taken back through `W/σ(W)` are those of one backward pass through everything.
#[test]
fn gradients_pass_through_the_norm() {
    for table in [MLP, CONV] {
        let model = trained(table, true);
        let weights = Tensor::<1>::from_floats([0.3, -0.2, 0.5, 1.0, -0.7], &cpu());
        let terms = [(points(), weights.clone()), (points().mul_scalar(0.5), weights)];
        let found = model.weighted_param_grads(&terms);
        let plain = model.spec().build().expect("a network");
        let expected = weighted_param_grads_by_autodiff(plain.as_ref(), model.theta(), &terms);
        for (found, expected) in found.grads.into_iter().zip(expected.grads) {
            let (found, expected) = (download(found), download(expected));
            let scale = expected.iter().fold(0f32, |a, b| a.max(b.abs()));
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-5 * scale.max(1.0), "{table}: {worst} of {scale}");
        }
        for (found, expected) in found.energies.into_iter().zip(expected.energies) {
            assert_equal_to_rounding(&download(found), &download(expected));
        }
    }
}

#[test]
fn the_start_stays_exact() {
    for table in [MLP, CONV] {
        let model = start(table, true);
        let exact = download((points() * points()).sum_dim(1).mul_scalar(0.5));
        assert_equal_to_rounding(&download(model.energy(points())), &exact);
        assert!(model.draw(1, Stream::new(1, Purpose::Start)).is_some());
        assert!(trained(table, true).draw(1, Stream::new(1, Purpose::Start)).is_none());
    }
}

#[test]
fn tables_without_it_are_written_as_before() {
    for table in [MLP, CONV] {
        let without = EnergySpec::from_metadata(table).expect("a table");
        assert_eq!(&without, start(table, false).spec());
        assert!(!without.to_metadata().contains("spectral_norm"));
        let with = start(table, true).spec().clone();
        assert!(with.to_metadata().contains("spectral_norm = true"));
        assert_eq!(EnergySpec::from_metadata(&with.to_metadata()).expect("its own text"), with);
    }
}

/// The last layer is left free: where it is the only one, the norm would do nothing, in silence.
#[test]
fn a_single_layer_has_nothing_to_normalise() {
    let table =
        "shape = [1, 4, 4]\nkind = \"conv\"\nspectral_norm = true\nlayers = [{ out = 1, kernel = 4 }]";
    let error = match EnergySpec::from_metadata(table).map(|spec| spec.build().map(|_| ())) {
        Ok(Err(error)) | Err(error) => error.to_string(),
        Ok(Ok(())) => panic!("it does nothing"),
    };
    assert!(error.contains("spectral_norm") && error.contains("leave"), "{error}");
}
