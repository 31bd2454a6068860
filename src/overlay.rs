//! The SQNR of layers as node data for Google's Model Explorer, which shows it on the graph of the artefact.
//!
//! <https://github.com/google-ai-edge/model-explorer/wiki/2.-User-Guide#custom-node-data>: results are keyed by the
//! name of any output tensor of a node.

use serde_json::{Value, json};

use crate::outcome::Artefact;

/// The node data of an artefact whose format names tensors.
pub(crate) fn overlay(artefact: &Artefact) -> Value {
    let results = artefact.nodes.iter().filter_map(|n| n.sqnr.filter(|s| s.is_finite()).map(|sqnr| (n, sqnr)));
    let results =
        results.flat_map(|(n, sqnr)| n.results.iter().map(move |name| (name.clone(), json!({ "value": sqnr }))));
    json!({
        "results": results.collect::<serde_json::Map<String, Value>>(),
        "name": "SQNR in dB",
        "thresholds": [
            { "value": 10.0, "bgColor": "#d73027", "textColor": "white" },
            { "value": 15.0, "bgColor": "#fc8d59" },
            { "value": 20.0, "bgColor": "#fee08b" },
            { "value": 30.0, "bgColor": "#d9ef8b" },
            { "value": 1000.0, "bgColor": "#91cf60" },
        ],
    })
}
