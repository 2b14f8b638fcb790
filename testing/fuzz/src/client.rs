//! A client whose daemon is hostile.

use crate::{Feed, memory::bounded};
use mainstay_base::{LockMode, LockspaceId, ResourceName};
use mainstay_client::{LockCall, testing::Probe};
use mainstay_wire::client::{Ask, MESSAGE_LEN_MAX};

/// Calls go out, arbitrary bytes come in, in arbitrary pieces.
pub(crate) fn daemon(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut probe = Probe::default();
    let limit = crate::wire::limit(data.len()) + 512 * data.len() + (64 << 10);
    bounded("client", limit, || {
        while !feed.is_empty() {
            match feed.byte() % 8 {
                0 => {
                    let (name, mode) = (feed.byte(), mode(feed.byte()));
                    let name = ResourceName::new([name]).expect("one byte is a name");
                    probe.lock(LockspaceId(1), LockCall::new(name, mode));
                }
                1 => probe.release(usize::from(feed.byte())),
                2 => probe.cancel(usize::from(feed.byte())),
                3 => probe.unlock(usize::from(feed.byte())),
                4 => probe.call(
                    [Ask::Ping, Ask::Status, Ask::Leave][usize::from(feed.byte() % 3)].clone(),
                ),
                how => {
                    let bytes = feed.block();
                    let heard = if how == 5 {
                        probe.hear(bytes)
                    } else {
                        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                        let mut message = len.to_le_bytes().to_vec();
                        message.extend_from_slice(bytes);
                        probe.hear(&message)
                    };
                    if let Err(why) = heard {
                        assert!(!why.is_empty());
                        return; // The connection is closed then.
                    }
                    assert!(probe.undecoded() <= 4 + MESSAGE_LEN_MAX);
                }
            }
        }
    });
}

fn mode(number: u8) -> LockMode {
    LockMode::ALL[usize::from(number) % LockMode::ALL.len()]
}
