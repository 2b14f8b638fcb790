//! The resource manager's configuration, as operators hand it over.

use crate::memory::bounded;
use mainstay_cib::{Reading, agents::Agent, check::check, heartbeat, native, read, write};

/// A document, read, checked, written, and read again.
pub(crate) fn document(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // The tree of a document and the model of it exist side by side; what is wrong is told in words.
    let limit = 4096 * data.len() + (1 << 20);
    bounded("cib", limit, || {
        drop(Agent::read(text));
        for reading in [read(text), heartbeat::import(text)] {
            match reading {
                Ok(reading) => assert_kept(&reading),
                Err(problem) => assert!(!problem.what.is_empty()),
            }
        }
    });
}

/// A text in the native form: what is read is the same in XML, and in the native form again.
pub(crate) fn lines(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let limit = 4096 * data.len() + (1 << 20);
    bounded("cib-native", limit, || match native::read(text) {
        Ok(reading) => assert_kept(&reading),
        Err(problems) => assert!(problems.iter().all(|p| !p.what.is_empty())),
    });
}

fn assert_kept(reading: &Reading) {
    drop(check(&reading.document.cib));
    drop(heartbeat::export(&reading.document.cib));
    let written = write(&reading.document);
    let again = match read(&written) {
        Ok(again) => again,
        Err(problem) => panic!("what was written is not read: {}: {written}", problem.what),
    };
    assert_eq!(write(&again.document), written, "two writings differ");
    let lines = native::write(&reading.document);
    let again = match native::read(&lines) {
        Ok(again) => again.document,
        Err(problems) => panic!("what was written is not read: {problems:?}: {lines}"),
    };
    assert!(again.says_the_same_as(&reading.document), "lost: {lines}");
    assert_eq!(native::write(&again), lines, "two writings differ");
}
