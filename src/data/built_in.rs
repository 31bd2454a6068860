//! Built-in pictures, for calibration without data: synthetic ones, and a few photographs among them.

use image::ImageFormat;

use super::input::Image;
use super::picture::{self, Pixels};
use super::synthetic;

/// Photographs in the public domain (`photographs/README.md`). They are stored without loss: decoders of JPEG may differ
/// in the last bit from one processor to another.
const PHOTOGRAPHS: [&[u8]; 4] = [
    include_bytes!("photographs/astronaut.webp"),
    include_bytes!("photographs/chelsea.webp"),
    include_bytes!("photographs/coffee.webp"),
    include_bytes!("photographs/rocket.webp"),
];

/// One picture of so many is a photograph, until there are no more.
const EVERY: usize = 5;

/// The number of pictures with all photographs.
pub(super) const PICTURES: usize = EVERY * PHOTOGRAPHS.len();

/// Picture `number` for the input `image`: with its channels, of any size.
///
/// # Errors
/// If a photograph cannot be decoded.
pub(super) fn picture(number: usize, image: &Image) -> Result<Pixels, String> {
    match PHOTOGRAPHS.get(number / EVERY) {
        Some(bytes) if number % EVERY == EVERY - 1 => picture::decoded(bytes, ImageFormat::WebP, image.channels),
        _ => Ok(synthetic::picture((number - (number / EVERY).min(PHOTOGRAPHS.len())) as u64, image)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photographs_are_among_the_pictures() {
        let image = |channels| Image { batch: 1, channels, height: 64, width: 96, channels_last: false };
        let all: Vec<Pixels> = (0..PICTURES + EVERY).map(|k| picture(k, &image(3)).unwrap()).collect();
        let sizes: Vec<usize> = all.iter().map(|p| p.width.max(p.height)).collect();
        let photographs: Vec<usize> = (0..sizes.len()).filter(|&k| sizes[k] == 320).collect();
        assert_eq!(photographs, [4, 9, 14, 19]);
        // All pictures differ, and those after the photographs go on.
        let bytes: std::collections::HashSet<&[u8]> = all.iter().map(|p| &p.bytes[..]).collect();
        assert_eq!(bytes.len(), all.len());
        assert_eq!(picture(9, &image(1)).unwrap().channels, 1);
    }
}
