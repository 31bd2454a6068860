//! Disassembly of OpenVINO IR.

use bytes::Bytes;
use qcc_formats::openvino::{Info, Nested, Network, Node, Port, Slices, Tensor as Described};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::disassembly::{
    Beside, Constant, Disassembly, Entry, Extent, Listing, Named, Operator, Quantization, Tensor, Unreadable, numbers,
};

/// The layers of a file: attributes, types, constants. `weights` is the name of the file of constants, which `beside`
/// reads.
///
/// # Errors
/// If it is not OpenVINO IR, or the bytes of a constant are not available.
pub fn disassemble(xml: &[u8], weights: &str, beside: Beside<'_>) -> Result<Disassembly, Unreadable> {
    let network = Network::read(xml).map_err(|e| Unreadable::Invalid(e.to_string()))?;
    let mut all = Disassembly::new("openvino");
    all.header.push(Entry::new("version", qcc_formats::openvino::VERSION.to_string()));
    network.info.iter().for_each(|info| flatten("", info, &mut all.metadata));
    let mut reader = Reader { weights, beside, file: None, graphs: Vec::new() };
    reader.network(network.name.clone(), &network)?;
    all.graphs = reader.graphs;
    Ok(all)
}

/// Reads networks: those in layers after the one of the layer.
struct Reader<'b> {
    weights: &'b str,
    beside: Beside<'b>,
    /// The file of constants, once it was needed.
    file: Option<Bytes>,
    graphs: Vec<Listing>,
}

impl Reader<'_> {
    fn network(&mut self, name: String, network: &Network) -> Result<(), Unreadable> {
        let constants = self.constants(network)?;
        let (ids, scales) = (ids(network), quantizations(network, &constants));
        let place = self.graphs.len();
        self.graphs.push(Listing::default());
        let mut listing = Listing { name, ..Listing::default() };
        for (i, layer) in network.layers.iter().enumerate() {
            let own = Port { layer: i, result: 0 };
            match layer.kind.as_str() {
                "Parameter" if !layer.outputs.is_empty() => listing.inputs.push(named(network, own, &ids)),
                "Result" => {
                    listing.outputs.extend(layer.inputs.iter().map(|&port| named(network, port, &ids)));
                    continue;
                }
                "Const" => {}
                _ => {
                    let mut operator = operator(layer, i, &ids);
                    for nested in &layer.nested {
                        let name = [&listing.name, &layer.name, &nested.role].map(String::as_str);
                        let name = name.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
                        operator.attributes.extend(connections(nested, &name));
                        self.network(name, &nested.network)?;
                    }
                    listing.operators.push(operator);
                }
            }
            for (result, described) in layer.outputs.iter().enumerate() {
                let port = Port { layer: i, result };
                let mut tensor = tensor(described, ids[&port].clone());
                tensor.constant = constants.get(&i).map(|(element, bytes)| Constant::new(element, bytes));
                tensor.quantization = scales.get(&port).cloned();
                listing.tensors.push(tensor);
            }
        }
        self.graphs[place] = listing;
        Ok(())
    }

    fn constants(&mut self, network: &Network) -> Result<Constants, Unreadable> {
        let mut constants = Constants::default();
        for (i, layer) in network.layers.iter().enumerate() {
            let Some(stored) = layer.constant().map_err(|e| Unreadable::Invalid(e.to_string()))? else { continue };
            let missing = |why: String| Unreadable::Missing { constant: layer.name.clone(), why };
            let file = match &self.file {
                Some(file) => file,
                // Empty constants need no file.
                None if stored.size == 0 => &Bytes::new(),
                None => self.file.insert((self.beside)(self.weights).map_err(missing)?),
            };
            let beyond = || {
                let (size, offset, end) = (stored.size, stored.offset, file.len());
                missing(format!("{size} bytes at {offset} lie beyond the end of {} ({end} bytes)", self.weights))
            };
            constants.insert(i, (stored.element.name(), stored.bytes(file).ok_or_else(beyond)?));
        }
        Ok(constants)
    }
}

/// Element type and bytes of each Const, by layer.
type Constants = FxHashMap<usize, (&'static str, Bytes)>;

/// What a layer does with a network inside: its name, and for each connection the operand or result and the layer inside.
fn connections(nested: &Nested, graph: &str) -> Vec<Entry> {
    let prefix = if nested.role.is_empty() { String::new() } else { format!("{} ", nested.role) };
    let name = |layer: usize| nested.network.layers[layer].name.as_str();
    let mut entries = vec![Entry::new(format!("{prefix}body"), format!("graph {graph}"))];
    for (what, links) in [("input", &nested.inputs), ("output", &nested.outputs)] {
        for link in links {
            let outside = link.outside.map_or_else(|| link.purpose.clone().unwrap_or_default(), |i| i.to_string());
            let mut value = name(link.inside).to_owned();
            if let Some(Slices { axis, start, end, stride, part }) = link.slices {
                value += &format!(" axis={axis} start={start} end={end} stride={stride} part_size={part}");
            }
            entries.push(Entry::new(format!("{prefix}{what} {outside}"), value));
        }
    }
    let edges = nested.back_edges.iter();
    entries.extend(edges.map(|&(from, to)| Entry::new("back edge", format!("{} to {}", name(from), name(to)))));
    entries
}

/// The ids of tensors: the layers' names, with a number if a layer has several results or a name is not unique.
fn ids(network: &Network) -> FxHashMap<Port, String> {
    let mut taken = FxHashSet::default();
    let mut ids = FxHashMap::default();
    for (layer, node) in network.layers.iter().enumerate() {
        for result in 0..node.outputs.len() {
            let own = if result == 0 { node.name.clone() } else { format!("{}:{result}", node.name) };
            let id = if taken.contains(&own) { format!("{own}#{layer}") } else { own };
            taken.insert(id.clone());
            ids.insert(Port { layer, result }, id);
        }
    }
    ids
}

fn named(network: &Network, port: Port, ids: &FxHashMap<Port, String>) -> Named {
    let tensor = ids[&port].clone();
    let name = network.tensor(port).names.first().cloned().unwrap_or_else(|| tensor.clone());
    Named { name, tensor }
}

fn tensor(described: &Described, id: String) -> Tensor {
    let extent = |d: &Option<usize>| d.map_or(Extent::Open("?".into()), |n| Extent::Known(n as u64));
    Tensor {
        name: Some(described.names.join(",")).filter(|names| !names.is_empty() && *names != id),
        id,
        element: described.element.name().into(),
        shape: Some(described.dims.iter().map(extent).collect()),
        ..Tensor::default()
    }
}

fn operator(layer: &Node, index: usize, ids: &FxHashMap<Port, String>) -> Operator {
    let data = layer.data.iter().map(|(name, value)| Entry::new(name, value));
    let info = layer.info.iter().map(|(name, value)| Entry::new(format!("rt_info {name}"), value));
    Operator {
        name: Some(layer.name.clone()),
        kind: format!("{}.{}", layer.kind, layer.opset),
        inputs: layer.inputs.iter().map(|port| ids.get(port).cloned()).collect(),
        outputs: (0..layer.outputs.len()).map(|result| ids.get(&Port { layer: index, result }).cloned()).collect(),
        attributes: data.chain(info).collect(),
    }
}

fn flatten(path: &str, info: &Info, out: &mut Vec<Entry>) {
    let full = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
    match info {
        Info::Value(key, value) => out.push(Entry::new(full(key), value)),
        Info::Group(key, all) => all.iter().for_each(|info| flatten(&full(key), info, out)),
    }
}

/// Quantization parameters of tensors: results of FakeQuantize, and integer constants that are converted and multiplied
/// by scales.
fn quantizations(network: &Network, constants: &Constants) -> FxHashMap<Port, Quantization> {
    let reals = |port: Port| {
        let port = widened(network, port);
        constants.get(&port.layer).and_then(|(element, bytes)| numbers(element, bytes))
    };
    let mut all = FxHashMap::default();
    for (i, layer) in network.layers.iter().enumerate() {
        match (layer.kind.as_str(), layer.inputs.as_slice()) {
            ("FakeQuantize", &[_, lo, hi, ..]) if !layer.outputs.is_empty() => {
                let levels = layer.attribute("levels").and_then(|n| n.parse::<u32>().ok());
                let (Some(levels), Some(los), Some(his)) = (levels.filter(|&n| n > 1), reals(lo), reals(hi)) else {
                    continue;
                };
                let scales: Vec<f64> = los.iter().zip(&his).map(|(lo, hi)| (hi - lo) / f64::from(levels - 1)).collect();
                let zeros = los.iter().zip(&scales).map(|(lo, scale)| (-lo / scale).round() as i64).collect();
                let found = quantization(scales, zeros, &network.tensor(lo).dims, Some(levels));
                all.insert(Port { layer: i, result: 0 }, found);
            }
            ("Multiply", &[a, b]) => {
                let Some((stored, zeros)) = integers(network, a, &reals) else { continue };
                let Some(scales) = reals(b) else { continue };
                let zeros = zeros.into_iter().map(|z| z as i64).collect();
                let mut found = quantization(scales, zeros, &network.tensor(b).dims, None);
                // If the shape was changed, the axis does not apply to the constant.
                found.axis = found.axis.filter(|_| network.tensor(stored).dims.len() == network.tensor(a).dims.len());
                all.insert(stored, found);
            }
            _ => {}
        }
    }
    all
}

/// The integer constant behind a factor of a Multiply, possibly reshaped, and its zero points.
fn integers(network: &Network, port: Port, reals: &impl Fn(Port) -> Option<Vec<f64>>) -> Option<(Port, Vec<f64>)> {
    let at = |port: Port| &network.layers[port.layer];
    let (mut port, zeros) = match (at(port).kind.as_str(), at(port).inputs.as_slice()) {
        ("Subtract", &[x, zero]) => (x, reals(zero)?),
        _ => (port, Vec::new()),
    };
    if let ("Reshape", &[x, _]) = (at(port).kind.as_str(), at(port).inputs.as_slice()) {
        port = x;
    }
    let stored = widened(network, port);
    let element = network.tensor(stored).element.name();
    let integers = at(stored).kind == "Const" && (element.starts_with('i') || element.starts_with('u'));
    (integers && stored != port).then_some((stored, zeros))
}

/// The operand of a Convert, or the port itself.
fn widened(network: &Network, port: Port) -> Port {
    let layer = &network.layers[port.layer];
    match layer.inputs.as_slice() {
        &[x] if layer.kind == "Convert" => x,
        _ => port,
    }
}

/// Quantization parameters. Scales have an axis if they vary along only one.
fn quantization(scales: Vec<f64>, zeros: Vec<i64>, dims: &[Option<usize>], levels: Option<u32>) -> Quantization {
    let wide: Vec<usize> = (0..dims.len()).filter(|&axis| dims[axis] != Some(1)).collect();
    let axis = match wide.as_slice() {
        &[axis] if scales.len() > 1 => Some(axis),
        _ => None,
    };
    let same = zeros.first().filter(|&first| zeros.iter().all(|z| z == first)).copied();
    Quantization {
        axis,
        block: None,
        levels,
        scales: scales.into_iter().map(|s| s as f32).collect(),
        zero_points: same.map_or(zeros, |zero| vec![zero]),
    }
}
