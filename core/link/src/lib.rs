//! Ordered, exactly-once delivery between two nodes over links that lose, repeat and reorder.
