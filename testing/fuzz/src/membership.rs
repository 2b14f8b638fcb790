//! What `mainstay-membership` reads from peers, from the log and from snapshots.

use crate::{Feed, memory::bounded, wire};
use mainstay_base::NodeId;
use mainstay_membership::{ClusterState, Command, Founding, Message};

/// Heartbeats, acknowledgements, offers.
pub(crate) fn messages(data: &[u8]) {
    let limit = wire::limit(data.len());
    if let Ok(message) = bounded("membership message", limit, || Message::decode(data)) {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
        assert_eq!(message.encode(), bytes);
    }
    if let Ok(founding) = bounded("founding", limit, || Founding::decode(data)) {
        assert_eq!(
            Founding::decode(&founding.encode()).as_ref(),
            Ok(&founding),
            "a founding reads as something else"
        );
        assert!(founding.voters().len() <= founding.nodes.len());
    }
}

/// Commands of the log.
pub(crate) fn commands(data: &[u8]) {
    let limit = wire::limit(data.len());
    if let Ok(command) = bounded("cluster command", limit, || Command::decode(data)) {
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes).as_ref(), Ok(&command));
        assert_eq!(command.encode(), bytes);
    }
}

/// A snapshot, and the commands that follow it, as a member applies them.
pub(crate) fn state(data: &[u8]) {
    let mut feed = Feed::new(data);
    let snapshot = feed.block();
    let limit = wire::limit(snapshot.len());
    let mut state = match bounded("cluster state", limit, || ClusterState::decode(snapshot)) {
        Ok(state) => {
            same(&state);
            state
        }
        Err(_) => ClusterState::new(),
    };
    let mut index = state.applied();
    while !feed.is_empty() {
        let Ok(command) = Command::decode(feed.block()) else {
            continue;
        };
        let before = state.clone();
        index = index.saturating_add(1);
        let changes = state.apply(index, &command);
        same(&state);
        assert!(state.view().epoch >= before.view().epoch);
        drop((changes, state.changes_since(&before)));
        let _ = state.votes_of_members() <= state.votes_total();
        for node in 0..4 {
            drop(state.vouch(NodeId(node), "uid 0 on a"));
        }
    }
}

fn same(state: &ClusterState) {
    let bytes = state.encode();
    assert_eq!(
        ClusterState::decode(&bytes).as_ref(),
        Ok(state),
        "a cluster state reads as something else"
    );
}
