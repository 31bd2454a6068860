//! How the elements of sparse tensors lie in their buffers.

use super::codes::{DimensionType, IndexVectorType};
use super::table::{Builder, Field, Place, ReadError, Row, Stored, table};

table! {
    /// How the elements of a sparse tensor lie in its buffer: a tree with a level for each dimension. Dimensions of the
    /// tensor come first, then those of blocks, which divide the dimensions that `block_map` names.
    Sparsity {
        0 traversal_order: Vec<i32>,
        1 block_map: Vec<i32>,
        2 dim_metadata: Vec<DimensionMetadata>,
    }
}

table! {
    /// One level: `dense_size` entries below each entry of the level before or, compressed, those that `array_indices`
    /// names between two numbers of `array_segments`.
    DimensionMetadata {
        0 format: DimensionType,
        1 dense_size: i32,
        3 array_segments: IndexVector,
        5 array_indices: IndexVector,
    }
}

/// Indices, in the width that holds them.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the schema's own")]
pub enum IndexVector {
    /// There are none.
    #[default]
    None,
    Int32(Vec<i32>),
    Uint16(Vec<u16>),
    Uint8(Vec<u8>),
    /// A kind that the schema did not have.
    Other(IndexVectorType),
}

/// Slot of `values` in the tables of the union.
const VALUES: u16 = 0;

impl IndexVector {
    fn kind(&self) -> IndexVectorType {
        match self {
            IndexVector::None => IndexVectorType::NONE,
            IndexVector::Int32(_) => IndexVectorType::INT32_VECTOR,
            IndexVector::Uint16(_) => IndexVectorType::UINT16_VECTOR,
            IndexVector::Uint8(_) => IndexVectorType::UINT8_VECTOR,
            IndexVector::Other(kind) => *kind,
        }
    }
}

// A union takes two slots: its kind, and behind it its table.
impl Field for IndexVector {
    fn store(&self, b: &mut Builder, slot: u16, row: &mut Row) {
        let mut values = Row::new();
        match self {
            IndexVector::None => return,
            IndexVector::Int32(v) => v.store(b, VALUES, &mut values),
            IndexVector::Uint16(v) => v.store(b, VALUES, &mut values),
            IndexVector::Uint8(v) => v.store(b, VALUES, &mut values),
            IndexVector::Other(_) => {}
        }
        row.push((slot - 1, Stored::Byte(self.kind().0)));
        row.push((slot, Stored::Offset(b.table(values))));
    }

    fn load(t: &Place<'_>, slot: u16) -> Result<Option<Self>, ReadError> {
        let (Some(kind), Some(at)) = (IndexVectorType::load(t, slot - 1)?, t.field(slot)?) else {
            return Ok(None);
        };
        let table = t.file.table(at)?;
        Ok(Some(match kind {
            IndexVectorType::NONE => IndexVector::None,
            IndexVectorType::INT32_VECTOR => IndexVector::Int32(Field::load(&table, VALUES)?.unwrap_or_default()),
            IndexVectorType::UINT16_VECTOR => IndexVector::Uint16(Field::load(&table, VALUES)?.unwrap_or_default()),
            IndexVectorType::UINT8_VECTOR => IndexVector::Uint8(Field::load(&table, VALUES)?.unwrap_or_default()),
            other => IndexVector::Other(other),
        }))
    }
}
