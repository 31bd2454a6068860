//! The stages of a compilation: who looks on, and how long they take.

use std::ops::ControlFlow;
use std::time::Instant;

use qcc_ir::Graph;
use qcc_passes::PassId;
use serde::Serialize;

/// Who looks on while a model is compiled, and may end it.
pub trait Observer {
    /// A stage begins.
    fn stage(&mut self, _name: &'static str) {}
    /// `done` samples of `all` are evaluated.
    fn samples(&mut self, _done: usize, _all: usize) {}
    /// True where [`Observer::pass`] is to be called behind that pass.
    fn wants(&self, _pass: PassId) -> bool {
        false
    }
    /// A pass has run that was asked for.
    fn pass(&mut self, _pass: PassId, _graph: &Graph) {}
    /// True where the compilation is to end without artefacts ([`Failure::Cancelled`](crate::Failure::Cancelled)). It is
    /// asked between stages, passes and steps of calibration.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Whether the compilation goes on.
pub(crate) fn flow(observer: &dyn Observer) -> ControlFlow<()> {
    if observer.cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// How long a stage took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTime {
    /// Its name.
    pub name: &'static str,
    /// Seconds.
    pub seconds: f64,
}

/// Measures stages.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    stages: Vec<StageTime>,
    started: Option<(&'static str, Instant)>,
}

impl Clock {
    /// Ends the stage before and begins another.
    pub(crate) fn stage(&mut self, name: &'static str, observer: &mut dyn Observer) {
        self.end();
        self.started = Some((name, Instant::now()));
        observer.stage(name);
    }

    fn end(&mut self) {
        if let Some((name, start)) = self.started.take() {
            self.stages.push(StageTime { name, seconds: start.elapsed().as_secs_f64() });
        }
    }

    /// How long each stage took, in order.
    pub(crate) fn stop(mut self) -> Vec<StageTime> {
        self.end();
        self.stages
    }
}
