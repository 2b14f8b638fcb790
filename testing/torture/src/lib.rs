//! Real daemons, real faults.
