//! House tasks: test, tidy, sim, dist.

fn main() {}
