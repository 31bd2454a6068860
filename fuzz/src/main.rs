//! The fuzzing driver. `QCC_FUZZ` is the name of a target, or a folder to write seeds to. `fuzz/run` starts it.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use qcc_fuzz::{TARGETS, Target};

fn target() -> Target {
    let name = std::env::var("QCC_FUZZ").unwrap_or_default();
    match TARGETS.iter().find(|t| t.0 == name) {
        Some(target) => target.1,
        None => panic!("QCC_FUZZ names no target: {:?}", TARGETS.iter().map(|t| t.0).collect::<Vec<_>>()),
    }
}

fn begin() {
    let name = std::env::var("QCC_FUZZ").unwrap_or_default();
    if name.contains('/') {
        qcc_fuzz::seeds::write(name.as_ref());
        std::process::exit(0);
    }
}

fuzz_target!(init: begin(), |data: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(target)(data);
});
