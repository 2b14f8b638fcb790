//! Composes the core: step(now, input) -> outbox; the only crate the shells drive.
