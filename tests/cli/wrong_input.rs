//! Input that is wrong in a way that is easily overlooked: an error that says so, before anything is done with it.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ember_train::dataset::load_any;
use ember_train::store::checkpoint::{self, Checkpoint};
use image::{DynamicImage, ImageFormat, RgbImage};

use crate::support::{MLP, Scratch, TOY, stderr};

/// A config on images, without its data set.
fn on_images(dataset: &str, energy: &str) -> String {
    let (start, end) = (MLP.find("[dataset]").expect("a table"), MLP.find("[energy]").expect("a table"));
    let walkers = MLP.find("[walkers]").expect("a table");
    let energy = if energy.is_empty() { &MLP[end..walkers] } else { energy };
    [&MLP[..start], dataset, "\n", energy, "\n", &MLP[walkers..]].concat()
}

fn folder_of_images(root: &Path, split: &str, class: &str, count: usize) {
    let folder = root.join(split).join(class);
    fs::create_dir_all(&folder).expect("a folder");
    for i in 0..count {
        RgbImage::from_pixel(8, 8, image::Rgb([i as u8, 2, 3]))
            .save(folder.join(format!("{i}.png")))
            .expect("saved");
    }
}

#[test]
fn a_number_of_blocks_that_no_memory_holds() {
    let resnet = "[energy]\nkind = \"resnet\"\nchannels = [4]\ngroups = 2\nblocks_per_stage = 2000000000\nconfinement = 1.0\n";
    let scratch = Scratch::new(&on_images(
        "[dataset]\nkind = \"shapes32\"\ntrain_size = 100\ntest_size = 50\nbatch_size = 50\n",
        resnet,
    ));
    scratch.fails(
        &["train", "toy.toml", "--device", "flex"],
        2,
        &["energy.blocks_per_stage", "2000000000 found", "1 to 1000"],
    );
    assert_eq!(scratch.leftovers(), Vec::<String>::new());
    // The same in the metadata of a weight file, and a size that is none.
    let toy = Scratch::new(MLP);
    toy.ok(&["train", "toy.toml", "--out", "run", "--device", "flex", "--steps", "2"]);
    for (config, words) in [
        (resnet.replace("[energy]", "shape = [3, 32, 32]"), "1 to 1000"),
        ("dim = 9000000000000000000\nkind = \"mlp\"\nhidden = [4]\n".to_owned(), "beyond 2147483647"),
    ] {
        let path = toy.path("odd.safetensors");
        let metadata = serde_json::json!({ "__metadata__": { "ember.config": config } }).to_string();
        fs::write(&path, [&(metadata.len() as u64).to_le_bytes()[..], metadata.as_bytes()].concat())
            .expect("written");
        toy.fails(&["info", "odd.safetensors"], 2, &["odd.safetensors", words]);
    }
}

/// A PNG whose header says `size` and whose pixels are missing.
fn hollow_png(size: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8], body: &[u8]| {
        let named = [name, body].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&named);
        png.extend([&(body.len() as u32).to_be_bytes()[..], &named, &crc.sum().to_be_bytes()].concat());
    };
    let sides = [size.to_be_bytes(), size.to_be_bytes()].concat();
    chunk(b"IHDR", &[&sides[..], &[8, 2, 0, 0, 0]].concat());
    chunk(b"IDAT", &[]);
    chunk(b"IEND", &[]);
    png
}

#[test]
fn the_size_of_a_picture_is_looked_at_before_its_pixels() {
    let scratch = Scratch::new(&on_images(
        "[dataset]\nkind = \"image_folder\"\ndir = \"set\"\nsize = 8\nbatch_size = 2\n",
        "",
    ));
    for split in ["train", "test"] {
        folder_of_images(&scratch.path("set"), split, "a", 2);
    }
    fs::write(scratch.path("set/train/a/0.png"), hollow_png(12_000)).expect("written");
    let train = ["train", "toy.toml", "--device", "flex", "--out", "run"];
    scratch.fails(&train, 2, &["0.png", "12000 × 12000", "expected 8 × 8"]);
    let resized = [&train[..], &["--set", "dataset.resize=true"]].concat();
    scratch.fails(&resized, 2, &["0.png", "12000 × 12000", "at most 33554432 pixels"]);
}

#[test]
fn a_photo_is_turned_as_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("train/a")).expect("a folder");
    // Dark on the left and bright on the right; orientation 6: to be turned by 90° clockwise, so that bright is below.
    let image = RgbImage::from_fn(16, 8, |x, _| image::Rgb([if x < 8 { 0 } else { 255 }; 3]));
    let mut jpeg = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(image).write_to(&mut jpeg, ImageFormat::Jpeg).expect("encoded");
    let jpeg = jpeg.into_inner();
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut turned = vec![0xff, 0xd8, 0xff, 0xe1];
    turned.extend((exif.len() as u16 + 2).to_be_bytes());
    turned.append(&mut exif);
    turned.extend(&jpeg[2..]);
    fs::write(folder.path().join("train/a/0.jpg"), turned).expect("written");
    let data = load_any(folder.path(), None).expect("a photo");
    assert_eq!(data.shape, ember_model::SampleShape::Image([3, 16, 8]));
    let values = data.train.values();
    assert!(values[0] < -0.9 && values[16 * 8 - 1] > 0.9, "{} {}", values[0], values[16 * 8 - 1]);
}

#[test]
fn labels_that_nobody_needs_may_be_any() {
    let folder = tempfile::tempdir().expect("a folder");
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let images = [words(&[0x803, 2, 28, 28]), vec![7; 2 * 784]].concat();
    fs::write(folder.path().join("t10k-images-idx3-ubyte"), images).expect("written");
    fs::write(folder.path().join("t10k-labels-idx1-ubyte"), [words(&[0x801, 2]), vec![10, 26]].concat())
        .expect("written");
    let data = load_any(folder.path(), Some([1, 28, 28])).expect("EMNIST's letters");
    assert_eq!(data.test_labels, [10, 26]);
    assert_eq!(data.class_names.len(), 27);
}

#[test]
fn what_a_check_accepts_can_be_trained_on() {
    let scratch = Scratch::new(&on_images(
        "[dataset]\nkind = \"image_folder\"\ndir = \"set\"\nsize = 8\nbatch_size = 2\n",
        "",
    ));
    let set = scratch.path("set");
    let check = ["data", "check", "set"];
    let train =
        ["train", "toy.toml", "--device", "flex", "--out", "run", "--steps", "2", "--set", "walkers.count=4"];
    folder_of_images(&set, "", "a", 4);
    for args in [&check[..], &train] {
        scratch.fails(args, 2, &["no held-out images", "fewer than 10"]);
    }
    fs::remove_dir_all(&set).expect("removed");
    folder_of_images(&set, "train", "a", 4);
    for args in [&check[..], &train] {
        scratch.fails(args, 2, &["no held-out images", "val/"]);
    }
    folder_of_images(&set, "val", "a", 2);
    for name in ["1.webp", "2.webp", "3.tif"] {
        fs::write(set.join("train/a").join(name), b"").expect("written");
    }
    let text = scratch.ok(&check);
    for part in
        ["train 4 images", "test  2 images", "3 files are passed over", "1 tif, 2 webp", "nothing wrong"]
    {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let output = scratch.ember(&train);
    assert!(
        output.status.success() && stderr(&output).contains("3 files are passed over"),
        "{}",
        stderr(&output)
    );
}

/// Spoils the newest checkpoint, checksums included.
fn spoiled(run: &Path, spoil: impl Fn(&mut Checkpoint)) {
    let (_, mut found) = checkpoint::newest_intact(run).expect("a checkpoint");
    spoil(&mut found);
    checkpoint::save(run, &found, 1).expect("saved");
}

#[test]
fn contents_that_make_no_sense_under_a_right_checksum() {
    type Spoil = fn(&mut Checkpoint);
    let cases: [(&str, Spoil); 7] = [
        ("ancestor[2] is 300", |found| found.walkers.as_mut().expect("walkers").ancestor[2] = 300),
        ("ancestor[0] is -1", |found| found.walkers.as_mut().expect("walkers").ancestor[0] = -1),
        ("log_weights[7] is NaN", |found| found.walkers.as_mut().expect("walkers").log_weights[7] = f32::NAN),
        ("energy[0] is inf", |found| found.walkers.as_mut().expect("walkers").energy[0] = f32::INFINITY),
        ("means[0] is NaN", |found| found.theta[0].values[0] = f32::NAN),
        ("audit_log_z has 0 entries", |found| found.extra["audit_log_z"] = serde_json::json!([])),
        ("of shape [0, 3]", |found| {
            let walkers = found.walkers.as_mut().expect("walkers");
            *walkers = checkpoint::WalkersRecord { dim: 3, ..Default::default() };
        }),
    ];
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "good", "--device", "flex", "--steps", "20"]);
    for (words, spoil) in cases {
        let copy = std::process::Command::new("cp")
            .args(["-r", "good", "run"])
            .current_dir(scratch.path(""))
            .status();
        assert!(copy.expect("cp runs").success());
        spoiled(&scratch.path("run"), spoil);
        for args in [
            &["resume", "run", "--device", "flex", "--steps", "40"][..],
            &["eval", "run", "--device", "flex"],
            &["sample", "run", "--device", "flex", "--count", "5", "--out", "x.npz"],
        ] {
            let text = scratch.fails(args, 2, &["step_00000020", words]);
            assert!(!text.contains("the device"), "{text}");
        }
        fs::remove_dir_all(scratch.path("run")).expect("removed");
    }
}

#[test]
fn a_config_that_was_edited_is_compared_with_the_checkpoint() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex", "--steps", "20"]);
    let path = scratch.path("run/config.toml");
    let good = fs::read_to_string(&path).expect("a config");
    let resume = ["resume", "run", "--device", "flex", "--steps", "40"];
    for (from, to, words) in [
        ("seed = 3", "seed = 4", ["seed", "found 4", "trained with 3"]),
        ("std = 1.0", "std = 2.0", ["dataset.std", "found 2.0", "trained with 1.0"]),
        ("step_size = 0.1", "step_size = 0.2", ["kernel.step_size", "found 0.2", "trained with 0.1"]),
        (
            "ess_threshold = 0.5",
            "ess_threshold = 0.25",
            ["resampling.ess_threshold", "0.25", "trained with 0.5"],
        ),
    ] {
        assert!(good.contains(from), "no `{from}` in\n{good}");
        fs::write(&path, good.replace(from, to)).expect("written");
        scratch.fails(&resume, 2, &[&words[..], &["run/config.toml"]].concat());
    }
    // How the run goes on is the user's to change.
    fs::write(&path, good.replace("learning_rate = 0.02", "learning_rate = 0.01")).expect("written");
    let output = scratch.ember(&resume);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("optimizer.learning_rate is now 0.01"), "{}", stderr(&output));
}

#[test]
fn an_adapted_step_size_with_weights_needs_an_exact_start() {
    let config = MLP
        .replace("confinement = 1.0", "")
        .replace("count = 128", "count = 128\ninit = \"normal\"\nunweighted_start = true")
        .replace("step_size = 0.1", "step_size = 0.1\ntarget_accept_rate = 0.7");
    let scratch = Scratch::new(&config);
    scratch.fails(
        &["train", "toy.toml", "--device", "flex"],
        2,
        &["kernel.target_accept_rate", "exact draws", "energy.confinement"],
    );
}

#[test]
fn a_uniform_start_on_the_cube_is_exact() {
    let config = MLP
        .replace("confinement = 1.0", "")
        .replace("step_size = 0.1", "step_size = 0.01\nboundary = \"reflect\"")
        .replace("means = [[-1.5], [1.5]]", "means = [[-0.5], [0.5]]")
        .replace("std = 0.5", "std = 0.02");
    let scratch = Scratch::new(&config);
    scratch.ok(&[
        "train",
        "toy.toml",
        "--out",
        "run",
        "--device",
        "flex",
        "--set",
        "output.log_every=1",
        "--steps",
        "2",
    ]);
    let first = crate::support::metrics(&scratch.path("run"))[0]["log_z_online"].as_f64();
    // d ln 2, and what one small update makes of it.
    assert!(first.is_some_and(|log_z| (log_z - 2.0 * 2f64.ln()).abs() < 0.05), "{first:?}");
}

#[test]
fn commands_to_copy_are_whole_words_of_a_shell() {
    let scratch = Scratch::new(TOY);
    fs::create_dir(scratch.path("my run")).expect("a folder");
    scratch.fails(&["train", "toy.toml", "--out", "my run"], 2, &["ember resume 'my run'"]);
}

#[test]
fn a_file_of_pytorch_is_called_one() {
    let scratch = Scratch::new(TOY);
    let zip = [b"PK\x03\x04".as_slice(), &[0; 60]].concat();
    let old = [b"\x80\x02\x8a\x0al\xfc\x9c".as_slice(), &[0; 60]].concat();
    for (bytes, words) in [(zip, "PyTorch .pt"), (old, "pickle")] {
        let mut file = fs::File::create(scratch.path("model.pt")).expect("a file");
        file.write_all(&bytes).expect("written");
        scratch.fails(&["info", "model.pt"], 2, &["model.pt", words, "safetensors.torch.save_file"]);
    }
}

#[test]
fn a_folder_that_is_gone_is_named_with_what_helps() {
    let set = "[dataset]\nkind = \"image_folder\"\ndir = \"set\"\nsize = 8\nbatch_size = 2\n";
    let scratch = Scratch::new(&on_images(set, ""));
    for split in ["train", "test"] {
        folder_of_images(&scratch.path("set"), split, "a", 2);
    }
    let train =
        ["train", "toy.toml", "--device", "flex", "--out", "run", "--steps", "2", "--set", "walkers.count=4"];
    scratch.ok(&train);
    fs::rename(scratch.path("set"), scratch.path("moved")).expect("moved");
    let start = Instant::now();
    scratch.fails(
        &["resume", "run", "--device", "flex", "--steps", "4"],
        2,
        &["no such folder", "in its config.toml"],
    );
    assert!(start.elapsed() < Duration::from_secs(30));
    // What the message says does help.
    let path = scratch.path("run/config.toml");
    let config = fs::read_to_string(&path).expect("a config").replace("\"set\"", "\"moved\"");
    fs::write(&path, config).expect("written");
    scratch.ok(&["resume", "run", "--device", "flex", "--steps", "4"]);
}

#[test]
fn the_figures_that_train_prints_are_kept_and_shown() {
    let scratch = Scratch::new(
        &TOY.replace("steps = 60", "steps = 1000").replace("checkpoint_every = 20", "checkpoint_every = 500"),
    );
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    let kept = fs::read_to_string(scratch.path("run/eval.jsonl")).expect("kept");
    let value: serde_json::Value = serde_json::from_str(kept.trim()).expect("one object");
    assert_eq!(value["step"], 1000);
    scratch.ok(&["report", "run", "--out", "page.html"]);
    let page = fs::read_to_string(scratch.path("page.html")).expect("a page");
    assert!(!page.contains("nothing is in eval.jsonl"));
    // Labels of the updates end inside the picture: 520 wide, digits up to 9 wide.
    let labels: Vec<(f64, &str)> = page
        .split("<text class=\"x\" x=\"")
        .skip(1)
        .filter_map(|rest| {
            let (at, rest) = rest.split_once('"')?;
            let text = rest.split_once('>')?.1.split_once('<')?.0;
            Some((at.parse().ok()?, text))
        })
        .collect();
    assert!(labels.iter().any(|(_, text)| *text == "1000"), "{labels:?}");
    for (at, text) in labels {
        assert!(at + 4.5 * text.chars().count() as f64 <= 520.0, "{text} at {at}");
    }
}
