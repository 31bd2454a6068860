//! The examples run.

#[path = "../../examples/custom_backend.rs"]
mod custom_backend;
#[path = "../../examples/custom_pass.rs"]
mod custom_pass;
#[path = "../../examples/custom_rule.rs"]
mod custom_rule;
#[path = "../../examples/in_memory.rs"]
mod in_memory;
#[path = "../../examples/progress.rs"]
mod progress;

#[test]
fn examples_run() {
    for (name, main) in [
        ("custom_backend", custom_backend::main as fn() -> Result<(), Box<dyn std::error::Error>>),
        ("custom_pass", custom_pass::main),
        ("custom_rule", custom_rule::main),
        ("in_memory", in_memory::main),
        ("progress", progress::main),
    ] {
        main().unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
