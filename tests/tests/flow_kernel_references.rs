//! The kernels that propose from flows against plain references, walker by walker: decisions in f64 on the host,
//! blocks, numbers of local moves, energies that are not finite, and the GPU path.

use burn::tensor::{Device, Tensor};
use ember_model::params::download;
use ember_model::random::Purpose;
use ember_model::{Energy, EnergyModel};
use ember_sampler::kernel::{Ex2Mcmc, FlowMh, Hmc, ISir, KernelConfig, Mala, Neutra};
use ember_sampler::{FlowProposal, Kernel, Noise, Proposals, StepInfo, Walkers};
use ember_tests::proposals::{Target, scaled_flow};
use ember_tests::{cpu, gpu};

const TARGET: Target = Target::TwoModes;
const NOISE: Noise = Noise { seed: 41, lane: 3, step: 1_000 };
const PLAIN_MH: FlowMh = FlowMh { local_steps: 0, step_size: None };

fn start(count: usize, device: &Device) -> (EnergyModel, Walkers) {
    let model = TARGET.at(1.0, device);
    let walkers = Walkers::new(&model, TARGET.draws(1.0, count, 4, &cpu()).to_device(device), 0.0);
    (model, walkers)
}

fn stepped(kernel: &dyn Kernel, proposals: &Proposals, count: usize, noise: Noise) -> (Walkers, StepInfo) {
    let (model, walkers) = start(count, &cpu());
    kernel.with_proposals(proposals).expect("bound").step(&model, walkers, &noise)
}

fn doubles<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    download(tensor).into_iter().map(f64::from).collect()
}

/// `log p/ρ_α` in f64 of rows `[n, 2]`: the energy from the mixture's own formula.
fn log_weights(model: &EnergyModel, flow: &FlowProposal, rows: Tensor<2>) -> Vec<f64> {
    let mixture = model.mixture().expect("a mixture");
    let log_q = doubles(flow.log_prob(rows.clone()));
    download(rows).chunks_exact(2).zip(log_q).map(|(x, log_q)| mixture.log_prob(x, 1.0) - log_q).collect()
}

fn assert_close(a: Tensor<2>, b: Tensor<2>, tolerance: f32) {
    let worst = download((a - b).abs().max())[0];
    assert!(worst <= tolerance, "{worst}");
}

/// Every decision of independence Metropolis–Hastings, but those that a rounding error could turn.
#[test]
fn flow_mh_decides_as_the_reference() {
    let (count, flow) = (3_000, TARGET.flow(&cpu()));
    let (model, before) = start(count, &cpu());
    let (after, info) = stepped(&PLAIN_MH, &Proposals::one(flow.clone()), count, NOISE);
    let (proposed, _) = flow.sample(count, NOISE.stream(Purpose::Proposal));
    let (here, there) =
        (log_weights(&model, &flow, before.position.clone()), log_weights(&model, &flow, proposed.clone()));
    let uniforms = NOISE.stream(Purpose::Accept).open_uniforms(count, 1);
    let rows = [before.position, proposed, after.position].map(download);
    let mut taken = 0;
    for i in 0..count {
        let log_ratio = there[i] - here[i];
        let log_u = f64::from(uniforms[i]).ln();
        let row = |k: usize| &rows[k][2 * i..2 * i + 2];
        taken += usize::from(row(2) == row(1));
        if (log_u - log_ratio).abs() > 1e-3 {
            assert_eq!(row(2), row(usize::from(log_u < log_ratio)), "walker {i}: log a = {log_ratio}");
        }
    }
    let rate = f64::from(download(info.global_accept_rate.expect("a rate"))[0]);
    assert!((rate - taken as f64 / count as f64).abs() < 1e-6, "{rate} for {taken} of {count}");
    assert!((0.1..0.9).contains(&rate), "{rate}");
}

/// Every choice of i-SIR among 16, in more than one block of rows.
#[test]
fn i_sir_picks_as_the_reference() {
    let (count, candidates, flow) = (2_500, 16, TARGET.flow(&cpu()));
    let (model, before) = start(count, &cpu());
    let (after, info) = stepped(&ISir { proposals: candidates }, &Proposals::one(flow.clone()), count, NOISE);
    let (proposed, _) = flow.sample(count * (candidates - 1), NOISE.stream(Purpose::Proposal));
    let (here, there) =
        (log_weights(&model, &flow, before.position.clone()), log_weights(&model, &flow, proposed.clone()));
    let uniforms = NOISE.stream(Purpose::Accept).open_uniforms(count * candidates, 1);
    let [before, proposed, after] = [before.position, proposed, after.position].map(download);
    let mut moved = 0;
    for i in 0..count {
        let score = |j: usize| {
            let log_w = if j == 0 { here[i] } else { there[i * (candidates - 1) + j - 1] };
            log_w - (-f64::from(uniforms[i * candidates + j]).ln()).ln()
        };
        let mut order: Vec<usize> = (0..candidates).collect();
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        let rows = match order[0] {
            0 => &before[2 * i..2 * i + 2],
            j => &proposed[2 * (i * (candidates - 1) + j - 1)..][..2],
        };
        moved += usize::from(order[0] != 0);
        if score(order[0]) - score(order[1]) > 1e-3 {
            let found = &after[2 * i..2 * i + 2];
            let gap = found.iter().zip(rows).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(gap < 1e-5, "walker {i}: {found:?}, expected {rows:?}, candidate {}", order[0]);
        }
    }
    let rate = f64::from(download(info.global_accept_rate.expect("a rate"))[0]);
    assert!((rate - moved as f64 / count as f64).abs() < 5e-3, "{rate} for {moved} of {count}");
}

fn flow_kernels() -> Vec<Box<dyn Kernel>> {
    vec![
        Box::new(FlowMh { local_steps: 2, step_size: Some(0.3) }),
        Box::new(ISir { proposals: 16 }),
        Box::new(Ex2Mcmc { proposals: 3, local_steps: 2, step_size: 0.3 }),
        Box::new(Neutra { step_size: 0.1, leapfrog_steps: None }),
        Box::new(Neutra { step_size: 0.3, leapfrog_steps: Some(2) }),
    ]
}

/// Two equal flows move as one; two different ones each move their own half as if alone.
#[test]
fn blocks_move_by_their_own_flows() {
    let count = 2_501;
    let (a, b) = (TARGET.flow(&cpu()), scaled_flow(&[3.0, 1.5], &cpu()));
    for kernel in flow_kernels() {
        let after = |proposals: Proposals| stepped(&*kernel, &proposals, count, NOISE).0.position;
        let [one, other] = [&a, &b].map(|flow| after(Proposals::one(flow.clone())));
        assert_close(one.clone(), after(Proposals::blocks(vec![a.clone(), a.clone()])), 1e-5);
        let both = after(Proposals::blocks(vec![a.clone(), b.clone()]));
        let half = count / 2;
        assert_close(both.clone().narrow(0, 0, half), one.narrow(0, 0, half), 1e-5);
        assert_close(both.narrow(0, half, count - half), other.narrow(0, half, count - half), 1e-5);
    }
}

/// More flows than walkers: blocks may be empty.
#[test]
fn fewer_walkers_than_flows_move() {
    let flows = vec![TARGET.flow(&cpu()); 3];
    for kernel in flow_kernels() {
        let (walkers, _) = stepped(&*kernel, &Proposals::blocks(flows.clone()), 2, NOISE);
        assert_eq!(walkers.position.dims(), [2, 2]);
    }
}

/// A composite kernel is its global move, then MALA at the step numbers that follow.
#[test]
fn composites_are_their_parts() {
    let (count, proposals) = (500, Proposals::one(TARGET.flow(&cpu())));
    let (model, _) = start(count, &cpu());
    let composites: [(Box<dyn Kernel>, Box<dyn Kernel>); 2] = [
        (Box::new(FlowMh { local_steps: 3, step_size: Some(0.5) }), Box::new(PLAIN_MH)),
        (Box::new(Ex2Mcmc { proposals: 5, local_steps: 3, step_size: 0.5 }), Box::new(ISir { proposals: 5 })),
    ];
    for (composite, global) in composites {
        assert_eq!((composite.noise_steps(), global.noise_steps()), (4, 1));
        let (found, info) = stepped(&*composite, &proposals, count, NOISE);
        let (mut walkers, global_info) = stepped(&*global, &proposals, count, NOISE);
        let between = walkers.clone();
        let mut rate = 0.0;
        for j in 0..3 {
            let noise = Noise { step: NOISE.step + 1 + j, ..NOISE };
            let (moved, info) = Mala::new(0.5).step(&model, walkers, &noise);
            walkers = moved;
            rate += download(info.accept_rate.expect("a rate"))[0] / 3.0;
        }
        assert_close(found.position.clone(), walkers.position, 0.0);
        assert_close(found.energy_grad, walkers.energy_grad, 0.0);
        let accepted = |rate: Option<Tensor<1>>| download(rate.expect("a rate"))[0];
        assert!((accepted(info.accept_rate) - rate).abs() < 1e-6);
        assert_eq!(accepted(info.global_accept_rate), accepted(global_info.global_accept_rate.clone()));
        assert_eq!(accepted(global_info.accept_rate), accepted(global_info.global_accept_rate));
        let local = composite.local_part().expect("local moves");
        assert_eq!((local.noise_steps(), local.step_size()), (3, Some(0.5)));
        let noise = Noise { step: NOISE.step + 1, ..NOISE };
        assert_close(local.step(&model, between, &noise).0.position, found.position, 0.0);
        assert_eq!(composite.with_step_size(0.2).step_size(), Some(0.2));
        assert_eq!((global.with_step_size(0.2).step_size(), global.local_part().is_none()), (None, true));
    }
}

/// One leapfrog step of `ε = √(2h)` is MALA.
#[test]
fn one_leapfrog_step_is_mala() {
    let (model, walkers) = start(1_000, &cpu());
    let hmc = Hmc { step_size: 1f64.sqrt(), leapfrog_steps: 1 };
    let (found, _) = hmc.step(&model, walkers.clone(), &NOISE);
    let (expected, _) = Mala::new(0.5).step(&model, walkers, &NOISE);
    assert_close(found.position, expected.position, 1e-5);
}

/// At the flow itself as the target every proposal is taken, up to rounding.
#[test]
fn a_flow_accepts_its_own_draws() {
    let flow = TARGET.flow(&cpu());
    let model = flow.model().clone();
    let (x, _) = flow.sample(1_000, NOISE.stream(Purpose::Start));
    let kernel = PLAIN_MH.with_proposals(&Proposals::one(flow)).expect("bound");
    let (_, info) = kernel.step(&model, Walkers::new(&model, x, 0.0), &NOISE);
    assert!(download(info.global_accept_rate.expect("a rate"))[0] > 0.999);
}

/// `½|x|²`, but beyond 1 on the first axis a constant, and a gradient that is a constant too.
struct Holed {
    energy: f32,
    grad: f32,
}

impl Energy for Holed {
    fn dim(&self) -> usize {
        2
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        let beyond = x.clone().narrow(1, 0, 1).greater_elem(1.0).squeeze_dim::<1>(1);
        (x.clone() * x).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5).mask_fill(beyond, self.energy)
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let beyond = x.clone().narrow(1, 0, 1).greater_elem(1.0).expand(x.dims());
        (self.energy(x.clone()), x.mask_fill(beyond, self.grad))
    }
}

#[test]
fn what_is_not_finite_is_not_taken() {
    let mut kernels = flow_kernels();
    kernels.extend([
        Box::new(Mala::new(0.3)) as Box<dyn Kernel>,
        Box::new(Hmc { step_size: 0.4, leapfrog_steps: 3 }),
    ]);
    let proposals = Proposals::one(Target::Gaussian { dim: 2 }.flow(&cpu()));
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for (energy, grad) in [(nan, 0.0), (inf, 0.0), (-inf, 0.0), (nan, nan), (0.0, nan), (0.0, inf)] {
        let holed = Holed { energy, grad };
        for kernel in &kernels {
            let bound = kernel.with_proposals(&proposals);
            let kernel = bound.as_deref().unwrap_or(&**kernel);
            let inside = Target::Gaussian { dim: 2 }.draws(0.0, 500, 6, &cpu()).clamp_max(1.0);
            let mut walkers = Walkers::new(&holed, inside, 0.0);
            for step in 0..3 {
                walkers = kernel.step(&holed, walkers, &Noise { step: 10 * step, ..NOISE }).0;
            }
            let worst = download(walkers.position.clone().narrow(1, 0, 1).max())[0];
            assert!(worst <= 1.0, "{kernel:?} at {energy}, {grad}: a walker at {worst}");
            assert!(walkers.non_finite().is_empty());
        }
    }
}

/// A walker where the flow has no finite density stays: its weight counts as infinite.
#[test]
fn a_walker_beyond_the_flow_stays() {
    let (model, _) = start(1, &cpu());
    let far = Tensor::<2>::from_floats([[3e30, 0.0], [0.0, 0.0]], &cpu());
    let walkers = Walkers::new(&Holed { energy: 0.0, grad: 0.0 }, far, 0.0);
    for kernel in [Box::new(PLAIN_MH) as Box<dyn Kernel>, Box::new(ISir { proposals: 64 })] {
        let kernel = kernel.with_proposals(&Proposals::one(TARGET.flow(&cpu()))).expect("bound");
        let (moved, _) = kernel.step(&model, walkers.clone(), &NOISE);
        assert_eq!(download(moved.position)[..2], [3e30, 0.0]);
    }
}

#[test]
#[should_panic(expected = "step what `with_proposals` gives")]
fn a_kernel_without_its_flow_does_not_step() {
    let (model, walkers) = start(2, &cpu());
    PLAIN_MH.step(&model, walkers, &NOISE);
}

/// The same start, one step: the same positions on both.
#[test]
fn the_gpu_path_moves_as_the_cpu() {
    let Some(device) = gpu() else { return };
    let tables = [
        "kind = \"hmc\"\nstep_size = 0.4\nleapfrog_steps = 3",
        "kind = \"flow_mh\"",
        "kind = \"flow_mh\"\nlocal_steps = 2\nstep_size = 0.3",
        "kind = \"i_sir\"\nproposals = 8",
        "kind = \"ex2mcmc\"\nproposals = 4\nstep_size = 0.3",
        "kind = \"neutra\"\nstep_size = 0.1",
        "kind = \"neutra\"\nstep_size = 0.3\nleapfrog_steps = 2",
    ];
    for table in tables {
        let config: KernelConfig = toml::from_str(table).expect(table);
        for flows in [1, 2] {
            let after = |device: &Device| {
                let kernel = config.as_dyn();
                let proposals = Proposals::blocks(vec![TARGET.flow(device); flows]);
                let bound = kernel.with_proposals(&proposals);
                let (model, walkers) = start(501, device);
                let (walkers, info) = bound.as_deref().unwrap_or(kernel).step(&model, walkers, &NOISE);
                let rate = download(info.accept_rate.expect("a rate"))[0];
                (walkers.position.to_device(&cpu()), walkers.energy_grad.to_device(&cpu()), rate)
            };
            let (here, there) = (after(&cpu()), after(&device));
            println!("{table:?}, {flows} flows: accepted {} on the CPU, {} on the GPU path", here.2, there.2);
            assert_close(here.0, there.0, 1e-4);
            assert_close(here.1, there.1, 1e-3);
            assert!((here.2 - there.2).abs() < 1e-4);
        }
    }
}

/// A uniform number whose 24 bits are all 0 is none that takes everything: `log 0` lies below any finite ratio.
#[test]
fn a_word_of_zeros_takes_no_hopeless_proposal() {
    let noise = Noise { seed: 0, lane: 0, step: 1_054_365 };
    assert_eq!(noise.stream(Purpose::Accept).uniforms(1, 1), [0.0], "the word this test is about");
    let kernels: [Box<dyn Kernel>; 2] =
        [Box::new(Mala::new(50.0)), Box::new(Hmc { step_size: 6.0, leapfrog_steps: 3 })];
    for device in std::iter::once(cpu()).chain(gpu()) {
        for kernel in &kernels {
            let (model, walkers) = start(1, &device);
            let before = download(walkers.position.clone());
            let (after, info) = kernel.step(&model, walkers, &noise);
            assert_eq!(
                download(after.position),
                before,
                "{device:?}: a proposal of probability e^-1000 was taken"
            );
            assert_eq!(download(info.accept_rate.expect("it rejects")), [0.0]);
        }
    }
}
