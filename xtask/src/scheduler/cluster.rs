//! Clusters of any size, for measuring.

use std::fmt::{self, Write as _};

/// What a cluster consists of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) nodes: usize,
    pub(super) services: usize,
    /// Members of each group; 0 for services of their own.
    pub(super) group: usize,
}

/// Groups that are tied to the one before by a colocation and an order stand in rows of so many.
const ROW: usize = 20;

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.nodes, self.services)?;
        match self.group {
            0 => Ok(()),
            size => write!(f, " in {} chained groups", self.services / size),
        }
    }
}

impl Shape {
    /// The cluster with all nodes up and nothing known of its services: everything has to be looked
    /// for on every node, and started. Each service or group prefers a node.
    pub(super) fn cib(self) -> String {
        let mut text = String::from(
            "<cib crm_feature_set=\"3.16.2\" validate-with=\"pacemaker-3.8\" epoch=\"1\" \
             num_updates=\"0\" admin_epoch=\"0\" have-quorum=\"1\" dc-uuid=\"1\">\n<configuration>\
             <crm_config><cluster_property_set id=\"options\"><nvpair id=\"options-stonith\" \
             name=\"stonith-enabled\" value=\"false\"/></cluster_property_set></crm_config>\n<nodes>\n",
        );
        // Writing to a string cannot fail.
        for n in 1..=self.nodes {
            let _ = writeln!(text, "<node id=\"{n}\" uname=\"node{n}\"/>");
        }
        text.push_str("</nodes>\n<resources>\n");
        for s in 0..self.services {
            if self.group > 0 && s % self.group == 0 {
                let _ = writeln!(text, "<group id=\"g{}\">", s / self.group);
            }
            let _ = writeln!(
                text,
                "<primitive id=\"r{s}\" class=\"ocf\" provider=\"heartbeat\" type=\"Dummy\">\
                 <operations><op id=\"r{s}-m\" name=\"monitor\" interval=\"10s\" timeout=\"20s\"/>\
                 </operations></primitive>"
            );
            if self.group > 0 && (s + 1) % self.group == 0 {
                text.push_str("</group>\n");
            }
        }
        text.push_str("</resources>\n<constraints>\n");
        let (letter, count) = match self.group {
            0 => ("r", self.services),
            size => ("g", self.services / size),
        };
        for at in 0..count {
            let node = at % self.nodes + 1;
            let _ = writeln!(
                text,
                "<rsc_location id=\"l{at}\" rsc=\"{letter}{at}\" node=\"node{node}\" score=\"50\"/>"
            );
            if self.group > 0 && at % ROW > 0 {
                let before = at - 1;
                let _ = writeln!(
                    text,
                    "<rsc_colocation id=\"c{at}\" rsc=\"g{at}\" with-rsc=\"g{before}\" score=\"100\"/>\
                     <rsc_order id=\"o{at}\" first=\"g{before}\" then=\"g{at}\"/>"
                );
            }
        }
        text.push_str("</constraints>\n</configuration>\n<status>\n");
        for n in 1..=self.nodes {
            let _ = writeln!(
                text,
                "<node_state id=\"{n}\" uname=\"node{n}\" in_ccm=\"true\" crmd=\"online\" \
                 join=\"member\" expected=\"member\"><lrm id=\"{n}\"><lrm_resources/></lrm></node_state>"
            );
        }
        text.push_str("</status>\n</cib>\n");
        text
    }
}
