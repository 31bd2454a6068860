//! Graphs inside operators go through the passes of their stage.

use qcc_ir::Graph;

use crate::{Context, Pass, PassError};

/// Runs passes on the graphs inside operators, and on those inside. These have no calibration table.
#[derive(Debug)]
pub(crate) struct Bodies {
    pub(crate) name: &'static str,
    pub(crate) passes: Vec<Box<dyn Pass>>,
}

impl Pass for Bodies {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        for node in g.order() {
            let op = g.op(node).clone();
            let mut bodies = Vec::new();
            for body in op.bodies() {
                let mut body = body.graph()?.clone();
                let mut own = Context { source: cx.source, ..Context::new(cx.target) };
                for pass in &self.passes {
                    if pass.applies(&own) {
                        pass.run(&mut body, &mut own)?;
                        body.sweep();
                    }
                }
                self.run(&mut body, &mut own)?;
                cx.diagnostics.append(&mut own.diagnostics);
                bodies.push(body.into());
            }
            let with = op.with_bodies(bodies);
            if with == op {
                continue;
            }
            let new = g.add(with, &g.operands(node), g.origin(node).clone())?;
            let pairs: Vec<_> = g.results(node).zip(g.results(new)).collect();
            pairs.into_iter().try_for_each(|(old, new)| g.replace(old, new))?;
        }
        Ok(())
    }
}
