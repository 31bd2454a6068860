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

/// Signed integers of 4 or 8 bits as files store unsigned ones: shifted so that the smallest is 0.
pub(crate) fn unsigned(storage: StorageType, integers: &[u8]) -> Bytes {
    mapped::keep(match storage {
        StorageType::I4 => nibbles(integers).iter().map(|pair| pair ^ 0x88).collect(),
        _ => integers.iter().map(|integer| integer ^ 0x80).collect(),
    })
}

/// Integers of 4 bits, two in a byte, the first in the lower half.
pub(crate) fn nibbles(bytes: &[u8]) -> Bytes {
    bytes.chunks(2).map(|pair| (pair[0] & 15) | (pair.get(1).unwrap_or(&0) << 4)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_integer_is_in_the_lower_half() {
        assert_eq!(nibbles(&[1, (-8i8) as u8, (-1i8) as u8])[..], [0x81, 0x0f]);
        assert_eq!(unsigned(StorageType::I4, &[1, (-8i8) as u8])[..], [0x09]);
        assert_eq!(unsigned(StorageType::I8, &[1, (-128i8) as u8])[..], [129, 0]);
    }
}
