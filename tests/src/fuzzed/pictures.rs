//! PNG and JPEG files of an image folder.

use std::io::Cursor;
use std::path::Path;

use ember_train::dataset::{Dataset, ImageFolder, detect::shape_of_picture, load_any};
use image::{DynamicImage, ImageFormat, RgbImage};

use super::{Target, data, scratch};

/// A picture of more pixels is read up to its header only: decoding it takes longer than an input may.
const MOST_PIXELS: usize = 1 << 18;

/// A picture, next to one that is right. The checksums of PNG chunks are put right.
pub(super) const IMAGES: Target = Target {
    name: "images",
    run: images,
    seeds,
    words: &[
        "\u{89}PNG\r\n\x1a\n",
        "IHDR",
        "IDAT",
        "IEND",
        "PLTE",
        "tRNS",
        "eXIf",
        "acTL",
        "fcTL",
        "fdAT",
        "iCCP",
        "Exif\0\0MM\0*",
    ],
    most_bytes: 4096,
};

fn images(bytes: &[u8]) {
    let bytes = with_checksums(bytes);
    scratch::within("images", |folder| {
        let path = folder.join("train/a/0.png");
        scratch::write(&path, &bytes);
        for right in ["train/a/1.png", "test/a/0.png"] {
            if !folder.join(right).is_file() {
                scratch::write(&folder.join(right), &encoded(ImageFormat::Png, 8));
            }
        }
        let set = |resize| ImageFolder {
            dir: folder.to_owned(),
            size: 8,
            channels: 3,
            resize,
            batch_size: 1,
            flip: false,
            noise: 0.0,
        };
        let _ = set(false).generate(0);
        if shape_of_picture(&path).is_ok_and(|shape| shape[1] * shape[2] <= MOST_PIXELS) {
            decoded(folder, &set(true));
        }
    });
}

fn decoded(folder: &Path, set: &ImageFolder) {
    data::check(folder);
    let _ = load_any(folder, Some([1, 8, 8]));
    let _ = set.generate(0);
}

/// A small picture in colour.
fn encoded(format: ImageFormat, side: u32) -> Vec<u8> {
    let pixel = |x, y| image::Rgb([x as u8 * 9, y as u8 * 7, 100]);
    let mut out = Cursor::new(Vec::new());
    let image = DynamicImage::ImageRgb8(RgbImage::from_fn(side, side, pixel));
    image.write_to(&mut out, format).expect("encoded in memory");
    out.into_inner()
}

fn seeds() -> Vec<Vec<u8>> {
    let grey = DynamicImage::ImageRgb8(RgbImage::from_pixel(8, 8, image::Rgb([9, 9, 9])));
    let mut seeds: Vec<Vec<u8>> =
        [DynamicImage::from(grey.to_luma16()), grey.to_luma_alpha8().into(), grey.to_rgba16().into()]
            .iter()
            .map(|image| {
                let mut out = Cursor::new(Vec::new());
                image.write_to(&mut out, ImageFormat::Png).expect("encoded in memory");
                out.into_inner()
            })
            .collect();
    let jpeg = encoded(ImageFormat::Jpeg, 8);
    // With an orientation: to be turned by a quarter.
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut turned = vec![0xff, 0xd8, 0xff, 0xe1];
    turned.extend((exif.len() as u16 + 2).to_be_bytes());
    turned.append(&mut exif);
    turned.extend(&jpeg[2..]);
    seeds.extend([encoded(ImageFormat::Png, 8), encoded(ImageFormat::Png, 3), jpeg, turned]);
    seeds
}

/// The CRC of every chunk of a PNG.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 8;
    while bytes.starts_with(b"\x89PNG") && at + 12 <= bytes.len() {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        let end = at + 8 + length;
        if end + 4 > bytes.len() {
            break;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
    bytes
}
