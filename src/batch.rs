//! Open batch extents: whether a graph that was compiled for batch 1 computes the same as the source for batch 2.

use std::collections::BTreeMap;

use qcc_frontends::{ImportOptions, Model};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::Executor;
use qcc_ir::target::Target;
use qcc_ir::{Graph, OpenExtent, Shape, Tensor};
use qcc_passes::check_meaning;
use qcc_passes::open_batch::{open_batch, static_batch};

use crate::data::Dataset;
use crate::memory;

/// Maximum difference relative to the largest magnitude of an output. It covers float operations in another order.
const CLOSE: f32 = 1e-4;

/// The source imported with batch 2, and data for it.
#[derive(Debug)]
pub(crate) struct Pair {
    source: Graph,
    inputs: Vec<Tensor>,
}

impl Pair {
    /// Imports the source again. `one` is the source imported with batch 1.
    pub(crate) fn import(
        model: &Model,
        options: &ImportOptions,
        open: &[OpenExtent],
        one: &Graph,
    ) -> Result<Pair, Box<Diagnostic>> {
        let mut options = options.clone();
        let mut axes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        open.iter().for_each(|o| axes.entry(&o.input).or_default().push(o.axis));
        for v in one.inputs() {
            let Some((name, axes)) = one.name(v).and_then(|name| axes.get_key_value(&**name)) else { continue };
            let shape: Shape = axes.iter().fold(one.ty(v).shape.clone(), |shape, &axis| shape.with(axis, 2));
            options.shapes.extend(shape.extents().map(|e| ((*name).to_owned(), e.iter().map(|&n| Some(n)).collect())));
        }
        let refused = |all: Vec<Diagnostic>| {
            let why = all.into_iter().next().map(|d| d.message).unwrap_or_default();
            Box::new(static_batch(format!("with 2 it cannot be imported: {why}")))
        };
        let source = model.import(&options).map_err(refused)?.graph;
        // One evaluation of the source, one of the graph that it is compared with.
        if let Some(peak) = Executor::new(&source).peak() {
            memory::evaluations(&source, peak, peak.bytes).map_err(|e| Box::new(static_batch(e.message)))?;
        }
        let data = |e: crate::data::DataError| Box::new(static_batch(Diagnostic::from(&e).message));
        let inputs = Dataset::random(0).bind(&source, None).and_then(|samples| samples.get(0)).map_err(data)?;
        Ok(Pair { source, inputs })
    }

    /// Fails with a note for the user if the graph with open batch computes other results than the source.
    pub(crate) fn check(&self, graph: &Graph, target: &Target, open: &[OpenExtent]) -> Result<(), Box<Diagnostic>> {
        let opened = open_batch(graph, target, open)?;
        match check_meaning(&self.source, &opened, &self.inputs) {
            Ok(difference) if difference <= CLOSE => Ok(()),
            Ok(difference) => Err(Box::new(static_batch(format!("two at once differ by {difference:e}")))),
            Err(e) => Err(Box::new(static_batch(e))),
        }
    }
}
