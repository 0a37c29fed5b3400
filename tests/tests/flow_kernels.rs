//! The kernels that propose from flows, and HMC, on known targets (ALGORITHMS 5, 9): at fixed θ they keep the target
//! and, but for the local ones, find it from one mode alone; on a fixed path of θ the weights of the reversible rule
//! are exact. 4 standard errors over 32 independent groups of walkers. The well-known mistakes are off by at least 10
//! in the same test.

use burn::tensor::{Tensor, activation};
use ember_model::params::download;
use ember_model::random::Purpose;
use ember_model::{Energy, EnergyModel};
use ember_sampler::device::{open_uniform, standard_normal};
use ember_sampler::kernel::{Ex2Mcmc, FlowMh, Hmc, ISir, Mala, Neutra};
use ember_sampler::{FlowProposal, Kernel, Noise, Proposals, Walkers};
use ember_tests::proposals::{Estimate, Target, estimates, line, skewed_flow};
use ember_tests::{assert_within_se, cpu, four_se};

const GROUPS: usize = 32;
const WALKERS: usize = 125 * GROUPS;
const UPDATES: u64 = 20;

/// How walkers make one step at an energy.
type Follow<'a> = &'a dyn Fn(&dyn Energy, Walkers, &Noise) -> Walkers;

fn global_kernels() -> Vec<Box<dyn Kernel>> {
    vec![
        Box::new(FlowMh { local_steps: 0, step_size: None }),
        Box::new(FlowMh { local_steps: 2, step_size: Some(0.3) }),
        Box::new(ISir { proposals: 4 }),
        Box::new(Ex2Mcmc { proposals: 4, local_steps: 2, step_size: 0.3 }),
    ]
}

fn kernels() -> Vec<Box<dyn Kernel>> {
    let mut kernels = global_kernels();
    kernels.push(Box::new(Hmc { step_size: 0.5, leapfrog_steps: 3 }));
    kernels.push(Box::new(Neutra { step_size: 0.1, leapfrog_steps: None }));
    kernels.push(Box::new(Neutra { step_size: 0.3, leapfrog_steps: Some(3) }));
    kernels
}

/// The kernel with the target's flow, where it needs one, and what to call it.
fn bound(kernel: Box<dyn Kernel>, target: Target) -> (Box<dyn Kernel>, String) {
    let name = format!("{kernel:?}");
    let proposals = Proposals::one(target.flow(&cpu()));
    (kernel.with_proposals(&proposals).unwrap_or(kernel), name)
}

fn noise(kernel: &dyn Kernel, step: u64) -> Noise {
    Noise::at(32, 0, step, kernel.noise_steps(), 0).expect("fits")
}

#[track_caller]
fn exact(estimates: &[Estimate]) {
    for Estimate { found, exact, .. } in estimates {
        assert_within_se(found.0, *exact, found.1, four_se(GROUPS));
    }
}

/// Steps at θ fixed from exact draws.
fn at_fixed_theta(target: Target, steps: u64, follow: Follow<'_>) -> Vec<Estimate> {
    let model = target.at(1.0, &cpu());
    let mut walkers = Walkers::new(&model, target.draws(1.0, WALKERS, 0, &cpu()), 0.0);
    for step in 0..steps {
        walkers = follow(&model, walkers, &Noise::at(33, 0, step, 1, 0).expect("fits"));
    }
    estimates(target, &walkers, GROUPS)
}

#[test]
fn every_kernel_keeps_its_target() {
    for target in Target::ALL {
        for kernel in kernels() {
            let (kernel, name) = bound(kernel, target);
            let model = target.at(1.0, &cpu());
            let start = target.draws(1.0, WALKERS, 0, &cpu());
            let mut walkers = Walkers::new(&model, start.clone(), 0.0);
            let (mut local, mut global) = (0.0, None);
            for step in 0..10 {
                let (moved, info) = kernel.step(&model, walkers, &noise(&*kernel, step));
                walkers = moved;
                local += download(info.accept_rate.expect("an acceptance"))[0] / 10.0;
                global = info.global_accept_rate.map(|rate| download(rate)[0]);
            }
            let found = estimates(target, &walkers, GROUPS);
            println!("{target:?}, {name}: accepted {local:.3}, global {global:?}; {}", line(&found));
            exact(&found);
            // Walkers that hardly move would keep any target.
            let gap = download((walkers.position.clone() - start).powi_scalar(2).mean())[0];
            assert!(gap > 0.3, "the walkers moved by {gap} only");
            // The cached pair belongs to the positions.
            let (u, grad) = model.energy_and_grad(walkers.position.clone());
            assert!(download((u - walkers.energy).abs().max())[0] < 1e-4);
            assert!(download((grad - walkers.energy_grad).abs().max())[0] < 1e-4);
        }
    }
}

#[test]
fn global_moves_find_the_other_mode() {
    let target = Target::TwoModes;
    let model = target.at(1.0, &cpu());
    for kernel in global_kernels() {
        let (kernel, name) = bound(kernel, target);
        // All in the smaller mode.
        let start = Target::Gaussian { dim: 2 }.draws(0.0, WALKERS, 1, &cpu());
        let start = start + Tensor::<2>::from_floats([[-3.0, 0.0]], &cpu());
        let mut walkers = Walkers::new(&model, start, 0.0);
        for step in 0..80 {
            walkers = kernel.step(&model, walkers, &noise(&*kernel, step)).0;
        }
        let found = estimates(target, &walkers, GROUPS);
        println!("{name}: {}", line(&found));
        exact(&found);
    }
}

#[test]
fn weights_are_exact_on_a_moving_target() {
    for target in Target::ALL {
        for kernel in kernels() {
            let (kernel, name) = bound(kernel, target);
            let start = target.at(0.0, &cpu());
            let mut walkers = Walkers::new(&start, target.draws(0.0, WALKERS, 2, &cpu()), 0.0);
            for k in 0..UPDATES {
                let model = target.at((k + 1) as f64 / UPDATES as f64, &cpu());
                walkers = kernel.prepare(&model, walkers);
                walkers = kernel.step(&model, walkers, &noise(&*kernel, k)).0;
            }
            let found = estimates(target, &walkers, GROUPS);
            println!("{target:?}, {name}: {}", line(&found));
            assert_eq!(found.last().map(|e| e.of), Some("Z/Z"));
            exact(&found);
        }
    }
}

/// Step, then reweight: the walkers move by the energy of the last θ.
#[test]
fn a_stale_pair_is_wrong() {
    let target = Target::Gaussian { dim: 2 };
    let (kernel, _) = bound(Box::new(FlowMh { local_steps: 0, step_size: None }), target);
    let mut walkers = Walkers::new(&target.at(0.0, &cpu()), target.draws(0.0, WALKERS, 2, &cpu()), 0.0);
    for k in 0..UPDATES {
        let model = target.at((k + 1) as f64 / UPDATES as f64, &cpu());
        walkers = kernel.step(&model, walkers, &noise(&*kernel, k)).0.reweight(&model);
    }
    wrong("a stale pair", &estimates(target, &walkers, GROUPS));
}

#[track_caller]
fn wrong(name: &str, estimates: &[Estimate]) {
    println!("{name}: {}", line(estimates));
    let worst = estimates.iter().map(|estimate| estimate.z().abs()).fold(0.0, f64::max);
    assert!(worst >= 10.0, "{name}: off by only {worst:.1} standard errors");
}

fn taken(
    walkers: Walkers,
    x: Tensor<2>,
    accept: Tensor<1, burn::tensor::Bool>,
    energy: &dyn Energy,
) -> Walkers {
    let rows = accept.reshape([walkers.count(), 1]);
    let position = walkers.position.clone().mask_where(rows, x);
    Walkers { position, ..walkers }.refresh(energy)
}

/// The mistake: a proposal taken as if it were symmetric.
#[test]
fn acceptance_without_the_flows_density_is_wrong() {
    for target in Target::ALL {
        let flow = target.flow(&cpu());
        let found = at_fixed_theta(target, 10, &|energy, walkers, noise| {
            let (y, _) = flow.sample(walkers.count(), noise.stream(Purpose::Proposal));
            let log_ratio = walkers.energy.clone() - energy.energy(y.clone());
            let u = open_uniform(walkers.count(), noise.stream(Purpose::Accept), &cpu());
            taken(walkers, y, u.log().lower(log_ratio), energy)
        });
        wrong("no ρ_α", &found);
    }
}

/// The mistake: a choice among the draws alone.
#[test]
fn a_choice_without_the_current_point_is_wrong() {
    for target in Target::ALL {
        let flow = target.flow(&cpu());
        let found = at_fixed_theta(target, 3, &|energy, walkers, noise| {
            let (n, draws) = (walkers.count(), 3);
            let (y, log_q) = flow.sample(n * draws, noise.stream(Purpose::Proposal));
            let log_w = (energy.energy(y.clone()).neg() - log_q).reshape([n, draws]);
            let u = open_uniform(n * draws, noise.stream(Purpose::Accept), &cpu()).reshape([n, draws]);
            let index = (activation::log_softmax(log_w, 1) - u.log().neg().log()).argmax(1);
            let index = index + Tensor::arange(0..n as i64, &cpu()).mul_scalar(draws as i64).reshape([n, 1]);
            let position = y.select(0, index.reshape([n]));
            Walkers { position, ..walkers }.refresh(energy)
        });
        wrong("no current point", &found);
    }
}

/// `U(T(z))`, the mistake: the latent energy without `log |det ∂T/∂z|`.
struct WithoutLogDet<'a> {
    energy: &'a EnergyModel,
    flow: &'a FlowProposal,
}

impl Energy for WithoutLogDet<'_> {
    fn dim(&self) -> usize {
        self.energy.dim()
    }

    fn energy(&self, z: Tensor<2>) -> Tensor<1> {
        self.energy.energy(self.flow.forward(z).0)
    }
}

#[test]
fn latent_moves_without_the_jacobian_are_wrong() {
    for target in [Target::Gaussian { dim: 2 }, Target::Gaussian { dim: 8 }] {
        let (model, flow) = (target.at(1.0, &cpu()), skewed_flow(target.dim(), &cpu()));
        let start = target.draws(1.0, WALKERS, 0, &cpu());
        let latent = WithoutLogDet { energy: &model, flow: &flow };
        let mut walkers = Walkers::new(&latent, flow.inverse(start.clone()).0, 0.0);
        let kernel = Neutra { step_size: 0.1, leapfrog_steps: None };
        let kernel = kernel.with_proposals(&Proposals::one(flow.clone())).expect("bound");
        let mut right = Walkers::new(&model, start, 0.0);
        for step in 0..30 {
            walkers = Mala::new(0.1).step(&latent, walkers, &noise(&*kernel, step)).0;
            right = kernel.step(&model, right, &noise(&*kernel, step)).0;
        }
        let (position, _) = flow.forward(walkers.position.clone());
        wrong("no Jacobian", &estimates(target, &Walkers { position, ..walkers }, GROUPS));
        let found = estimates(target, &right, GROUPS);
        println!("with it: {}", line(&found));
        exact(&found);
    }
}

/// The mistake: leapfrog without accept-reject, whose stationary variance on a unit Gaussian is `1/(1 − ε²/4)`.
#[test]
fn hamiltonian_moves_without_acceptance_are_wrong() {
    for target in Target::ALL {
        let step_size = 1.2;
        let found = at_fixed_theta(target, 10, &|energy, walkers, noise| {
            let mut x = walkers.position.clone();
            let mut p = standard_normal(x.dims(), noise.stream(Purpose::Noise), &cpu());
            p = p - walkers.energy_grad.clone().mul_scalar(0.5 * step_size);
            x = x + p.mul_scalar(step_size);
            Walkers { position: x, ..walkers }.refresh(energy)
        });
        wrong("no acceptance", &found);
    }
}
