//! Resizing of 8-bit images, bit-exact with OpenCV's `INTER_LINEAR`, and the geometry around it.

use std::ops::Range;

use super::picture::{PICTURE_BYTES, Pixels, too_large};

/// Weights are fixed-point fractions of 2048.
const ONE: f32 = 2048.0;

/// The source of an output row or column: the index of the first of two neighbours, and the weight of each.
#[derive(Clone, Copy, Debug)]
struct Tap {
    first: isize,
    weights: [i32; 2],
}

/// The taps of the outputs in `part`, out of `to`.
fn taps(from: usize, to: usize, part: Range<usize>) -> impl Iterator<Item = Tap> {
    let scale = 1.0 / (to as f64 / from as f64);
    part.map(move |d| {
        let place = ((d as f64 + 0.5) * scale - 0.5) as f32;
        let first = place.floor();
        let fraction = place - first;
        let weight = |w: f32| (w * ONE).round_ties_even() as i32;
        Tap { first: first as isize, weights: [weight(1.0 - fraction), weight(fraction)] }
    })
}

/// Horizontally, taps outside the image use the edge pixel alone; vertically, weights are kept and row indices are
/// clamped. OpenCV has that asymmetry.
fn columns(from: usize, to: usize, part: Range<usize>) -> Vec<(usize, usize, [i32; 2])> {
    let last = from as isize - 1;
    let settle = |t: Tap| match t.first {
        f if f < 0 => (0, 0, [ONE as i32, 0]),
        f if f >= last => (last as usize, last as usize, [ONE as i32, 0]),
        f => (f as usize, f as usize + 1, t.weights),
    };
    taps(from, to, part).map(settle).collect()
}

/// Bilinear resizing to `width` by `height`.
pub(super) fn linear(src: &Pixels, width: usize, height: usize) -> Pixels {
    linear_part(src, [width, height], 0..width, 0..height)
}

/// The columns `across` and the rows `down` of an image resized to `size`.
fn linear_part(src: &Pixels, [width, height]: [usize; 2], across: Range<usize>, down: Range<usize>) -> Pixels {
    let (part_width, part_height) = (across.len(), down.len());
    let line = part_width * src.channels;
    let columns = columns(src.width, width, across);
    let across = |y: usize, out: &mut Vec<i32>| {
        let row = &src.bytes[y * src.width * src.channels..][..src.width * src.channels];
        out.clear();
        match src.channels {
            1 => out.extend(columns.iter().map(|&(a, b, w)| i32::from(row[a]) * w[0] + i32::from(row[b]) * w[1])),
            n => out.extend(columns.iter().flat_map(|&(a, b, w)| {
                (0..n).map(move |c| i32::from(row[a * n + c]) * w[0] + i32::from(row[b * n + c]) * w[1])
            })),
        }
    };
    let clamp = |y: isize| y.clamp(0, src.height as isize - 1) as usize;
    // The last two source rows that were resized horizontally; neighbouring output rows mostly share them.
    let mut lines: [(usize, Vec<i32>); 2] =
        [(usize::MAX, Vec::with_capacity(line)), (usize::MAX, Vec::with_capacity(line))];
    let mut bytes = Vec::with_capacity(line * part_height);
    for tap in taps(src.height, height, down) {
        let (above, below) = (clamp(tap.first), clamp(tap.first + 1));
        if lines[1].0 == above {
            lines.swap(0, 1);
        }
        for (slot, y) in lines.iter_mut().zip([above, below]) {
            if slot.0 != y {
                across(y, &mut slot.1);
                slot.0 = y;
            }
        }
        let [v0, v1] = tap.weights;
        let pairs = lines[0].1.iter().zip(&lines[1].1);
        bytes.extend(pairs.map(|(&a, &b)| ((((v0 * (a >> 4)) >> 16) + ((v1 * (b >> 4)) >> 16) + 2) >> 2) as u8));
    }
    Pixels { width: part_width, height: part_height, channels: src.channels, bytes }
}

/// Fails if the resized image would be too large.
fn bounded(channels: usize, width: usize, height: usize) -> Result<(), String> {
    let bytes = [channels, width, height].into_iter().fold(1u64, |n, f| n.saturating_mul(f as u64));
    if bytes > PICTURE_BYTES { Err(too_large(bytes)) } else { Ok(()) }
}

fn resized(src: Pixels, width: usize, height: usize) -> Result<Pixels, String> {
    bounded(src.channels, width, height)?;
    Ok(if (src.width, src.height) == (width, height) { src } else { linear(&src, width, height) })
}

/// Ultralytics' validation preprocessing: the longer side is scaled to the longer side of the target, then shrunk if it
/// still does not fit, then centred on `fill`.
pub(super) fn letterbox(src: Pixels, width: usize, height: usize, fill: u8) -> Result<Pixels, String> {
    bounded(src.channels, width, height)?;
    let size = width.max(height);
    let ratio = size as f64 / src.width.max(src.height) as f64;
    let side = |n: usize| ((n as f64 * ratio).ceil() as usize).min(size);
    let (w, h) = (side(src.width), side(src.height));
    let src = resized(src, w, h)?;
    let ratio = (height as f64 / h as f64).min(width as f64 / w as f64).min(1.0);
    let side = |n: usize| ((n as f64 * ratio).round_ties_even() as usize).max(1);
    let src = resized(src, side(w), side(h))?;
    // Odd padding has its extra pixel at the right and at the bottom.
    let margin = |room: usize, n: usize| ((room - n) as f64 / 2.0 - 0.1).round_ties_even().max(0.0) as usize;
    let (left, top) = (margin(width, src.width), margin(height, src.height));
    let line = src.width * src.channels;
    let mut bytes = vec![fill; width * height * src.channels];
    for (y, row) in src.bytes.chunks_exact(line).enumerate() {
        bytes[((top + y) * width + left) * src.channels..][..line].copy_from_slice(row);
    }
    Ok(Pixels { width, height, channels: src.channels, bytes })
}

/// Both sides scaled to the target, ignoring the aspect ratio.
pub(super) fn stretch(src: Pixels, width: usize, height: usize) -> Result<Pixels, String> {
    resized(src, width, height)
}

/// The image scaled so that the target, center-cropped, covers `ratio` of the limiting side. Only the cropped part is
/// computed: the scaled size of a narrow image is unbounded.
pub(super) fn center_crop(src: Pixels, width: usize, height: usize, ratio: f64) -> Result<Pixels, String> {
    bounded(src.channels, width, height)?;
    let scale = (width as f64 / src.width as f64).max(height as f64 / src.height as f64) / ratio;
    let side = |n: usize, least: usize| ((n as f64 * scale).round_ties_even() as usize).max(least);
    let (w, h) = (side(src.width, width), side(src.height, height));
    let (left, top) = ((w - width) / 2, (h - height) / 2);
    if (w, h) != (src.width, src.height) {
        return Ok(linear_part(&src, [w, h], left..left + width, top..top + height));
    }
    let line = src.width * src.channels;
    let cut = src.bytes.chunks_exact(line).skip(top).take(height);
    let bytes = cut.flat_map(|row| &row[left * src.channels..][..width * src.channels]).copied().collect();
    Ok(Pixels { width, height, channels: src.channels, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize, bytes: &[u8]) -> Pixels {
        Pixels { width, height, channels: 1, bytes: bytes.to_vec() }
    }

    /// A pseudo-random image: `(x * 73 + y * 151 + c * 37 + x * y * 11) mod 256`.
    fn pattern(width: usize, height: usize, channels: usize) -> Pixels {
        let byte = |x: usize, y: usize, c: usize| (x * 73 + y * 151 + c * 37 + x * y * 11) as u8;
        let rows = (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..channels).map(move |c| byte(x, y, c))));
        Pixels { width, height, channels, bytes: rows.collect() }
    }

    #[test]
    fn linear_is_opencvs() {
        // Outputs of cv2.resize(.., INTER_LINEAR), OpenCV 5.0.0, for `pattern`.
        for ((w, h, c), (dw, dh), want) in [
            ((5, 4, 1), (3, 3), &[50, 132, 115, 128, 150, 170, 135, 167, 84][..]),
            (
                (3, 3, 1),
                (5, 4),
                &[0, 29, 73, 117, 146, 94, 126, 174, 126, 94, 112, 147, 200, 157, 128, 46, 84, 141, 198, 236][..],
            ),
            ((6, 4, 1), (3, 2), &[115, 144, 109, 108, 117, 126][..]),
            (
                (4, 3, 3),
                (3, 2),
                &[50, 77, 114, 119, 124, 161, 188, 65, 102, 87, 114, 151, 179, 88, 125, 110, 115, 152][..],
            ),
            (
                (2, 5, 3),
                (3, 3),
                &[
                    50, 87, 124, 89, 83, 120, 127, 79, 115, 46, 83, 120, 94, 131, 168, 141, 178, 215, 127, 164, 116,
                    141, 178, 87, 155, 192, 58,
                ][..],
            ),
        ] {
            assert_eq!(linear(&pattern(w, h, c), dw, dh).bytes, want, "{w}x{h}x{c} to {dw}x{dh}");
        }
    }

    #[test]
    fn same_size_is_the_same_picture() {
        let p = pattern(5, 4, 3);
        assert_eq!(linear(&p, 5, 4), p);
    }

    #[test]
    fn letterbox_puts_halves_right_and_below() {
        // 4x1 into 4x4: three rows of padding, one above and two below.
        let got = letterbox(grey(4, 1, &[1, 2, 3, 4]), 4, 4, 114).unwrap();
        let want = [[114; 4], [1, 2, 3, 4], [114; 4], [114; 4]].concat();
        assert_eq!(got.bytes, want);
        let got = letterbox(grey(1, 4, &[1, 2, 3, 4]), 4, 4, 0).unwrap();
        assert_eq!(got.bytes, [0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0]);
    }

    #[test]
    fn letterbox_keeps_within_any_target() {
        for (w, h) in [(1, 1), (1, 1000), (1000, 1), (37, 53), (640, 480), (3, 700)] {
            for (tw, th) in [(8, 8), (16, 8), (8, 32), (1, 1)] {
                let got = letterbox(pattern(w, h, 3), tw, th, 114).unwrap();
                assert_eq!((got.width, got.height, got.bytes.len()), (tw, th, tw * th * 3));
            }
        }
    }

    #[test]
    fn center_crop_cuts_the_middle() {
        let got = center_crop(grey(4, 2, &[1, 2, 3, 4, 5, 6, 7, 8]), 2, 2, 1.0).unwrap();
        assert_eq!(got.bytes, [2, 3, 6, 7]);
        for (w, h) in [(1, 1), (1, 90), (90, 1), (33, 47), (1, 65_000)] {
            let got = center_crop(pattern(w, h, 1), 7, 5, 0.875).unwrap();
            assert_eq!(got.bytes.len(), 35);
        }
        // The result equals the crop of the whole resized image.
        let (src, (w, h)) = (pattern(33, 47, 3), (8, 11));
        let whole = linear(&src, w, h);
        let want: Vec<u8> =
            whole.bytes.chunks_exact(w * 3).skip(3).take(5).flat_map(|row| row[..7 * 3].to_vec()).collect();
        assert_eq!(center_crop(src, 7, 5, 0.875).unwrap().bytes, want);
    }

    #[test]
    fn pictures_that_grow_too_large_are_refused() {
        let error = letterbox(grey(1, 1, &[7]), 8, 100_000, 0).unwrap_err();
        assert!(error.contains("10000000000 bytes"), "{error}");
        assert!(stretch(grey(1, 1, &[7]), 1 << 20, 1 << 20).is_err());
        assert!(center_crop(grey(1, 1, &[7]), 1 << 20, 1 << 20, 1.0).is_err());
    }
}
