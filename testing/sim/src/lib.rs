//! Deterministic simulator: world, network, disks, clocks, faults, checkers, workloads.
