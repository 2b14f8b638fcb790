//! One binary for all targets: `MAINSTAY_FUZZ_TARGET` names the one to run.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_fuzz::{Target, find, memory::Counting};
use std::sync::OnceLock;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("MAINSTAY_FUZZ_TARGET").unwrap_or_default();
    find(&name).unwrap_or_else(|| panic!("MAINSTAY_FUZZ_TARGET is `{name}`, which is no target"))
}

fuzz_target!(|data: &[u8]| {
    (TARGET.get_or_init(chosen).run)(data);
});
