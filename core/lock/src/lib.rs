//! One resource: mode tables, queues, conversions, value block; knows no nodes.
