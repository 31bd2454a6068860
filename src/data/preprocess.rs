//! Preprocessing of images into model inputs.

use qcc_ir::diagnostic::list;
use qcc_ir::{Elem, Tensor, TensorType};

use super::input::{Image, from_floats};
use super::picture::Pixels;
use super::{DataError, resize};

/// Channel order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// RGB.
    Rgb,
    /// BGR.
    Bgr,
}

/// How an image is resized to the model's input size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fit {
    /// Scaled to fit, centred, padded: as Ultralytics validates.
    Letterbox {
        /// Padding value of all channels.
        fill: u8,
    },
    /// Both sides scaled independently.
    Stretch,
    /// Scaled so that the target covers `ratio` of the shorter side, then center-cropped.
    CenterCrop {
        /// Share of the shorter side, in (0, 1].
        ratio: f64,
    },
}

/// Preprocessing of an image: it is resized, then each value `v` (0 to 255) becomes `(v * scale - mean) / std`. Models
/// with one channel get grey images.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Channel order of three-channel inputs.
    pub color: Color,
    /// Resizing.
    pub fit: Fit,
    /// Scale factor.
    pub scale: f64,
    /// Mean, per channel in the model's order.
    pub mean: [f64; 3],
    /// Divisor, per channel in the model's order.
    pub std: [f64; 3],
}

impl Preprocess {
    /// Values 0 to 255 without scaling, stretched, RGB.
    pub const NONE: Preprocess =
        Preprocess { color: Color::Rgb, fit: Fit::Stretch, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] };

    /// The preprocessing of torchvision's ImageNet classifiers: center crop 224 of 256, mean and standard deviation of
    /// ImageNet.
    pub const IMAGENET: Preprocess = Preprocess {
        fit: Fit::CenterCrop { ratio: 0.875 },
        scale: 1.0 / 255.0,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        ..Preprocess::NONE
    };

    /// Maps each byte value to the input value of the model's channel `c`.
    pub(super) fn table(&self, c: usize) -> [f32; 256] {
        std::array::from_fn(|v| ((v as f64 * self.scale - self.mean[c]) / self.std[c]) as f32)
    }

    /// An image resized to the model's input size.
    pub(super) fn fitted(&self, pixels: Pixels, image: &Image) -> Result<Pixels, String> {
        let (w, h) = (image.width, image.height);
        match self.fit {
            Fit::Letterbox { fill } => resize::letterbox(pixels, w, h, fill),
            Fit::Stretch => resize::stretch(pixels, w, h),
            Fit::CenterCrop { ratio } => resize::center_crop(pixels, w, h, ratio),
        }
    }

    /// The images of one batch, all in the model's input size, as a tensor of type `ty`.
    pub(super) fn tensor(&self, batch: Vec<Pixels>, image: &Image, ty: &TensorType) -> Result<Tensor, DataError> {
        let tables: Vec<[f32; 256]> = (0..image.channels).map(|c| self.table(c)).collect();
        let mut values = Vec::with_capacity(ty.shape.elements().unwrap_or(0));
        for fitted in batch {
            let channels = image.channels;
            // The index of the model's channel `c` within a pixel.
            let place = |c: usize| if self.color == Color::Bgr { channels - 1 - c } else { c };
            if image.channels_last {
                let pixel = |p: &[u8]| (0..channels).map(|c| tables[c][usize::from(p[place(c)])]).collect::<Vec<f32>>();
                values.extend(fitted.bytes.chunks_exact(channels).flat_map(pixel));
            } else {
                for (c, table) in tables.iter().enumerate() {
                    values.extend(fitted.bytes.iter().skip(place(c)).step_by(channels).map(|&v| table[usize::from(v)]));
                }
            }
        }
        if ty.elem.is_integer() {
            values.iter_mut().for_each(|v| *v = v.round_ties_even());
        }
        match ty.elem {
            Elem::Bool | Elem::Quantized(_) => Err(DataError::Inputs(format!("pictures cannot feed an input of {ty}"))),
            _ => from_floats("", ty, values),
        }
    }
}

/// User overrides of the preprocessing; the rest comes from the model's metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preparation {
    /// Replaces the preprocessing of the model's metadata.
    pub preset: Option<Preprocess>,
    /// Replaces [`Preprocess::color`].
    pub color: Option<Color>,
    /// Replaces [`Preprocess::fit`].
    pub fit: Option<Fit>,
    /// Replaces [`Preprocess::scale`].
    pub scale: Option<f64>,
    /// Replaces [`Preprocess::mean`].
    pub mean: Option<[f64; 3]>,
    /// Replaces [`Preprocess::std`].
    pub std: Option<[f64; 3]>,
}

impl Preparation {
    /// The complete preprocessing, given the one that the model's metadata describe (`said`); `None` if the scaling is
    /// unknown.
    pub fn resolve(&self, said: Option<Preprocess>) -> Option<Preprocess> {
        let numbers = self.scale.is_some() || self.mean.is_some() || self.std.is_some();
        let base = self.preset.clone().or(said);
        let base = base.or(numbers.then_some(Preprocess::NONE))?;
        Some(Preprocess {
            color: self.color.unwrap_or(base.color),
            fit: self.fit.unwrap_or(base.fit),
            scale: self.scale.unwrap_or(base.scale),
            mean: self.mean.unwrap_or(base.mean),
            std: self.std.unwrap_or(base.std),
        })
    }
}

impl Preprocess {
    /// A short description of the conversion of pictures to that many channels.
    pub(super) fn told(&self, channels: usize) -> String {
        let fit = match self.fit {
            Fit::Letterbox { fill } => format!("letterboxed on {fill}"),
            Fit::Stretch => "stretched".into(),
            Fit::CenterCrop { ratio } => format!("cut from the middle at {ratio}"),
        };
        let color = match self.color {
            _ if channels == 1 => "grey",
            Color::Rgb => "RGB",
            Color::Bgr => "BGR",
        };
        format!("{fit}, {color}{}", self.numbers())
    }

    /// A short description of the conversion of values.
    pub(super) fn numbers(&self) -> String {
        let inverse = 1.0 / self.scale;
        let mut text = match () {
            () if self.scale == 1.0 => String::new(),
            () if (inverse - inverse.round()).abs() < 1e-9 => format!(", 1/{}", inverse.round()),
            () => format!(", scale {}", self.scale),
        };
        if self.mean != [0.0; 3] || self.std != [1.0; 3] {
            text += &format!(", mean {}, std {}", list(&self.mean), list(&self.std));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(channels: usize, height: usize, width: usize, channels_last: bool) -> Image {
        Image { batch: 1, channels, height, width, channels_last }
    }

    #[test]
    fn a_scale_of_1_255_is_a_division_by_255() {
        let table = Preprocess::YOLO.table(0);
        for (v, x) in table.iter().enumerate() {
            assert_eq!(*x, v as f32 / 255.0);
        }
    }

    #[test]
    fn channels_go_where_the_model_wants_them() {
        let two = Pixels { width: 2, height: 1, channels: 3, bytes: vec![1, 2, 3, 4, 5, 6] };
        let planar = TensorType::f32(&[1, 3, 1, 2]);
        let last = TensorType::f32(&[1, 1, 2, 3]);
        let bgr = Preprocess { color: Color::Bgr, ..Preprocess::NONE };
        for (p, image, ty, want) in [
            (&Preprocess::NONE, image(3, 1, 2, false), &planar, [1., 4., 2., 5., 3., 6.]),
            (&bgr, image(3, 1, 2, false), &planar, [3., 6., 2., 5., 1., 4.]),
            (&Preprocess::NONE, image(3, 1, 2, true), &last, [1., 2., 3., 4., 5., 6.]),
            (&bgr, image(3, 1, 2, true), &last, [3., 2., 1., 6., 5., 4.]),
        ] {
            assert_eq!(p.tensor(vec![two.clone()], &image, ty).unwrap().view::<f32>()[..], want);
        }
    }

    #[test]
    fn mean_and_std_follow_the_models_channels() {
        let p = Preprocess { mean: [1.0, 2.0, 3.0], std: [1.0, 2.0, 4.0], ..Preprocess::NONE };
        let one = Pixels { width: 1, height: 1, channels: 3, bytes: vec![11, 12, 13] };
        let got = p.tensor(vec![one], &image(3, 1, 1, false), &TensorType::f32(&[1, 3, 1, 1])).unwrap();
        assert_eq!(got.view::<f32>()[..], [10.0, 5.0, 2.5]);
    }

    #[test]
    fn options_go_before_presets_before_what_the_model_says() {
        let none = Preparation::default();
        assert_eq!(none.resolve(Some(Preprocess::YOLO)), Some(Preprocess::YOLO));
        assert_eq!(none.resolve(None), None);
        assert_eq!(Preparation { color: Some(Color::Bgr), ..none.clone() }.resolve(None), None);
        let preset = Preparation { preset: Some(Preprocess::IMAGENET), scale: Some(2.0), ..none.clone() };
        assert_eq!(preset.resolve(Some(Preprocess::YOLO)), Some(Preprocess { scale: 2.0, ..Preprocess::IMAGENET }));
        let scaled = Preparation { scale: Some(0.5), color: Some(Color::Bgr), ..none };
        let want = Preprocess { scale: 0.5, color: Color::Bgr, ..Preprocess::NONE };
        assert_eq!(scaled.resolve(None), Some(want));
    }
}
