//! Weight files, metric lines and sample files: what is read back is what was written, and damage is an error, not a panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ember_sampler::statistics::Estimate;
use ember_train::store::metrics::{EvalWriter, MetricsLine, MetricsWriter, read};
use ember_train::store::samples::Samples;
use ember_train::store::tensor_file::{NamedTensor, TensorFile, Values};
use ember_train::view::plot::{self, Cloud, Grid2d, Model};
use proptest::prelude::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A safetensors file of this header and this much data.
fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 1);
    bytes
}

fn read_bytes(bytes: &[u8]) -> Result<TensorFile, String> {
    let folder = folder();
    let path = folder.path().join("weights.safetensors");
    fs::write(&path, bytes).unwrap();
    TensorFile::read(&path).map_err(|error| {
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(message.contains("weights.safetensors"), "{message}");
        message
    })
}

fn example() -> TensorFile {
    let metadata = ["ember.config", "ember.version", "ember.step", "a", "b", "c"];
    TensorFile {
        tensors: vec![
            NamedTensor {
                name: "i".into(),
                shape: vec![3],
                values: Values::I64(vec![i64::MIN, 0, i64::MAX]),
            },
            NamedTensor {
                name: "z".into(),
                shape: vec![2, 1],
                values: Values::F32(vec![1.5, f32::INFINITY]),
            },
            NamedTensor { name: "a".into(), shape: vec![], values: Values::F32(vec![-0.0]) },
        ],
        metadata: metadata.map(|key| (key.to_owned(), format!("{key}\n\"é\""))).into(),
    }
}

#[test]
fn tensor_files_round_trip_with_the_same_bytes_every_time() {
    let folder = folder();
    let (one, two) = (folder.path().join("1.safetensors"), folder.path().join("2.safetensors"));
    example().write(&one).unwrap();
    for _ in 0..20 {
        example().write(&two).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
    }
    assert_eq!(TensorFile::read(&one).unwrap(), example());
    // The reference reader agrees.
    let bytes = fs::read(&one).unwrap();
    let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(reference.tensor("z").unwrap().shape(), [2, 1]);
    assert_eq!(reference.tensor("a").unwrap().data(), (-0.0_f32).to_le_bytes());
}

#[test]
fn hostile_headers_are_errors() {
    let f32s = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"x":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"x":{{"dtype":"F32","shape":[1],"data_offsets":{a}}},"y":{{"dtype":"F32","shape":[1],"data_offsets":{b}}}}}"#
        )
    };
    let huge = [&(1_u64 << 63).to_le_bytes()[..], b"{}"].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "0 bytes"),
        ("header of 2^63", huge, "9223372036854775808"),
        ("all ones", vec![255; 64], "18446744073709551615"),
        ("header longer than the file", raw("{}", 0)[..9].to_vec(), "at most 1"),
        ("not UTF-8", [&3_u64.to_le_bytes()[..], &[b'{', 0xff, b'}']].concat(), "at byte 9"),
        ("not JSON", raw("{]", 0), "at byte 9"),
        ("not a map", raw("[1]", 0), "map from tensor names"),
        ("unknown dtype", raw(&f32s("[1]", 0, 4).replace("F32", "F33"), 4), "F33"),
        ("integers", raw(&f32s("[1]", 0, 1).replace("F32", "U8"), 1), "U8"),
        ("truncated data", raw(&f32s("[2]", 0, 8), 7), "truncated"),
        ("trailing data", raw(&f32s("[2]", 0, 8), 9), "1 bytes follow"),
        ("wrong size", raw(&f32s("[3]", 0, 8), 8), "needs 12"),
        ("overflowing shape", raw(&f32s("[4294967296,4294967296,4]", 0, 8), 8), "more than 2^64"),
        ("overflow to zero", raw(&f32s("[9223372036854775808,2]", 0, 0), 0), "more than 2^64"),
        ("backwards", raw(&f32s("[1]", 4, 0), 4), "start of 0"),
        ("gap", raw(&two("[0,4]", "[8,12]"), 12), "start of 4"),
        ("overlap", raw(&two("[0,4]", "[0,4]"), 4), "start of 4"),
        (
            "far away",
            raw(&f32s("[1]", 0, 4).replace("[0,4]", "[18446744073709551611,18446744073709551615]"), 4),
            "start of 0",
        ),
        ("negative", raw(&f32s("[1]", 0, 4).replace("[0,4]", "[-4,0]"), 4), "-4"),
        ("twice", raw(&two("[0,4]", "[4,8]").replace("\"y\"", "\"x\""), 8), "twice"),
        ("deep", raw(&"[".repeat(100_000), 0), "header"),
    ];
    for (name, bytes, expected) in cases {
        let message = read_bytes(&bytes).expect_err(name);
        assert!(message.contains(expected), "{name}: {message}");
    }
    assert_eq!(TensorFile::read(Path::new("/dev/zero")).unwrap_err().exit_code(), 2);
    assert_eq!(TensorFile::read(Path::new("/")).unwrap_err().exit_code(), 2);
}

#[test]
fn other_floats_become_f32() {
    let header = r#"{"d":{"dtype":"F64","shape":[2],"data_offsets":[0,16]},
        "h":{"dtype":"F16","shape":[1],"data_offsets":[16,18]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[18,20]}}"#;
    let mut bytes = raw(header, 0);
    for value in [0.1_f64, -2.0] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0x00, 0x3e, 0x80, 0x3f]);
    let file = read_bytes(&bytes).unwrap();
    let values: Vec<_> = file.tensors.into_iter().map(|tensor| tensor.values).collect();
    assert_eq!(values, [Values::F32(vec![0.1, -2.0]), Values::F32(vec![1.5]), Values::F32(vec![1.0])]);
    let at = bytes.len() - 20;
    bytes[at..at + 8].copy_from_slice(&1e300_f64.to_le_bytes());
    assert!(read_bytes(&bytes).unwrap_err().contains("too large"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let folder = folder();
        let path = folder.path().join("x.safetensors");
        example().write(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        prop_assert!(read_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = read_bytes(&bytes);
    }
}

fn line(step: u64) -> MetricsLine {
    MetricsLine { step, energy_data: 0.1 + step as f64, resamplings: 2, ..MetricsLine::default() }
}

#[test]
fn metric_lines_have_the_contract_s_keys() {
    let folder = folder();
    let mut writer = MetricsWriter::create(folder.path()).unwrap();
    writer.append(&MetricsLine { grad_norm: f64::NAN, energy_walkers: f64::INFINITY, ..line(50) }).unwrap();
    let audit = Estimate { value: 3.5, standard_error: 0.01 };
    let full = MetricsLine {
        accept_rate: Some(0.5),
        log_z_audit: Some(audit),
        mode_weights: Some(vec![0.25, 0.75]),
        ..line(100)
    };
    writer.append(&full).unwrap();
    let text = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut keys: Vec<&str> = lines[0].as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "distinct_ancestors",
        "energy_data",
        "energy_walkers",
        "ess_fraction",
        "grad_norm",
        "learning_rate",
        "log_z_online",
        "resamplings",
        "step",
        "time_s",
        "walker_steps_per_s",
    ];
    assert_eq!(keys, expected);
    assert!(lines[0]["grad_norm"].is_null() && lines[0]["energy_walkers"].is_null());
    assert_eq!(lines[1]["log_z_audit"]["standard_error"], 0.01);
    let back = read(folder.path()).unwrap();
    assert!(back[0].grad_norm.is_nan());
    assert_eq!(back[1], full);
    assert!(MetricsWriter::create(folder.path()).is_err(), "a run's metrics are never overwritten");
}

#[test]
fn resume_cuts_what_lies_beyond() {
    let folder = folder();
    let path = folder.path().join("metrics.jsonl");
    let mut writer = MetricsWriter::create(folder.path()).unwrap();
    for step in [50, 100, 150] {
        writer.append(&line(step)).unwrap();
    }
    let whole = fs::read_to_string(&path).unwrap();
    let first_two: String = whole.split_inclusive('\n').take(2).collect();
    // Any half-written line beyond is cut, whatever its length.
    for cut in first_two.len()..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(read(folder.path()).unwrap().len() >= 2);
        let mut writer = MetricsWriter::resume(folder.path(), 100).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first_two);
        writer.append(&line(150)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    }
    // A line that lacks only its end is kept.
    fs::write(&path, first_two.trim_end()).unwrap();
    MetricsWriter::resume(folder.path(), 100).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), first_two);
    fs::remove_file(&path).unwrap();
    MetricsWriter::resume(folder.path(), 100).unwrap();
    assert_eq!(read(folder.path()).unwrap(), []);
    fs::write(&path, "{\"step\":1}\nnonsense\n").unwrap();
    assert!(read(folder.path()).unwrap_err().to_string().contains("line 1"));
}

#[test]
fn evaluations_are_lines_of_their_own() {
    let folder = folder();
    let result = serde_json::json!({"step": 3, "kl": 0.1});
    EvalWriter::append(folder.path(), &result).unwrap();
    let path = folder.path().join("eval.jsonl");
    fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"half").unwrap();
    EvalWriter::append(folder.path(), &result).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let parsed: Vec<_> =
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).collect();
    assert_eq!(parsed, [result.clone(), result]);
}

fn samples() -> Samples {
    Samples {
        n: 3,
        dim: 2,
        samples: vec![0.1, -2.0, 1e-30, 3.0, f32::NAN, f32::MAX],
        energy: vec![1.0, f32::INFINITY, -0.5],
        log_weights: vec![0.0, -1.25, 0.333_333_34],
        image: None,
        bits: false,
    }
}

/// The members of a zip archive without compression, by the specification.
fn members(zip: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([zip[at], zip[at + 1]]));
    let u32_at = |at: usize| u16_at(at) + (u16_at(at + 2) << 16);
    let mut members = BTreeMap::new();
    let mut at = 0;
    while zip[at..].starts_with(b"PK\x03\x04") {
        assert_eq!(u16_at(at + 8), 0, "stored");
        let (size, name, extra) = (u32_at(at + 18), u16_at(at + 26), u16_at(at + 28));
        let data = at + 30 + name + extra;
        let name = String::from_utf8(zip[at + 30..at + 30 + name].to_vec()).unwrap();
        members.insert(name, zip[data..data + size].to_vec());
        at = data + size;
    }
    members
}

#[test]
fn npz_files_hold_what_numpy_expects() {
    let folder = folder();
    let path = folder.path().join("x.npz");
    samples().write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    samples().write(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes, "the same bytes every time");
    let members = members(&bytes);
    let names: Vec<_> = members.keys().map(String::as_str).collect();
    assert_eq!(names, ["energy.npy", "log_weights.npy", "samples.npy"]);
    for (name, shape, values) in [
        ("samples.npy", "(3, 2", samples().samples),
        ("energy.npy", "(3,", samples().energy),
        ("log_weights.npy", "(3,", samples().log_weights),
    ] {
        let npy = &members[name];
        assert!(npy.starts_with(b"\x93NUMPY"), "{name}");
        let header = String::from_utf8_lossy(&npy[..npy.len() - 4 * values.len()]);
        assert!(header.contains("'<f4'") && header.contains(shape), "{header}");
        assert!(header.contains("'fortran_order': False"), "{header}");
        let data = &npy[npy.len() - 4 * values.len()..];
        let expected: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(data, expected, "{name}");
    }
}

#[test]
fn safetensors_and_csv_hold_the_same() {
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    samples().write(&path).unwrap();
    let mut file = TensorFile::read(&path).unwrap();
    assert_eq!(file.take("samples").unwrap().shape, [3, 2]);
    assert_eq!(file.take("energy").unwrap().values, Values::F32(samples().energy));
    assert!(file.take("log_weights").is_some() && file.tensors.is_empty());

    let path = folder.path().join("x.CSV");
    samples().write(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("x0,x1,energy,log_weight"));
    let values: Vec<f32> =
        lines.flat_map(|line| line.split(',')).map(|field| field.parse().unwrap()).collect();
    let expected = samples();
    for (i, row) in values.chunks_exact(4).enumerate() {
        let position = &expected.samples[2 * i..2 * i + 2];
        let wanted = [position[0], position[1], expected.energy[i], expected.log_weights[i]];
        assert_eq!(row.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), wanted.map(f32::to_bits));
    }
}

#[test]
fn sample_paths_are_checked() {
    let folder = folder();
    for name in ["x.txt", "x", ".npz"] {
        let error = samples().write(&folder.path().join(name)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(".npz, .safetensors, .csv, .png"), "{error}");
    }
    for name in ["none/x.npz", "none/x.png"] {
        let path = folder.path().join(name);
        assert_eq!(samples().write(&path).unwrap_err().exit_code(), 2);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn figures_are_drawn_whatever_the_points() {
    let folder = folder();
    let size = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"));
        let side = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        (side(16), side(20))
    };
    let path = folder.path().join("x.png");
    samples().write(&path).unwrap();
    assert_eq!(size(&path), (800, 874));
    let clouds: Vec<(Vec<f32>, usize)> = vec![
        (vec![], 1),
        (vec![], 2),
        (vec![1.0], 1),
        (vec![5.0; 20], 1),
        (vec![5.0; 20], 2),
        (vec![f32::NAN; 8], 2),
        (vec![f32::MAX, f32::MIN], 1),
        (vec![1e-40, 2e-40, 0.0], 3),
        (vec![1e8, 1e8 + 8.0], 1),
    ];
    for (position, dim) in &clouds {
        let zero = vec![f32::NEG_INFINITY; position.len() / dim];
        for log_weights in [None, Some(&zero[..])] {
            for log_scale in [false, true] {
                let cloud = Cloud { position, dim: *dim, log_weights };
                let mut grid = Grid2d::around(&[&cloud], 5);
                grid.energy = (0..25).map(|i| if i % 2 == 0 { f32::NAN } else { i as f32 }).collect();
                let odd = |xs: &[f64]| xs.iter().map(|x| 1.0 / x).collect();
                for truth_grid in [None, Some(&grid)] {
                    let model =
                        Model { density: Some(&odd), truth: None, grid: Some(&grid), truth_grid, log_scale };
                    plot::population(&path, "a title", &cloud, Some(&cloud), &model).unwrap();
                    let two = if truth_grid.is_some() { (1376, 1344) } else { (1600, 874) };
                    assert_eq!(size(&path), if *dim == 2 { two } else { (1200, 800) });
                }
            }
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}
