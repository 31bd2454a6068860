//! FlatBuffers tables as structs: each field type defines how it is written and how it is read.

use std::cell::Cell;

use bytes::Bytes;
use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, VOffsetT, WIPOffset};

/// Why bytes are not a TFLite model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file identifier is missing.
    #[error("not a TFLite model: the identifier TFL3 is missing")]
    Identifier,
    /// A reference to a position outside the file.
    #[error("the file is damaged: byte {at} refers to something outside it")]
    Bounds {
        /// Position of the reference.
        at: usize,
    },
    /// Tables are shared so often that reading them would take much more memory than the size of the file.
    #[error("the file is damaged: its tables refer to each other too often")]
    Overlap,
}

/// The FlatBuffers builder, and whether buffers are inside the FlatBuffer.
pub(super) struct Builder {
    pub(super) fbb: FlatBufferBuilder<'static>,
    /// Buffers are outside the FlatBuffer.
    pub(super) large: bool,
}

/// An offset in the builder.
pub(super) type Offset = WIPOffset<UnionWIPOffset>;

/// The content of one slot of a table.
#[derive(Clone, Copy)]
pub(super) enum Stored {
    Byte(u8),
    Int(u32),
    Long(u64),
    /// The offset of an object that is written before the table.
    Offset(Offset),
}

/// The slots of a table that do not have default values.
pub(super) type Row = Vec<(u16, Stored)>;

/// A table of the schema.
pub(super) trait Table: Sized {
    /// Writes the objects that the fields refer to and returns the slots.
    fn store(&self, b: &mut Builder) -> Row;
    /// Reads the fields; absent fields have their defaults.
    fn load(t: &Place<'_>) -> Result<Self, ReadError>;
}

/// A type of fields.
pub(super) trait Field: Sized {
    fn store(&self, b: &mut Builder, slot: u16, row: &mut Row);
    /// `None` where the field is absent.
    fn load(t: &Place<'_>, slot: u16) -> Result<Option<Self>, ReadError>;
}

impl Builder {
    /// Writes a table, widest slots first, so that no padding is needed.
    pub(super) fn table(&mut self, row: Row) -> Offset {
        let width = |s: &Stored| match s {
            Stored::Long(_) => 8,
            Stored::Int(_) | Stored::Offset(_) => 4,
            Stored::Byte(_) => 1,
        };
        let start = self.fbb.start_table();
        for wanted in [8, 4, 1] {
            for (slot, stored) in row.iter().filter(|(_, s)| width(s) == wanted) {
                let place: VOffsetT = 4 + 2 * slot;
                match stored {
                    Stored::Byte(v) => self.fbb.push_slot_always(place, *v),
                    Stored::Int(v) => self.fbb.push_slot_always(place, *v),
                    Stored::Long(v) => self.fbb.push_slot_always(place, *v),
                    Stored::Offset(v) => self.fbb.push_slot_always(place, *v),
                }
            }
        }
        self.fbb.end_table(start).as_union_value()
    }
}

/// The bytes of a file, read with bounds checks.
pub(super) struct File<'a> {
    bytes: &'a Bytes,
    /// Bytes of memory that tables may still take: a malicious file can refer to the same table many times.
    budget: Cell<usize>,
}

impl<'a> File<'a> {
    pub(super) fn new(bytes: &'a Bytes) -> Self {
        File { bytes, budget: Cell::new(bytes.len().saturating_mul(16)) }
    }

    fn spend(&self, cost: usize) -> Result<(), ReadError> {
        self.budget.set(self.budget.get().checked_sub(cost).ok_or(ReadError::Overlap)?);
        Ok(())
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], ReadError> {
        self.bytes.get(at..).and_then(|b| b.first_chunk()).copied().ok_or(ReadError::Bounds { at })
    }

    fn short(&self, at: usize) -> Result<usize, ReadError> {
        Ok(u16::from_le_bytes(self.array(at)?).into())
    }

    pub(super) fn int(&self, at: usize) -> Result<u32, ReadError> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    pub(super) fn long(&self, at: usize) -> Result<u64, ReadError> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }

    /// The position that the reference at `at` points to.
    fn follow(&self, at: usize) -> Result<usize, ReadError> {
        at.checked_add(self.int(at)? as usize).filter(|&to| to < self.bytes.len()).ok_or(ReadError::Bounds { at })
    }

    /// Position of the first element and length of the vector that the reference at `at` points to.
    pub(super) fn vector(&self, at: usize, width: usize) -> Result<(usize, usize), ReadError> {
        let start = self.follow(at)?;
        let len = self.int(start)? as usize;
        let size = len.checked_mul(width).ok_or(ReadError::Bounds { at })?;
        if start + 4 > self.bytes.len() || size > self.bytes.len() - (start + 4) {
            return Err(ReadError::Bounds { at });
        }
        Ok((start + 4, len))
    }

    /// Bytes of a buffer, shared with the file.
    pub(super) fn payload(&self, start: u64, size: u64) -> Result<Bytes, ReadError> {
        let bounds = || ReadError::Bounds { at: usize::try_from(start).unwrap_or(usize::MAX) };
        let end = start.checked_add(size).filter(|&end| end <= self.bytes.len() as u64).ok_or_else(bounds)?;
        let (start, end) = (usize::try_from(start).map_err(|_| bounds())?, usize::try_from(end).map_err(|_| bounds())?);
        Ok(self.bytes.slice(start..end))
    }

    /// The root table.
    pub(super) fn root(&self) -> Result<Place<'_>, ReadError> {
        self.table(0)
    }

    /// The table that the reference at `at` points to.
    pub(super) fn table(&self, at: usize) -> Result<Place<'_>, ReadError> {
        let start = self.follow(at)?;
        let back = i32::from_le_bytes(self.array(start)?);
        let vtable = (start as i64).checked_sub(back.into()).and_then(|v| usize::try_from(v).ok());
        let vtable = vtable.ok_or(ReadError::Bounds { at: start })?;
        let slots = self.short(vtable)?.saturating_sub(4) / 2;
        self.spend(4 + slots)?;
        Ok(Place { file: self, start, vtable, slots })
    }
}

/// A table in a file.
#[derive(Clone, Copy)]
pub(super) struct Place<'f> {
    pub(super) file: &'f File<'f>,
    start: usize,
    vtable: usize,
    slots: usize,
}

impl Place<'_> {
    /// The position of the field of a slot, or `None` where it is absent.
    pub(super) fn field(&self, slot: u16) -> Result<Option<usize>, ReadError> {
        if usize::from(slot) >= self.slots {
            return Ok(None);
        }
        let offset = self.file.short(self.vtable + 4 + 2 * usize::from(slot))?;
        Ok((offset != 0).then_some(self.start + offset))
    }
}

macro_rules! scalar {
    ($($ty:ty: $variant:ident, |$v:ident| $to:expr, |$f:ident, $at:ident| $from:expr;)*) => { $(
        impl Field for $ty {
            fn store(&self, _: &mut Builder, slot: u16, row: &mut Row) {
                let $v = *self;
                row.push((slot, Stored::$variant($to)));
            }

            fn load(t: &Place<'_>, slot: u16) -> Result<Option<Self>, ReadError> {
                let Some($at) = t.field(slot)? else { return Ok(None) };
                let $f = t.file;
                Ok(Some($from))
            }
        }
    )* };
}
scalar! {
    bool: Byte, |v| v.into(), |f, at| f.array::<1>(at)? != [0];
    u8: Byte, |v| v, |f, at| u8::from_le_bytes(f.array(at)?);
    i8: Byte, |v| v.to_le_bytes()[0], |f, at| i8::from_le_bytes(f.array(at)?);
    i32: Int, |v| v.cast_unsigned(), |f, at| f.int(at)?.cast_signed();
    u32: Int, |v| v, |f, at| f.int(at)?;
    u64: Long, |v| v, |f, at| f.long(at)?;
    f32: Int, |v| v.to_bits(), |f, at| f32::from_bits(f.int(at)?);
}

macro_rules! vector {
    ($($ty:ty),*) => { $(
        impl Field for Vec<$ty> {
            fn store(&self, b: &mut Builder, slot: u16, row: &mut Row) {
                row.push((slot, Stored::Offset(b.fbb.create_vector(self).as_union_value())));
            }

            fn load(t: &Place<'_>, slot: u16) -> Result<Option<Self>, ReadError> {
                let Some(at) = t.field(slot)? else { return Ok(None) };
                let width = size_of::<$ty>();
                let (start, len) = t.file.vector(at, width)?;
                t.file.spend(len * width)?;
                let items = (0..len).map(|i| Ok(<$ty>::from_le_bytes(t.file.array(start + i * width)?)));
                Ok(Some(items.collect::<Result<_, ReadError>>()?))
            }
        }
    )* };
}
vector!(u8, u16, i32, i64, f32);

impl Field for String {
    fn store(&self, b: &mut Builder, slot: u16, row: &mut Row) {
        row.push((slot, Stored::Offset(b.fbb.create_string(self).as_union_value())));
    }

    fn load(t: &Place<'_>, slot: u16) -> Result<Option<Self>, ReadError> {
        Ok(Vec::<u8>::load(t, slot)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

impl<T: Table> Field for Vec<T> {
    fn store(&self, b: &mut Builder, slot: u16, row: &mut Row) {
        let tables: Vec<Offset> = self
            .iter()
            .map(|item| {
                let fields = item.store(b);
                b.table(fields)
            })
            .collect();
        row.push((slot, Stored::Offset(b.fbb.create_vector(&tables).as_union_value())));
    }

    fn load(t: &Place<'_>, slot: u16) -> Result<Option<Self>, ReadError> {
        let Some(at) = t.field(slot)? else { return Ok(None) };
        let (start, len) = t.file.vector(at, 4)?;
        t.file.spend(len * size_of::<T>())?;
        Ok(Some((0..len).map(|i| T::load(&t.file.table(start + 4 * i)?)).collect::<Result<_, ReadError>>()?))
    }
}

impl<T: Table> Field for Option<T> {
    fn store(&self, b: &mut Builder, slot: u16, row: &mut Row) {
        if let Some(item) = self {
            let fields = item.store(b);
            row.push((slot, Stored::Offset(b.table(fields))));
        }
    }

    fn load(t: &Place<'_>, slot: u16) -> Result<Option<Self>, ReadError> {
        let Some(at) = t.field(slot)? else { return Ok(None) };
        Ok(Some(Some(T::load(&t.file.table(at)?)?)))
    }
}

/// Declares a table: each field with its slot, its type, and its default where that is not the type's own.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $name:ident { $($slot:literal $field:ident: $ty:ty $(= $default:expr)?),* $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "fields are the schema's own")]
        pub struct $name { $(pub $field: $ty),* }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $crate::tflite::table::table!(@default $($default)?)),* }
            }
        }

        impl $crate::tflite::table::Table for $name {
            fn store(&self, b: &mut $crate::tflite::table::Builder) -> $crate::tflite::table::Row {
                let default = $name::default();
                let mut row = $crate::tflite::table::Row::new();
                $(if self.$field != default.$field {
                    $crate::tflite::table::Field::store(&self.$field, b, $slot, &mut row);
                })*
                row
            }

            fn load(
                t: &$crate::tflite::table::Place<'_>,
            ) -> Result<Self, $crate::tflite::table::ReadError> {
                let default = $name::default();
                Ok($name {
                    $($field: $crate::tflite::table::Field::load(t, $slot)?.unwrap_or(default.$field)),*
                })
            }
        }

        impl $name {
            /// The fields by name, as text.
            pub fn fields(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($field), format!("{:?}", self.$field))),*]
            }
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}
pub(super) use table;

/// Declares a union of few tables: its kind is stored in the slot before its table.
macro_rules! union {
    ($(#[$doc:meta])* $name:ident { $($table:ident = $kind:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub enum $name {
            /// No table.
            #[default]
            None,
            /// A table of another kind, whose fields are not declared here.
            Other(u8),
            $(
                #[expect(missing_docs, reason = "the struct it holds is documented")]
                $table($table)
            ),*
        }

        impl $crate::tflite::table::Field for $name {
            fn store(&self, b: &mut $crate::tflite::table::Builder, slot: u16, row: &mut $crate::tflite::table::Row) {
                use $crate::tflite::table::{Row, Stored, Table};
                let (kind, fields) = match self {
                    $name::None => return,
                    $name::Other(kind) => (*kind, Row::new()),
                    $($name::$table(t) => ($kind, Table::store(t, b))),*
                };
                row.push((slot - 1, Stored::Byte(kind)));
                row.push((slot, Stored::Offset(b.table(fields))));
            }

            fn load(
                t: &$crate::tflite::table::Place<'_>,
                slot: u16,
            ) -> Result<Option<Self>, $crate::tflite::table::ReadError> {
                let (Some(kind), Some(at)) = (u8::load(t, slot - 1)?, t.field(slot)?) else { return Ok(None) };
                Ok(Some(match kind {
                    0 => $name::None,
                    $($kind => $name::$table($crate::tflite::table::Table::load(&t.file.table(at)?)?),)*
                    other => $name::Other(other),
                }))
            }
        }

        impl $name {
            /// The fields by name, as text.
            pub fn fields(&self) -> Vec<(&'static str, String)> {
                match self {
                    $name::None | $name::Other(_) => Vec::new(),
                    $($name::$table(t) => t.fields()),*
                }
            }
        }
    };
}
pub(super) use union;
