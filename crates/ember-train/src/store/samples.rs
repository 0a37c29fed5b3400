//! Sample files: `.npz`, `.safetensors`, `.csv`, and `.png` for a look.
//!
//! The arrays are `samples` (f32 `[n, dim]`), `energy` and `log_weights`. Images: `samples` are bytes `[n, h, w, c]`, clamped and quantised,
//! and `position` is the f32 `[n, c·h·w]` that the energy belongs to; a `.csv` holds the position.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use npyz::WriterBuilder;
use npyz::npz::NpzWriter;
use npyz::zip::{CompressionMethod, DateTime, write::FileOptions};

use crate::dataset::byte;
use crate::error::Error;
use crate::store::checkpoint::atomic;
use crate::store::tensor_file::{TensorRef, ValuesRef, write_tensors};
use crate::view::plot::{self, Cloud, ImagePanel};

/// Extensions [`Samples::write`] knows.
pub const EXTENSIONS: [&str; 4] = [".npz", ".safetensors", ".csv", ".png"];

/// Images that a `.png` shows at most.
const SHOWN: usize = 400;

/// Samples with their energies and log-weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Number of samples.
    pub n: usize,
    /// Coordinates of one sample.
    pub dim: usize,
    /// `[n, dim]` row-major.
    pub samples: Vec<f32>,
    /// `U_θ`, `[n]`.
    pub energy: Vec<f32>,
    /// A, `[n]`; all 0 where the draw is unweighted.
    pub log_weights: Vec<f32>,
    /// `[c, h, w]` where the samples are images, channel first in `samples`.
    pub image: Option<[usize; 3]>,
    /// Whether the samples are zeros and ones: of images black and white.
    pub bits: bool,
}

#[derive(Clone, Copy)]
enum Format {
    Npz,
    Safetensors,
    Csv,
    Png,
}

impl Format {
    fn of(path: &Path) -> Result<Self, Error> {
        let extension = path.extension().map(|extension| extension.to_string_lossy());
        match extension.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("npz") => Ok(Self::Npz),
            Some("safetensors") => Ok(Self::Safetensors),
            Some("csv") => Ok(Self::Csv),
            Some("png") => Ok(Self::Png),
            _ => Err(Error::usage(format!(
                "{}: {} found; one of {} was expected",
                path.display(),
                extension.map_or_else(
                    || "no extension".to_owned(),
                    |extension| format!("the extension `.{extension}`")
                ),
                EXTENSIONS.join(", ")
            ))),
        }
    }
}

impl Samples {
    /// Whether `path` has an extension [`Samples::write`] knows: to be asked before the work starts.
    ///
    /// # Errors
    /// Another extension; the message lists those there are.
    pub fn check_path(path: &Path) -> Result<(), Error> {
        Format::of(path).map(drop)
    }

    /// Whether samples of images `[c, h, w]`, or of none, can be written to `path`: a picture shows grey or three colours.
    ///
    /// # Errors
    /// Another number of channels, or as [`Samples::check_path`].
    pub fn check_shape(path: &Path, image: Option<[usize; 3]>) -> Result<(), Error> {
        match (Format::of(path)?, image) {
            (Format::Png, Some([channels, ..])) if !matches!(channels, 1 | 3) => Err(Error::usage(format!(
                "{}: a .png shows images of 1 or 3 channels, these have {channels}; .npz, .safetensors or .csv hold them",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Writes the file in the format of its extension: complete and on disk, or as it was before. An existing file is replaced.
    ///
    /// # Errors
    /// An unknown extension, a folder that is not there, or any I/O error.
    ///
    /// # Panics
    /// When the lengths do not agree.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        assert_eq!(self.samples.len(), self.n * self.dim, "samples: [n, dim]");
        assert_eq!(self.energy.len(), self.n, "energy: [n]");
        assert_eq!(self.log_weights.len(), self.n, "log_weights: [n]");
        match Format::of(path)? {
            Format::Npz => atomic::write_file(path, |out| self.write_npz(out)),
            Format::Safetensors => atomic::write_file(path, |out| self.write_safetensors(out)),
            Format::Csv => atomic::write_file(path, |out| self.write_csv(out)),
            Format::Png => self.write_png(path),
        }
    }

    fn write_npz(&self, out: &mut (impl Write + io::Seek)) -> io::Result<()> {
        let mut npz = NpzWriter::new(out);
        if let Some((shape, bytes)) = self.bytes() {
            array(&mut npz, "samples", &shape, &bytes)?;
        }
        for (name, shape, values) in self.arrays() {
            array(&mut npz, name, &shape, values)?;
        }
        npz.zip_writer().finish()?;
        Ok(())
    }

    fn write_safetensors(&self, out: &mut impl Write) -> io::Result<()> {
        let bytes = self.bytes();
        let mut tensors = Vec::new();
        if let Some((shape, bytes)) = &bytes {
            tensors.push(TensorRef::new("samples", shape, ValuesRef::U8(bytes)));
        }
        let arrays = self.arrays();
        tensors.extend(
            arrays.iter().map(|(name, shape, values)| TensorRef::new(*name, shape, ValuesRef::F32(values))),
        );
        write_tensors(out, &tensors, &BTreeMap::new())
    }

    /// Numbers have as many digits as bring the same f32 back.
    fn write_csv(&self, out: &mut impl Write) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        for coordinate in 0..self.dim {
            csv.write_field(format!("x{coordinate}"))?;
        }
        csv.write_record(["energy", "log_weight"])?;
        let mut field = String::new();
        for i in 0..self.n {
            let position = &self.samples[i * self.dim..(i + 1) * self.dim];
            for value in position.iter().chain([&self.energy[i], &self.log_weights[i]]) {
                use std::fmt::Write as _;
                field.clear();
                // `{:?}` is the shortest text that reads back, with an exponent where that is shorter.
                write!(field, "{value:?}").map_err(io::Error::other)?;
                csv.write_field(&field)?;
            }
            csv.write_record(None::<&[u8]>)?;
        }
        csv.flush()
    }

    fn write_png(&self, path: &Path) -> Result<(), Error> {
        if let Some(shape) = self.image {
            let shown = self.n.min(SHOWN).min(plot::most_images(shape));
            let of =
                if shown < self.n { format!("the first {shown} of {}", self.n) } else { shown.to_string() };
            let caption = format!("{of} sample{}", if self.n == 1 { "" } else { "s" });
            let panel = ImagePanel {
                caption,
                pixels: self.samples[..shown * self.dim].iter().map(|&x| self.pixel(x)).collect(),
            };
            return plot::images(path, "samples", "", shape, &[panel]);
        }
        let cloud = Cloud { position: &self.samples, dim: self.dim, log_weights: Some(&self.log_weights) };
        plot::population(path, "samples", &cloud, None, &plot::Model::default())
    }

    /// A coordinate in the pixels' range [−1, 1].
    fn pixel(&self, x: f32) -> f32 {
        if self.bits { 2.0 * x - 1.0 } else { x }
    }

    /// Images as bytes with their shape `[n, h, w, c]`: clamped to `[−1, 1]`, the byte whose bin holds the pixel.
    fn bytes(&self) -> Option<([usize; 4], Vec<u8>)> {
        let [c, h, w] = self.image?;
        let mut bytes = Vec::with_capacity(self.samples.len());
        for image in self.samples.chunks_exact(c * h * w) {
            for pixel in 0..h * w {
                bytes.extend((0..c).map(|channel| byte(self.pixel(image[channel * h * w + pixel]))));
            }
        }
        Some(([self.n, h, w, c], bytes))
    }

    fn arrays(&self) -> [(&'static str, Vec<usize>, &[f32]); 3] {
        let position = if self.image.is_some() { "position" } else { "samples" };
        [
            (position, vec![self.n, self.dim], &self.samples),
            ("energy", vec![self.n], &self.energy),
            ("log_weights", vec![self.n], &self.log_weights),
        ]
    }
}

/// One member of a `.npz`.
fn array<W, T>(npz: &mut NpzWriter<W>, name: &str, shape: &[usize], values: &[T]) -> io::Result<()>
where
    W: Write + io::Seek,
    T: npyz::AutoSerialize + Copy,
{
    // Floats hardly compress. A fixed time: equal samples give equal bytes.
    let options = FileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .large_file(size_of_val(values) as u64 > u64::from(u32::MAX) / 2);
    let shape: Vec<u64> = shape.iter().map(|&side| side as u64).collect();
    let mut array = npz.array(name, options)?.default_dtype().shape(&shape).begin_nd()?;
    array.extend(values.iter().copied())?;
    array.finish()
}
