//! Open extents: which graphs keep them.

use qcc_backends::{Attachments, Discarded, State};
use qcc_ir::Checked;
use qcc_ir::diagnostic::Diagnostic;

use super::Job;
use crate::batch::Pair;
use crate::compiler::Lowered;
use crate::outcome::Failure;
use crate::vendor;

impl Job<'_> {
    /// Decides which graphs get an open batch at the end: those of targets that run such graphs well, if the lowered
    /// graph computes the same as the source for batch 2.
    pub(super) fn choose_open(&mut self, lowered: &mut [Lowered]) {
        let mut pair = None;
        for l in &mut *lowered {
            let target = l.backend.target();
            if !target.open_batch {
                continue;
            }
            let pair = pair
                .get_or_insert_with(|| Pair::import(self.model, &self.options().import, &self.open, &self.source))
                .as_ref()
                .map_err(Clone::clone);
            match pair.and_then(|pair| pair.check(&l.graph, target, &self.open)) {
                Ok(()) => l.open.clone_from(&self.open),
                Err(note) => self.diagnostics.push(*note),
            }
        }
    }

    /// Fails if a writer refuses a graph with open extents, which must be known before a file is written.
    pub(super) fn check_open(lowered: &[Lowered], states: &[State]) -> Result<(), Failure> {
        let open = lowered.iter().filter(|l| l.graph.is_open() && l.closed.is_none());
        let refused = open.filter_map(|l| {
            let own = vendor::attachments(&*l.backend, &l.graph.metadata);
            let attachments = Attachments { states: states.to_vec(), ..own };
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
