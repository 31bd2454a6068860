//! Networks in layers, and how these are connected to them.

use roxmltree::Node as Xml;
use rustc_hash::FxHashMap;

use super::{Network, Node, Ports, ReadError, child, children, content, required};

/// A network in a layer of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nested {
    /// `then` or `else` for a branch, empty for the body of a loop.
    pub role: String,
    /// The network.
    pub network: Network,
    /// From operands of the layer to Parameter layers of the network.
    pub inputs: Vec<Link>,
    /// From Result layers of the network to results of the layer.
    pub outputs: Vec<Link>,
    /// From Result layers to the Parameter layers that have their values in the next iteration.
    pub back_edges: Vec<(usize, usize)>,
}

/// A connection of a layer with a layer of the network inside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Index of the operand or result; `None` for what the operation itself gives or takes.
    pub outside: Option<usize>,
    /// Index of the Parameter or Result layer.
    pub inside: usize,
    /// What the operation gives or takes.
    pub purpose: Option<String>,
    /// Where each iteration has a slice: which ones.
    pub slices: Option<Slices>,
}

/// Slices of an axis, one for each iteration. Negative positions count from the end, -1 is the end itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    /// The axis.
    pub axis: i64,
    /// Where the first slice begins; ends, where the stride is negative.
    pub start: i64,
    /// Where the last slice ends; begins, where the stride is negative.
    pub end: i64,
    /// The distance of slices.
    pub stride: i64,
    /// The extent of a slice.
    pub part: i64,
}

/// The networks in a layer.
pub(super) fn read<'x>(
    xml: Xml<'x, 'x>,
    node: &Node,
    ports: &Ports<'x>,
    depth: usize,
) -> Result<Vec<Nested>, ReadError> {
    let role = |c: Xml<'x, 'x>| Some((c, c.tag_name().name().strip_suffix("body")?));
    let bodies = xml.children().filter(Xml::is_element).filter_map(role);
    let one = |(body, prefix): (Xml<'x, 'x>, &str)| {
        let (layers, inner) = content(body, depth)?;
        let place = || format!("layer {}", node.name);
        let map = format!("{prefix}port_map");
        let map = child(xml, &map).ok_or_else(|| ReadError::Missing { place: place(), what: map })?;
        let links = |tag: &str, outer: &FxHashMap<(&str, &str), super::Port>| {
            let id = required(xml, "id", place)?;
            let port = |port: &str| outer.get(&(id, port)).map(|port| port.result);
            let connections = map.children().filter(|c| c.has_tag_name(tag));
            connections.map(|c| link(c, &node.name, port, &inner)).collect::<Result<Vec<_>, _>>()
        };
        let edge = |c: Xml<'x, 'x>| {
            let end = |what: &str| layer_inside(required(c, what, place)?, &node.name, &inner);
            Ok((end("from-layer")?, end("to-layer")?))
        };
        Ok(Nested {
            role: prefix.trim_end_matches('_').into(),
            inputs: links("input", &ports.inputs)?,
            outputs: links("output", &ports.outputs)?,
            back_edges: children(xml, "back_edges", "edge").map(edge).collect::<Result<_, _>>()?,
            network: Network { layers, ..Network::default() },
        })
    };
    bodies.map(one).collect()
}

fn layer_inside(id: &str, layer: &str, inner: &FxHashMap<&str, usize>) -> Result<usize, ReadError> {
    let missing = || ReadError::Link { layer: layer.into(), what: "layer", id: id.into() };
    inner.get(id).copied().ok_or_else(missing)
}

fn link(
    xml: Xml<'_, '_>,
    layer: &str,
    port: impl Fn(&str) -> Option<usize>,
    inner: &FxHashMap<&str, usize>,
) -> Result<Link, ReadError> {
    let place = || format!("layer {layer}");
    let number = |what: &'static str| match xml.attribute(what) {
        None => Ok(None),
        Some(text) => text.parse::<i64>().map(Some).map_err(|_| ReadError::Value {
            place: place(),
            what,
            found: text.into(),
            expected: "an integer",
        }),
    };
    let outside = match required(xml, "external_port_id", place)? {
        "-1" => None,
        id => Some(port(id).ok_or_else(|| ReadError::Link { layer: layer.into(), what: "port", id: id.into() })?),
    };
    let slices = match number("axis")? {
        None => None,
        Some(axis) => Some(Slices {
            axis,
            start: number("start")?.unwrap_or(0),
            end: number("end")?.unwrap_or(-1),
            stride: number("stride")?.unwrap_or(1),
            part: number("part_size")?.unwrap_or(1),
        }),
    };
    Ok(Link {
        outside,
        inside: layer_inside(required(xml, "internal_layer_id", place)?, layer, inner)?,
        purpose: xml.attribute("purpose").map(Into::into),
        slices,
    })
}
