//! Inputs of a graph, as data sources see them.

use qcc_ir::{Dim, Elem, Shape, Tensor, TensorType};

use super::DataError;

/// A graph input: its name and its type, with an open leading extent taken as 1.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) ty: TensorType,
}

impl Input {
    pub(super) fn of(name: &str, ty: &TensorType) -> Result<Self, DataError> {
        let first_open = |(i, d): (usize, &Dim)| match d {
            Dim::Sym(_) if i == 0 => Dim::Known(1),
            d => d.clone(),
        };
        let shape: Shape = ty.shape.dims().iter().enumerate().map(first_open).collect();
        if shape.elements().is_none() {
            return Err(DataError::Inputs(format!("input {name} is {ty}: its extents must be numbers to be fed")));
        }
        Ok(Input { name: name.into(), ty: TensorType::new(ty.elem.clone(), shape) })
    }

    pub(super) fn dims(&self) -> Vec<usize> {
        self.ty.shape.dims().iter().filter_map(Dim::known).collect()
    }
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
pub(super) fn from_reals(name: &str, ty: &TensorType, values: Vec<f32>) -> Result<Tensor, DataError> {
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
