//! Dequantized integers: `(Convert(x) - zero point) * scale`, with an optional Reshape before the scale.

use bytes::Bytes;
use qcc_formats::openvino::{Element, Network, Node, Port};
use qcc_ir::{Elem, QuantParams, Shape, StorageType, Tensor, TensorType};
use rustc_hash::{FxHashMap, FxHashSet};

use super::types;
use super::types::READ_VALUE;
use crate::build::blocks::Signed;
use crate::elements::Stored;
use crate::refusal::Refusal;

/// A dequantized value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integers {
    /// The source of the integers.
    pub(super) source: Port,
    zero: Option<Port>,
    scale: Port,
}

impl Integers {
    /// The sources of the optional zero points and of the scales: constants, before they are converted.
    pub(super) fn factors(self) -> [Option<Port>; 2] {
        [self.zero, Some(self.scale)]
    }
}

/// All dequantized values of a network.
#[derive(Debug, Default)]
pub(super) struct Scaled {
    /// By the layer of the Multiply.
    products: FxHashMap<usize, Integers>,
    /// Inputs of the model that are only used by such a Multiply, with its layer.
    inputs: FxHashMap<Port, usize>,
    /// Intermediate layers whose results are only used by such patterns.
    inside: FxHashSet<usize>,
    /// Those of the networks in each layer that has some.
    nested: FxHashMap<usize, Vec<Scaled>>,
}

impl Scaled {
    /// Those of a network, and of the networks in its layers, whose inputs are values of the graph.
    pub(super) fn find(network: &Network) -> Scaled {
        Scaled::within(network, true)
    }

    fn within(network: &Network, is_model: bool) -> Scaled {
        let mut readers: FxHashMap<Port, usize> = FxHashMap::default();
        network.layers.iter().flat_map(|l| &l.inputs).for_each(|&port| *readers.entry(port).or_default() += 1);
        let alone = |port: &Port| readers.get(port) == Some(&1);
        let mut all = Scaled::default();
        for (i, layer) in network.layers.iter().enumerate() {
            let Some((integers, way)) = product(network, layer) else { continue };
            let is_input = matches!(network.layers[integers.source.layer].kind.as_str(), "Parameter" | READ_VALUE);
            if is_input && (!is_model || !alone(&integers.source) || !way.iter().all(alone)) {
                continue;
            }
            // Intermediate layers, beginning at the Multiply, up to the first with other consumers.
            all.inside.extend(way.iter().take_while(|port| alone(port)).map(|port| port.layer));
            if is_input {
                all.inputs.insert(integers.source, i);
            }
            all.products.insert(i, integers);
        }
        for (i, layer) in network.layers.iter().enumerate().filter(|(_, l)| !l.nested.is_empty()) {
            let nested = layer.nested.iter().map(|nested| Scaled::within(&nested.network, false));
            all.nested.insert(i, nested.collect());
        }
        all
    }

    /// Those of the networks in a layer.
    pub(super) fn nested(&self, layer: usize) -> &[Scaled] {
        self.nested.get(&layer).map_or(&[], Vec::as_slice)
    }

    /// The dequantized value of a Multiply layer.
    pub(super) fn at(&self, layer: usize) -> Option<Integers> {
        self.products.get(&layer).copied()
    }

    /// True for an intermediate layer that only such patterns need.
    pub(super) fn is_inside(&self, layer: usize) -> bool {
        self.inside.contains(&layer)
    }

    /// The quantization parameters of an integer input.
    pub(super) fn qparams_of_input(&self, network: &Network, weights: &Bytes, input: Port) -> Option<QuantParams> {
        let integers = self.at(*self.inputs.get(&input)?)?;
        let tensor = network.tensor(input);
        let storage = match types::stored(tensor.element).ok()? {
            Stored::U8 => StorageType::U8,
            Stored::I8 => StorageType::I8,
            Stored::I16 => StorageType::I16,
            _ => return None,
        };
        let dims: Vec<usize> = tensor.dims.iter().map(|d| d.unwrap_or(0)).collect();
        Scheme::read(network, weights, integers).ok()?.qparams(storage, &dims)
    }
}

/// The dequantization pattern that ends in a Multiply, and the intermediate ports, beginning at the Multiply.
fn product(network: &Network, layer: &Node) -> Option<(Integers, Vec<Port>)> {
    if layer.kind != "Multiply" || !constant(network, *layer.inputs.get(1)?) {
        return None;
    }
    let (mut port, mut zero, mut way) = (layer.inputs[0], None, Vec::new());
    let at = |port: Port| &network.layers[port.layer];
    if at(port).kind == "Subtract" && at(port).inputs.len() == 2 {
        way.push(port);
        zero = Some(at(port).inputs[1]);
        port = at(port).inputs[0];
    }
    let reshaped = at(port).kind == "Reshape" && at(port).inputs.len() == 2;
    if reshaped {
        way.push(port);
        port = at(port).inputs[0];
    }
    let source = *at(port).inputs.first().filter(|_| at(port).kind == "Convert")?;
    if !matches!(network.tensor(port).element, Element::F32 | Element::F16) {
        return None;
    }
    way.push(port);
    let stored = types::stored(network.tensor(source).element).ok()?;
    let known = at(source).kind == "Const";
    let integers = match stored {
        Stored::I8 | Stored::U8 | Stored::I16 => known || !reshaped,
        Stored::I4 | Stored::U4 | Stored::U2 => known,
        _ => false,
    };
    let zero_known = zero.is_none_or(|zero| constant(network, zero));
    (integers && zero_known).then_some((Integers { source, zero, scale: layer.inputs[1] }, way))
}

/// The Const behind an optional Convert.
fn source(network: &Network, port: Port) -> Port {
    let layer = &network.layers[port.layer];
    if layer.kind == "Convert" { layer.inputs.first().copied().unwrap_or(port) } else { port }
}

fn constant(network: &Network, port: Port) -> bool {
    network.layers[source(network, port).layer].kind == "Const"
}

/// Scales and zero points.
pub(super) struct Scheme {
    scales: Vec<f32>,
    /// Shape of the scales.
    dims: Vec<usize>,
    /// One, or one per scale.
    zeros: Vec<f32>,
}

impl Scheme {
    pub(super) fn read(network: &Network, weights: &Bytes, integers: Integers) -> Result<Scheme, Refusal> {
        let read = |port: Port| types::tensor(&network.layers[source(network, port).layer], weights);
        let scale = read(integers.scale)?;
        let zeros = integers.zero.map_or(Ok(vec![0.0]), |zero| Ok::<_, Refusal>(read(zero)?.floats().into_owned()))?;
        Ok(Scheme { scales: scale.floats().into_owned(), dims: scale.dims(), zeros })
    }

    /// The zero point, if it is the same for all scales.
    fn zero(&self) -> Option<i32> {
        let first = *self.zeros.first()?;
        let same = first.fract() == 0.0 && self.zeros.iter().all(|&z| z == first);
        same.then_some(first as i32)
    }

    /// The axes along which scales vary, for values of these extents: an adjacent range.
    fn axes(&self, dims: &[usize]) -> Option<std::ops::Range<usize>> {
        let behind = dims.len().checked_sub(self.dims.len())?;
        let wide: Vec<usize> = (0..self.dims.len()).filter(|&a| self.dims[a] != 1).collect();
        let (Some(first), Some(last)) = (wide.first(), wide.last()) else { return Some(0..0) };
        let whole = (*first..=*last).all(|a| self.dims[a] == dims[behind + a]);
        whole.then_some(behind + first..behind + last + 1)
    }

    /// The quantization parameters for integers of this type, if these scales and zero points are representable.
    pub(super) fn qparams(&self, storage: StorageType, dims: &[usize]) -> Option<QuantParams> {
        let axes = self.axes(dims)?;
        match (self.scales.as_slice(), self.zero()?) {
            (&[scale], zero) => Some(QuantParams::per_tensor(storage, scale, zero)),
            (scales, 0) if axes.len() == 1 => Some(QuantParams::per_axis(storage, axes.start, scales)),
            _ => None,
        }
    }

    /// A quantized constant of these extents, whose shape has the axes of the scales merged into one; `None` if the
    /// scales are not representable.
    pub(super) fn constant(&self, integers: &Tensor, dims: &[usize]) -> Option<Tensor> {
        let axes = self.axes(dims)?;
        let values = integers.integers()?;
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if values.len() != count || self.scales.is_empty() || count == 0 {
            return None;
        }
        if self.scales.len() == 1
            && let Some(zero) = self.zero()
            && let Some(storage) =
                [(Elem::I8, StorageType::I8), (Elem::U8, StorageType::U8), (Elem::I16, StorageType::I16)]
                    .into_iter()
                    .find_map(|(elem, storage)| (elem == integers.ty().elem).then_some(storage))
        {
            let ty = TensorType::new(
                Elem::Quantized(QuantParams::per_tensor(storage, self.scales[0], zero)),
                Shape::known(dims),
            );
            return ty.validate().ok().and_then(|()| integers.retype(ty));
        }
        // The differences to the zero points are signed integers with zero point 0.
        let inner: usize = dims[axes.end..].iter().product();
        let scales = if self.scales.len() == 1 { 1 } else { dims[axes.clone()].iter().product() };
        let zero = |i: usize| match self.zeros.as_slice() {
            [zero] => Some(*zero),
            zeros if zeros.len() == scales => Some(zeros[i / inner % scales]),
            _ => None,
        };
        if let Some(blocks) = self.blocks(&values, &zero, dims, &axes) {
            return Some(blocks);
        }
        let centred = |(i, &q): (usize, &i64)| {
            let centred = q as f32 - zero(i)?;
            (centred.fract() == 0.0 && (-128.0..=127.0).contains(&centred)).then_some(centred as i8)
        };
        let centred = values.iter().enumerate().map(centred).collect::<Option<Vec<i8>>>()?;
        let qparams = match self.scales.as_slice() {
            &[scale] => QuantParams::per_tensor(StorageType::I8, scale, 0),
            scales => QuantParams::per_axis(StorageType::I8, axes.start, scales),
        };
        let merged: Vec<usize> = match axes.is_empty() {
            true => dims.to_vec(),
            false => [&dims[..axes.start], &[scales], &dims[axes.end..]].concat(),
        };
        let ty = TensorType::new(Elem::Quantized(qparams), Shape::known(&merged));
        ty.validate().ok().map(|()| Tensor::of(ty, centred))
    }

    /// A blockwise quantized matrix: the last axis of the scales is the blocks, which are merged with the axis after
    /// it.
    fn blocks(
        &self,
        values: &[i64],
        zero: &dyn Fn(usize) -> Option<f32>,
        dims: &[usize],
        axes: &std::ops::Range<usize>,
    ) -> Option<Tensor> {
        let &[rows, runs, size] = dims else { return None };
        if *axes != (0..2) || self.scales.len() != rows * runs || size < 2 || zero(0).is_none() {
            return None;
        }
        let zero = |block: usize| zero(block * size).unwrap_or_default();
        let signed = Signed::new(values.len(), rows * runs, &|i| values[i] as f32, &|i| i / size, &zero)?;
        let scales = self.scales.as_slice();
        let qparams = match signed.zero_points {
            Some(zeros) => QuantParams::per_block_with_zero_points(signed.storage, 1, size, scales, zeros),
            None => QuantParams::per_block(signed.storage, 1, size, scales),
        };
        let ty = TensorType::new(Elem::Quantized(qparams), Shape::known(&[rows, runs * size]));
        ty.validate().ok().map(|()| Tensor::of(ty, signed.integers))
    }
}
