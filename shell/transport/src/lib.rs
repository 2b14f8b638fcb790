//! Encrypted TCP links between nodes.
