//! Inputs of a graph, as data sources see them.

use qcc_ir::{Dim, Elem, Symbols, Tensor, TensorType};

use super::DataError;

/// A graph input: its name and its type, with the extents of the samples.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) ty: TensorType,
}

impl Input {
    pub(super) fn of(name: &str, ty: &TensorType) -> Self {
        Input { name: name.into(), ty: TensorType::new(ty.elem.clone(), ty.shape.clone()) }
    }

    /// The input with these values of open extents.
    pub(super) fn bound(self, symbols: &Symbols) -> Result<Self, DataError> {
        let shape = self.ty.shape.bind(symbols);
        if shape.is_open() {
            return Err(DataError::Inputs(format!(
                "input {} is {}: its extents must be numbers to be fed",
                self.name, self.ty
            )));
        }
        Ok(Input { ty: TensorType { shape, ..self.ty }, ..self })
    }

    /// True if an array of these extents is a whole input.
    pub(super) fn takes(&self, array: &[usize]) -> bool {
        let dims = self.ty.shape.dims();
        dims.len() == array.len() && dims.iter().zip(array).all(|(d, n)| d.known().is_none_or(|known| known == *n))
    }

    /// The values of its open extents for an array that is a whole input.
    pub(super) fn own_extents(&self, array: &[usize]) -> Symbols {
        let named = self.ty.shape.dims().iter().zip(array);
        named.filter_map(|(d, &n)| d.solved(n)).map(|(symbol, n)| (symbol.clone(), n)).collect()
    }

    /// The values of its open extents for samples in an array of these extents: an array of samples, or of elements of a
    /// batch. The batch is then one sample.
    pub(super) fn extents(&self, array: &[usize]) -> Symbols {
        let dims = self.ty.shape.dims();
        let each = match array.len().checked_sub(dims.len()) {
            Some(1) => array[1..].to_vec(),
            Some(0) if !array.is_empty() => [&[1], &array[1..]].concat(),
            _ => return Symbols::default(),
        };
        self.own_extents(&each)
    }

    /// The open height and width of an image with channels first.
    pub(super) fn open_size(&self) -> Option<[&Dim; 2]> {
        match self.ty.shape.dims() {
            [_, Dim::Known(1 | 3), height @ Dim::Open(_), width @ Dim::Open(_)] => Some([height, width]),
            _ => None,
        }
    }

    pub(super) fn dims(&self) -> Vec<usize> {
        self.ty.shape.dims().iter().filter_map(Dim::known).collect()
    }
}

/// Inputs whose open extents are `own`, or typical ones.
pub(super) fn bound(inputs: &[Input], typical: &Symbols, own: &Symbols) -> Result<Vec<Input>, DataError> {
    let mut symbols = typical.clone();
    symbols.extend(own.iter().map(|(name, n)| (name.clone(), *n)));
    inputs.iter().map(|input| input.clone().bound(&symbols)).collect()
}

/// The image dimensions of an input, and whether it has channels last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels_last: bool,
}

impl Image {
    pub(super) fn of(input: &Input) -> Result<Self, DataError> {
        let is_channels = |c: usize| c == 1 || c == 3;
        match *input.dims().as_slice() {
            [batch, channels, height, width] if is_channels(channels) && batch > 0 => {
                Ok(Image { batch, channels, height, width, channels_last: false })
            }
            [batch, height, width, channels] if is_channels(channels) && batch > 0 => {
                Ok(Image { batch, channels, height, width, channels_last: true })
            }
            _ => Err(DataError::Inputs(format!(
                "pictures cannot feed input {}, which is {}: neither [N,C,H,W] nor [N,H,W,C] with 1 or 3 channels",
                input.name, input.ty
            ))),
        }
    }
}

/// A tensor of type `ty` that holds `values`; they must be whole numbers if `ty` is an integer type.
pub(super) fn from_floats(name: &str, ty: &TensorType, values: Vec<f32>) -> Result<Tensor, DataError> {
    let shape = ty.shape.clone();
    Ok(match ty.elem {
        Elem::F32 => Tensor::from_vec(shape, values),
        Elem::F16 => Tensor::from_vec(shape, values.into_iter().map(half::f16::from_f32).collect()),
        Elem::Bool => Tensor::from_bools(shape, values.into_iter().map(|v| v != 0.0)),
        Elem::I8 => Tensor::from_vec(shape, values.into_iter().map(|v| v as i8).collect()),
        Elem::U8 => Tensor::from_vec(shape, values.into_iter().map(|v| v as u8).collect()),
        Elem::I16 => Tensor::from_vec(shape, values.into_iter().map(|v| v as i16).collect()),
        Elem::I32 => Tensor::from_vec(shape, values.into_iter().map(|v| v as i32).collect()),
        Elem::I64 => Tensor::from_vec(shape, values.into_iter().map(|v| v as i64).collect()),
        Elem::Quantized(_) => {
            return Err(DataError::Inputs(format!(
                "input {name} is {ty}: data can only feed float and integer inputs"
            )));
        }
    })
}
