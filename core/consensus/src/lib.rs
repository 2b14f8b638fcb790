//! The replicated log: a Raft library driven as a pure state machine.
