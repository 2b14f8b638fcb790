//! The resource manager's configuration, as operators hand it over.

use crate::memory::bounded;
use mainstay_cib::{Reading, heartbeat, read, validate::validate, write};

/// A document, read, checked, written, and read again.
pub(crate) fn document(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // The tree of a document and the model of it exist side by side; what is wrong is told in words.
    let limit = 4096 * data.len() + (1 << 20);
    bounded("cib", limit, || {
        for reading in [read(text), heartbeat::import(text)] {
            match reading {
                Ok(reading) => assert_kept(&reading),
                Err(problem) => assert!(!problem.what.is_empty()),
            }
        }
    });
}

fn assert_kept(reading: &Reading) {
    drop(validate(&reading.document.cib));
    drop(heartbeat::export(&reading.document.cib));
    let written = write(&reading.document);
    let again = match read(&written) {
        Ok(again) => again,
        Err(problem) => panic!("what was written is not read: {}: {written}", problem.what),
    };
    assert_eq!(write(&again.document), written, "two writings differ");
}
