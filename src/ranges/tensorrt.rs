//! The calibration cache of TensorRT: a line with the version, then a line for each tensor with its name and its scale,
//! the bits of a single-precision number in hexadecimal digits. The range is symmetric: 127 times the scale.

use std::fmt::Write;

use qcc_passes::calibrate::Range;

use super::NamedRanges;

/// The largest integer.
const LEVELS: f32 = 127.0;

pub(super) fn read(text: &str) -> Result<NamedRanges, String> {
    let range = |line: &str| {
        let (name, digits) = line.rsplit_once(": ")?;
        let digits = digits.trim_end();
        let scale = f32::from_bits(u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8)?);
        Some((name.to_owned(), Range { lo: -LEVELS * scale, hi: LEVELS * scale }))
    };
    let lines = text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(i, line)| range(line).ok_or(format!("line {} is not a name and a scale", i + 1))).collect()
}

pub(super) fn write(ranges: &NamedRanges) -> Vec<u8> {
    let mut text = "TRT-8601-MinMaxCalibration\n".to_owned();
    for (name, r) in ranges {
        let scale = r.hi.max(-r.lo) / LEVELS;
        let _ = writeln!(text, "{name}: {:08x}", scale.to_bits());
    }
    text.into_bytes()
}
