//! Whether to talk to the sender of a hello.

use crate::{
    config::Identity,
    reason::RefusalReason,
    wire::{Hello, Preamble, printable},
};
use mainstay_base::{LinkId, NodeId};

/// Why not, with what this node's log may say beyond the reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) reason: RefusalReason,
    pub(crate) detail: String,
}

fn no(reason: RefusalReason, detail: String) -> Result<(), Verdict> {
    Err(Verdict { reason, detail })
}

/// What both sides check first.
fn judge_common(me: &Identity, theirs: Preamble, hello: &Hello) -> Result<(), Verdict> {
    if (hello.version_min, hello.version_max) != (theirs.version_min, theirs.version_max) {
        return no(
            RefusalReason::Malformed,
            "its version range was changed on the way".to_owned(),
        );
    }
    if hello.cluster != me.cluster {
        let theirs = printable(hello.cluster.as_bytes(), 64);
        return no(
            RefusalReason::WrongCluster,
            format!("ours `{}`, theirs `{theirs}`", me.cluster),
        );
    }
    if hello.from == me.node {
        return no(
            RefusalReason::SelfConnection,
            format!("node id {}", me.node),
        );
    }
    Ok(())
}

/// Checks a caller's hello that came in on the address of link `link`.
pub(crate) fn judge_caller(
    me: &Identity,
    theirs: Preamble,
    hello: &Hello,
    link: LinkId,
) -> Result<(), Verdict> {
    judge_common(me, theirs, hello)?;
    let Some(peer) = me.index_of(hello.from).map(|i| &me.peers[i]) else {
        return no(
            RefusalReason::UnknownNode,
            format!("node id {}", hello.from),
        );
    };
    if hello.to != me.node {
        return no(
            RefusalReason::WrongNode,
            format!(
                "this is node {}, the caller wants node {}",
                me.node, hello.to
            ),
        );
    }
    if hello.from > me.node {
        return no(
            RefusalReason::WrongDirection,
            format!("node {} called node {}", hello.from, me.node),
        );
    }
    if hello.link != link || usize::from(link.0) >= peer.addresses.len() {
        return no(
            RefusalReason::LinkMismatch,
            format!(
                "link {} called at the address of link {link}; {} links are configured",
                hello.link,
                peer.addresses.len()
            ),
        );
    }
    judge_params(me, hello)
}

/// Checks the hello of the node that this one called.
pub(crate) fn judge_called(
    me: &Identity,
    theirs: Preamble,
    hello: &Hello,
    peer: NodeId,
    link: LinkId,
) -> Result<(), Verdict> {
    judge_common(me, theirs, hello)?;
    if hello.from != peer || hello.to != me.node {
        return no(
            RefusalReason::WrongNode,
            format!(
                "node {} answers node {}, but node {} called node {peer}",
                hello.from, hello.to, me.node
            ),
        );
    }
    if hello.link != link {
        return no(
            RefusalReason::LinkMismatch,
            format!("link {} answers, link {link} was called", hello.link),
        );
    }
    judge_params(me, hello)
}

fn judge_params(me: &Identity, hello: &Hello) -> Result<(), Verdict> {
    if hello.params == me.params {
        return Ok(());
    }
    no(
        RefusalReason::ParamsMismatch,
        format!(
            "ours `{}`, theirs `{}`",
            printable(&me.params, 200),
            printable(&hello.params, 200)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{PeerConfig, TransportConfig},
        key::ClusterKey,
    };
    use mainstay_base::{BootId, NodeName};
    use std::net::{Ipv4Addr, SocketAddr};

    /// Node `node` of three, each with two links.
    fn identity(node: u16) -> Identity {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Identity::new(TransportConfig {
            cluster: "c".to_owned(),
            node: NodeId(node),
            boot: BootId(1),
            key: ClusterKey::from_bytes([1; 32]),
            params: b"lease=1s".to_vec(),
            listen: vec![address; 2],
            peers: (1..=3)
                .filter(|&id| id != node)
                .map(|id| PeerConfig {
                    id: NodeId(id),
                    name: NodeName::new(format!("n{id}")).expect("valid"),
                    addresses: vec![address; 2],
                })
                .collect(),
            version: "t".to_owned(),
            send_queue_max: 1,
        })
    }

    fn caller_refused(change: impl FnOnce(&mut Hello)) -> Option<RefusalReason> {
        let mut hello = identity(1).hello(NodeId(2), BootId(5), LinkId(1));
        change(&mut hello);
        judge_caller(&identity(2), Preamble::OURS, &hello, LinkId(1))
            .err()
            .map(|v| v.reason)
    }

    fn called_refused(change: impl FnOnce(&mut Hello)) -> Option<RefusalReason> {
        let mut hello = identity(2).hello(NodeId(1), BootId(5), LinkId(1));
        change(&mut hello);
        judge_called(&identity(1), Preamble::OURS, &hello, NodeId(2), LinkId(1))
            .err()
            .map(|v| v.reason)
    }

    /// Protects against talking to the wrong caller: each field that differs has its own reason.
    #[test]
    fn every_difference_of_a_caller_is_refused() {
        use RefusalReason as R;
        assert_eq!(caller_refused(|_| {}), None);
        assert_eq!(
            caller_refused(|h| h.cluster.push('x')),
            Some(R::WrongCluster)
        );
        assert_eq!(
            caller_refused(|h| h.from = NodeId(2)),
            Some(R::SelfConnection)
        );
        assert_eq!(caller_refused(|h| h.from = NodeId(9)), Some(R::UnknownNode));
        assert_eq!(caller_refused(|h| h.to = NodeId(3)), Some(R::WrongNode));
        assert_eq!(
            caller_refused(|h| h.from = NodeId(3)),
            Some(R::WrongDirection)
        );
        assert_eq!(
            caller_refused(|h| h.link = LinkId(0)),
            Some(R::LinkMismatch)
        );
        assert_eq!(
            caller_refused(|h| h.params.push(0)),
            Some(R::ParamsMismatch)
        );
        assert_eq!(caller_refused(|h| h.version_max = 9), Some(R::Malformed));
    }

    /// Protects the caller from the wrong answer, which the called node cannot notice.
    #[test]
    fn every_difference_of_the_called_is_refused() {
        use RefusalReason as R;
        assert_eq!(called_refused(|_| {}), None);
        assert_eq!(
            called_refused(|h| h.cluster.push('x')),
            Some(R::WrongCluster)
        );
        assert_eq!(
            called_refused(|h| h.from = NodeId(1)),
            Some(R::SelfConnection)
        );
        assert_eq!(called_refused(|h| h.from = NodeId(3)), Some(R::WrongNode));
        assert_eq!(called_refused(|h| h.to = NodeId(3)), Some(R::WrongNode));
        assert_eq!(
            called_refused(|h| h.link = LinkId(0)),
            Some(R::LinkMismatch)
        );
        assert_eq!(
            called_refused(|h| h.params.push(0)),
            Some(R::ParamsMismatch)
        );
        assert_eq!(called_refused(|h| h.version_min = 9), Some(R::Malformed));
    }
}
