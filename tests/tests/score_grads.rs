//! Losses of the score by hand on the CPU, against the tape: the same loss from derivatives along lines, coordinate by coordinate.

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::score::{Directions, Pull, ScoreLoss};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_tests::cpu;

/// More than two blocks, the last one short.
const ROWS: usize = 250;

fn model(metadata: &str) -> EnergyModel {
    let spec = EnergySpec::from_metadata(metadata).unwrap_or_else(|error| panic!("{error}\n{metadata}"));
    let model = EnergyModel::init(spec, 3, &cpu()).expect("it fits");
    // Away from the last layer's starting zero.
    let moved = |(i, tensor): (usize, &Tensor<1>)| {
        let n = tensor.dims()[0];
        tensor.clone() + normals(n, 1, 100 + i as u32).reshape([n]).mul_scalar(0.2)
    };
    model.with_theta(model.theta().iter().enumerate().map(moved).collect())
}

fn normals(n: usize, dim: usize, lane: u32) -> Tensor<2> {
    let values = Stream::new(5, Purpose::Data).lane(lane).normals(n, dim);
    Tensor::from_data(TensorData::new(values, [n, dim]), &cpu())
}

fn first_and_second(model: &EnergyModel, x: &Tensor<2>, v: Tensor<2>) -> [Tensor<1>; 2] {
    let [_, first, second] = model.jet(x.clone(), v).expect("it has jets");
    [first, second]
}

fn repeated(x: &Tensor<2>, copies: usize) -> Tensor<2> {
    let [n, d] = x.dims();
    x.clone().reshape([n, 1, d]).expand([n, copies, d]).reshape([n * copies, d])
}

/// The loss as it is written, on the tape.
fn by_tape(model: &EnergyModel, x: &Tensor<2>, loss: &ScoreLoss<'_>) -> (Vec<Tensor<1>>, f64) {
    let [n, d] = x.dims();
    let along = |taped: &EnergyModel, v: &Tensor<2>| {
        first_and_second(taped, &repeated(x, v.dims()[0] / n), v.clone())
    };
    let directions = match loss.directions {
        Directions::None => None,
        Directions::Rows(rows) => Some(rows.clone()),
        Directions::Axes => Some(Tensor::<2>::eye(d, &cpu()).repeat_dim(0, n)),
    };
    let (grads, value) = model
        .differentiated(|taped| {
            let slopes: Vec<Tensor<1>> = (0..d)
                .map(|j| {
                    let unit = Tensor::<2>::eye(d, &cpu()).narrow(0, j, 1).expand([n, d]);
                    first_and_second(taped, x, unit)[0].clone()
                })
                .collect();
            let half = |a: Tensor<1>| (a.clone() * a).sum().mul_scalar(0.5);
            let zero = half(slopes[0].zeros_like());
            let mut total = match loss.pull {
                Pull::Score => slopes.into_iter().map(half).fold(zero, |sum, a| sum + a),
                Pull::Residual { noise, sigma } => {
                    let sigma = |j| sigma.clone().narrow(1, j, 1).reshape([n]);
                    let noise = |j| noise.clone().narrow(1, j, 1).reshape([n]);
                    let terms =
                        slopes.into_iter().enumerate().map(|(j, slope)| half(noise(j) - sigma(j) * slope));
                    terms.fold(zero, |sum, a| sum + a)
                }
                Pull::Along(direction) => (along(taped, direction)[0].clone()).sum(),
                Pull::Slices => half(along(taped, &directions.clone().expect("directions"))[0].clone())
                    .mul_scalar(loss.weight),
            };
            if let Some(directions) = &directions {
                total = total - along(taped, directions)[1].clone().sum().mul_scalar(loss.weight);
            }
            Ok::<_, ()>(total.div_scalar(n as f64))
        })
        .expect("a loss");
    (grads, f64::from(download(value)[0]))
}

/// The largest difference of the gradients, over the largest entry of all of them; and the losses'.
fn distance(model: &EnergyModel, x: &Tensor<2>, loss: &ScoreLoss<'_>) -> f64 {
    let found = model.score_grads(x, loss).expect("a form by hand");
    let (expected, value) = by_tape(model, x, loss);
    let [a, b] =
        [found.grads, expected].map(|grads| grads.into_iter().flat_map(download).collect::<Vec<f32>>());
    let scale = b.iter().fold(0.0f32, |most, b| most.max(b.abs()));
    let worst = a.iter().zip(&b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    let loss = (f64::from(download(found.loss)[0]) - value).abs() / value.abs().max(1.0);
    f64::from(worst / scale).max(loss)
}

/// Every loss of the score that a model has agrees with the tape.
fn agrees(metadata: &str, rows: usize) {
    let model = model(metadata);
    let dim = model.dim();
    let x = normals(rows, dim, 0);
    let (noise, sigma) = (normals(rows, dim, 1), normals(rows, dim, 2).abs());
    let (one, many) = (normals(rows, dim, 3), normals(rows * 3, dim, 4));
    let residual = Pull::Residual { noise: &noise, sigma: &sigma };
    let first = |pull| ScoreLoss { pull, directions: Directions::None, weight: 0.0, of: rows };
    let mut losses = vec![
        ("½ |∇U|²", first(Pull::Score)),
        ("a given pull", first(Pull::Along(&noise))),
        ("residual", first(residual)),
    ];
    if model.jet_order() == 2 {
        for (name, pull, directions, weight) in [
            ("score and a direction", Pull::Score, &one, 1.0),
            ("slices", Pull::Slices, &one, 1.0),
            ("three slices", Pull::Slices, &many, 1.0 / 3.0),
            ("score and three directions", Pull::Score, &many, 0.5),
        ] {
            let directions = Directions::Rows(directions);
            losses.push((name, ScoreLoss { pull, directions, weight, of: rows }));
        }
        for (name, pull) in [("score and the axes", Pull::Score), ("slices along the axes", Pull::Slices)] {
            losses.push((name, ScoreLoss { pull, directions: Directions::Axes, weight: 1.0, of: rows }));
        }
    }
    for (name, loss) in losses {
        let distance = distance(&model, &x, &loss);
        assert!(distance < 2e-5, "{name}: {distance:.1e}\n{metadata}");
    }
}

#[test]
fn every_loss_of_the_score_agrees_with_the_tape() {
    for (dim, more) in [
        (1, "activation = \"tanh\"\nconfinement = 0.7"),
        (2, "activation = \"silu\"\nconfinement = 0.7"),
        (2, "activation = \"softplus\""),
        (3, "activation = \"gelu\""),
        (2, "activation = \"relu\""),
        (2, "activation = \"leaky_relu\"\nconfinement = 0.1"),
        (12, "activation = \"silu\"\nconfinement = 0.3"),
        (2, "activation = \"tanh\"\nspectral_norm = true"),
    ] {
        for hidden in ["[7]", "[24, 16, 8]"] {
            agrees(&format!("dim = {dim}\nkind = \"mlp\"\nhidden = {hidden}\n{more}"), ROWS);
        }
    }
}

/// With padding, strides, kernels that cover their input, several tiles, and more than two blocks, the last one short.
#[test]
fn every_loss_of_the_score_of_images_agrees_with_the_tape() {
    for (shape, layers, more, rows) in [
        (
            "[1, 4, 4]",
            "{ out = 6, kernel = 3, padding = 1 }, { out = 1, kernel = 4 }",
            "confinement = 0.5",
            37,
        ),
        (
            "[2, 5, 4]",
            "{ out = 5, kernel = 3, padding = 1, stride = 2 }, { out = 3, kernel = 1 }, { out = 4, kernel = 2, padding = 1 }, \
             { out = 1, kernel = 3, stride = 2 }",
            "activation = \"tanh\"",
            35,
        ),
        ("[2, 4, 4]", "{ out = 7, kernel = 4 }, { out = 1, kernel = 1 }", "activation = \"leaky_relu\"", 20),
        (
            "[1, 4, 4]",
            "{ out = 4, kernel = 3, padding = 1 }, { out = 1, kernel = 4 }",
            "activation = \"softplus\"\nspectral_norm = true",
            18,
        ),
    ] {
        agrees(&format!("shape = {shape}\nkind = \"conv\"\nlayers = [{layers}]\n{more}"), rows);
    }
}

/// A base goes into the noise, and nothing else has a form by hand.
#[test]
fn a_base_is_part_of_the_residual() {
    let model = model(
        "shape = [1, 4, 4]\nkind = \"conv\"\nbase = \"gaussian\"\nlayers = [{ out = 4, kernel = 3 }, { out = 1, kernel = 2 }]",
    );
    let (x, noise, sigma) = (normals(20, 16, 0), normals(20, 16, 1), normals(20, 16, 2).abs());
    let loss = |pull| ScoreLoss { pull, directions: Directions::None, weight: 0.0, of: 20 };
    let residual = Pull::Residual { noise: &noise, sigma: &sigma };
    let found = distance(&model, &x, &loss(residual));
    assert!(found < 2e-5, "{found:.1e}");
    assert!(model.score_grads(&x, &loss(Pull::Score)).is_none());
}

/// A single linear layer has no activation to go through: the tape takes it.
#[test]
fn a_single_layer_has_no_form_by_hand() {
    let model = model("shape = [1, 4, 4]\nkind = \"conv\"\nlayers = [{ out = 1, kernel = 4 }]");
    let loss = ScoreLoss { pull: Pull::Score, directions: Directions::None, weight: 0.0, of: 20 };
    assert!(model.score_grads(&normals(20, 16, 0), &loss).is_none());
}

/// The distance sees a part that is a tenth too small.
#[test]
fn another_weight_is_another_loss() {
    let model = model("dim = 2\nkind = \"mlp\"\nhidden = [16, 16]\nconfinement = 0.5");
    let (x, v) = (normals(ROWS, 2, 0), normals(ROWS, 2, 1));
    let found = |weight| {
        let loss = ScoreLoss { pull: Pull::Score, directions: Directions::Rows(&v), weight, of: ROWS };
        model.score_grads(&x, &loss).expect("a form by hand").grads
    };
    let difference = |(a, b): (Tensor<1>, Tensor<1>)| download((a - b).abs().max())[0];
    let worst = found(1.0).into_iter().zip(found(0.9)).map(difference).fold(0.0, f32::max);
    assert!(worst > 1e-3, "{worst}");
}

/// The result does not depend on the number of threads, nor a mean on how its rows are cut.
#[test]
fn rows_add_up() {
    let model = model("dim = 2\nkind = \"mlp\"\nhidden = [16, 16]\nconfinement = 0.5");
    let (x, v) = (normals(192, 2, 0), normals(192, 2, 1));
    let part = |start: usize, rows: usize| {
        let [x, v] = [&x, &v].map(|tensor| tensor.clone().narrow(0, start, rows));
        let loss = ScoreLoss { pull: Pull::Score, directions: Directions::Rows(&v), weight: 1.0, of: rows };
        model
            .score_grads(&x, &loss)
            .expect("a form by hand")
            .grads
            .into_iter()
            .flat_map(download)
            .collect::<Vec<f32>>()
    };
    let (whole, parts) = (part(0, 192), [part(0, 191), part(191, 1)]);
    for (i, whole) in whole.iter().enumerate() {
        let sum = (191.0 * parts[0][i] + parts[1][i]) / 192.0;
        assert!((whole - sum).abs() < 1e-4 * whole.abs().max(1.0), "{whole} vs {sum}");
    }
}
