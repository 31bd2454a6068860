//! Decoding of pictures as OpenCV's `imread` gives them, save for the order of colours.

use std::io;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader};

use super::DataError;

/// A picture: rows of interleaved bytes, red before green before blue, or one grey channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pixels {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) bytes: Vec<u8>,
}

/// Reads a picture as 8-bit RGB (`channels` 3) or grey (`channels` 1): EXIF orientation applied, alpha dropped, the
/// high byte of 16-bit samples, grey spread over three channels.
///
/// # Errors
/// [`DataError::Picture`] where it cannot be read or decoded.
pub(super) fn read(path: &Path, channels: usize) -> Result<Pixels, DataError> {
    let picture = decode(path).map_err(|reason| DataError::Picture { path: path.into(), reason })?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let bytes = match (channels, eight_bits(picture)) {
        (1, DynamicImage::ImageLuma8(grey)) => grey.into_raw(),
        (1, other) => other.to_rgb8().as_raw().chunks_exact(3).map(|p| luma([p[0], p[1], p[2]])).collect(),
        (_, picture) => picture.into_rgb8().into_raw(),
    };
    Ok(Pixels { width, height, channels, bytes })
}

fn decode(path: &Path) -> Result<DynamicImage, String> {
    let open = |path: &Path| {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        ImageReader::open(path)?.with_guessed_format()
    };
    let reader = open(path).map_err(|e| e.to_string())?;
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    // A few bytes may claim to be a picture of any size.
    image::Limits::default().reserve(decoder.total_bytes()).map_err(|_| "the picture is too large".to_owned())?;
    let orientation = decoder.orientation().map_err(|e| e.to_string())?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    picture.apply_orientation(orientation);
    if picture.width() == 0 || picture.height() == 0 {
        return Err("the picture is empty".into());
    }
    Ok(picture)
}

/// The high byte of 16-bit samples, and no alpha beside grey.
fn eight_bits(picture: DynamicImage) -> DynamicImage {
    use image::{GrayImage, RgbImage};
    let (w, h) = (picture.width(), picture.height());
    let high = |samples: &[u16]| samples.iter().map(|s| (s >> 8) as u8).collect::<Vec<u8>>();
    let grey = |bytes| GrayImage::from_raw(w, h, bytes).map(DynamicImage::ImageLuma8);
    let rgb = |bytes| RgbImage::from_raw(w, h, bytes).map(DynamicImage::ImageRgb8);
    let reduced = match &picture {
        DynamicImage::ImageLumaA8(p) => grey(p.as_raw().chunks_exact(2).map(|p| p[0]).collect()),
        DynamicImage::ImageLuma16(p) => grey(high(p.as_raw())),
        DynamicImage::ImageLumaA16(p) => grey(p.as_raw().chunks_exact(2).map(|p| (p[0] >> 8) as u8).collect()),
        DynamicImage::ImageRgb16(p) => rgb(high(p.as_raw())),
        DynamicImage::ImageRgba16(p) => rgb(p.as_raw().chunks_exact(4).flat_map(|p| high(&p[..3])).collect()),
        _ => None,
    };
    reduced.unwrap_or(picture)
}

/// OpenCV's RGB to grey: 15-bit weights, rounded.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((9798 * u32::from(r) + 19235 * u32::from(g) + 3735 * u32::from(b) + (1 << 14)) >> 15) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, Rgba, RgbaImage};

    fn saved(picture: DynamicImage, name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        picture.save(&path).unwrap();
        (dir, path)
    }

    #[test]
    fn grey_is_spread_and_kept() {
        let (_dir, path) = saved(GrayImage::from_raw(2, 1, vec![7, 200]).unwrap().into(), "a.png");
        assert_eq!(read(&path, 3).unwrap().bytes, [7, 7, 7, 200, 200, 200]);
        assert_eq!(read(&path, 1).unwrap().bytes, [7, 200]);
    }

    #[test]
    fn alpha_is_dropped_not_blended() {
        let (_dir, path) = saved(RgbaImage::from_raw(1, 1, vec![10, 20, 30, 0]).unwrap().into(), "a.png");
        assert_eq!(read(&path, 3).unwrap().bytes, [10, 20, 30]);
        let (_dir, path) = saved(GrayAlphaImage::from_raw(1, 1, vec![10, 0]).unwrap().into(), "a.png");
        assert_eq!(read(&path, 1).unwrap().bytes, [10]);
    }

    #[test]
    fn sixteen_bits_give_their_high_byte() {
        let wide: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_raw(2, 1, vec![0x12ff, 0x00ff]).unwrap();
        let (_dir, path) = saved(wide.into(), "a.png");
        assert_eq!(read(&path, 1).unwrap().bytes, [0x12, 0]);
        let wide: ImageBuffer<Rgba<u16>, _> = ImageBuffer::from_raw(1, 1, vec![0x12ff, 0x34ff, 0xffff, 0]).unwrap();
        let (_dir, path) = saved(wide.into(), "a.png");
        assert_eq!(read(&path, 3).unwrap().bytes, [0x12, 0x34, 0xff]);
    }

    #[test]
    fn luma_weights_are_opencvs() {
        // cv2.cvtColor(.., COLOR_RGB2GRAY)
        for (rgb, want) in
            [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([255; 3], 255), ([12, 200, 99], 132)]
        {
            assert_eq!(luma(rgb), want, "{rgb:?}");
        }
    }

    #[test]
    fn exif_orientation_is_applied() {
        // A JPEG of 16x8 whose EXIF says "rotate by 90 degrees" is read as 8x16.
        let mut jpeg = std::io::Cursor::new(Vec::new());
        DynamicImage::from(GrayImage::new(16, 8)).write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
        let jpeg = jpeg.into_inner();
        let mut tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0".to_vec();
        tiff.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        let mut turned = jpeg[..2].to_vec();
        turned.extend([0xff, 0xe1]);
        turned.extend(u16::try_from(tiff.len() + 2).unwrap().to_be_bytes());
        turned.extend(&tiff);
        turned.extend(&jpeg[2..]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        std::fs::write(&path, turned).unwrap();
        let got = read(&path, 1).unwrap();
        assert_eq!((got.width, got.height), (8, 16));
    }

    #[test]
    fn broken_and_foreign_pictures_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in
            [("a.jpg", &b"\xff\xd8\xff\xe0 not a jpeg"[..]), ("b.png", b""), ("c.jpg", b"GIF89a\x01\0\x01\0")]
        {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(read(&path, 3), Err(DataError::Picture { .. })), "{name}");
        }
    }
}
