//! Sample files: what is written is what NumPy's format says. The program writes `.npz` files and reads none, so the bytes are the samples.

use std::fs::File;
use std::io::BufReader;

use ember_train::store::samples::{EXTENSIONS, Samples};
use ember_train::store::tensor_file::TensorFile;
use npyz::npz::NpzArchive;

use super::{Target, scratch};

/// A file format, n, d or the shape of an image, then floats.
pub(super) const NPZ: Target = Target {
    name: "npz",
    run: npz,
    seeds,
    words: &["\0\0\u{c0}\u{7f}", "\0\0\u{80}\u{7f}", "\u{1}\0\0\0"],
    most_bytes: 512,
};

fn npz(bytes: &[u8]) {
    let Some((&[format, n, a, b, c], rest)) = bytes.split_first_chunk::<5>() else { return };
    let [n, a, b, c] = [n % 8, a % 8, b % 8, c % 5].map(usize::from);
    let image = (format & 4 != 0).then_some([c, a, b]);
    let dim = image.map_or(a, |[c, h, w]| c * h * w);
    let mut floats = rest.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).cycle();
    let mut take = |count: usize| (0..count).map(|_| floats.next().unwrap_or(0.5)).collect::<Vec<f32>>();
    let samples =
        Samples { n, dim, samples: take(n * dim), energy: take(n), log_weights: take(n), image, bits: false };
    let extension = EXTENSIONS[usize::from(format & 3)];
    scratch::within("npz", |folder| {
        let path = folder.join(format!("samples{extension}"));
        // A picture of nothing, or of points that are not finite: an error or a page, no panic. The checks come before, as in `sample`.
        if n == 0 || dim == 0 || Samples::check_shape(&path, image).is_err() || extension == ".png" {
            return;
        }
        samples.write(&path).expect("written");
        match extension {
            ".npz" => assert_npz(&path, &samples),
            ".safetensors" if image.is_none() => assert_safetensors(&path, &samples),
            _ => {}
        }
    });
}

fn same(found: &[f32], expected: &[f32]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn assert_npz(path: &std::path::Path, samples: &Samples) {
    let mut npz = NpzArchive::new(BufReader::new(File::open(path).expect("there"))).expect("a zip");
    let position = if samples.image.is_some() { "position" } else { "samples" };
    for (name, shape, values) in [
        (position, vec![samples.n as u64, samples.dim as u64], &samples.samples),
        ("energy", vec![samples.n as u64], &samples.energy),
        ("log_weights", vec![samples.n as u64], &samples.log_weights),
    ] {
        let array = npz.by_name(name).expect("an array").expect("its name");
        assert_eq!(array.shape(), shape);
        assert!(same(&array.into_vec::<f32>().expect("floats"), values), "{name}");
    }
    if let Some([c, h, w]) = samples.image {
        let array = npz.by_name("samples").expect("an array").expect("its name");
        assert_eq!(array.shape(), [samples.n, h, w, c].map(|side| side as u64));
        assert_eq!(array.into_vec::<u8>().expect("bytes").len(), samples.n * samples.dim);
    }
}

fn assert_safetensors(path: &std::path::Path, samples: &Samples) {
    let mut file = TensorFile::read(path).expect("read back");
    let found = file.take("samples").expect("there");
    assert_eq!(found.shape, [samples.n, samples.dim]);
    assert!(
        matches!(&found.values, ember_train::store::tensor_file::Values::F32(values) if same(values, &samples.samples))
    );
}

fn seeds() -> Vec<Vec<u8>> {
    let floats: Vec<u8> =
        [0.5f32, -1.0, f32::NAN, f32::INFINITY, 3e38].iter().flat_map(|x| x.to_le_bytes()).collect();
    let heads = [
        [0, 3, 2, 0, 0],
        [1, 3, 2, 0, 0],
        [2, 2, 1, 0, 0],
        [4, 2, 3, 2, 3],
        [5, 1, 4, 4, 1],
        [6, 1, 2, 2, 1],
    ];
    heads.iter().map(|head: &[u8; 5]| [&head[..], &floats].concat()).collect()
}
