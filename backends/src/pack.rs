//! 4-bit integers as formats store them.

use bytes::Bytes;
use qcc_ir::{StorageType, Tensor};

/// The bytes of a constant as files hold them: 4-bit integers two in a byte, the first in the lower half and the last
/// byte filled with 0; all else as it is.
pub(crate) fn packed(constant: &Tensor) -> Bytes {
    match constant.ty().elem.qparams() {
        Some(qparams) if qparams.storage == StorageType::I4 => nibbles(constant.data()),
        _ => constant.data().clone(),
    }
}

fn nibbles(bytes: &[u8]) -> Bytes {
    bytes.chunks(2).map(|pair| (pair[0] & 15) | (pair.get(1).unwrap_or(&0) << 4)).collect()
}

#[cfg(test)]
mod tests {
    use super::nibbles;

    #[test]
    fn the_first_integer_is_in_the_lower_half() {
        assert_eq!(nibbles(&[1, (-8i8) as u8, (-1i8) as u8])[..], [0x81, 0x0f]);
    }
}
