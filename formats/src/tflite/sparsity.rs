//! Storage of sparse tensors.

use super::codes::{DimensionType, IndexVectorType};
use super::table::{Builder, Field, Place, ReadError, Row, Stored, table};

table! {
    /// Storage of a sparse tensor: a tree with a level for each dimension. Dimensions of the tensor come first, then
    /// those of blocks, which divide the dimensions in `block_map`.
    Sparsity {
        0 traversal_order: Vec<i32>,
        1 block_map: Vec<i32>,
        2 dim_metadata: Vec<DimensionMetadata>,
    }
}

table! {
    /// One level: `dense_size` entries for each entry of the previous level or, compressed, the entries in
    /// `array_indices` between two consecutive elements of `array_segments`.
    DimensionMetadata {
        0 format: DimensionType,
        1 dense_size: i32,
        3 array_segments: IndexVector,
        5 array_indices: IndexVector,
    }
}

/// Indices, in the narrowest width that can store them.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the schema's own")]
pub enum IndexVector {
    /// No indices.
    #[default]
    None,
    Int32(Vec<i32>),
    Uint16(Vec<u16>),
    Uint8(Vec<u8>),
    /// A type that is not declared here.
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

// A union takes two slots: its type, then its table.
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
