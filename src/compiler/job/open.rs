//! Open extents: which graphs keep them.

use qcc_backends::Discarded;
use qcc_frontends::{OPEN_SHAPE, example};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::target::OpenBatch;
use qcc_ir::{Checked, Dim, Graph, Shape, Symbols};
use qcc_passes::open_batch::static_batch;

use super::Job;
use crate::batch::Pair;
use crate::compiler::Lowered;
use crate::outcome::Failure;
use crate::vendor;

impl Job<'_> {
    /// Decides which graphs get an open batch at the end: those of targets that run such graphs well, if the lowered
    /// graph computes the same as the source for batch 2.
    pub(super) fn choose_open(&mut self, lowered: &mut [Lowered]) {
        let integers = self.has_integers();
        let mut pair = None;
        for l in &mut *lowered {
            let target = l.backend.target();
            let checked = match target.open_batch {
                OpenBatch { real: false, quantized: false } => continue,
                OpenBatch { quantized: false, .. } if integers => {
                    Err(Box::new(static_batch(format!("integer models for {} have fixed extents", target.name))))
                }
                _ => pair
                    .get_or_insert_with(|| Pair::import(self.model, &self.options().import, &self.open, &self.source))
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|pair| pair.check(&l.graph, target, &self.open)),
            };
            match checked {
                Ok(()) => l.open.clone_from(&self.open),
                Err(note) => self.diagnostics.push(*note),
            }
        }
    }

    /// Fixes an open batch to 1 in quantized graphs of targets that run them much slower with an open one, unless the
    /// options ask for it or other extents are open too.
    pub(super) fn close_batch(&mut self, lowered: &mut [Lowered]) {
        let asked = self.options().import.shapes.iter().any(|(_, given)| given.contains(&None));
        let Some(batch) = batch_of_one(&self.source).filter(|_| !asked && self.has_integers()) else { return };
        for l in lowered.iter_mut().filter(|l| l.backend.target().slow_open_batch) {
            l.graph = l.graph.bound(&batch);
            let name = l.backend.target().name;
            let message =
                format!("the batch of the {name} model is 1: with an open batch, its integer layers are slower");
            let open = self
                .model
                .inputs()
                .ok()
                .and_then(|all| example(all.iter().find(|i| i.shape.as_ref().is_some_and(Shape::is_open))?));
            let help = open.map_or_else(String::new, |shape| format!("--shape {shape} keeps it open"));
            self.diagnostics.push(Diagnostic::warning(OPEN_SHAPE, message).with_help(help));
        }
    }

    /// Fails if a writer refuses a graph with open extents, which must be known before a file is written.
    pub(super) fn check_open(lowered: &[Lowered]) -> Result<(), Failure> {
        let open = lowered.iter().filter(|l| l.graph.is_open() && l.closed.is_none());
        let refused = open.filter_map(|l| {
            let attachments = vendor::attachments(&*l.backend, &l.graph.metadata);
            let checked = Checked::new(&l.graph, l.backend.target());
            checked.and_then(|checked| l.backend.write(checked, &attachments, &mut Discarded::default())).err()
        });
        let refused: Vec<Diagnostic> = refused.flatten().collect();
        if refused.is_empty() { Ok(()) } else { Err(refused.into()) }
    }

    /// An error about a model with open extents: what is not supported may be with known ones.
    pub(in crate::compiler) fn open_extents(error: Diagnostic) -> Diagnostic {
        if !error.code.starts_with("unsupported") {
            return error;
        }
        error.with_note("extents of its inputs are open; with known ones it may be supported: --shape NAME=1,3,640,640")
    }
}

/// A batch of 1, if the open extents of a graph are batches: each is the first extent of an input, and the graph runs at 1.
/// A length may come first, too, but windows over it need more.
fn batch_of_one(graph: &Graph) -> Option<Symbols> {
    let inputs = || graph.inputs().map(|v| graph.ty(v).shape.dims());
    let first = |dims: &[Dim]| Some((dims.first()?.as_symbol()?.clone(), 1));
    let batch: Symbols = inputs().filter_map(first).collect();
    let is_batch = !batch.is_empty() && inputs().flatten().all(|d| d.bind(&batch).is_some());
    (is_batch && graph.bound(&batch).verify().is_ok()).then_some(batch)
}
