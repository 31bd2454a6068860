//! Tells a Python object about the progress of a compilation, and cancels it on Ctrl-C.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use qcc::Observer;
use qcc::ir::Graph;
use qcc::passes::PassId;

/// Time between two calls of Python code, each of which waits for the interpreter's lock.
const PAUSE: Duration = Duration::from_millis(50);

/// The observer of a compilation that Python code started.
pub(crate) struct Watch {
    /// Has the methods `stage(name)`, `samples(done, all)` and `graph(text)`.
    observer: Option<Py<PyAny>>,
    print_after: Vec<String>,
    /// What Python code raised.
    error: RefCell<Option<PyErr>>,
    told: Cell<Option<Instant>>,
    polled: Cell<Option<Instant>>,
}

impl Watch {
    pub(crate) fn new(observer: Option<Py<PyAny>>, print_after: Vec<String>) -> Self {
        Watch { observer, print_after, error: RefCell::default(), told: Cell::default(), polled: Cell::default() }
    }

    /// Fails with what Python code raised.
    pub(crate) fn raised(self) -> PyResult<()> {
        self.error.into_inner().map_or(Ok(()), Err)
    }

    /// True if the last time is longer ago than [`PAUSE`].
    fn is_due(last: &Cell<Option<Instant>>) -> bool {
        let due = last.get().is_none_or(|at| at.elapsed() >= PAUSE);
        if due {
            last.set(Some(Instant::now()));
        }
        due
    }

    /// Runs Python code, unless some has failed before.
    fn run(&self, code: impl FnOnce(Python<'_>) -> PyResult<()>) {
        let mut error = self.error.borrow_mut();
        if error.is_none() {
            *error = Python::attach(code).err();
        }
    }

    /// Calls the observer.
    fn tell(&self, call: impl FnOnce(Python<'_>, &Py<PyAny>) -> PyResult<Py<PyAny>>) {
        let Some(observer) = &self.observer else { return };
        self.run(|py| call(py, observer).map(drop));
    }
}

impl Observer for Watch {
    fn stage(&mut self, name: &'static str) {
        self.told.set(None);
        self.tell(|py, observer| observer.call_method1(py, "stage", (name,)));
    }

    fn samples(&mut self, done: usize, all: usize) {
        if done == all || Watch::is_due(&self.told) {
            self.tell(|py, observer| observer.call_method1(py, "samples", (done, all)));
        }
    }

    fn wants(&self, pass: PassId) -> bool {
        self.print_after.iter().any(|asked| pass.is(asked))
    }

    fn pass(&mut self, pass: PassId, graph: &Graph) {
        let text = format!("// after {pass}\n{}", qcc::ir::text::print_brief(graph));
        self.tell(|py, observer| observer.call_method1(py, "graph", (text,)));
    }

    fn cancelled(&self) -> bool {
        if Watch::is_due(&self.polled) {
            self.run(|py| py.check_signals());
        }
        self.error.borrow().is_some()
    }
}
