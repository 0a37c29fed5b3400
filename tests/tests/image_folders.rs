//! Folders of PNG and JPEG files: layouts, conversion, and every way in which a file or a folder can be wrong.

use std::fs;
use std::path::Path;

use ember_tests::images::{self, bytes, fails};
use ember_train::dataset::{Data, DatasetConfig, load_any};
use ember_train::error::Error;
use image::{GrayImage, Luma, Rgb, RgbImage};
use tempfile::TempDir;

/// The table of a folder.
fn table(dir: &Path, keys: &str) -> DatasetConfig {
    images::table(&format!("kind = \"image_folder\"\ndir = {dir:?}\nbatch_size = 1\n{keys}"))
}

fn load(dir: &Path, keys: &str) -> Result<Data, Error> {
    table(dir, keys).as_dyn().generate(0)
}

fn save(dir: &Path, name: &str, side: u32, colour: [u8; 3]) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    RgbImage::from_pixel(side, side, Rgb(colour)).save(path).expect("written");
}

/// Two classes of 8 × 8 images in train/ and test/.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    save(dir.path(), "train/cat/b.png", 8, [10, 20, 30]);
    save(dir.path(), "train/cat/a.png", 8, [40, 50, 60]);
    save(dir.path(), "train/ant/1.PNG", 8, [70, 80, 90]);
    save(dir.path(), "test/cat/x.jpg", 8, [100, 100, 100]);
    fs::write(dir.path().join("train/cat/.hidden.png"), b"no image").expect("written");
    fs::write(dir.path().join("train/cat/notes.txt"), b"no image").expect("written");
    dir
}

#[test]
fn classes_and_files_come_in_the_order_of_their_names() {
    let dir = folder();
    let data = load(dir.path(), "size = 8").expect("a right folder");
    assert_eq!(data.class_names, ["ant", "cat"]);
    assert_eq!((&data.train_labels[..], &data.test_labels[..]), (&[0, 1, 1][..], &[1][..]));
    let firsts: Vec<u8> = bytes(&data.train).chunks_exact(64).map(|plane| plane[63]).collect();
    assert_eq!(firsts, [70, 80, 90, 40, 50, 60, 10, 20, 30], "channel first");
    let grey = load(dir.path(), "size = 8\nchannels = 1").expect("a right folder");
    assert_eq!(grey.train.len(), 3 * 64);
    assert!((78..=80).contains(&bytes(&grey.train)[0]), "luma of (70, 80, 90)");
    let any = load_any(dir.path(), None).expect("a right folder");
    assert_eq!(any, data, "the shape of the first image");
    assert_eq!(load_any(dir.path(), Some([1, 4, 4])).expect("brought to it").train.len(), 3 * 16);
}

#[test]
fn pixels_keep_their_places() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(dir.path().join("train/a")).expect("a folder");
    fs::create_dir_all(dir.path().join("test/a")).expect("a folder");
    let image = RgbImage::from_fn(4, 4, |x, y| Rgb([x as u8, 16 * y as u8, 200]));
    image.save(dir.path().join("train/a/0.png")).expect("written");
    GrayImage::from_fn(4, 4, |x, y| Luma([(4 * y + x) as u8]))
        .save(dir.path().join("test/a/0.png"))
        .expect("written");
    let data = load(dir.path(), "size = 4").expect("a right folder");
    let train = bytes(&data.train);
    assert_eq!(train[..16], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(train[16..32], [0, 0, 0, 0, 16, 16, 16, 16, 32, 32, 32, 32, 48, 48, 48, 48]);
    let grey: Vec<u8> = (0..16).collect();
    assert_eq!(bytes(&data.test), [&grey[..], &grey, &grey].concat());
}

#[test]
fn a_folder_without_splits_holds_out_every_tenth_file() {
    let dir = tempfile::tempdir().expect("a folder");
    for i in 0..20u8 {
        save(dir.path(), &format!("dog/{i:02}.png"), 8, [i, 0, 0]);
    }
    let data = load(dir.path(), "size = 8").expect("a right folder");
    let test: Vec<u8> = bytes(&data.test).chunks_exact(192).map(|image| image[0]).collect();
    assert_eq!((test, data.train_labels.len()), (vec![9, 19], 18));
    let few = tempfile::tempdir().expect("a folder");
    save(few.path(), "dog/a.png", 8, [0; 3]);
    fails(load(few.path(), "size = 8"), &["no held-out images"]);
}

#[test]
fn mixed_sizes_are_an_error_unless_resized() {
    let dir = folder();
    save(dir.path(), "train/cat/c.png", 9, [40, 50, 60]);
    fails(load(dir.path(), "size = 8"), &["train/cat/c.png", "9 × 9", "expected 8 × 8", "resize = true"]);
    let data = load(dir.path(), "size = 8\nresize = true").expect("resized");
    assert_eq!(data.train.len(), 4 * 192);
    assert_eq!(bytes(&data.train)[3 * 192], 40, "one colour stays that colour");
}

#[test]
fn folders_that_are_wrong_are_named() {
    let dir = folder();
    fs::create_dir(dir.path().join("train/dog")).expect("a folder");
    fails(load(dir.path(), "size = 8"), &["train/dog", "without images"]);
    fs::remove_dir(dir.path().join("train/dog")).expect("there");
    save(dir.path(), "test/dog/a.png", 8, [0; 3]);
    fails(load(dir.path(), "size = 8"), &["test/dog", "not in train/", "ant, cat"]);
    let empty = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(empty.path().join("train/cat")).expect("a folder");
    fails(load(empty.path(), "size = 8"), &["no images here", "expected PNG or JPEG"]);
}

/// What a run looks at while it goes on: every file of a small set, a fixed number of a large one.
#[test]
fn files_that_go_or_change_are_noticed() {
    let dir = folder();
    let sources = table(dir.path(), "size = 8").as_dyn().sources().expect("there");
    assert_eq!(sources.missing(), None);
    let path = dir.path().join("test/cat/x.jpg");
    let good = fs::read(&path).expect("there");
    fs::write(&path, &good[..20]).expect("written");
    let (found, message) = sources.missing().expect("shorter");
    assert_eq!((found, message), (&*path, format!("now of 20 bytes, {} when it was read", good.len())));
    fs::write(&path, good).expect("written");
    assert_eq!(sources.missing(), None);
    fs::remove_dir_all(dir.path().join("train/cat")).expect("there");
    assert!(sources.missing().expect("gone").0.ends_with("train/cat/a.png"));

    let many = tempfile::tempdir().expect("a folder");
    for i in 0..1000 {
        let name = format!("{}/{i:03}.png", if i < 600 { "a" } else { "b" });
        fs::create_dir_all(many.path().join(&name).parent().expect("a folder")).expect("a folder");
        fs::write(many.path().join(name), [0]).expect("written");
    }
    let sources = table(many.path(), "").as_dyn().sources().expect("there");
    assert_eq!(sources.len(), 250, "every fourth");
    fs::remove_dir_all(many.path().join("b")).expect("there");
    assert!(sources.missing().expect("gone").0.starts_with(many.path().join("b")));
}

#[test]
fn a_corrupt_png_names_file_and_byte() {
    let dir = folder();
    let path = dir.path().join("train/cat/a.png");
    let good = fs::read(&path).expect("there");
    let bad = |content: &[u8], parts: &[&str]| {
        fs::write(&path, content).expect("written");
        fails(load(dir.path(), "size = 8"), &[parts, &["train/cat/a.png"]].concat());
        fails(load_any(dir.path(), None), &[parts, &["train/cat/a.png"]].concat());
    };
    bad(b"", &["at byte 0", "expected the start of a PNG or JPEG"]);
    bad(b"GIF89a..", &["at byte 0", "expected the start of a PNG or JPEG"]);
    let cut = good.len() - 5;
    bad(&good[..cut], &[&format!("at byte {cut}"), "ends before its IEND"]);
    // The first chunk starts at byte 8; its width is at byte 16.
    let mut flipped = good.clone();
    flipped[19] ^= 1;
    bad(&flipped, &["at byte 8", "chunk IHDR", "CRC"]);
}

#[test]
fn a_corrupt_jpeg_names_file_and_byte() {
    let dir = folder();
    let path = dir.path().join("test/cat/x.jpg");
    let good = fs::read(&path).expect("there");
    let bad = |content: &[u8], parts: &[&str]| {
        fs::write(&path, content).expect("written");
        fails(load(dir.path(), "size = 8"), &[parts, &["test/cat/x.jpg"]].concat());
    };
    let cut = good.len() - 2;
    bad(&good[..cut], &[&format!("at byte {cut}"), "ends before its end-of-image"]);
    bad(&good[..100], &["at byte 100", "ends before"]);
    let mut marker = good.clone();
    marker[2] = 0x12;
    bad(&marker, &["at byte 2", "found 0x12", "marker"]);
    let mut length = good.clone();
    length[4..6].fill(0);
    bad(&length, &["at byte 4", "segment of 0 bytes"]);
    // A whole container around nothing.
    bad(&[0xff, 0xd8, 0xff, 0xd9], &["corrupt JPEG"]);
}
