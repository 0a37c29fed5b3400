//! Tensors that are views of one buffer: read, written over and packed again as tensors with memory of their own.

use burn::tensor::{Device, Tensor};
use ember_model::Energy;
use ember_model::flat::{Layout, pack, view};
use ember_model::params::{download, upload};
use ember_tests::explicit::{drawn, normals};
use ember_tests::{cpu, gpu};

/// Lengths that end anywhere between two multiples of the alignment.
const LENS: [usize; 5] = [1, 64, 130, 63, 200];

fn devices() -> impl Iterator<Item = Device> {
    [Some(cpu()), gpu()].into_iter().flatten()
}

/// 1, 2, 3, … in the tensors, 0 between them.
fn numbers(layout: &Layout) -> Vec<f32> {
    let mut numbers = vec![0.0; layout.total];
    for (i, at) in layout.ranges().flat_map(|(begin, len)| begin..begin + len).enumerate() {
        numbers[at] = (i + 1) as f32;
    }
    numbers
}

fn parts(layout: &Layout) -> Vec<Vec<f32>> {
    let numbers = numbers(layout);
    layout.ranges().map(|(begin, len)| numbers[begin..begin + len].to_vec()).collect()
}

#[test]
fn views_hold_their_part() {
    for device in devices() {
        let layout = Layout::new(LENS.into_iter());
        let flat = upload(numbers(&layout), &device);
        let views = layout.views(&flat);
        // Of a view, too, there are views; and where a begin is not aligned, a copy.
        assert_eq!(download(view(&views[2], 64, 66)), parts(&layout)[2][64..]);
        assert_eq!(download(view(&flat, 3, 2)), numbers(&layout)[3..5]);
        for (view, part) in views.into_iter().zip(parts(&layout)) {
            assert_eq!(download(view), part, "{device:?}");
        }
    }
}

#[test]
fn parts_become_a_buffer_with_zeros_between() {
    for device in devices() {
        for count in [1, 2, 5, 16, 17, 40] {
            let layout = Layout::new(LENS.into_iter().cycle().take(count));
            let parts: Vec<_> = parts(&layout).into_iter().map(|part| upload(part, &device)).collect();
            assert_eq!(download(pack(&parts)), numbers(&layout), "{count} parts, {device:?}");
            // Views of the buffer in their order are the buffer; in another they are not.
            let flat = upload(numbers(&layout), &device);
            let mut views = layout.views(&flat);
            assert_eq!(download(pack(&views)), numbers(&layout), "{count} views, {device:?}");
            views.reverse();
            let reversed: Vec<f32> = Layout::new(layout.lens.iter().rev().copied())
                .views(&pack(&views))
                .into_iter()
                .rev()
                .flat_map(download)
                .collect();
            assert_eq!(reversed, numbers(&layout).into_iter().filter(|v| *v != 0.0).collect::<Vec<_>>());
        }
    }
}

/// Operations of burn's and kernels of our own read what a view holds.
#[test]
fn whoever_reads_a_view_reads_its_part() {
    for device in devices() {
        let model = drawn("kind = \"mlp\"\ndim = 3\nhidden = [20, 12]\n", 1, &device);
        let x = normals(&model, 50, 1);
        let flat = pack(model.theta());
        let viewed = model.with_theta(Layout::of(&model.params()).views(&flat));
        let (energy, grad) = model.energy_and_grad(x.clone());
        let (viewed_energy, viewed_grad) = viewed.energy_and_grad(x.clone());
        assert_eq!(download(viewed_energy), download(energy));
        assert_eq!(download(viewed_grad), download(grad));
        assert_eq!(download(viewed.energy(x.clone())), download(model.energy(x)), "{device:?}");
        let matrix = |model: &ember_model::EnergyModel| model.theta()[2].clone().reshape([12, 20]);
        let product = |m: Tensor<2>| download(m.clone().matmul(m.transpose()).exp() + 1.0);
        assert_eq!(product(matrix(&viewed)), product(matrix(&model)), "{device:?}");
    }
}

/// burn writes over a tensor that nobody else holds: never over a neighbour, nor over what the buffer or another view still shows.
#[test]
fn writing_over_a_view_leaves_the_others() {
    for device in devices() {
        let layout = Layout::new(LENS.into_iter());
        let numbers = numbers(&layout);
        let parts = parts(&layout);
        let changed = |part: &[f32]| part.iter().map(|v| 2.0 * v + 1.0).collect::<Vec<_>>();
        let make = || {
            let flat = upload(numbers.clone(), &device);
            device.sync().expect("the device works");
            flat
        };
        // The buffer is held.
        let flat = make();
        assert_eq!(download(view(&flat, layout.begins[2], 130) * 2.0 + 1.0), changed(&parts[2]));
        assert_eq!(download(flat), numbers);
        // Only views are.
        let flat = make();
        let views = layout.views(&flat);
        drop(flat);
        let found: Vec<_> = views.into_iter().map(|view| download(view * 2.0 + 1.0)).collect();
        assert_eq!(found, parts.iter().map(|part| changed(part)).collect::<Vec<_>>());
        // Only one is, beside an equal one that is not changed.
        let flat = make();
        let (one, same) = (view(&flat, layout.begins[3], 63), view(&flat, layout.begins[3], 63));
        drop(flat);
        assert_eq!(download(one * 2.0 + 1.0), changed(&parts[3]));
        assert_eq!(download(same), parts[3]);
        // The buffer changes: views made before do not.
        let flat = make();
        let views = layout.views(&flat);
        let flat = flat * 2.0 + 1.0;
        device.sync().expect("the device works");
        assert_eq!(download(flat)[..64], changed(&numbers)[..64]);
        for (view, part) in views.into_iter().zip(&parts) {
            assert_eq!(&download(view), part);
        }
    }
}
