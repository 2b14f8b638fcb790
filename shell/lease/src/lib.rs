//! The page on which a daemon shows its clients how long its lease lasts.
