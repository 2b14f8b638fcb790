//! Nodes and their states.

use super::{Discover, Sx};
use mainstay_cib::{text::Str, value::Score};
use std::collections::BTreeMap;

/// What kind of node it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// A full member.
    #[default]
    Member,
    /// One that is managed through a connection: remote nodes and guests.
    Remote,
    /// A host that is only pinged.
    Ping,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub id: Str,
    pub name: Str,
    pub kind: NodeKind,
    pub online: bool,
    /// It may still run something, and must be fenced before that is believed to have ended.
    pub unclean: bool,
    pub unseen: bool,
    pub pending: bool,
    pub standby: bool,
    pub standby_onfail: bool,
    pub maintenance: bool,
    pub shutdown: bool,
    pub expected_up: bool,
    /// Its history has been read.
    pub unpacked: bool,
    pub is_dc: bool,
    /// A remote node that has been fenced.
    pub was_fenced: bool,
    /// A guest or remote node that must be made anew.
    pub needs_reset: bool,
    /// A remote node that was in maintenance when its state was written.
    pub remote_maintenance: bool,
    /// Whether it is asked there what is running.
    pub discovery: bool,
    /// Whether it is asked there what is running, where no constraint says otherwise.
    pub discover: Discover,
    /// The service that is the connection to it.
    pub connection: Option<Sx>,
    /// What every service gets on it.
    pub score: Score,
    pub attributes: BTreeMap<Str, Str>,
    pub utilization: BTreeMap<Str, i64>,
    /// What is active on it.
    pub running: Vec<Sx>,
    /// How many primitives are placed on it.
    pub placed: usize,
    /// The sum of the priorities of what is active on it.
    pub priority: i64,
    /// Why it must be fenced.
    pub fence_reason: Option<String>,
}

impl Node {
    /// Whether services may be placed here, whatever their scores.
    pub(crate) fn is_available(&self) -> bool {
        self.online && !self.shutdown && !self.unclean && !self.standby && !self.maintenance
    }

    /// An attribute, also those that every node has.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        match name {
            "#uname" => Some(&self.name),
            "#id" => Some(&self.id),
            "#is_dc" => Some(if self.is_dc { "true" } else { "false" }),
            _ => self.attributes.get(name).map(|v| &**v),
        }
    }

    /// Whether an attribute is set to a word that means yes.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.attribute(name)
            .is_some_and(|v| mainstay_cib::value::truth(v) == Some(true))
    }
}
