//! Observers of a compilation, and the duration of its stages.

use std::ops::ControlFlow;
use std::time::Instant;

use qcc_ir::Graph;
use qcc_passes::PassId;
use serde::Serialize;

/// Receives the events of a compilation, and may cancel it.
pub trait Observer {
    /// A stage begins.
    fn stage(&mut self, _name: &'static str) {}
    /// `done` samples of `all` are evaluated.
    fn samples(&mut self, _done: usize, _all: usize) {}
    /// True if [`Observer::pass`] is to be called after that pass.
    fn wants(&self, _pass: PassId) -> bool {
        false
    }
    /// A pass for which [`Observer::wants`] returned true has run.
    fn pass(&mut self, _pass: PassId, _graph: &Graph) {}
    /// True if the compilation is to end without artefacts ([`Failure::Cancelled`](crate::Failure::Cancelled)). It is
    /// polled between stages, passes and steps of calibration.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Whether the compilation continues.
pub(crate) fn flow(observer: &dyn Observer) -> ControlFlow<()> {
    if observer.cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// Duration of a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTime {
    /// Its name.
    pub name: &'static str,
    /// Seconds.
    pub seconds: f64,
}

/// Measures the duration of stages.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    stages: Vec<StageTime>,
    started: Option<(&'static str, Instant)>,
}

impl Clock {
    /// Ends the current stage and begins the next one.
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

    /// The duration of each stage, in order.
    pub(crate) fn stop(mut self) -> Vec<StageTime> {
        self.end();
        self.stages
    }
}
