//! Checksummed record log as bytes: encoding, scanning, torn and damaged records.
