//! Decoding of images with the pixel values of OpenCV's `imread`, except for the channel order.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use image::{DynamicImage, ImageDecoder, ImageReader};

use super::DataError;

/// Maximum bytes of an image file, of the decoded image (178 megapixels of 8-bit RGB), and of the resized image.
pub(super) const PICTURE_BYTES: u64 = 1 << 29;

/// Maximum number of copies of an image in memory: decoded, rotated, with converted channels.
const COPIES: u64 = 3;

/// Maximum bytes of images of all threads together. Threads wait for each other.
const PICTURES_BYTES: u64 = 1 << 31;
const _: () = assert!(PICTURE_BYTES * COPIES <= PICTURES_BYTES);

/// An image: rows of interleaved bytes in RGB order, or one grey channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pixels {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) bytes: Vec<u8>,
}

/// Reads an image as 8-bit RGB (`channels` 3) or grey (`channels` 1) and passes it to `fit`. EXIF orientation is
/// applied, alpha is dropped, 16-bit samples keep their high byte, grey is replicated over three channels.
///
/// # Errors
/// [`DataError::Picture`] if it cannot be read, decoded or fitted.
pub(super) fn read(
    path: &Path,
    channels: usize,
    fit: impl FnOnce(Pixels) -> Result<Pixels, String>,
) -> Result<Pixels, DataError> {
    let read = || {
        let decoder = open(path)?;
        // The header may declare an image of any size.
        let bytes = decoder.total_bytes();
        if bytes > PICTURE_BYTES {
            return Err(too_large(bytes));
        }
        let _room = Room::take(bytes * COPIES);
        fit(with_channels(decode(decoder)?, channels))
    };
    contained(read).map_err(|reason| DataError::Picture { path: path.into(), reason })
}

/// Width and height of an image as [`read`] returns it.
///
/// # Errors
/// [`DataError::Picture`] if it cannot be read.
pub(super) fn size(path: &Path) -> Result<(usize, usize), DataError> {
    let read = || {
        let mut decoder = open(path)?;
        let (width, height) = decoder.dimensions();
        let turned = decoder.orientation().map_err(|e| e.to_string())?.to_exif() > 4;
        Ok(if turned { (height as usize, width as usize) } else { (width as usize, height as usize) })
    };
    contained(read).map_err(|reason| DataError::Picture { path: path.into(), reason })
}

/// The error message for an image that needs so many bytes.
pub(super) fn too_large(bytes: u64) -> String {
    format!("the picture is too large: {bytes} bytes, {PICTURE_BYTES} at most; make it smaller or leave it out")
}

thread_local! {
    /// True while this thread decodes an image.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// True if a panic of this thread comes from an image decoder. It is caught and reported as an error, so a panic hook
/// need not print it.
pub fn panic_is_contained() -> bool {
    CONTAINED.get()
}

/// Runs a decoder and catches its panics: decoders panic on some damaged images.
fn contained<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let outer = CONTAINED.replace(true);
    let read = catch_unwind(AssertUnwindSafe(read));
    CONTAINED.set(outer);
    read.unwrap_or_else(|_| Err("the picture is damaged".into()))
}

/// A reservation of bytes out of [`PICTURES_BYTES`], released on drop.
struct Room(u64);

static TAKEN: Mutex<u64> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Room {
    /// Waits until the bytes are available. A single image is always admitted.
    fn take(bytes: u64) -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut u64| *taken > 0 && *taken + bytes > PICTURES_BYTES;
        *FREED.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner) += bytes;
        Room(bytes)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FREED.notify_all();
    }
}

/// The pixels of an image in memory that is known to be valid.
///
/// # Errors
/// If it cannot be decoded.
pub(super) fn decoded(bytes: &[u8], format: image::ImageFormat, channels: usize) -> Result<Pixels, String> {
    let picture = image::load_from_memory_with_format(bytes, format).map_err(|e| e.to_string())?;
    Ok(with_channels(picture, channels))
}

fn open(path: &Path) -> Result<impl ImageDecoder, String> {
    let meta = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !meta.is_file() {
        return Err("not a file".into());
    }
    if meta.len() > PICTURE_BYTES {
        return Err(too_large(meta.len()));
    }
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let mut reader = reader.map_err(|e: io::Error| e.to_string())?;
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(PICTURE_BYTES * COPIES);
    reader.limits(limits);
    reader.into_decoder().map_err(|e| e.to_string())
}

fn decode(mut decoder: impl ImageDecoder) -> Result<DynamicImage, String> {
    let orientation = decoder.orientation().map_err(|e| e.to_string())?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    picture.apply_orientation(orientation);
    if picture.width() == 0 || picture.height() == 0 {
        return Err("the picture is empty".into());
    }
    Ok(picture)
}

fn with_channels(picture: DynamicImage, channels: usize) -> Pixels {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let bytes = match (channels, eight_bits(picture)) {
        (1, DynamicImage::ImageLuma8(grey)) => grey.into_raw(),
        (1, other) => other.to_rgb8().as_raw().chunks_exact(3).map(|p| luma([p[0], p[1], p[2]])).collect(),
        (_, picture) => picture.into_rgb8().into_raw(),
    };
    Pixels { width, height, channels, bytes }
}

/// The high byte of 16-bit samples, and grey without alpha.
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
pub(super) fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((9798 * u32::from(r) + 19235 * u32::from(g) + 3735 * u32::from(b) + (1 << 14)) >> 15) as u8
}

#[cfg(test)]
mod tests {
    use image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, Rgba, RgbaImage};

    use super::*;

    /// An image without fitting.
    fn read(path: &Path, channels: usize) -> Result<Pixels, DataError> {
        super::read(path, channels, Ok)
    }

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
    fn a_panic_ends_a_picture_alone() {
        let (_dir, path) = saved(GrayImage::from_raw(1, 1, vec![7]).unwrap().into(), "a.png");
        let panics = |_| {
            assert!(panic_is_contained());
            panic!("a decoder")
        };
        let error = super::read(&path, 1, panics).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: the picture is damaged", path.display()));
        assert!(!panic_is_contained());
        // The reservation is released.
        assert_eq!(read(&path, 1).unwrap().bytes, [7]);
    }

    #[test]
    fn pictures_wait_for_room() {
        use std::sync::atomic::{AtomicU64, Ordering};
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let third = PICTURES_BYTES / 3 + 1;
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..50 {
                        let _room = Room::take(third);
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
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
