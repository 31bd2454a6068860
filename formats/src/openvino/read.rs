//! Reading of the XML file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use roxmltree::{Document, Node as Xml};
use rustc_hash::FxHashMap;

use super::{Element, Info, Port, Tensor, VERSION};
pub use nested::{Link, Nested, Slices};

mod nested;

/// Maximum nesting depth of groups of `rt_info`, and of networks in layers.
pub const MOST_DEPTH: usize = 32;

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// The file is not XML. Document type declarations are refused: with them, entities could expand without limit.
    #[error("it is not valid OpenVINO IR XML: {0}")]
    Xml(String),
    /// The file is other XML.
    #[error("it is not OpenVINO IR: its root element is {0}; expected net")]
    Root(String),
    /// The format has another version.
    #[error("OpenVINO IR of version {0} is not supported; {VERSION} is")]
    Version(String),
    /// A required attribute or element is missing.
    #[error("{place} has no {what}")]
    Missing {
        /// Where.
        place: String,
        /// What.
        what: String,
    },
    /// An invalid value.
    #[error("{what} of {place} is \"{found}\"; expected {expected}")]
    Value {
        /// Where.
        place: String,
        /// What.
        what: &'static str,
        /// The value.
        found: String,
        /// What is expected.
        expected: &'static str,
    },
    /// An unknown element type.
    #[error("{place} has elements of type {found}, which are not supported")]
    Element {
        /// Where.
        place: String,
        /// The name of the element type.
        found: String,
    },
    /// A value that must be unique is not.
    #[error("{place} has {what} {found} twice")]
    Twice {
        /// Where.
        place: String,
        /// What.
        what: &'static str,
        /// The value.
        found: String,
    },
    /// An end of an edge does not exist.
    #[error("an edge refers to {layer}:{port}, which is not an {what} of a layer")]
    Edge {
        /// Id of the layer.
        layer: String,
        /// Id of the port.
        port: String,
        /// `input` or `output`.
        what: &'static str,
    },
    /// Layers depend on each other in a cycle.
    #[error("layer {0} depends on its own result")]
    Cycle(String),
    /// A connection of a network in a layer refers to something that does not exist.
    #[error("layer {layer} connects {what} {id}, which does not exist")]
    Link {
        /// Name of the layer.
        layer: String,
        /// `port` of the layer or `layer` of the network inside.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// Groups of metadata, or networks in layers, are nested too deeply.
    #[error("its metadata or networks are nested more than {MOST_DEPTH} levels deep")]
    Depth,
}

/// A network as read from a file. Inputs and outputs are in the order of their Parameter and Result layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The layers, each after those that it reads.
    pub layers: Vec<Node>,
    /// Metadata of the model.
    pub info: Vec<Info>,
}

/// A layer of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its name, which should be unique.
    pub name: String,
    /// Its operation.
    pub kind: String,
    /// The operation set.
    pub opset: String,
    /// Its attributes.
    pub data: Vec<(String, String)>,
    /// Its `rt_info`: names and values.
    pub info: Vec<(String, String)>,
    /// Its operands.
    pub inputs: Vec<Port>,
    /// Its results.
    pub outputs: Vec<Tensor>,
    /// The networks inside: the body of a loop, the branches of an If.
    pub nested: Vec<Nested>,
}

/// The position of a constant in the file of constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its element type.
    pub element: Element,
    /// Its extents.
    pub dims: Vec<usize>,
    /// Its offset in bytes.
    pub offset: usize,
    /// Its length in bytes.
    pub size: usize,
}

impl Node {
    /// An attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.data.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The position of the layer's constant; `None` where it is not a Const layer.
    ///
    /// # Errors
    /// Where its attributes are not valid for a constant, or contradict each other.
    pub fn constant(&self) -> Result<Option<Stored>, ReadError> {
        if self.kind != "Const" {
            return Ok(None);
        }
        let place = || format!("layer {}", self.name);
        let text = |what: &'static str| {
            self.attribute(what).ok_or_else(|| ReadError::Missing { place: place(), what: what.into() })
        };
        let number = |what: &'static str| {
            let text = text(what)?;
            text.parse::<usize>().map_err(|_| ReadError::Value {
                place: place(),
                what,
                found: text.into(),
                expected: "a number of bytes",
            })
        };
        let element = element(text("element_type")?, place)?;
        let shape = text("shape")?;
        let extent = |d: &str| d.trim().parse::<usize>().ok();
        let dims = shape.split(',').filter(|d| !d.trim().is_empty()).map(extent).collect::<Option<Vec<usize>>>();
        let dims = dims.ok_or_else(|| ReadError::Value {
            place: place(),
            what: "shape",
            found: shape.into(),
            expected: "extents",
        })?;
        let stored = Stored { element, dims, offset: number("offset")?, size: number("size")? };
        let bits = stored.dims.iter().try_fold(element.bits(), |n, &d| n.checked_mul(d));
        if bits.map(|bits| bits.div_ceil(8)) != Some(stored.size) {
            return Err(ReadError::Value {
                place: place(),
                what: "size",
                found: stored.size.to_string(),
                expected: "the size of its elements",
            });
        }
        Ok(Some(stored))
    }
}

impl Stored {
    /// The bytes of the constant, as a slice of the file of constants; `None` where they are outside it.
    pub fn bytes(&self, file: &Bytes) -> Option<Bytes> {
        let end = self.offset.checked_add(self.size).filter(|&end| end <= file.len())?;
        Some(file.slice(self.offset..end))
    }
}

impl Network {
    /// True where bytes may be an OpenVINO IR file: XML with the root element `net`.
    pub fn is_one(bytes: &[u8]) -> bool {
        let start = &bytes[..bytes.len().min(4096)];
        let text = String::from_utf8_lossy(start);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        text.starts_with("<?xml") || text.starts_with("<net")
    }

    /// Reads the XML file.
    ///
    /// # Errors
    /// Where the file is not OpenVINO IR, or where layers and edges do not form a network.
    pub fn read(bytes: &[u8]) -> Result<Network, ReadError> {
        let text = std::str::from_utf8(bytes).map_err(|e| ReadError::Xml(e.to_string()))?;
        let document = Document::parse(text).map_err(|e| ReadError::Xml(e.to_string()))?;
        let net = document.root_element();
        if net.tag_name().name() != "net" {
            return Err(ReadError::Root(net.tag_name().name().into()));
        }
        let version = required(net, "version", || "net".into())?;
        if version != VERSION.to_string() {
            return Err(ReadError::Version(version.into()));
        }
        let (layers, _) = content(net, 0)?;
        let info = child(net, "rt_info").map_or(Ok(Vec::new()), |all| info(all, 0))?;
        Ok(Network { name: net.attribute("name").unwrap_or_default().into(), layers, info })
    }

    /// The tensor at a port.
    pub fn tensor(&self, port: Port) -> &Tensor {
        &self.layers[port.layer].outputs[port.result]
    }

    /// The network, and all networks in its layers.
    pub fn all(&self) -> Vec<&Network> {
        let mut all = vec![self];
        let mut i = 0;
        while let Some(network) = all.get(i).copied() {
            all.extend(network.layers.iter().flat_map(|l| &l.nested).map(|nested| &nested.network));
            i += 1;
        }
        all
    }
}

/// The layers of a network, each after those that it reads, and the index of each by its id.
fn content<'x>(net: Xml<'x, 'x>, depth: usize) -> Result<(Vec<Node>, FxHashMap<&'x str, usize>), ReadError> {
    if depth > MOST_DEPTH {
        return Err(ReadError::Depth);
    }
    let (mut layers, mut ports) = (Vec::new(), Ports::default());
    for xml in children(net, "layers", "layer") {
        let mut node = layer(xml, layers.len(), &mut ports)?;
        node.nested = nested::read(xml, &node, &ports, depth + 1)?;
        layers.push(node);
    }
    connect(net, &mut layers, &ports)?;
    let (layers, place) = ordered(layers)?;
    Ok((layers, ports.layers.into_iter().map(|(id, i)| (id, place[i])).collect()))
}

/// Ports by layer id and port id: the index of the layer, and the index of the operand or result.
#[derive(Default)]
struct Ports<'x> {
    inputs: FxHashMap<(&'x str, &'x str), Port>,
    outputs: FxHashMap<(&'x str, &'x str), Port>,
    layers: FxHashMap<&'x str, usize>,
}

fn child<'x>(node: Xml<'x, 'x>, name: &str) -> Option<Xml<'x, 'x>> {
    node.children().find(|c| c.has_tag_name(name))
}

/// The XML elements of one name in all elements of another name.
fn children<'x>(node: Xml<'x, 'x>, outer: &'static str, inner: &'static str) -> impl Iterator<Item = Xml<'x, 'x>> {
    let outer = node.children().filter(move |c| c.has_tag_name(outer));
    outer.flat_map(|c| c.children()).filter(move |c| c.has_tag_name(inner))
}

fn required<'x>(node: Xml<'x, 'x>, what: &str, place: impl Fn() -> String) -> Result<&'x str, ReadError> {
    node.attribute(what).ok_or_else(|| ReadError::Missing { place: place(), what: what.into() })
}

fn element(name: &str, place: impl Fn() -> String) -> Result<Element, ReadError> {
    Element::named(name).ok_or_else(|| ReadError::Element { place: place(), found: name.into() })
}

fn attributes(node: Xml<'_, '_>) -> Vec<(String, String)> {
    node.attributes().map(|a| (a.name().to_owned(), a.value().to_owned())).collect()
}

/// A layer without operands; its ports are recorded.
fn layer<'x>(xml: Xml<'x, 'x>, index: usize, ports: &mut Ports<'x>) -> Result<Node, ReadError> {
    let place = || format!("layer {}", xml.attribute("name").unwrap_or_default());
    let id = required(xml, "id", place)?;
    if ports.layers.insert(id, index).is_some() {
        return Err(ReadError::Twice { place: "the network".into(), what: "layer id", found: id.into() });
    }
    let kind = required(xml, "type", place)?;
    let name = required(xml, "name", || format!("layer {id}"))?;
    let mut node = Node {
        name: name.into(),
        kind: kind.into(),
        opset: xml.attribute("version").unwrap_or_default().into(),
        data: child(xml, "data").map(attributes).unwrap_or_default(),
        info: children(xml, "rt_info", "attribute").map(noted).collect(),
        ..Node::default()
    };
    let twice = |port: &str| ReadError::Twice { place: place(), what: "port", found: port.into() };
    for port in children(xml, "input", "port") {
        let operand = Port { layer: index, result: node.inputs.len() };
        let own = required(port, "id", place)?;
        if ports.inputs.insert((id, own), operand).is_some() {
            return Err(twice(own));
        }
        // A placeholder until the edges are read.
        node.inputs.push(UNCONNECTED);
    }
    for port in children(xml, "output", "port") {
        let result = Port { layer: index, result: node.outputs.len() };
        let own = required(port, "id", place)?;
        if ports.outputs.insert((id, own), result).is_some() {
            return Err(twice(own));
        }
        node.outputs.push(tensor(port, place)?);
    }
    Ok(node)
}

const UNCONNECTED: Port = Port { layer: usize::MAX, result: usize::MAX };

/// An attribute of `rt_info`: its name and all its values.
fn noted(xml: Xml<'_, '_>) -> (String, String) {
    let said = xml.attributes().filter(|a| !matches!(a.name(), "name" | "version"));
    let said: Vec<&str> = said.map(|a| a.value()).collect();
    (xml.attribute("name").unwrap_or_default().into(), said.join(" "))
}

fn tensor(port: Xml<'_, '_>, place: impl Fn() -> String) -> Result<Tensor, ReadError> {
    let element = element(required(port, "precision", &place)?, &place)?;
    let extent = |dim: Xml<'_, '_>| {
        let text = dim.text().unwrap_or_default().trim();
        match text.parse::<i64>() {
            Ok(-1) => Ok(None),
            Ok(n) if n >= 0 => Ok(Some(n as usize)),
            _ if text.contains("..") || text == "?" => Ok(None),
            _ => Err(ReadError::Value {
                place: place(),
                what: "an extent",
                found: text.into(),
                expected: "a number of elements",
            }),
        }
    };
    let dims = port.children().filter(|c| c.has_tag_name("dim")).map(extent).collect::<Result<_, _>>()?;
    Ok(Tensor { element, dims, names: names(port.attribute("names").unwrap_or_default()) })
}

/// Names that are separated by commas; commas within a name are escaped.
fn names(text: &str) -> Vec<String> {
    let (mut names, mut name, mut chars) = (Vec::new(), String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&',') => name.extend(chars.next()),
            ',' => names.push(std::mem::take(&mut name)),
            c => name.push(c),
        }
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}

/// Reads the edges into the layers' operands.
fn connect(net: Xml<'_, '_>, layers: &mut [Node], ports: &Ports<'_>) -> Result<(), ReadError> {
    for edge in children(net, "edges", "edge") {
        let end = |layer: &str, port: &str, all: &FxHashMap<(&str, &str), Port>, what| {
            let key = (required(edge, layer, || "an edge".into())?, required(edge, port, || "an edge".into())?);
            all.get(&key).copied().ok_or_else(|| ReadError::Edge { layer: key.0.into(), port: key.1.into(), what })
        };
        let from = end("from-layer", "from-port", &ports.outputs, "output")?;
        let to = end("to-layer", "to-port", &ports.inputs, "input")?;
        let layer = &mut layers[to.layer];
        if layer.inputs[to.result] != UNCONNECTED {
            let (place, found) = (format!("layer {}", layer.name), to.result.to_string());
            return Err(ReadError::Twice { place, what: "an edge to input", found });
        }
        layer.inputs[to.result] = from;
    }
    let open = layers.iter().find_map(|l| Some((l, l.inputs.iter().position(|p| *p == UNCONNECTED)?)));
    match open {
        Some((layer, i)) => {
            Err(ReadError::Missing { place: format!("layer {}", layer.name), what: format!("edge to input {i}") })
        }
        None => Ok(()),
    }
}

/// The layers, each after those that it reads, otherwise in the order of the file; and the new index of each.
fn ordered(layers: Vec<Node>) -> Result<(Vec<Node>, Vec<usize>), ReadError> {
    let mut waits: Vec<usize> = layers.iter().map(|l| l.inputs.len()).collect();
    let mut readers = vec![Vec::new(); layers.len()];
    for (i, layer) in layers.iter().enumerate() {
        layer.inputs.iter().for_each(|port| readers[port.layer].push(i));
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..layers.len()).filter(|&i| waits[i] == 0).map(Reverse).collect();
    let (mut place, mut order) = (vec![usize::MAX; layers.len()], Vec::with_capacity(layers.len()));
    while let Some(Reverse(i)) = ready.pop() {
        place[i] = order.len();
        order.push(i);
        for &reader in &readers[i] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    if let Some(i) = place.iter().position(|&p| p == usize::MAX) {
        return Err(ReadError::Cycle(layers[i].name.clone()));
    }
    let mut layers: Vec<Option<Node>> = layers.into_iter().map(Some).collect();
    let mut moved: Vec<Node> = order.into_iter().filter_map(|i| layers[i].take()).collect();
    for port in moved.iter_mut().flat_map(|l| &mut l.inputs) {
        port.layer = place[port.layer];
    }
    Ok((moved, place))
}

fn info(xml: Xml<'_, '_>, depth: usize) -> Result<Vec<Info>, ReadError> {
    if depth > MOST_DEPTH {
        return Err(ReadError::Depth);
    }
    let entry = |c: Xml<'_, '_>| {
        let key = c.tag_name().name().to_owned();
        match c.attribute("value") {
            Some(value) => Ok(Info::Value(key, value.into())),
            None => Ok(Info::Group(key, info(c, depth + 1)?)),
        }
    };
    xml.children().filter(Xml::is_element).map(entry).collect()
}

#[cfg(test)]
mod tests;
