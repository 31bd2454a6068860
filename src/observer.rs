//! The stages of a compilation: who looks on, and how long they take.

use std::time::Instant;

use qcc_ir::Graph;
use serde::Serialize;

/// Who looks on while a model is compiled.
pub trait Watch {
    /// A stage begins.
    fn stage(&mut self, _name: &'static str) {}
    /// `done` samples of `all` are evaluated.
    fn samples(&mut self, _done: usize, _all: usize) {}
    /// A pass has run.
    fn pass(&mut self, _name: &'static str, _graph: &Graph) {}
}

/// Looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Watch for Silent {}

/// How long a stage took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// Seconds.
    pub seconds: f64,
}

/// Measures stages.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    stages: Vec<Stage>,
    started: Option<(&'static str, Instant)>,
}

impl Clock {
    /// Ends the stage before and begins another.
    pub(crate) fn stage(&mut self, name: &'static str, watch: &mut dyn Watch) {
        self.end();
        self.started = Some((name, Instant::now()));
        watch.stage(name);
    }

    fn end(&mut self) {
        if let Some((name, start)) = self.started.take() {
            self.stages.push(Stage { name, seconds: start.elapsed().as_secs_f64() });
        }
    }

    /// How long each stage took, in order.
    pub(crate) fn stop(mut self) -> Vec<Stage> {
        self.end();
        self.stages
    }
}
