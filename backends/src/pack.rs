//! Packing of 4-bit integers.

use bytes::Bytes;
use qcc_ir::{StorageType, Tensor, mapped};

/// The bytes of a constant in files: 4-bit integers are packed two per byte, the first in the lower half, padded with
/// 0; other types are unchanged. Constants that the writer computes are kept until the end ([`mapped::keep`]).
pub(crate) fn packed(constant: &Tensor) -> Bytes {
    match constant.ty().elem.qparams() {
        Some(qparams) if qparams.storage == StorageType::I4 => mapped::keep(nibbles(constant.data())),
        _ => constant.clone().kept().data().clone(),
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
