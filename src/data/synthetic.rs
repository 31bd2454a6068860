//! Synthetic pictures, for calibration without data.
//!
//! They are "dead leaves" images (Matheron 1968): random shapes that occlude each other until the background is
//! covered. With a density of radii proportional to `r^-3`, their edges, spectrum and contrasts resemble those of
//! photographs at any scale (Lee, Mumford, Huang 2001, "Occlusion models for natural images"). Shading, texture, blur
//! and noise are added.
//!
//! Only single-precision sums, products, quotients and square roots are used: IEEE 754 defines their results bit for
//! bit, so that the pictures are the same on every platform.

use super::input::Image;
use super::picture::{Pixels, luma};
use super::random::Random;

/// Minimum and maximum of the longer side of a picture, in pixels. Pictures are scaled down for smaller inputs and
/// scaled up for larger ones, as photographs are.
const LONGER_SIDE: (usize, usize) = (96, 640);

/// Aspect ratios (width, height), used in turn.
const ASPECTS: [(usize, usize); 4] = [(4, 3), (3, 4), (1, 1), (16, 9)];

/// Range of the minimum radius of the leaves of a picture, and the maximum radius, relative to the longer side.
const LEAST_RADIUS: (f32, f32) = (0.002, 0.02);
const LARGEST_RADIUS: f32 = 0.6;

/// Leaves are added until at most this many pixels of a thousand are not covered; these show the background.
const LEFT: usize = 4;

/// Picture `number` for the input `image`: with its channels, of any size.
pub(super) fn picture(number: u64, image: &Image) -> Pixels {
    let longer = image.width.max(image.height).clamp(LONGER_SIDE.0, LONGER_SIDE.1);
    let (w, h) = ASPECTS[(number % ASPECTS.len() as u64) as usize];
    let (width, height) = (longer * w / w.max(h), longer * h / w.max(h));
    let mut random = Random::new(number);
    let mut canvas = Canvas::new(width, height);
    let scene = Scene::of(number, longer as f32);
    canvas.fill(&mut random, &scene);
    canvas.develop(&mut random, &scene, image.channels)
}

/// A floating-point RGB picture; 1 is white.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<[f32; 3]>,
    covered: Vec<bool>,
    left: usize,
}

/// Parameters of a picture that all leaves share.
struct Scene {
    mean: f32,
    spread: f32,
    chroma: f32,
    /// Minimum and maximum radius of leaves, in pixels.
    radii: (f32, f32),
    /// Strength of the light gradient across the picture, relative to its mean.
    fall: f32,
    /// Number of blur passes: lenses blur a little, and some pictures are out of focus.
    blur: u64,
    noise: f32,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        let n = width * height;
        Canvas { width, height, pixels: vec![[0.0; 3]; n], covered: vec![false; n], left: n }
    }

    /// Draws leaves from front to back: covered pixels are kept.
    fn fill(&mut self, random: &mut Random, scene: &Scene) {
        while self.left * 1000 > self.pixels.len() * LEFT {
            Leaf::new(random, scene, self).lay(self);
        }
        let ground = scene.color(random);
        let bare = self.pixels.iter_mut().zip(&self.covered).filter(|(_, covered)| !**covered);
        bare.for_each(|(pixel, _)| *pixel = ground);
    }

    /// Applies the effects of a camera: a light gradient, blur, noise, and quantization to 8 bits.
    fn develop(mut self, random: &mut Random, scene: &Scene, channels: usize) -> Pixels {
        let way = direction(random);
        let (w, h) = (self.width as f32, self.height as f32);
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            let (x, y) = ((i % self.width) as f32 / w - 0.5, (i / self.width) as f32 / h - 0.5);
            let light = 1.0 + scene.fall * (x * way.0 + y * way.1);
            pixel.iter_mut().for_each(|c| *c *= light);
        }
        for _ in 0..scene.blur {
            self.blur();
        }
        let strength = scene.noise;
        let mut bytes = Vec::with_capacity(self.pixels.len() * channels);
        for pixel in &self.pixels {
            let grain = (random.unit() + random.unit() + random.unit() - 1.5) * strength;
            let rgb: [u8; 3] = std::array::from_fn(|c| {
                let own = (random.unit() - 0.5) * strength;
                ((pixel[c] + grain + own) * 255.0).round_ties_even() as u8
            });
            match channels {
                1 => bytes.push(luma(rgb)),
                _ => bytes.extend(rgb),
            }
        }
        Pixels { width: self.width, height: self.height, channels, bytes }
    }

    /// Blurs with the kernel `[1, 2, 1] / 4` along both axes, with edge padding.
    fn blur(&mut self) {
        let (w, h) = (self.width, self.height);
        let mix = |a: [f32; 3], b: [f32; 3], c: [f32; 3]| std::array::from_fn(|i| (a[i] + 2.0 * b[i] + c[i]) * 0.25);
        let across: Vec<[f32; 3]> = (0..w * h)
            .map(|i| {
                let (x, row) = (i % w, i - i % w);
                mix(self.pixels[row + x.saturating_sub(1)], self.pixels[i], self.pixels[row + (x + 1).min(w - 1)])
            })
            .collect();
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            let (x, y) = (i % w, i / w);
            *pixel = mix(across[y.saturating_sub(1) * w + x], across[i], across[(y + 1).min(h - 1) * w + x]);
        }
    }
}

impl Scene {
    /// The scene of a picture. Each parameter follows its own Weyl sequence, so that few pictures cover all ranges
    /// evenly.
    fn of(number: u64, longer: f32) -> Self {
        let mut step = Random::new(u64::MAX);
        let mut between = |lo: f32, hi: f32| {
            let place = number.wrapping_add(1).wrapping_mul(step.next() | 1);
            lo + (hi - lo) * ((place >> 40) as f32 / (1u32 << 24) as f32)
        };
        let focus = between(0.0, 1.0);
        Scene {
            mean: between(0.35, 0.6),
            spread: between(0.3, 0.9),
            chroma: between(0.1, 0.8),
            radii: (longer * between(LEAST_RADIUS.0, LEAST_RADIUS.1), longer * LARGEST_RADIUS),
            fall: between(0.0, 0.5),
            blur: 1 + (focus * focus * focus * focus * 10.0) as u64,
            noise: between(0.0, 0.05),
        }
    }

    /// The colour of a leaf: mostly close to grey, as surfaces are, rarely saturated.
    fn color(&self, random: &mut Random) -> [f32; 3] {
        let level = self.mean + self.spread * (random.unit() + random.unit() - 1.0);
        let level = level.clamp(0.01, 0.99);
        // The product of two random numbers is mostly close to 0.
        let mut chroma = || (random.unit() * 2.0 - 1.0) * random.unit() * self.chroma * 0.6;
        let (warm, green) = (chroma(), chroma() * 0.6);
        // Dark surfaces have little chroma.
        let room = 0.3 + 0.7 * level;
        [level + (warm - green) * room, level + green * room, level - (warm + green) * room]
    }
}

/// The outline of a leaf in its own coordinates, from -1 to 1 along both axes.
#[derive(Clone, Copy)]
enum Outline {
    Ellipse,
    Rectangle,
    Triangle,
}

/// The texture of a leaf.
#[derive(Clone, Copy)]
enum Texture {
    Plain,
    Stripes,
    Grain,
}

struct Leaf {
    center: (f32, f32),
    /// Direction of its longer axis, a unit vector.
    axis: (f32, f32),
    /// Half extents along both axes, in pixels.
    half: (f32, f32),
    outline: Outline,
    color: [f32; 3],
    /// Relative brightness at the end of each axis, compared with the middle.
    shade: (f32, f32),
    texture: Texture,
    contrast: f32,
    frequency: f32,
    grain: Random,
}

impl Leaf {
    fn new(random: &mut Random, scene: &Scene, canvas: &Canvas) -> Self {
        // Inverse transform sampling of a density proportional to r^-3 between both radii.
        let (least, largest) = scene.radii;
        let ratio = least / largest;
        let u = random.unit();
        let radius = least / (1.0 - u * (1.0 - ratio * ratio)).sqrt();
        let outline = match random.next() % 8 {
            0..4 => Outline::Ellipse,
            4..7 => Outline::Rectangle,
            _ => Outline::Triangle,
        };
        let texture = match random.next() % 6 {
            0 => Texture::Stripes,
            1 | 2 => Texture::Grain,
            _ => Texture::Plain,
        };
        Leaf {
            center: (random.between(-0.1, 1.1) * canvas.width as f32, random.between(-0.1, 1.1) * canvas.height as f32),
            axis: direction(random),
            half: (radius, radius * random.between(0.3, 1.0)),
            outline,
            color: scene.color(random),
            shade: (random.between(-0.3, 0.3), random.between(-0.3, 0.3)),
            texture,
            contrast: random.between(0.05, 0.35),
            frequency: random.between(1.0, 8.0),
            grain: Random::new(random.next()),
        }
    }

    /// Draws the leaf on the pixels that are not covered yet.
    fn lay(mut self, canvas: &mut Canvas) {
        // The half diagonal bounds the leaf in every direction.
        let reach = (self.half.0 * self.half.0 + self.half.1 * self.half.1).sqrt();
        let range = |center: f32, end: usize| {
            let (lo, hi) = ((center - reach).max(0.0), (center + reach + 1.0).clamp(0.0, end as f32));
            lo as usize..hi as usize
        };
        for y in range(self.center.1, canvas.height) {
            for x in range(self.center.0, canvas.width) {
                let i = y * canvas.width + x;
                if canvas.covered[i] {
                    continue;
                }
                let (dx, dy) = (x as f32 - self.center.0, y as f32 - self.center.1);
                let u = (dx * self.axis.0 + dy * self.axis.1) / self.half.0;
                let v = (dy * self.axis.0 - dx * self.axis.1) / self.half.1;
                if !self.outline.holds(u, v) {
                    continue;
                }
                let light = 1.0 + self.shade.0 * u + self.shade.1 * v + self.contrast * self.drawn(u);
                canvas.pixels[i] = self.color.map(|c| c * light);
                canvas.covered[i] = true;
                canvas.left -= 1;
            }
        }
    }

    /// The texture at position `u` along the axis, from -1 to 1.
    fn drawn(&mut self, u: f32) -> f32 {
        match self.texture {
            Texture::Plain => 0.0,
            Texture::Grain => self.grain.between(-1.0, 1.0),
            Texture::Stripes => {
                let phase = (u + 2.0) * self.frequency;
                let phase = phase - phase.floor();
                4.0 * (phase - 0.5).abs() - 1.0
            }
        }
    }
}

impl Outline {
    fn holds(self, u: f32, v: f32) -> bool {
        match self {
            Outline::Ellipse => u * u + v * v <= 1.0,
            Outline::Rectangle => u.abs() <= 1.0 && v.abs() <= 1.0,
            Outline::Triangle => u >= -1.0 && v.abs() <= (1.0 - u) * 0.5,
        }
    }
}

/// A random unit vector, from a point in the unit disc: sine and cosine differ between platforms.
fn direction(random: &mut Random) -> (f32, f32) {
    loop {
        let (x, y) = (random.between(-1.0, 1.0), random.between(-1.0, 1.0));
        let square = x * x + y * y;
        if square > 0.01 && square <= 1.0 {
            let length = square.sqrt();
            return (x / length, y / length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(channels: usize, width: usize, height: usize) -> Image {
        Image { batch: 1, channels, height, width, channels_last: false }
    }

    /// FNV-1a.
    fn digest(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
    }

    #[test]
    fn pictures_are_the_same_everywhere() {
        let all: Vec<u64> = (0..4).map(|n| digest(&picture(n, &image(3, 64, 96)).bytes)).collect();
        assert_eq!(all, [15932551805848941972, 13839602025371632451, 4649737090883826489, 12788473026716042259]);
    }

    #[test]
    fn sizes_follow_the_model_within_bounds() {
        for (w, h, want) in [(12, 12, (96, 72)), (640, 640, (640, 480)), (320, 48, (320, 240)), (1280, 1, (640, 480))] {
            let made = picture(0, &image(3, w, h));
            assert_eq!((made.width, made.height), want);
            assert_eq!(made.bytes.len(), made.width * made.height * 3);
        }
        assert_eq!(picture(1, &image(1, 96, 96)).bytes.len(), 96 * 72);
    }

    /// The mean absolute difference of pixels that are `step` apart in a row.
    fn variation(p: &Pixels, step: usize) -> f64 {
        let row = |y: usize| &p.bytes[y * p.width..(y + 1) * p.width];
        let pairs = (0..p.height).flat_map(|y| row(y).iter().zip(&row(y)[step..]));
        let (sum, n) = pairs.fold((0.0, 0.0), |(s, n), (a, b)| (s + f64::from(a.abs_diff(*b)), n + 1.0));
        sum / n
    }

    #[test]
    fn they_have_what_photographs_have() {
        let all: Vec<Pixels> = (0..16).map(|n| picture(n, &image(1, 320, 320))).collect();
        let values = || all.iter().flat_map(|p| &p.bytes);
        // The mean brightness is that of a well exposed picture.
        let mean = values().map(|&b| f64::from(b)).sum::<f64>() / values().count() as f64;
        assert!((80.0..160.0).contains(&mean), "{mean}");
        assert!(values().any(|&b| b < 8) && values().any(|&b| b > 247));
        for (n, p) in all.iter().enumerate() {
            // There is structure at all scales: distant pixels differ more than near ones, and near ones differ.
            let (near, mid, far) = (variation(p, 1), variation(p, 8), variation(p, 64));
            assert!(near > 0.3 && near < mid && mid < far * 1.1, "picture {n}: {near} {mid} {far}");
        }
        assert!((1..16).all(|n| all[n].bytes != all[n - 1].bytes));
    }
}
