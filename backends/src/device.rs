//! Devices: each runs a subset of a format's models.

use std::fmt;

use qcc_ir::target::Target;

use crate::{Format, tflite};

/// A device, as data.
pub struct Device {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// The format that it runs.
    pub format: Format,
    /// The requirements on a graph: the target of the format with a table from which rows are removed.
    pub target: Target,
    /// The operators that it has, in the spelling of the format.
    pub operators: fn() -> Vec<&'static str>,
}

impl Device {
    /// All devices.
    pub const ALL: &'static [&'static Device] = &[&tflite::TFLM];

    /// The device of that name.
    pub fn named(name: &str) -> Option<&'static Device> {
        Self::ALL.iter().copied().find(|device| device.name == name)
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Device {}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Device").field(&self.name).finish()
    }
}
